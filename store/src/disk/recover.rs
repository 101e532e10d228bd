//! From a directory to a store: takes the lock, opens the index, and finds the uploads that are open.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::error::StoreError;

use super::Disk;
use super::bucket::{Bucket, Shared, Uploads};
use super::commit::{Change, Committer};
use super::error::DiskError;
use super::files::{DRAFT, Files, remove};
use super::index::{INDEX, Index, Tables};
use super::migrate::migrate;
use super::pins::Pins;
use super::record::{BucketRecord, Part};
use super::sweep::{Places, Sweeper};
use super::upload::{StoredPart, Upload};

/// The bucket's record in its directory.
pub(super) const BUCKET_RECORD: &str = "bucket.json";
/// What the file `format` says of the layout that this program reads and writes.
pub(super) const FORMAT: &str = "embedded-store 2";
/// The layout before: a file for each record. It is brought over.
const OLD_FORMAT: &str = "embedded-store 1";

/// Says what was tried on which path when the system refuses.
pub(super) fn at<T>(result: io::Result<T>, doing: &'static str, path: &Path) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Directory {
        doing,
        path: path.to_owned(),
        source,
    })
}

/// Says that the index failed while the store was opened.
pub(super) fn unusable(failure: DiskError) -> StoreError {
    match failure {
        DiskError::Io { doing: _, path, source } => StoreError::Index { path, source },
        other => StoreError::Index {
            path: INDEX.into(),
            source: io::Error::other(other),
        },
    }
}

impl Disk {
    /// Opens the store in `root`, or makes an empty one there.
    pub(crate) fn open(root: PathBuf, sync: bool, min_part_size: u64) -> Result<Self, StoreError> {
        let since = Instant::now();
        create_dir(&root, sync)?;
        let lock = lock(&root)?;
        let index = Arc::new(open_index(&root, sync)?);
        for dir in ["buckets", "trash"] {
            create_dir(&root.join(dir), sync)?;
        }
        let files = at(Files::new(&root, sync), "start a thread for", &root)?;
        let committer = Committer::start(Arc::clone(&index), files.clone());
        let shared = Shared {
            pins: Arc::new(Pins::new(files.clone())),
            committer: Arc::new(at(committer, "start a thread for", &root)?),
            files,
            index,
        };
        let mut buckets = BTreeMap::new();
        let mut places = Places {
            trash: root.join("trash"),
            buckets: Vec::new(),
        };
        let (mut objects, mut open_uploads) = (0, 0);
        for entry in entries(&root.join("buckets"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let tables = Arc::new(Tables::of(&name));
            match read::<BucketRecord>(&entry.path().join(BUCKET_RECORD)) {
                Some(record) => {
                    let uploads = open_uploads_of(&entry.path(), &shared, &tables)?;
                    objects += shared.index.count(&tables).map_err(unusable)?;
                    open_uploads += uploads.len();
                    places.buckets.push((entry.path(), Arc::clone(&tables)));
                    let bucket = Bucket::new(record, entry.path(), shared.clone(), tables, uploads);
                    buckets.insert(name, Arc::new(bucket));
                }
                // Its creation was cut off, or its record is damaged; only the former has nothing in it.
                None if is_empty(&entry.path())? => remove(&entry.path()),
                None => warn!(
                    bucket = name,
                    "the bucket's record cannot be read; the bucket is left out"
                ),
            }
        }
        forget_deleted(&root, &shared)?;
        info!(
            dir = %root.display(),
            buckets = buckets.len(),
            objects,
            open_uploads,
            milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the store's directory is open"
        );
        let sweeper = at(Sweeper::start(places, shared.clone()), "start a thread for", &root)?;
        Ok(Self {
            root,
            shared,
            buckets: RwLock::new(buckets),
            min_part_size,
            sweeper,
            _lock: lock,
        })
    }
}

/// Keeps other processes out of the directory.
pub(super) fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = at(File::options().create(true).append(true).open(&path), "write", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: root.to_owned() }),
        Err(TryLockError::Error(source)) => at(Err(source), "lock", &path),
    }
}

fn open_index(root: &Path, sync: bool) -> Result<Index, StoreError> {
    let failed = |failure| unusable(Index::failure_in(root, failure));
    let old = match format(root)? {
        Some(FORMAT) => return Index::open(root, sync).map_err(failed),
        Some(_) => true,
        None => false,
    };
    // An index that is there already was cut off before it was whole.
    let path = root.join(INDEX);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => at(removed, "remove", &path)?,
    }
    // What is brought over is synced in any case: the old records go once the format is written.
    let index = Index::create(root, sync || old).map_err(failed)?;
    if old {
        migrate(&root.join("buckets"), &index)?;
    }
    index.close();
    sync_dir(root)?;
    write_format(root)?;
    Index::open(root, sync).map_err(failed)
}

/// What the directory's file `format` says, if it is one that this program knows; none in a new directory.
pub(super) fn format(root: &Path) -> Result<Option<&'static str>, StoreError> {
    let path = root.join("format");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let known = [FORMAT, OLD_FORMAT].into_iter().find(|known| *known == text.trim_end());
            known.map(Some).ok_or_else(|| StoreError::Format {
                dir: root.to_owned(),
                found: text.trim_end().chars().take(64).collect(),
                known: FORMAT,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if root.join("buckets").exists() {
                return Err(StoreError::NotAStore { dir: root.to_owned() });
            }
            Ok(None)
        }
        Err(source) => at(Err(source), "read", &path),
    }
}

fn write_format(root: &Path) -> Result<(), StoreError> {
    let path = root.join("format");
    let draft = root.join(format!("{DRAFT}format"));
    at(fs::write(&draft, format!("{FORMAT}\n")), "write", &draft)?;
    at(File::open(&draft).and_then(|file| file.sync_all()), "write", &draft)?;
    at(fs::rename(&draft, &path), "write", &path)?;
    sync_dir(root)
}

/// Makes a directory, and those that it is in, where they are not there; with `sync`, so that a power cut leaves them.
fn create_dir(dir: &Path, sync: bool) -> Result<(), StoreError> {
    let dir = at(std::path::absolute(dir), "find the directory", dir)?;
    let missing: Vec<_> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    at(fs::create_dir_all(&dir), "create the directory", &dir)?;
    if sync {
        for parent in missing.iter().filter_map(|dir| dir.parent()) {
            sync_dir(parent)?;
        }
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    at(synced, "sync the directory", dir)
}

/// What is in `dir`, one entry after the other; nothing, if there is no such directory.
pub(super) fn entries(dir: &Path) -> Result<impl Iterator<Item = Result<DirEntry, StoreError>>, StoreError> {
    let read = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(at(read, "read the directory", dir)?),
    };
    let dir = dir.to_owned();
    let told = move |entry| at(entry, "read the directory", &dir);
    Ok(read.into_iter().flatten().map(told))
}

fn is_empty(bucket: &Path) -> Result<bool, StoreError> {
    Ok(entries(&bucket.join("data"))?.next().is_none() && entries(&bucket.join("uploads"))?.next().is_none())
}

/// The record in a file, if there is one that can be read.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The uploads that the index says are open, each with the parts found in its directory.
fn open_uploads_of(bucket: &Path, shared: &Shared, tables: &Arc<Tables>) -> Result<Uploads, StoreError> {
    let mut uploads = Uploads::new();
    for (id, record) in shared.index.uploads(tables).map_err(unusable)? {
        let path = bucket.join("uploads").join(&id);
        if !path.is_dir() {
            let abort = Change::Abort { id };
            shared.committer.change(tables, abort).wait().map_err(unusable)?;
            continue;
        }
        let mut leftovers = Vec::new();
        let found = read_parts(&path, &mut leftovers)?;
        for path in leftovers {
            remove(&path);
        }
        let services = (shared.files.clone(), Arc::clone(&shared.pins));
        let upload = Upload::new(id.clone(), record, path, services, found);
        uploads.insert((upload.record.key.clone(), id), upload.into());
    }
    Ok(uploads)
}

/// The parts of an open upload. Where a crash left two files for a number, the older goes.
fn read_parts(dir: &Path, leftovers: &mut Vec<PathBuf>) -> Result<Vec<StoredPart>, StoreError> {
    let mut newest = BTreeMap::<_, (StoredPart, PathBuf)>::new();
    for entry in entries(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = at(entry.metadata(), "read", &entry.path())?;
        let Some(part) = Part::from_file_name(&name, meta.len()) else {
            leftovers.push(entry.path());
            continue;
        };
        let since = meta
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or_default();
        let found = (StoredPart { part, modified }, entry.path());
        match newest.get(&found.0.part.number) {
            Some(other) if other.0.part.seq > found.0.part.seq => leftovers.push(found.1),
            Some(_) | None => {
                if let Some((_, older)) = newest.insert(found.0.part.number, found) {
                    leftovers.push(older);
                }
            }
        }
    }
    Ok(newest.into_values().map(|(stored, _)| stored).collect())
}

/// Takes buckets off the index whose deletion was cut off after their directory was gone.
fn forget_deleted(root: &Path, shared: &Shared) -> Result<(), StoreError> {
    for name in shared.index.buckets().map_err(unusable)? {
        if root.join("buckets").join(&name).exists() {
            continue;
        }
        let tables = Arc::new(Tables::of(&name));
        let objects = shared.index.count(&tables).map_err(unusable)?;
        if objects == 0 {
            let forgotten = shared.committer.change(&tables, Change::Forget).wait();
            forgotten.map_err(unusable)?;
        } else {
            warn!(
                bucket = name,
                objects, "the bucket's directory is gone, though there are objects in it"
            );
        }
    }
    Ok(())
}
