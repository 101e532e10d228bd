//! Buckets, objects and uploads in one directory, where all that a reader sees comes and goes by one transaction.
//!
//! ```text
//! DIR/format                      what layout this is
//! DIR/lock                        held by the process that serves it
//! DIR/index.redb                  the index: a record for every object and every open upload; names their data
//! DIR/reserve                     room set aside, so that a full disk can be made emptier
//! DIR/trash/                      deleted buckets on their way out
//! DIR/buckets/NAME/bucket.json
//!                  data/ID        bytes of an object put in one piece
//!                  uploads/ID/    parts of an upload, NUMBER.SEQ.MD5. Completing makes an object of these very files
//! ```
//!
//! Of objects nothing is kept in memory but what is being read; of uploads, those that are open. Everything here blocks.

mod bucket;
mod check;
mod checksum;
mod commit;
mod condition;
mod draft;
mod error;
mod files;
mod hashing;
mod index;
mod list;
mod migrate;
mod object;
mod pins;
mod record;
mod recover;
mod reserve;
#[cfg(test)]
mod scale;
mod sweep;
mod upload;
mod writeback;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

pub(crate) use bucket::{Bucket, Whole};
pub use check::{CheckEvent, CheckSummary, Problem, check};
pub(crate) use checksum::{Algorithm, ChecksumKind, PlannedChecksum, hasher, recorded};
pub(crate) use commit::Amendment;
pub(crate) use condition::{Condition, Tag};
pub(crate) use draft::{Draft, Written};
pub(crate) use error::DiskError;
pub(crate) use files::random_name;
pub(crate) use hashing::Hashed;
pub(crate) use list::{Listing, Page, common_prefix};
pub(crate) use object::{Object, Reader};
pub(crate) use record::{
    Acl, BucketSettings, Checksums, CorsRule, Entry, Meta, Ownership, PublicAccess, Record, Tags, now,
};
pub(crate) use upload::{ListedPart, Upload};

#[cfg(test)]
pub(crate) use record::Content;

use bucket::Shared;
use error::IoContext as _;
use index::Tables;
use record::BucketRecord;
use sweep::Sweeper;

/// Everything under one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    shared: Shared,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    min_part_size: u64,
    sweeper: Sweeper,
    /// Locked as long as it is open.
    _lock: File,
}

impl Drop for Disk {
    /// A request that nobody waits for may still hold a bucket. Whoever opens the directory next finds the index closed.
    fn drop(&mut self) {
        self.sweeper.stop();
        self.shared.committer.close();
        self.shared.index.close();
    }
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
        let Shared { files, .. } = &self.shared;
        for dir in [path.clone(), path.join("data"), path.join("uploads")] {
            files.create_dir(&dir)?;
        }
        files.publish(&path, recover::BUCKET_RECORD, &record)?;
        let tables = Arc::new(Tables::of(name));
        let bucket = Bucket::new(record, path, self.shared.clone(), tables, BTreeMap::new());
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(true)
    }

    /// Deletes a bucket that holds no object; open uploads go with it.
    pub(crate) fn delete_bucket(&self, name: &str) -> Result<(), DiskError> {
        let mut buckets = self.buckets.write();
        let bucket = buckets.get(name).cloned().ok_or(DiskError::NoSuchBucket)?;
        let trash = self.root.join("trash").join(files::random_name()?);
        let moved = bucket
            .close()
            .and_then(|()| fs::rename(bucket.path(), &trash).context("move to the trash", bucket.path()));
        if let Err(error) = moved {
            bucket.reopen();
            return Err(error);
        }
        buckets.remove(name);
        let Shared { files, .. } = &self.shared;
        files.sync_dir(&self.root.join("buckets"))?;
        // Before another bucket can have the name. Cut off here, the next start does it.
        bucket.forget()?;
        drop(buckets);
        files.remove_later(trash);
        Ok(())
    }
}
