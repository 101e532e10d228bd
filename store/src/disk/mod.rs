//! Buckets, objects and uploads in one directory, where all that a reader sees comes and goes by one rename.
//!
//! ```text
//! DIR/format                      what layout this is
//! DIR/lock                        held by the process that serves it
//! DIR/trash/                      deleted buckets on their way out
//! DIR/buckets/NAME/bucket.json
//!                  objects/HASH   record of the object whose key has this SHA-256; names its data
//!                  data/ID        bytes of an object put in one piece
//!                  uploads/ID/    parts of an upload, NUMBER.SEQ.MD5; with upload.json while it is open.
//!                                 Completing writes a record that names these very files, and removes upload.json
//! ```
//!
//! Records are small and all in memory, sorted by key; bytes are only ever read from the disk. Everything here blocks.

mod bucket;
mod checksum;
mod condition;
mod draft;
mod error;
mod files;
mod list;
mod object;
mod record;
mod recover;
mod upload;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

pub(crate) use bucket::{Bucket, Whole};
pub(crate) use checksum::{Algorithm, ChecksumKind, PlannedChecksum, hasher};
pub(crate) use condition::{Condition, Tag};
pub(crate) use draft::{Draft, Written};
pub(crate) use error::DiskError;
pub(crate) use files::random_name;
pub(crate) use list::{Listing, Page, common_prefix};
pub(crate) use object::{Object, Reader};
pub(crate) use record::{Acl, BucketSettings, Checksums, CorsRule, Meta, Record, Tags, now};
pub(crate) use upload::ListedPart;

#[cfg(test)]
pub(crate) use record::Content;

use error::IoContext as _;
use files::Files;
use record::BucketRecord;

/// Everything under one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    files: Files,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    min_part_size: u64,
    /// Locked as long as it is open.
    _lock: File,
}

impl Disk {
    /// The bucket of this name.
    pub(crate) fn bucket(&self, name: &str) -> Result<Arc<Bucket>, DiskError> {
        self.buckets.read().get(name).cloned().ok_or(DiskError::NoSuchBucket)
    }

    /// Names of all buckets, and when they were created.
    pub(crate) fn buckets(&self) -> Vec<(String, i64)> {
        let buckets = self.buckets.read();
        buckets
            .iter()
            .map(|(name, bucket)| (name.clone(), bucket.created))
            .collect()
    }

    /// Least bytes of every part but the last.
    pub(crate) fn min_part_size(&self) -> u64 {
        self.min_part_size
    }

    /// Makes a bucket; whether it was not there before. The name must be a valid one, so that it is a directory's too.
    pub(crate) fn create_bucket(&self, name: &str, settings: BucketSettings) -> Result<bool, DiskError> {
        let mut buckets = self.buckets.write();
        if buckets.contains_key(name) {
            return Ok(false);
        }
        let path = self.root.join("buckets").join(name);
        let record = BucketRecord {
            created: now(),
            settings,
        };
        for dir in [
            path.clone(),
            path.join("objects"),
            path.join("data"),
            path.join("uploads"),
        ] {
            self.files.create_dir(&dir)?;
        }
        self.files.publish(&path, recover::BUCKET_RECORD, &record)?;
        let bucket = Bucket::new(record, path, self.files.clone(), BTreeMap::new(), BTreeMap::new());
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(true)
    }

    /// Deletes a bucket that holds no object; open uploads go with it.
    pub(crate) fn delete_bucket(&self, name: &str) -> Result<(), DiskError> {
        let mut buckets = self.buckets.write();
        let bucket = buckets.get(name).cloned().ok_or(DiskError::NoSuchBucket)?;
        bucket.close()?;
        let trash = self.root.join("trash").join(files::random_name()?);
        if let Err(error) = fs::rename(bucket.path(), &trash).context("move to the trash", bucket.path()) {
            bucket.reopen();
            return Err(error);
        }
        buckets.remove(name);
        drop(buckets);
        self.files.sync_dir(&self.root.join("buckets"))?;
        self.files.remove_later(trash);
        Ok(())
    }
}
