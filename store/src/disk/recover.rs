//! From a directory to a store: takes the lock, reads every record, finishes or removes what a crash left half done.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::error::StoreError;

use super::Disk;
use super::bucket::{Bucket, Objects, Uploads};
use super::files::{DRAFT, Files, remove};
use super::object::{Object, data_path};
use super::record::{BucketRecord, Part, Record, UploadRecord, record_name};
use super::upload::{StoredPart, UPLOAD_RECORD, Upload};

/// The bucket's record in its directory.
pub(super) const BUCKET_RECORD: &str = "bucket.json";
/// What the file `format` says of the layout that this program reads and writes.
const FORMAT: &str = "embedded-store 1";

/// What was found and done at the start.
#[derive(Debug, Default)]
struct Tally {
    objects: usize,
    uploads: usize,
    completed: usize,
    leftovers: usize,
}

/// Says what was tried on which path when the system refuses.
fn at<T>(result: io::Result<T>, doing: &'static str, path: &Path) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Directory {
        doing,
        path: path.to_owned(),
        source,
    })
}

impl Disk {
    /// Opens the store in `root`, or makes an empty one there.
    pub(crate) fn open(root: PathBuf, sync: bool, min_part_size: u64) -> Result<Self, StoreError> {
        at(fs::create_dir_all(&root), "create the directory", &root)?;
        let lock = lock(&root)?;
        let files = at(Files::new(sync), "start a thread for", &root)?;
        check_format(&root)?;
        for dir in ["buckets", "trash"] {
            let dir = root.join(dir);
            at(fs::create_dir_all(&dir), "create the directory", &dir)?;
        }
        let mut tally = Tally::default();
        for entry in entries(&root.join("trash"))? {
            remove(&entry.path());
            tally.leftovers += 1;
        }
        let mut buckets = BTreeMap::new();
        for entry in entries(&root.join("buckets"))? {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match read::<BucketRecord>(&entry.path().join(BUCKET_RECORD)) {
                Some(record) => {
                    let bucket = open_bucket(record, entry.path(), &files, &mut tally)?;
                    buckets.insert(name, bucket.into());
                }
                // Its creation was cut off, or its record is damaged; only the former has nothing in it.
                None if entries(&entry.path().join("objects")).is_ok_and(|objects| objects.is_empty()) => {
                    remove(&entry.path());
                    tally.leftovers += 1;
                }
                None => warn!(
                    bucket = name,
                    "the bucket's record cannot be read; the bucket is left out"
                ),
            }
        }
        info!(
            dir = %root.display(),
            buckets = buckets.len(),
            objects = tally.objects,
            open_uploads = tally.uploads,
            completions_finished = tally.completed,
            leftovers_removed = tally.leftovers,
            "the store's directory is open"
        );
        Ok(Self {
            root,
            files,
            buckets: RwLock::new(buckets),
            min_part_size,
            _lock: lock,
        })
    }
}

fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = at(File::options().create(true).append(true).open(&path), "write", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: root.to_owned() }),
        Err(TryLockError::Error(source)) => at(Err(source), "lock", &path),
    }
}

fn check_format(root: &Path) -> Result<(), StoreError> {
    let path = root.join("format");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim_end() == FORMAT => Ok(()),
        Ok(text) => Err(StoreError::Format {
            dir: root.to_owned(),
            found: text.trim_end().chars().take(64).collect(),
            known: FORMAT,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if root.join("buckets").exists() {
                return Err(StoreError::NotAStore { dir: root.to_owned() });
            }
            let draft = root.join(format!("{DRAFT}format"));
            at(fs::write(&draft, format!("{FORMAT}\n")), "write", &draft)?;
            at(File::open(&draft).and_then(|file| file.sync_all()), "write", &draft)?;
            at(fs::rename(&draft, &path), "write", &path)?;
            at(
                File::open(root).and_then(|dir| dir.sync_all()),
                "sync the directory",
                root,
            )
        }
        Err(source) => at(Err(source), "read", &path),
    }
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>, StoreError> {
    at(fs::read_dir(dir).and_then(Iterator::collect), "read the directory", dir)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn open_bucket(record: BucketRecord, path: PathBuf, files: &Files, tally: &mut Tally) -> Result<Bucket, StoreError> {
    let mut leftovers = Vec::new();
    let (objects, damaged) = read_objects(&path, files, &mut leftovers)?;
    let named: HashMap<_, _> = objects
        .values()
        .map(|object| (data_path(&path, &object.record.content), object))
        .collect();
    let mut uploads = Uploads::new();
    for entry in entries(&path.join("uploads"))? {
        let upload_record = entry.path().join(UPLOAD_RECORD);
        let Ok(id) = entry.file_name().into_string() else {
            continue;
        };
        if let Some(object) = named.get(&entry.path()) {
            if upload_record.exists() {
                at(fs::remove_file(&upload_record), "remove", &upload_record)?;
                tally.completed += 1;
            }
            unlisted_parts(&entry.path(), object, &mut leftovers)?;
        } else if let Some(record) = read::<UploadRecord>(&upload_record) {
            let found = read_parts(&entry.path(), &mut leftovers)?;
            let upload = Upload::new(id.clone(), record, entry.path(), files.clone(), found);
            uploads.insert((upload.record.key.clone(), id), upload.into());
        } else {
            leftovers.push(entry.path());
        }
    }
    let data = entries(&path.join("data"))?;
    leftovers.extend(data.iter().map(DirEntry::path).filter(|path| !named.contains_key(path)));
    if damaged == 0 {
        tally.leftovers += leftovers.len();
        for path in leftovers {
            remove(&path);
        }
    } else {
        warn!(bucket = %path.display(), damaged, "records that cannot be read; nothing is removed, in case they name it");
    }
    tally.objects += objects.len();
    tally.uploads += uploads.len();
    Ok(Bucket::new(record, path, files.clone(), objects, uploads))
}

fn read_objects(path: &Path, files: &Files, leftovers: &mut Vec<PathBuf>) -> Result<(Objects, usize), StoreError> {
    let (mut objects, mut damaged) = (Objects::new(), 0);
    for entry in entries(&path.join("objects"))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(DRAFT) {
            leftovers.push(entry.path());
            continue;
        }
        match read::<Record>(&entry.path()) {
            Some(record) if record_name(&record.key) == name => {
                let object = Object::new(record, path, files.clone());
                objects.insert(object.record.key.clone(), object.into());
            }
            Some(_) | None => damaged += 1,
        }
    }
    Ok((objects, damaged))
}

/// The parts of an open upload. Where a crash left two files for a number, the older goes.
fn read_parts(dir: &Path, leftovers: &mut Vec<PathBuf>) -> Result<Vec<StoredPart>, StoreError> {
    let mut newest = BTreeMap::<_, (StoredPart, PathBuf)>::new();
    for entry in entries(dir)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = at(entry.metadata(), "read", &entry.path())?;
        let Some(part) = Part::from_file_name(&name, meta.len()) else {
            if name != UPLOAD_RECORD {
                leftovers.push(entry.path());
            }
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

/// What lies beside the parts that a completed upload's object names.
fn unlisted_parts(dir: &Path, object: &Object, leftovers: &mut Vec<PathBuf>) -> Result<(), StoreError> {
    let listed: HashSet<_> = object.parts().iter().map(Part::file_name).collect();
    let found = entries(dir)?;
    let unlisted = found
        .iter()
        .filter(|entry| !listed.contains(&*entry.file_name().to_string_lossy()));
    leftovers.extend(unlisted.map(DirEntry::path));
    Ok(())
}
