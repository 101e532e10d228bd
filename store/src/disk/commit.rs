//! The one place where an object or an upload comes or goes: a thread that makes all changes that wait for it in one
//! transaction, so that they share its wait for the disk.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use serde::Serialize;
use tracing::{error, info};

use super::condition::Condition;
use super::error::DiskError;
use super::files::Files;
use super::index::{self, Index, Tables, into_io, parse};
use super::record::{Acl, Content, Meta, Record, Tags, UploadRecord};
use super::reserve;

/// Most changes of one transaction. All of them wait for the slowest, and fail together if the disk does.
const MAX_GROUP: usize = 256;

/// What shall be otherwise in a bucket.
#[derive(Debug)]
pub(super) enum Change {
    /// The object's record takes the place of the one there, if the condition holds. The upload that its data come from
    /// is no longer open.
    Put {
        record: Box<Record>,
        condition: Condition,
        /// The directory that must be on the disk first, with its new name in it.
        directory: Option<PathBuf>,
    },
    /// The object goes, if there is one and the condition holds.
    Delete { key: String, condition: Condition },
    /// What is said about the object at `key` is said otherwise; its bytes and its age stay.
    Amend { key: String, amendment: Amendment },
    /// An upload is open.
    Open { id: String, record: UploadRecord },
    /// An upload is not open any more, and has not become an object.
    Abort { id: String },
    /// Nothing comes into the bucket any more, if there is no object.
    Close,
    /// The bucket's place in the index goes, with all in it.
    Forget,
}

/// What can be said otherwise about an object.
#[derive(Debug)]
pub(crate) enum Amendment {
    Acl(Acl),
    Tags(Tags),
}

impl Amendment {
    fn make(&self, meta: &mut Meta) {
        match self {
            Self::Acl(acl) => meta.acl = *acl,
            Self::Tags(tags) => meta.tags.clone_from(tags),
        }
    }
}

impl Change {
    /// Whether it needs room on the disk that it does not itself make.
    fn takes_room(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Amend { .. } | Self::Open { .. } => true,
            Self::Delete { .. } | Self::Abort { .. } | Self::Close | Self::Forget => false,
        }
    }
}

type Answer = Result<Option<Record>, DiskError>;

struct Job {
    tables: Arc<Tables>,
    change: Change,
    answer: SyncSender<Answer>,
}

/// Takes changes until it is closed.
#[derive(Debug)]
pub(super) struct Committer {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A change under way.
#[derive(Debug)]
pub(super) struct Pending(Receiver<Answer>);

impl Pending {
    /// Waits until the change is on the disk; the record of the object that was there before, if any.
    pub(super) fn wait(self) -> Answer {
        self.0.recv().unwrap_or_else(|_| Err(stopped()))
    }
}

impl Committer {
    pub(super) fn start(index: Arc<Index>, files: Files) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let thread = thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || run(&index, &files, &waiting))?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a change over. Changes are made in the order in which they come.
    pub(super) fn change(&self, tables: &Arc<Tables>, change: Change) -> Pending {
        let (answer, answered) = sync_channel(1);
        let job = Job {
            tables: Arc::clone(tables),
            change,
            answer,
        };
        if let Some(jobs) = &*self.jobs.lock() {
            // Were the thread gone, the answer's other end would be too, and waiting would tell.
            let _ = jobs.send(job);
        }
        Pending(answered)
    }

    /// Makes the changes that wait, and none after them.
    pub(super) fn close(&self) {
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

fn stopped() -> DiskError {
    DiskError::Io {
        doing: "change",
        path: index::INDEX.into(),
        source: io::Error::other("nothing changes it any more: the store is stopping"),
    }
}

fn run(index: &Index, files: &Files, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        group.extend(waiting.try_iter().take(MAX_GROUP - 1));
        if group.iter().any(|job| job.change.takes_room()) && !files.reserve().hold() {
            group = refuse_what_takes_room(group);
        }
        let Some(failure) = answer(index, files, &group) else {
            continue;
        };
        if is_full(&failure) {
            let _room = files.reserve().lend();
            group = refuse_what_takes_room(group);
            if answer(index, files, &group).is_none() {
                continue;
            }
        }
        for job in group {
            let _ = job.answer.send(Err(failure.again()));
        }
    }
}

fn refuse_what_takes_room(group: Vec<Job>) -> Vec<Job> {
    let (refused, others) = group.into_iter().partition::<Vec<_>, _>(|job| job.change.takes_room());
    for job in refused {
        let source = io::ErrorKind::StorageFull.into();
        let path = index::INDEX.into();
        let doing = "add to";
        let _ = job.answer.send(Err(DiskError::Io { doing, path, source }));
    }
    others
}

fn is_full(failure: &DiskError) -> bool {
    matches!(failure, DiskError::Io { source, .. } if reserve::is_full(source.kind()))
}

/// Makes the changes and answers each; or says why none was made, and nobody is answered.
fn answer(index: &Index, files: &Files, group: &[Job]) -> Option<DiskError> {
    match commit(index, files, group) {
        Ok(answers) => {
            for (job, answer) in group.iter().zip(answers) {
                let _ = job.answer.send(answer); // Whoever asked may have gone.
            }
            None
        }
        Err(failure) => {
            // First: those who are told of the failure, and log it, may try again at once.
            match index.reopen() {
                Ok(()) => info!(
                    changes = group.len(),
                    "the index is open again after changes that failed"
                ),
                Err(failure) => error!(
                    error = &into_io(failure) as &dyn std::error::Error,
                    "the index cannot be opened again; restart the store"
                ),
            }
            Some(failure)
        }
    }
}

/// One transaction. An answer may be a refusal, which leaves the other changes alone; a failure is everybody's.
fn commit(index: &Index, files: &Files, group: &[Job]) -> Result<Vec<Answer>, DiskError> {
    let mut directories = BTreeSet::new();
    // The directories are waited for in between, and fail in words of their own.
    let mut unsynced = Ok(());
    let answers = index.with(|database| {
        let mut transaction = database.begin_write()?;
        // A start after a kill takes as long with a million objects as with ten, and damage to the last commit is not
        // taken for a commit that was cut off.
        transaction.set_quick_repair(true);
        let mut answers = Vec::with_capacity(group.len());
        for Job { tables, change, .. } in group {
            let answer = make(&transaction, tables, change)?;
            if let (Ok(_), Change::Put { directory, .. }) = (&answer, change) {
                directories.extend(directory);
            }
            answers.push(answer);
        }
        unsynced = directories
            .into_iter()
            .try_for_each(|directory| files.sync_dir(directory));
        if unsynced.is_ok() && answers.iter().any(Result::is_ok) {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(answers)
    })?;
    unsynced.map(|()| answers)
}

/// Makes one change in the transaction, or refuses it and leaves everything as it is.
fn make(transaction: &WriteTransaction, tables: &Tables, change: &Change) -> Result<Answer, redb::Error> {
    match change {
        Change::Put { record, condition, .. } => {
            let mut objects = transaction.open_table(tables.objects())?;
            let before = objects
                .get(&*record.key)?
                .map(|value| parse::<Record>(value.value()))
                .transpose()?;
            if let Err(refused) = condition.check(before.as_ref()) {
                return Ok(Err(refused));
            }
            if tables.is_closed() {
                return Ok(Err(DiskError::NoSuchBucket));
            }
            objects.insert(&*record.key, &*json(record)?)?;
            let mut data = transaction.open_table(tables.data())?;
            if let Some(before) = &before {
                data.remove(before.content.id())?;
            }
            data.insert(record.content.id(), record.key.as_bytes())?;
            if let Content::Parts { upload, .. } = &record.content {
                transaction.open_table(tables.uploads())?.remove(&**upload)?;
            }
            Ok(Ok(before))
        }
        Change::Delete { key, condition } => {
            let mut objects = transaction.open_table(tables.objects())?;
            let before = objects
                .get(&**key)?
                .map(|value| parse::<Record>(value.value()))
                .transpose()?;
            let Some(before) = before else {
                let asked = condition.if_match.is_some();
                return Ok(if asked { Err(DiskError::NoSuchKey) } else { Ok(None) });
            };
            if let Err(refused) = condition.check(Some(&before)) {
                return Ok(Err(refused));
            }
            objects.remove(&**key)?;
            transaction.open_table(tables.data())?.remove(before.content.id())?;
            Ok(Ok(Some(before)))
        }
        Change::Amend { key, amendment } => {
            let mut objects = transaction.open_table(tables.objects())?;
            let before = objects
                .get(&**key)?
                .map(|value| parse::<Record>(value.value()))
                .transpose()?;
            let Some(mut record) = before else {
                return Ok(Err(DiskError::NoSuchKey));
            };
            amendment.make(&mut record.meta);
            objects.insert(&**key, &*json(&record)?)?;
            Ok(Ok(None))
        }
        Change::Open { id, record } => {
            if tables.is_closed() {
                return Ok(Err(DiskError::NoSuchBucket));
            }
            transaction
                .open_table(tables.uploads())?
                .insert(&**id, &*json(record)?)?;
            Ok(Ok(None))
        }
        Change::Abort { id } => {
            // A Complete whose outcome nobody knew may have made it an object after all.
            if transaction.open_table(tables.data())?.get(&**id)?.is_some() {
                return Ok(Err(DiskError::NoSuchUpload));
            }
            transaction.open_table(tables.uploads())?.remove(&**id)?;
            Ok(Ok(None))
        }
        Change::Close => {
            if !transaction.open_table(tables.objects())?.is_empty()? {
                return Ok(Err(DiskError::BucketNotEmpty));
            }
            tables.set_closed(true);
            Ok(Ok(None))
        }
        Change::Forget => {
            for table in [tables.objects(), tables.data(), tables.uploads()] {
                transaction.delete_table(table)?;
            }
            Ok(Ok(None))
        }
    }
}

/// A record as it stands in a table.
pub(super) fn json(record: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(record).map_err(|wrong| redb::Error::Io(wrong.into()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::{Database, StorageBackend};

    use super::super::index::IndexFile;
    use super::super::record::{Checksums, now};
    use super::*;

    /// Bytes that a file may have on a disk that is full but for the reserve.
    static ROOM: AtomicU64 = AtomicU64::new(u64::MAX);
    static RESERVE: OnceLock<PathBuf> = OnceLock::new();

    /// The file on such a disk.
    #[derive(Debug)]
    struct FullDisk(IndexFile);

    impl FullDisk {
        fn open(path: &Path, sync: bool, new: bool) -> Result<Database, redb::Error> {
            let file = IndexFile::open(path, sync, new)?;
            Ok(Database::builder().create_with_backend(Self(file))?)
        }

        fn take(end: u64) -> io::Result<()> {
            let reserved = RESERVE.get().is_some_and(|reserve| reserve.exists());
            let room = ROOM.load(Ordering::Acquire);
            if end <= room.saturating_add(if reserved { 0 } else { 4 << 20 }) {
                Ok(())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    impl StorageBackend for FullDisk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            Self::take(len)?;
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            Self::take(offset + data.len() as u64)?;
            self.0.write(offset, data)
        }
    }

    fn put(key: String) -> Change {
        let record = Record {
            content: Content::File(format!("data of {key}")),
            key,
            size: 0,
            etag: String::new(),
            modified: now(),
            checksums: Checksums::new(),
            checksum_kind: None,
            meta: Meta {
                content_type: Some("x".repeat(2000)),
                ..Meta::default()
            },
        };
        Change::Put {
            record: Box::new(record),
            condition: Condition::default(),
            directory: None,
        }
    }

    #[test]
    fn on_a_full_disk_objects_can_be_read_and_deleted_and_then_there_is_room() {
        let root = tempfile::tempdir().unwrap();
        RESERVE.set(root.path().join("reserve")).unwrap();
        let index = Arc::new(Index::open_by(FullDisk::open, root.path(), false, true).unwrap());
        let files = Files::new(root.path(), false).unwrap();
        let committer = Committer::start(Arc::clone(&index), files).unwrap();
        let tables = Arc::new(Tables::of("bucket"));
        let change = |change| committer.change(&tables, change).wait();
        for key in ["first", "second", "third", "kept"] {
            change(put(key.to_owned())).unwrap();
        }
        ROOM.store(
            std::fs::metadata(root.path().join(index::INDEX)).unwrap().len(),
            Ordering::Release,
        );

        let refused = (0..10_000).find_map(|number| change(put(number.to_string())).err());
        let refused = refused.expect("the disk never was full");
        assert!(is_full(&refused), "{refused:?}");
        assert!(index.object(&tables, "first").unwrap().is_some());
        for key in ["first", "second", "third"] {
            let condition = Condition::default();
            let delete = Change::Delete {
                key: key.to_owned(),
                condition,
            };
            assert!(change(delete).unwrap().is_some(), "{key} was not there");
            assert!(index.object(&tables, key).unwrap().is_none());
        }
        assert!(index.object(&tables, "kept").unwrap().is_some());

        ROOM.store(u64::MAX, Ordering::Release);
        change(put("last".to_owned())).unwrap();
        assert!(root.path().join("reserve").exists());
        committer.close();
        index.close();
        let index = Index::open(root.path(), false).unwrap();
        assert!(index.object(&tables, "last").unwrap().is_some());
        assert!(index.object(&tables, "first").unwrap().is_none());
    }
}
