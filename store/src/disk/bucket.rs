//! A bucket: its objects by key and its open uploads, and the one place where an object comes or goes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use s3s::checksum::ChecksumHasher;

use super::checksum::{ChecksumKind, PlannedChecksum};
use super::condition::Condition;
use super::draft::{Draft, Written};
use super::error::{DiskError, IoContext as _};
use super::files::{Files, random_name};
use super::object::Object;
use super::record::{
    BucketRecord, BucketSettings, Checksums, Content, Meta, Part, Record, UploadRecord, etag_of_parts, now, record_name,
};
use super::recover::BUCKET_RECORD;
use super::upload::{ListedPart, UPLOAD_RECORD, Upload};

/// Writers of different keys pass each other; of one key, one at a time goes from the check of its condition to the rename.
const TURNS: usize = 64;

/// What a Complete says of the object as a whole.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// Bytes.
    pub(crate) size: Option<u64>,
    /// Its checksums.
    pub(crate) checksums: Checksums,
}

impl Whole {
    /// The object's checksums, if they are as declared.
    fn checksums_of(&self, planned: Option<PlannedChecksum>, parts: &[Part]) -> Result<Checksums, DiskError> {
        let Some(planned) = planned else {
            return Ok(Checksums::new());
        };
        let header = planned.algorithm.header();
        let value = planned.of_object(parts);
        // Of a composite one, the number of parts is told by some and left out by others.
        let same = |declared: &str, value: &str| {
            declared == value || value.split_once('-').is_some_and(|(bare, _)| bare == declared)
        };
        match (self.checksums.get(header), value) {
            (Some(declared), Some(value)) if !same(declared, &value) => Err(DiskError::BadChecksum(header)),
            (_, value) => Ok(value.map(|value| (header.to_owned(), value)).into_iter().collect()),
        }
    }
}

/// Objects by key.
pub(crate) type Objects = BTreeMap<String, Arc<Object>>;
/// Open uploads by key, then by id, which begins with the time: the order in which they are listed.
pub(crate) type Uploads = BTreeMap<(String, String), Arc<Upload>>;

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    settings: Mutex<Arc<BucketSettings>>,
    path: PathBuf,
    files: Files,
    index: RwLock<Index>,
    uploads: RwLock<Uploads>,
    turns: Vec<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Index {
    deleted: bool,
    objects: Objects,
}

impl Bucket {
    /// The bucket in the directory `path`, with what was found there.
    pub(super) fn new(record: BucketRecord, path: PathBuf, files: Files, objects: Objects, uploads: Uploads) -> Self {
        Self {
            created: record.created,
            settings: Mutex::new(Arc::new(record.settings)),
            path,
            files,
            index: RwLock::new(Index {
                deleted: false,
                objects,
            }),
            uploads: RwLock::new(uploads),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// What its owner has said of it.
    pub(crate) fn settings(&self) -> Arc<BucketSettings> {
        Arc::clone(&self.settings.lock())
    }

    /// Changes what its owner has said of it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut BucketSettings)) -> Result<(), DiskError> {
        let mut current = self.settings.lock();
        let mut settings = BucketSettings::clone(&current);
        change(&mut settings);
        let record = BucketRecord {
            created: self.created,
            settings,
        };
        self.files.publish(&self.path, BUCKET_RECORD, &record)?;
        *current = Arc::new(record.settings);
        Ok(())
    }

    /// The object at `key`.
    pub(crate) fn object(&self, key: &str) -> Result<Arc<Object>, DiskError> {
        self.index.read().objects.get(key).cloned().ok_or(DiskError::NoSuchKey)
    }

    /// Runs `look` over the objects, in the order of their keys.
    pub(crate) fn with_objects<T>(&self, look: impl FnOnce(&Objects) -> T) -> T {
        look(&self.index.read().objects)
    }

    /// The open upload `id` of `key`.
    pub(crate) fn upload(&self, key: &str, id: &str) -> Result<Arc<Upload>, DiskError> {
        let uploads = self.uploads.read();
        let name = (key.to_owned(), id.to_owned());
        uploads.get(&name).cloned().ok_or(DiskError::NoSuchUpload)
    }

    /// The open uploads.
    pub(crate) fn uploads(&self) -> RwLockReadGuard<'_, Uploads> {
        self.uploads.read()
    }

    /// A place for the bytes of an object. They become one by [`Bucket::put`].
    pub(crate) fn draft(&self, others: ChecksumHasher) -> Result<Draft, DiskError> {
        let path = self.path.join("data").join(random_name()?);
        Ok(Draft::new(self.files.clone(), path, others))
    }

    /// Makes what was written the object at `key`, if the condition holds.
    pub(crate) fn put(
        &self,
        key: String,
        meta: Meta,
        checksums: Checksums,
        written: Written,
        condition: &Condition,
    ) -> Result<Arc<Object>, DiskError> {
        let Some(id) = written.path().file_name().and_then(|name| name.to_str()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidFilename)).context("use", written.path());
        };
        let record = Record {
            key,
            size: written.size,
            etag: written.md5.to_hex(),
            modified: now(),
            content: Content::File(id.to_owned()),
            checksum_kind: (!checksums.is_empty()).then_some(ChecksumKind::FullObject),
            checksums,
            meta,
        };
        self.commit(record, condition, || {
            self.files.sync_dir(&self.path.join("data"))?;
            // From here on a record may name the file, even if the rename's own answer is an error.
            written.keep();
            Ok(())
        })
    }

    /// The bytes of an object put in one piece, once more and without touching them, to be put again. Nothing of one made
    /// of parts.
    pub(crate) fn duplicate(&self, object: &Object) -> Result<Option<Written>, DiskError> {
        let Some(data) = object.data_file() else {
            return Ok(None);
        };
        let path = self.path.join("data").join(random_name()?);
        Written::linked(self.files.clone(), data, path, &object.record)
    }

    /// Changes what was said about the object at `key`, but not its bytes nor its age.
    pub(crate) fn amend(&self, key: &str, change: impl FnOnce(&mut Meta)) -> Result<Arc<Object>, DiskError> {
        let name = record_name(key);
        let _turn = self.turn(&name).map(Mutex::lock);
        let mut record = self.object(key)?.record.clone();
        change(&mut record.meta);
        self.publish(record, &name)
    }

    /// Opens an upload.
    pub(crate) fn create_upload(
        &self,
        key: String,
        meta: Meta,
        checksum: Option<PlannedChecksum>,
    ) -> Result<Arc<Upload>, DiskError> {
        let record = UploadRecord {
            key: key.clone(),
            initiated: now(),
            checksum,
            meta,
        };
        let id = format!("{:012x}{}", record.initiated, random_name()?);
        let path = self.path.join("uploads").join(&id);
        self.files.create_dir(&path)?;
        self.files.publish(&path, UPLOAD_RECORD, &record)?;
        let upload = Arc::new(Upload::new(id.clone(), record, path, self.files.clone(), Vec::new()));
        self.uploads.write().insert((key, id), Arc::clone(&upload));
        Ok(upload)
    }

    /// Makes the listed parts of the upload `id` the object at `key`, without touching their bytes. Asked again with the
    /// same list while that object is still there, it answers the same.
    pub(crate) fn complete_upload(
        &self,
        key: &str,
        id: &str,
        listed: &[ListedPart],
        declared: &Whole,
        min_part_size: u64,
        condition: &Condition,
    ) -> Result<Arc<Object>, DiskError> {
        let upload = match self.upload(key, id) {
            Ok(upload) => upload,
            Err(error) => return self.completed(key, id, listed).ok_or(error),
        };
        let completed = upload.complete(listed, min_part_size, |parts| {
            let size = parts.iter().map(|part| part.size).sum();
            if let Some(declared) = declared.size.filter(|declared| *declared != size) {
                return Err(DiskError::WrongObjectSize { actual: size, declared });
            }
            let checksums = declared.checksums_of(upload.record.checksum, &parts)?;
            let record = Record {
                key: key.to_owned(),
                size,
                etag: etag_of_parts(&parts),
                modified: now(),
                content: Content::Parts {
                    upload: id.to_owned(),
                    parts,
                },
                checksum_kind: upload.record.checksum.map(|planned| planned.kind),
                checksums,
                meta: upload.record.meta.clone(),
            };
            self.commit(record, condition, || Ok(()))
        });
        match completed {
            Ok(object) => {
                self.uploads.write().remove(&(key.to_owned(), id.to_owned()));
                Ok(object)
            }
            // Another request completed it while this one waited for its turn.
            Err(DiskError::NoSuchUpload) => self.completed(key, id, listed).ok_or(DiskError::NoSuchUpload),
            Err(error) => Err(error),
        }
    }

    fn completed(&self, key: &str, id: &str, listed: &[ListedPart]) -> Option<Arc<Object>> {
        let object = self.object(key).ok()?;
        let same = |part: &Part, listed: &ListedPart| {
            part.number == listed.number && part.md5.to_hex().eq_ignore_ascii_case(&listed.etag)
        };
        match &object.record.content {
            Content::Parts { upload, parts }
                if upload == id
                    && parts.len() == listed.len()
                    && parts.iter().zip(listed).all(|(part, listed)| same(part, listed)) =>
            {
                Some(object)
            }
            Content::Parts { .. } | Content::File(_) => None,
        }
    }

    /// Gives up the upload `id` of `key`.
    pub(crate) fn abort_upload(&self, key: &str, id: &str) -> Result<(), DiskError> {
        self.upload(key, id)?.abort()?;
        self.uploads.write().remove(&(key.to_owned(), id.to_owned()));
        Ok(())
    }

    /// Removes the object at `key`; whether there was one, if the condition holds.
    pub(crate) fn delete(&self, key: &str, condition: &Condition) -> Result<bool, DiskError> {
        let name = record_name(key);
        let _turn = self.turn(&name).map(Mutex::lock);
        let Ok(object) = self.object(key) else {
            return Ok(false);
        };
        condition.check(Some(&object))?;
        let dir = self.path.join("objects");
        let path = dir.join(&name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.context("remove", &path)?,
        }
        self.index.write().objects.remove(key);
        object.replaced_by(None);
        self.files.sync_dir(&dir)?;
        Ok(true)
    }

    /// Refuses all that comes later, if there is no object.
    pub(super) fn close(&self) -> Result<(), DiskError> {
        let mut index = self.index.write();
        if !index.objects.is_empty() {
            return Err(DiskError::BucketNotEmpty);
        }
        index.deleted = true;
        Ok(())
    }

    /// Takes back [`Bucket::close`].
    pub(super) fn reopen(&self) {
        self.index.write().deleted = false;
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `record` the one that readers of its key see.
    fn commit(
        &self,
        record: Record,
        condition: &Condition,
        prepare: impl FnOnce() -> Result<(), DiskError>,
    ) -> Result<Arc<Object>, DiskError> {
        let name = record_name(&record.key);
        let _turn = self.turn(&name).map(Mutex::lock);
        condition.check(self.object(&record.key).ok().as_deref())?;
        if self.index.read().deleted {
            return Err(DiskError::NoSuchBucket);
        }
        prepare()?;
        self.publish(record, &name)
    }

    /// Writes the record and shows it, in the turn of its key.
    fn publish(&self, record: Record, name: &str) -> Result<Arc<Object>, DiskError> {
        let published = self.files.publish(&self.path.join("objects"), name, &record);
        let mut index = self.index.write();
        if index.deleted {
            return Err(DiskError::NoSuchBucket);
        }
        published?;
        let object = Arc::new(Object::new(record, &self.path, self.files.clone()));
        let key = object.record.key.clone();
        if let Some(before) = index.objects.insert(key, Arc::clone(&object)) {
            before.replaced_by(Some(&object));
        }
        Ok(object)
    }

    fn turn(&self, name: &str) -> Option<&Mutex<()>> {
        let number = name
            .bytes()
            .fold(0, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(byte));
        self.turns.get(number % TURNS)
    }
}
