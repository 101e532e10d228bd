//! What a crash left behind: data that no record names, found beside the requests and removed.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

use super::bucket::Shared;
use super::error::{DiskError, IoContext as _};
use super::files::remove;
use super::index::{Owner, Tables};
use super::object::parts;
use super::record::Part;

/// The directory of the records in format 1.
pub(super) const OLD_RECORDS: &str = "objects";

/// Looks through the store's directories once, on a thread of its own.
#[derive(Debug)]
pub(super) struct Sweeper {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where to look.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) trash: PathBuf,
    pub(super) buckets: Vec<(PathBuf, Arc<Tables>)>,
}

impl Sweeper {
    pub(super) fn start(places: Places, shared: Shared) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new().name("store-sweeper".to_owned()).spawn(move || {
            let mut sweep = Sweep {
                shared,
                stop,
                removed: 0,
            };
            match sweep.all(&places) {
                Ok(()) => info!(
                    leftovers_removed = sweep.removed,
                    "looked for data that no record names"
                ),
                Err(failure) => warn!(
                    error = &failure as &dyn std::error::Error,
                    leftovers_removed = sweep.removed,
                    "data that no record names stay until the next start"
                ),
            }
        })?;
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }

    /// Ends it, wherever it is.
    pub(super) fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.wait();
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Sweep {
    shared: Shared,
    stop: Arc<AtomicBool>,
    removed: usize,
}

impl Sweep {
    fn all(&mut self, Places { trash, buckets }: &Places) -> Result<(), DiskError> {
        self.each(trash, |sweep, entry| {
            sweep.remove(&entry.path());
            Ok(())
        })?;
        for (bucket, tables) in buckets {
            let old = bucket.join(OLD_RECORDS);
            if old.exists() {
                self.remove(&old);
            }
            self.each(&bucket.join("data"), |sweep, entry| {
                if let Owner::Nobody = sweep.owner(tables, &entry)? {
                    sweep.remove(&entry.path());
                }
                Ok(())
            })?;
            self.each(&bucket.join("uploads"), |sweep, entry| {
                match sweep.owner(tables, &entry)? {
                    Owner::Nobody => sweep.remove(&entry.path()),
                    Owner::Object(record) => {
                        let listed: HashSet<_> = parts(&record).iter().map(Part::file_name).collect();
                        sweep.each(&entry.path(), |sweep, part| {
                            if !listed.contains(&*part.file_name().to_string_lossy()) {
                                sweep.remove(&part.path());
                            }
                            Ok(())
                        })?;
                    }
                    Owner::OpenUpload | Owner::InUse => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whose the file or directory is. What is in use is somebody's, whatever the index says.
    fn owner(&self, tables: &Tables, entry: &DirEntry) -> Result<Owner, DiskError> {
        let path = entry.path();
        let name = entry.file_name();
        // A writer holds it from before the file is there until the index names it, so it is looked for in this order. A
        // reader may hold it after that.
        if self.shared.pins.is_held(&path) {
            return Ok(Owner::InUse);
        }
        match self.shared.index.owner(tables, &name.to_string_lossy())? {
            Owner::Nobody if self.shared.pins.is_held(&path) => Ok(Owner::InUse),
            owner => Ok(owner),
        }
    }

    fn each(
        &mut self,
        dir: &Path,
        mut look: impl FnMut(&mut Self, DirEntry) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let entries = match fs::read_dir(dir) {
            // Its bucket was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.context("read the directory", dir)?,
        };
        for entry in entries {
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            look(self, entry.context("read the directory", dir)?)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        remove(path);
        self.removed += 1;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use s3s::checksum::ChecksumHasher;
    use shared::PartNumber;

    use super::super::{Bucket, BucketSettings, Checksums, Condition, Disk, Draft, ListedPart, Meta, Reader, Whole};
    use super::*;

    fn open(root: &Path) -> (Disk, Arc<Bucket>) {
        let disk = Disk::open(root.to_owned(), false, 1).unwrap();
        disk.create_bucket("bucket", BucketSettings::default()).unwrap();
        let bucket = disk.bucket("bucket").unwrap();
        (disk, bucket)
    }

    fn begin(bucket: &Bucket, body: &'static [u8]) -> Draft {
        let mut draft = bucket.draft(ChecksumHasher::default()).unwrap();
        draft.write(&[Bytes::from_static(body)]).unwrap();
        draft
    }

    fn put(bucket: &Bucket, key: &str, draft: Draft) {
        let written = draft.finish().unwrap();
        let (meta, condition) = (Meta::default(), Condition::default());
        let put = bucket.put(key.to_owned(), meta, Checksums::new(), written, &condition);
        put.unwrap();
    }

    /// An upload of two parts, of which only the second is listed if it is completed.
    fn upload(bucket: &Bucket, key: &str, completed: bool) -> String {
        let upload = bucket.create_upload(key.to_owned(), Meta::default(), None).unwrap();
        for number in [1_u64, 2] {
            let mut draft = upload.draft(ChecksumHasher::default()).unwrap();
            draft.write(&[Bytes::from_static(b"part")]).unwrap();
            upload.add(number.try_into().unwrap(), draft.finish().unwrap()).unwrap();
        }
        if completed {
            let listed = [ListedPart {
                checksums: Checksums::new(),
                number: PartNumber::try_from(2).unwrap(),
                etag: upload.parts_after(1, 1).unwrap().0.remove(0).part.md5.to_hex(),
            }];
            let condition = Condition::default();
            bucket
                .complete_upload(key, &upload.id, &listed, &Whole::default(), 1, &condition)
                .unwrap();
        }
        upload.id.clone()
    }

    fn read(bucket: &Bucket, key: &str) -> Vec<u8> {
        let object = bucket.object(key).unwrap();
        let range = 0..object.record.size;
        Reader::new(object, range).read().unwrap().unwrap().to_vec()
    }

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_no_record_names_goes_and_all_else_stays() {
        let root = tempfile::tempdir().unwrap();
        let (disk, bucket) = open(root.path());
        put(&bucket, "key", begin(&bucket, b"whole"));
        let (open_id, done_id) = (upload(&bucket, "open", false), upload(&bucket, "done", true));
        drop((disk, bucket));
        let bucket_dir = root.path().join("buckets/bucket");
        let uploads = bucket_dir.join("uploads");
        // As if the process had died in the middle of all kinds of writes and removals.
        fs::write(bucket_dir.join("data/0123"), "half").unwrap();
        fs::write(uploads.join(&done_id).join("draft-part"), "half").unwrap();
        fs::write(uploads.join(&open_id).join("draft-part"), "half").unwrap();
        fs::create_dir(uploads.join("0123")).unwrap();
        fs::create_dir_all(bucket_dir.join(OLD_RECORDS).join("record")).unwrap();
        fs::create_dir_all(root.path().join("trash/bucket/data")).unwrap();

        let (mut disk, bucket) = open(root.path());
        disk.sweeper.wait();
        assert_eq!(read(&bucket, "key"), b"whole");
        assert_eq!(read(&bucket, "done"), b"part");
        assert_eq!(count(&bucket_dir.join("data")), 1);
        assert_eq!(count(&uploads), 2);
        assert_eq!(count(&uploads.join(done_id)), 1);
        assert_eq!(count(&uploads.join(open_id)), 2);
        assert_eq!(count(&root.path().join("trash")), 0);
        assert!(!bucket_dir.join(OLD_RECORDS).exists());
    }

    #[test]
    fn what_is_being_written_or_read_is_not_swept() {
        let root = tempfile::tempdir().unwrap();
        let (disk, bucket) = open(root.path());
        put(&bucket, "key", begin(&bucket, b"read"));
        let reading = bucket.object("key").unwrap();
        bucket.delete("key", &Condition::default()).unwrap();
        let writing = begin(&bucket, b"written");
        let data = root.path().join("buckets/bucket/data");
        fs::write(data.join("0123"), "half").unwrap();

        let places = Places {
            trash: root.path().join("trash"),
            buckets: vec![(root.path().join("buckets/bucket"), Arc::new(Tables::of("bucket")))],
        };
        Sweeper::start(places, disk.shared.clone()).unwrap().wait();
        assert_eq!(count(&data), 2, "the two in use, and not the other");
        let range = 0..reading.record.size;
        assert_eq!(Reader::new(reading, range).read().unwrap().unwrap(), &b"read"[..]);
        put(&bucket, "key", writing);
        assert_eq!(read(&bucket, "key"), b"written");
    }
}
