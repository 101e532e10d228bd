//! Holds everything in a store's directory against what the index says of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use md5::{Digest as _, Md5};
use s3s::checksum::ChecksumHasher;
use serde::Serialize;
use shared::Md5Digest;

use crate::error::StoreError;

use super::checksum::{ChecksumKind, hasher, recorded};
use super::index::{Index, Owner, Tables};
use super::object::{data_path, parts};
use super::record::{BucketRecord, Content, Part, Record, etag_of_parts};
use super::recover::{BUCKET_RECORD, FORMAT, entries, format, lock, read, unusable};

/// Bytes read at once.
const READ_SIZE: usize = 512 * 1024;
/// Records in memory at once; each may tell of 10,000 parts.
const PAGE: usize = 16;

/// What a check tells while it goes on.
#[derive(Debug)]
pub enum CheckEvent {
    /// There are so many objects to look at.
    Objects(u64),
    /// So many bytes of data were read since the last time.
    Read(u64),
    /// One more object was looked at.
    Object,
    /// Something is not as it should be.
    Problem(Problem),
}

/// Something that is not as its record says.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The bucket; none if the index itself is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The key of the object or of the upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The id, if it is about an open upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// What was looked at, and how much of it is wrong.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CheckSummary {
    /// Buckets.
    pub buckets: u64,
    /// Objects.
    pub objects: u64,
    /// Open uploads.
    pub uploads: u64,
    /// Parts, of objects and of open uploads.
    pub parts: u64,
    /// Bytes of data that were read.
    pub bytes: u64,
    /// Problems that were told.
    pub problems: u64,
}

/// Reads every byte in the store's directory `root`, which nobody may serve meanwhile, and tells by `tell` what is not
/// as the index says. Changes nothing, but for what opening the index after a crash repairs.
///
/// # Errors
/// The directory is no store's, is served, or holds another format; the index cannot be read.
pub fn check(root: &Path, tell: impl FnMut(CheckEvent)) -> Result<CheckSummary, StoreError> {
    match format(root)? {
        Some(FORMAT) => {}
        Some(_) => return Err(StoreError::OldFormat { dir: root.to_owned() }),
        None => return Err(StoreError::NoStore { dir: root.to_owned() }),
    }
    let _lock = lock(root)?;
    let mut check = Check {
        index: Index::open(root, true).map_err(|failure| unusable(Index::failure_in(root, failure)))?,
        tell,
        summary: CheckSummary::default(),
        place: Problem {
            bucket: None,
            key: None,
            upload: None,
            problem: String::new(),
        },
    };
    check.all(root)?;
    Ok(check.summary)
}

struct Check<F> {
    index: Index,
    tell: F,
    summary: CheckSummary,
    /// What is looked at just now.
    place: Problem,
}

impl<F: FnMut(CheckEvent)> Check<F> {
    fn all(&mut self, root: &Path) -> Result<(), StoreError> {
        if !self.index.check_pages().map_err(unusable)? {
            self.problem("pages of the index were not as they had been written; they have been repaired");
        }
        let (mut total, mut buckets) = (0, Vec::new());
        for name in self.index.buckets().map_err(unusable)? {
            let tables = Tables::of(&name);
            total += self.index.count(&tables).map_err(unusable)?;
            if !root.join("buckets").join(&name).is_dir() {
                self.place.bucket = Some(name);
                self.problem("the bucket's directory is gone");
            }
        }
        for entry in entries(&root.join("buckets"))? {
            if let Ok(name) = entry?.file_name().into_string() {
                buckets.push(name);
            }
        }
        buckets.sort();
        (self.tell)(CheckEvent::Objects(total));
        for name in buckets {
            self.place.bucket = Some(name.clone());
            self.bucket(&root.join("buckets").join(&name), &Tables::of(&name))?;
        }
        Ok(())
    }

    fn bucket(&mut self, dir: &Path, tables: &Tables) -> Result<(), StoreError> {
        self.summary.buckets += 1;
        if read::<BucketRecord>(&dir.join(BUCKET_RECORD)).is_none() {
            self.problem("the bucket's record cannot be read, so the bucket is not served");
        }
        let mut after = None;
        loop {
            let page = self.index.records(tables, after.as_deref(), PAGE).map_err(unusable)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, record) in page {
                self.place.key = Some(key.clone());
                match record {
                    Ok(record) if record.key == key => self.object(dir, tables, &record)?,
                    Ok(_) => self.problem("the record is that of another key"),
                    Err(wrong) => self.problem(&wrong.to_string()),
                }
                self.summary.objects += 1;
                (self.tell)(CheckEvent::Object);
            }
        }
        for (id, upload) in self.index.uploads(tables).map_err(unusable)? {
            self.summary.uploads += 1;
            self.place.key = Some(upload.key);
            self.upload(&dir.join("uploads").join(&id));
            self.place.upload = None;
        }
        self.place.key = None;
        Ok(())
    }

    fn object(&mut self, dir: &Path, tables: &Tables, record: &Record) -> Result<(), StoreError> {
        match self.index.owner(tables, record.content.id()).map_err(unusable)? {
            Owner::Object(owner) if owner.key == record.key => {}
            _ => self.problem("the index does not know its data for those of this object"),
        }
        let data = data_path(dir, &record.content);
        let algorithms = recorded(&record.checksums);
        let mut hasher = hasher(&algorithms);
        let size = match &record.content {
            Content::File(_) => {
                let Some((size, md5)) = self.hash(&data, &mut hasher) else {
                    return Ok(());
                };
                if md5.to_hex() != record.etag {
                    self.problem(&format!(
                        "the MD5 of its bytes is {}, its ETag {}",
                        md5.to_hex(),
                        record.etag
                    ));
                }
                size
            }
            Content::Parts { parts, .. } => {
                let mut size = 0;
                for part in parts {
                    match self.part(&data, part, &mut hasher) {
                        Some(bytes) => size += bytes,
                        None => return Ok(()),
                    }
                }
                size
            }
        };
        if size != record.size {
            self.problem(&format!("there are {size} bytes, not {}", record.size));
        }
        if !parts(record).is_empty() && etag_of_parts(parts(record)) != record.etag {
            self.problem("its ETag is not that of its parts");
        }
        let computed = hasher.finalize();
        // What is of the parts' checksums is not of the bytes.
        let of_bytes = record.checksum_kind != Some(ChecksumKind::Composite);
        for algorithm in algorithms.into_iter().filter(|_| of_bytes) {
            if algorithm.computed(&computed) != record.checksums.get(algorithm.header()) {
                self.problem(&format!("{} of its bytes is not the one recorded", algorithm.header()));
            }
        }
        Ok(())
    }

    fn upload(&mut self, dir: &Path) {
        self.place.upload = dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let found = match entries(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(found) if !found.is_empty() || dir.is_dir() => found,
            Ok(_) => return self.problem("the upload's directory is gone"),
            Err(failure) => return self.problem(&failure.to_string()),
        };
        for entry in found {
            let size = entry.metadata().map(|meta| meta.len()).unwrap_or_default();
            if let Some(part) = Part::from_file_name(&entry.file_name().to_string_lossy(), size) {
                self.part(dir, &part, &mut ChecksumHasher::default());
            }
        }
    }

    /// How many bytes the part has, if they can be read.
    fn part(&mut self, dir: &Path, part: &Part, hasher: &mut ChecksumHasher) -> Option<u64> {
        self.summary.parts += 1;
        let (size, md5) = self.hash(&dir.join(part.file_name()), hasher)?;
        if (size, md5) != (part.size, part.md5) {
            self.problem(&format!(
                "part {} has {size} bytes with the MD5 {}, not {} with {}",
                part.number,
                md5.to_hex(),
                part.size,
                part.md5.to_hex()
            ));
        }
        Some(size)
    }

    fn hash(&mut self, path: &Path, others: &mut ChecksumHasher) -> Option<(u64, Md5Digest)> {
        let (mut md5, mut size, mut buffer) = (Md5::new(), 0, vec![0; READ_SIZE]);
        let mut read = || -> io::Result<()> {
            let mut file = File::open(path)?;
            loop {
                let got = file.read(&mut buffer)?;
                let bytes = buffer.get(..got).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(());
                }
                md5.update(bytes);
                others.update(bytes);
                size += bytes.len() as u64;
                (self.tell)(CheckEvent::Read(bytes.len() as u64));
            }
        };
        let done = read();
        self.summary.bytes += size;
        match done {
            Ok(()) => Some((size, Md5Digest::from_bytes(md5.finalize().into()))),
            Err(error) => {
                self.problem(&format!("cannot read its data {}: {error}", path.display()));
                None
            }
        }
    }

    fn problem(&mut self, what: &str) {
        self.summary.problems += 1;
        (self.tell)(CheckEvent::Problem(Problem {
            problem: what.to_owned(),
            ..self.place.clone()
        }));
    }
}
