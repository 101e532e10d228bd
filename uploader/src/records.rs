//! Which files have become which objects, for `--if-changed`: one file of records for each broker, caller, destination and
//! bucket.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use shared::{ETag, Md5Digest};
use tempfile::NamedTempFile;

use crate::frames::{Frames, Header, frame};
use crate::identity::{self, Identity};
use crate::verify;

const HEADER: Header = *b"record\0\x01";
/// Records that newer ones have replaced are removed once there are more of them than of the others, and this many.
const DEAD: usize = 4096;

/// An ETag in few bytes: an MD5 and of how many parts it was made, 0 for none; of another kind its hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tag {
    bytes: [u8; 16],
    parts: u16,
}

impl Tag {
    /// More parts than there can be: the ETag is no MD5.
    const OPAQUE: u16 = u16::MAX;

    pub(crate) fn of(etag: &ETag) -> Self {
        let md5 = || {
            let (md5, parts) = verify::made_of(etag)?;
            let parts = u16::try_from(parts.unwrap_or_default()).ok()?;
            let bytes = *Md5Digest::from_hex(md5)?.as_bytes();
            Some(Self { bytes, parts }).filter(|_| parts != Self::OPAQUE)
        };
        md5().unwrap_or_else(|| Self {
            bytes: identity::short_hash(&[etag.unquoted().as_bytes()]),
            parts: Self::OPAQUE,
        })
    }

    /// The ETag again; nothing if it is no MD5.
    pub(crate) fn etag(self) -> Option<ETag> {
        let md5 = Md5Digest::from_bytes(self.bytes).to_hex();
        match self.parts {
            Self::OPAQUE => None,
            0 => Some(ETag::new(format!("\"{md5}\""))),
            parts => Some(ETag::new(format!("\"{md5}-{parts}\""))),
        }
    }
}

/// A key in 8 bytes: of a file that has been found to be as long as the object and to have its ETag, that is enough.
pub(crate) fn key_hash(key: &str) -> u64 {
    let hash = identity::hash(&[key.as_bytes()]);
    hash.first_chunk().map_or(0, |start| u64::from_le_bytes(*start))
}

/// A path and the name it is sent by, in 16 bytes.
pub(crate) type Whose = [u8; 16];

pub(crate) fn whose(path: &Path, name: &str) -> io::Result<Whose> {
    let path = std::path::absolute(path)?;
    Ok(identity::short_hash(&[
        path.as_os_str().as_encoded_bytes(),
        name.as_bytes(),
    ]))
}

/// A file as it was, and the object that it then became or was found to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// [`Identity::digest`].
    pub(crate) file: [u8; 16],
    pub(crate) key: u64,
    pub(crate) tag: Tag,
}

impl Record {
    /// Whether the file is still what it was.
    pub(crate) fn is_of(&self, identity: &Identity) -> bool {
        self.file == identity.digest()
    }

    fn bytes(&self, whose: &Whose) -> Vec<u8> {
        let key = self.key.to_le_bytes();
        let parts = self.tag.parts.to_le_bytes();
        [&whose[..], &self.file, &key, &self.tag.bytes, &parts].concat()
    }

    fn read(bytes: &[u8]) -> Option<(Whose, Self)> {
        let (whose, bytes) = bytes.split_first_chunk()?;
        let (file, bytes) = bytes.split_first_chunk()?;
        let (key, bytes) = bytes.split_first_chunk()?;
        let (tag, parts) = bytes.split_first_chunk()?;
        let record = Self {
            file: *file,
            key: u64::from_le_bytes(*key),
            tag: Tag {
                bytes: *tag,
                parts: u16::from_le_bytes(parts.try_into().ok()?),
            },
        };
        Some((*whose, record))
    }
}

/// All of them, in memory and on the disk. Several runs may use the file at once: it is locked for a moment at a time.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    frames: Frames,
    known: HashMap<Whose, Record>,
}

impl Records {
    /// Reads them, and writes them anew where most of them have been replaced.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let frames = Frames::open(path, HEADER)?;
        frames.lock()?;
        // Where nothing changes, nothing is written for months.
        frames.touch();
        let mut records = Self {
            path: path.to_owned(),
            frames,
            known: HashMap::new(),
        };
        let mut count = 0;
        records.frames.read(|record| {
            count += 1;
            records.known.extend(Record::read(record));
        })?;
        if count > 2 * records.known.len() + DEAD {
            records.compact()?;
        } else {
            records.frames.unlock()?;
        }
        Ok(records)
    }

    /// What is recorded of this file.
    pub(crate) fn get(&self, whose: &Whose) -> Option<&Record> {
        self.known.get(whose)
    }

    /// Records it.
    pub(crate) fn put(&mut self, whose: Whose, record: Record) -> io::Result<()> {
        if self.known.get(&whose) == Some(&record) {
            return Ok(());
        }
        self.frames.lock()?;
        let written = self.append(&record.bytes(&whose));
        // Also where nothing could be written: others wait for it.
        self.frames.unlock()?;
        written?;
        self.known.insert(whose, record);
        Ok(())
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        while !self.frames.is_current()? {
            // Another run has written them anew.
            self.frames = Frames::open(&self.path, HEADER)?;
            self.frames.lock()?;
        }
        self.frames.catch_up()?;
        self.frames.append(record)
    }

    /// Writes what is known into a file that takes the place of the old one, whose lock ends with it.
    fn compact(&mut self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut anew = NamedTempFile::new_in(directory)?;
        let mut bytes = HEADER.to_vec();
        for (whose, record) in &self.known {
            bytes.extend(frame(&record.bytes(whose)).unwrap_or_default());
        }
        anew.write_all(&bytes)?;
        anew.persist(&self.path).map_err(|error| error.error)?;
        self.frames = Frames::open(&self.path, HEADER)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> Record {
        Record {
            file: [number; 16],
            key: key_hash("key"),
            tag: Tag::of(&ETag::new("\"d41d8cd98f00b204e9800998ecf8427e-7\"")),
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        (directory, path)
    }

    #[test]
    fn an_etag_of_md5s_can_be_told_again_and_any_other_compared() {
        for text in [
            "d41d8cd98f00b204e9800998ecf8427e",
            "d41d8cd98f00b204e9800998ecf8427e-10000",
        ] {
            assert_eq!(Tag::of(&ETag::new(text)).etag().unwrap().unquoted(), text);
        }
        for text in ["", "opaque", "d41d8cd98f00b204e9800998ecf8427e-65535"] {
            let tag = Tag::of(&ETag::new(text));
            assert_eq!((tag.etag(), tag), (None, Tag::of(&ETag::new(format!("\"{text}\"")))));
        }
        assert_ne!(Tag::of(&ETag::new("a")), Tag::of(&ETag::new("b")));
    }

    #[test]
    fn the_latest_record_of_a_file_counts_in_the_next_run_too() {
        let (_directory, path) = place();
        let mut records = Records::open(&path).unwrap();
        for number in [1, 2] {
            records.put([0; 16], record(number)).unwrap();
        }
        assert_eq!(records.get(&[0; 16]), Some(&record(2)));
        assert_eq!(Records::open(&path).unwrap().get(&[0; 16]), Some(&record(2)));
        assert_eq!(records.get(&[1; 16]), None);
    }

    #[test]
    fn what_has_been_replaced_is_removed_once_it_is_most_while_another_run_goes_on_writing() {
        let (_directory, path) = place();
        let mut other = Records::open(&path).unwrap();
        let mut records = Records::open(&path).unwrap();
        for number in 0..=DEAD {
            records.put([0; 16], record(u8::from(number % 2 == 0))).unwrap();
            records.put([2; 16], record(u8::from(number % 2 == 0))).unwrap();
        }
        let before = std::fs::metadata(&path).unwrap().len();
        let compacted = Records::open(&path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < before / 100);
        assert_eq!(compacted.get(&[0; 16]), Some(&record(1)));

        other.put([3; 16], record(3)).unwrap();
        records.put([4; 16], record(4)).unwrap();
        let read = Records::open(&path).unwrap();
        let expected = [(0, 1), (2, 1), (3, 3), (4, 4)];
        for (whose, number) in expected {
            assert_eq!(read.get(&[whose; 16]), Some(&record(number)), "{whose}");
        }
    }
}
