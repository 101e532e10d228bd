//! A bucket: its objects by key and its open uploads, and what becomes of the data when they come or go.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use s3s::checksum::ChecksumHasher;

use super::checksum::{ChecksumKind, PlannedChecksum};
use super::commit::{Amendment, Change, Committer};
use super::condition::Condition;
use super::draft::{Draft, Written};
use super::error::{DiskError, IoContext as _};
use super::files::{Files, random_name};
use super::index::{Index, Owner, Tables};
use super::list::{Listing, Page};
use super::object::{Object, data_path};
use super::pins::Pins;
use super::record::{
    BucketRecord, BucketSettings, Checksums, Content, Entry, Meta, Part, Record, UploadRecord, etag_of_parts, now,
};
use super::recover::BUCKET_RECORD;
use super::upload::{ListedPart, Upload};

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
        let header = planned.map(|planned| planned.algorithm.header());
        // What the upload was not created for cannot be held against anything.
        if let Some(other) = self.checksums.keys().find(|declared| Some(declared.as_str()) != header) {
            return Err(DiskError::ChecksumNotPlanned(other.clone()));
        }
        let (Some(planned), Some(header)) = (planned, header) else {
            return Ok(Checksums::new());
        };
        let value = planned.of_object(parts);
        // Of a composite one, the number of parts is told by some and left out by others.
        let same = |declared: &str, value: &str| {
            declared == value || value.split_once('-').is_some_and(|(bare, _)| bare == declared)
        };
        match (self.checksums.get(header), value) {
            (Some(declared), value) if !value.as_ref().is_some_and(|value| same(declared, value)) => {
                Err(DiskError::BadChecksum(header))
            }
            (_, value) => Ok(value.map(|value| (header.to_owned(), value)).into_iter().collect()),
        }
    }
}

/// A key of many, and whether its object is gone.
pub(crate) type Deleted = (String, Result<(), DiskError>);

/// Open uploads by key, then by id, which begins with the time: the order in which they are listed.
pub(crate) type Uploads = BTreeMap<(String, String), Arc<Upload>>;

/// One bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    settings: Mutex<Arc<BucketSettings>>,
    path: PathBuf,
    shared: Shared,
    tables: Arc<Tables>,
    uploads: RwLock<Uploads>,
}

/// What all buckets have in common.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) files: Files,
    pub(super) pins: Arc<Pins>,
    pub(super) index: Arc<Index>,
    pub(super) committer: Arc<Committer>,
}

impl Bucket {
    /// The bucket in the directory `path`, with the uploads that are open.
    pub(super) fn new(
        record: BucketRecord,
        path: PathBuf,
        shared: Shared,
        tables: Arc<Tables>,
        uploads: Uploads,
    ) -> Self {
        Self {
            created: record.created,
            settings: Mutex::new(Arc::new(record.settings)),
            path,
            shared,
            tables,
            uploads: RwLock::new(uploads),
        }
    }

    /// What its owner has said of it.
    pub(crate) fn settings(&self) -> Arc<BucketSettings> {
        Arc::clone(&self.settings.lock())
    }

    /// Changes what its owner has said of it.
    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut BucketSettings)) -> Result<(), DiskError> {
        let mut current = self.settings.lock();
        let mut settings = BucketSettings::clone(&current);
        change(&mut settings);
        let record = BucketRecord {
            created: self.created,
            settings,
        };
        self.shared.files.publish(&self.path, BUCKET_RECORD, &record)?;
        *current = Arc::new(record.settings);
        Ok(())
    }

    /// The object at `key`.
    pub(crate) fn object(&self, key: &str) -> Result<Arc<Object>, DiskError> {
        let _looking = self.shared.pins.looking();
        match self.shared.index.object(&self.tables, key)? {
            Some(record) => Ok(self.pinned(record)),
            None => Err(DiskError::NoSuchKey),
        }
    }

    /// One page of its objects, in the order of their keys.
    pub(crate) fn page(&self, listing: &Listing<'_>) -> Result<Page<Entry>, DiskError> {
        self.shared.index.page(&self.tables, listing)
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
        Ok(Draft::new(
            self.shared.files.clone(),
            self.shared.pins.hold(path),
            others,
        ))
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
        let directory = Some(self.path.join("data"));
        let id = record.content.id().to_owned();
        let put = self.commit(record, condition, directory);
        let named = match &put {
            Ok(_) => true,
            // A commit that failed may be found done all the same, now that the index is open again.
            Err(DiskError::Io { .. }) => !matches!(self.shared.index.owner(&self.tables, &id), Ok(Owner::Nobody)),
            Err(_) => false,
        };
        if named {
            written.keep();
        }
        put
    }

    /// The bytes of an object put in one piece, once more and without touching them, to be put again. Nothing of one made
    /// of parts.
    pub(crate) fn duplicate(&self, object: &Object) -> Result<Option<Written>, DiskError> {
        let Some(data) = object.data_file() else {
            return Ok(None);
        };
        let path = self.path.join("data").join(random_name()?);
        let pin = self.shared.pins.hold(path);
        Written::linked(self.shared.files.clone(), data, pin, &object.record)
    }

    /// Changes what is said about the object at `key`, but not its bytes nor its age.
    pub(crate) fn amend(&self, key: String, amendment: Amendment) -> Result<(), DiskError> {
        self.change(Change::Amend { key, amendment }).map(|_| ())
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
        let Shared { files, pins, .. } = &self.shared;
        // Until the index names the directory, this does.
        let _pin = pins.hold(path.clone());
        files.create_dir(&path)?;
        let open = Change::Open {
            id: id.clone(),
            record: record.clone(),
        };
        if let Err(failure) = self.change(open) {
            // Should the index name it after all, the next start finds that it is gone.
            files.remove_later(path);
            return Err(failure);
        }
        let upload = Upload::new(id.clone(), record, path, (files.clone(), Arc::clone(pins)), Vec::new());
        let upload = Arc::new(upload);
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
            Err(error) => return self.completed(key, id, listed)?.ok_or(error),
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
            self.commit(record, condition, None)
        });
        match completed {
            Ok(object) => {
                self.uploads.write().remove(&(key.to_owned(), id.to_owned()));
                Ok(object)
            }
            // Another request completed it while this one waited for its turn.
            Err(DiskError::NoSuchUpload) => self.completed(key, id, listed)?.ok_or(DiskError::NoSuchUpload),
            Err(error) => Err(error),
        }
    }

    fn completed(&self, key: &str, id: &str, listed: &[ListedPart]) -> Result<Option<Arc<Object>>, DiskError> {
        let object = match self.object(key) {
            Err(DiskError::NoSuchKey) => return Ok(None),
            object => object?,
        };
        let same = |part: &Part, listed: &ListedPart| {
            part.number == listed.number && part.md5.to_hex().eq_ignore_ascii_case(&listed.etag)
        };
        match &object.record.content {
            Content::Parts { upload, parts }
                if upload == id
                    && parts.len() == listed.len()
                    && parts.iter().zip(listed).all(|(part, listed)| same(part, listed)) =>
            {
                Ok(Some(object))
            }
            Content::Parts { .. } | Content::File(_) => Ok(None),
        }
    }

    /// Gives up the upload `id` of `key`.
    pub(crate) fn abort_upload(&self, key: &str, id: &str) -> Result<(), DiskError> {
        let forget = || self.change(Change::Abort { id: id.to_owned() }).map(|_| ());
        self.upload(key, id)?.abort(forget)?;
        self.uploads.write().remove(&(key.to_owned(), id.to_owned()));
        Ok(())
    }

    /// Removes the object at `key`; whether there was one, if the condition holds.
    pub(crate) fn delete(&self, key: &str, condition: &Condition) -> Result<bool, DiskError> {
        let delete = Change::Delete {
            key: key.to_owned(),
            condition: condition.clone(),
        };
        let before = self.change(delete)?;
        Ok(before.is_some_and(|before| {
            self.condemn(&before);
            true
        }))
    }

    /// Removes the objects at these keys for which the condition holds, waiting for the disk once and not for each. Answers
    /// each; it fails as a whole if the disk does.
    pub(crate) fn delete_all(&self, wanted: Vec<(String, Condition)>) -> Result<Vec<Deleted>, DiskError> {
        let pending: Vec<_> = wanted
            .into_iter()
            .map(|(key, condition)| {
                let delete = Change::Delete {
                    key: key.clone(),
                    condition,
                };
                (key, self.shared.committer.change(&self.tables, delete))
            })
            .collect();
        let mut deleted = Vec::with_capacity(pending.len());
        for (key, pending) in pending {
            deleted.push(match pending.wait() {
                Ok(before) => {
                    if let Some(before) = before {
                        self.condemn(&before);
                    }
                    (key, Ok(()))
                }
                Err(failure @ DiskError::Io { .. }) => return Err(failure),
                Err(refusal) => (key, Err(refusal)),
            });
        }
        Ok(deleted)
    }

    /// Refuses all that comes later, if there is no object.
    pub(super) fn close(&self) -> Result<(), DiskError> {
        self.change(Change::Close).map(|_| ())
    }

    /// Takes back [`Bucket::close`].
    pub(super) fn reopen(&self) {
        self.tables.set_closed(false);
    }

    /// Takes a closed bucket, with its open uploads, off the index.
    pub(super) fn forget(&self) -> Result<(), DiskError> {
        self.change(Change::Forget).map(|_| ())
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
        directory: Option<PathBuf>,
    ) -> Result<Arc<Object>, DiskError> {
        // Before anybody can see it, so that it cannot be replaced and gone before it is told.
        let object = self.pinned(record);
        let put = Change::Put {
            record: Box::new(object.record.clone()),
            condition: condition.clone(),
            directory,
        };
        if let Some(before) = self.change(put)?
            // Completing an upload again writes a record for the same data.
            && before.content.id() != object.record.content.id()
        {
            self.condemn(&before);
        }
        Ok(object)
    }

    fn change(&self, change: Change) -> Result<Option<Record>, DiskError> {
        self.shared.committer.change(&self.tables, change).wait()
    }

    /// The object that `record` tells of; its data stay as long as somebody has it.
    fn pinned(&self, record: Record) -> Arc<Object> {
        let pin = self.shared.pins.hold(data_path(&self.path, &record.content));
        Arc::new(Object::new(record, pin))
    }

    fn condemn(&self, before: &Record) {
        self.shared.pins.condemn(data_path(&self.path, &before.content));
    }
}
