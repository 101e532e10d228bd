//! What a run leaves for the next one in the journal directory: of each upload its id and its parts' digests, so that the
//! next run can say what became of it and need not hash again. The store decides which parts there are.
//!
//! Neither URLs nor tokens are in it. What cannot be read or written is done without.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use shared::api::{StoredPart, UploadCreated};
use shared::{Md5Digest, ObjectKey, PartNumber, UploadId};
use time::OffsetDateTime;

use crate::frames::{Frames, Header, remove_if_forgotten};
use crate::identity::Identity;
use crate::plan;
use crate::progress::{Event, Progress};

const HEADER: Header = *b"upload\0\x01";
/// What names of journals end with.
const ENDING: &str = "journal";
/// What names of records end with.
pub(crate) const RECORDS: &str = "records";
/// A journal that nobody has written to for so long is of an upload that has ended: none stays open for longer.
const FORGOTTEN: Duration = Duration::from_hours(30 * 24);
/// Records that nobody has opened for so long are of a broker, a token or a bucket that is no longer used. Who uploads four
/// times a year still finds theirs.
const RECORDS_FORGOTTEN: Duration = Duration::from_hours(100 * 24);

/// Where journals are kept, until it fails for the first time.
#[derive(Debug)]
pub(crate) struct JournalDir {
    path: PathBuf,
    failed: AtomicBool,
}

impl JournalDir {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something in the directory; the first time that it cannot be done says so, and from then on nothing is tried.
    pub(crate) fn attempt<T>(&self, progress: &dyn Progress, act: impl FnOnce(&Path) -> io::Result<T>) -> Option<T> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let mut directory = DirBuilder::new();
        match directory
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .and_then(|()| act(&self.path))
        {
            Ok(done) => Some(done),
            Err(error) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    let what = format!(
                        "no journal can be kept in {} ({error}); going on without. --journal-dir names another directory, \
                         --no-journal does without",
                        self.path.display()
                    );
                    progress.event(&Event::Warning { what: what.into() });
                }
                None
            }
        }
    }
}

/// An upload that is begun, as its journal has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Begun {
    pub(crate) upload_id: UploadId,
    pub(crate) key: ObjectKey,
    pub(crate) part_size: u64,
    pub(crate) part_count: Option<u16>,
    /// Of the content and the settings that it was begun with.
    pub(crate) fingerprint: String,
    /// The file then.
    pub(crate) identity: Identity,
    /// Whether it had been so for long enough that a change would show in that.
    pub(crate) settled: bool,
    /// When it ends if it is not completed.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) expires_at: OffsetDateTime,
}

impl Begun {
    pub(crate) fn new(created: &UploadCreated, fingerprint: &str, identity: Identity) -> Self {
        Self {
            upload_id: created.upload_id.clone(),
            key: created.key.clone(),
            part_size: created.part_size,
            part_count: created.part_count,
            fingerprint: fingerprint.to_owned(),
            settled: identity.is_written_back(SystemTime::now()),
            identity,
            expires_at: created.expires_at,
        }
    }

    /// Whether it was begun with just the content that a file of this identity has.
    pub(crate) fn is_of(&self, identity: Identity) -> bool {
        self.settled && self.identity == identity
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Record {
    /// The first one.
    Begun(Begun),
    /// MD5s of parts.
    Hashed { parts: Vec<(PartNumber, Md5Digest)> },
}

/// The journal of one upload, which no other run writes to meanwhile.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: Arc<JournalDir>,
    frames: Mutex<Frames>,
    earlier: Option<Begun>,
    /// What earlier runs have hashed of the content that the file still has.
    known: HashMap<PartNumber, Md5Digest>,
}

impl Journal {
    /// The journal of this name; nothing where another run has it, or it cannot be kept.
    pub(crate) fn open(directory: &Arc<JournalDir>, name: &str, progress: &dyn Progress) -> Option<Self> {
        let opened = directory.attempt(progress, |path| {
            let path = path.join(format!("{name}.{ENDING}"));
            let mut frames = Frames::open(&path, HEADER)?;
            // Whoever had the lock may have removed the file before giving it back.
            if !frames.try_lock()? || !frames.is_current()? {
                return Ok(None);
            }
            let (mut earlier, mut known) = (None, HashMap::new());
            frames.read(|record| match serde_json::from_slice(record) {
                Ok(Record::Begun(begun)) => earlier = Some(begun),
                Ok(Record::Hashed { parts }) => known.extend(parts),
                Err(_) => {}
            })?;
            Ok(Some((frames, earlier, known)))
        });
        let (frames, earlier, known) = opened??;
        Some(Self {
            directory: directory.clone(),
            frames: Mutex::new(frames),
            earlier,
            known,
        })
    }

    /// The upload that an earlier run has begun.
    pub(crate) const fn earlier(&self) -> Option<&Begun> {
        self.earlier.as_ref()
    }

    /// Notes the upload that this run sends to. Of what earlier runs have noted is kept what is about the same upload of the
    /// very same file.
    pub(crate) fn begin(&mut self, begun: &Begun, progress: &dyn Progress) {
        let same = |earlier: &Begun| earlier.upload_id == begun.upload_id && earlier.is_of(begun.identity);
        if self.earlier.as_ref().is_some_and(same) {
            return;
        }
        self.known.clear();
        self.directory.attempt(progress, |directory| {
            sweep(directory, SystemTime::now());
            let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            frames.clear()?;
            frames.append(&serde_json::to_vec(&Record::Begun(begun.clone()))?)
        });
    }

    /// Notes what parts hash to.
    pub(crate) fn hashed(&self, parts: Vec<(PartNumber, Md5Digest)>, progress: &dyn Progress) {
        self.directory.attempt(progress, |_| {
            let record = serde_json::to_vec(&Record::Hashed { parts })?;
            let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            frames.append(&record)
        });
    }

    /// The MD5 that the store's part has, if it is just what an earlier run has hashed in this place.
    pub(crate) fn kept(&self, stored: &StoredPart, size: u64) -> Option<Md5Digest> {
        let known = self.known.get(&stored.number).copied();
        known.filter(|digest| plan::is_kept(stored, size, digest))
    }

    /// What earlier runs have hashed, in order, if that is all of so many parts.
    pub(crate) fn all_known(&self, parts: u16) -> Option<Vec<Md5Digest>> {
        PartNumber::up_to(parts)
            .map(|number| self.known.get(&number).copied())
            .collect()
    }

    /// The upload has ended.
    pub(crate) fn remove(&self, progress: &dyn Progress) {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        self.directory.attempt(progress, |_| frames.remove());
    }
}

/// Removes the journals of uploads that nobody has gone on with, and records that nobody asks for. What cannot be removed, or
/// is held by another run, stays.
pub(crate) fn sweep(directory: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let forgotten = match path.extension().and_then(OsStr::to_str) {
            Some(ENDING) => FORGOTTEN,
            Some(RECORDS) => RECORDS_FORGOTTEN,
            _ => continue,
        };
        let _ = remove_if_forgotten(&path, forgotten, now);
    }
}

#[cfg(test)]
mod tests {
    use shared::ETag;
    use time::macros::datetime;

    use super::*;
    use crate::progress::Silent;

    fn begun(id: char, changed_ns: i64) -> Begun {
        Begun {
            upload_id: id.to_string().repeat(32).parse().unwrap(),
            key: "key".parse().unwrap(),
            part_size: 5,
            part_count: Some(2),
            fingerprint: "print".into(),
            identity: Identity {
                size: 10,
                modified_ns: 1,
                changed_ns,
                device: 1,
                inode: 1,
            },
            settled: true,
            expires_at: datetime!(2026-01-01 0:00 UTC),
        }
    }

    fn held(digest: Md5Digest) -> StoredPart {
        StoredPart {
            number: PartNumber::FIRST,
            size: 5,
            etag: ETag::new(format!("\"{}\"", digest.to_hex())),
        }
    }

    fn directory() -> (tempfile::TempDir, Arc<JournalDir>) {
        let directory = tempfile::tempdir().unwrap();
        let journals = Arc::new(JournalDir::new(directory.path().join("a/b")));
        (directory, journals)
    }

    fn open(directory: &Arc<JournalDir>) -> Option<Journal> {
        Journal::open(directory, "name", &Silent)
    }

    #[test]
    fn digests_count_for_the_same_upload_of_the_very_same_file_alone() {
        let (_directory, journals) = directory();
        let mut journal = open(&journals).unwrap();
        assert!(journal.earlier().is_none());
        journal.begin(&begun('a', 7), &Silent);
        journal.hashed(vec![(PartNumber::FIRST, Md5Digest::EMPTY)], &Silent);
        drop(journal);

        for (next, kept) in [(begun('a', 7), true), (begun('a', 8), false), (begun('b', 8), false)] {
            let mut journal = open(&journals).unwrap();
            assert!(journal.earlier().is_some());
            assert_eq!(journal.all_known(2), None, "of one part of two nothing is known");
            journal.begin(&next, &Silent);
            assert_eq!(journal.kept(&held(Md5Digest::EMPTY), 5).is_some(), kept, "{next:?}");
            assert_eq!(journal.all_known(1).is_some(), kept, "{next:?}");
            assert!(
                journal.kept(&held(Md5Digest::from_bytes([7; 16])), 5).is_none(),
                "the store has other bytes"
            );
            assert!(
                journal.kept(&held(Md5Digest::EMPTY), 6).is_none(),
                "the store has another length"
            );
        }
    }

    #[test]
    fn of_two_runs_one_has_the_journal_and_after_the_end_nobody() {
        let (_directory, journals) = directory();
        let mut first = open(&journals).unwrap();
        first.begin(&begun('a', 7), &Silent);
        assert!(open(&journals).is_none());
        first.remove(&Silent);
        drop(first);
        assert!(open(&journals).unwrap().earlier().is_none());
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_known_by_its_identity() {
        let mut unsettled = begun('a', 7);
        unsettled.settled = false;
        let (_directory, journals) = directory();
        open(&journals).unwrap().begin(&unsettled, &Silent);
        let mut journal = open(&journals).unwrap();
        journal.hashed(vec![(PartNumber::FIRST, Md5Digest::EMPTY)], &Silent);
        journal.begin(&unsettled, &Silent);
        assert_eq!(journal.kept(&held(Md5Digest::EMPTY), 5), None);
    }

    #[test]
    fn a_directory_of_no_use_is_told_of_once() {
        #[derive(Default)]
        struct Warnings(Mutex<Vec<String>>);
        impl Progress for Warnings {
            fn event(&self, event: &Event) {
                if let Event::Warning { what } = event {
                    self.0.lock().unwrap().push(what.to_string());
                }
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let journals = Arc::new(JournalDir::new(file.path().to_owned()));
        let told = Warnings::default();
        assert!(Journal::open(&journals, "a", &told).is_none());
        assert!(Journal::open(&journals, "b", &told).is_none());
        let told = told.0.into_inner().unwrap();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(file.path().to_str().unwrap()), "{told:?}");
    }

    #[test]
    fn journals_that_nobody_has_gone_on_with_and_records_that_nobody_asks_for_are_removed() {
        let (directory, journals) = directory();
        open(&journals).unwrap().begin(&begun('a', 7), &Silent);
        let path = directory.path().join("a/b");
        for name in ["x.records", "notes", "notes.txt"] {
            std::fs::write(path.join(name), "").unwrap();
        }
        let left = |after| {
            sweep(&path, SystemTime::now() + after);
            let names = std::fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(
            left(Duration::ZERO),
            ["name.journal", "notes", "notes.txt", "x.records"]
        );
        assert!(open(&journals).unwrap().earlier().is_some());
        let minute = Duration::from_mins(1);
        assert_eq!(left(FORGOTTEN + minute), ["notes", "notes.txt", "x.records"]);
        assert_eq!(left(RECORDS_FORGOTTEN + minute), ["notes", "notes.txt"]);
    }
}
