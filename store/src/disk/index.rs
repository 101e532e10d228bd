//! The index: every object's record by its key, on the disk and sorted, in one database file for all buckets.
//!
//! ```text
//! objects/BUCKET   key -> record       what readers and listings see
//! data/BUCKET      data id -> key      whose data these are: what a file found on the disk is looked up in
//! uploads/BUCKET   upload id -> record the uploads that are open
//! ```
//!
//! All three change in one transaction ([`super::commit`]), so that they never tell different stories.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    StorageBackend, TableDefinition, TableError, TableHandle as _,
};
use serde::de::DeserializeOwned;

use super::error::DiskError;
use super::list::{Listing, Page};
use super::record::{Entry, Record, UploadRecord};

/// The database's name in the store's directory.
pub(super) const INDEX: &str = "index.redb";
/// Memory for pages of the database, read and written ones together. What it does not hold is in the system's cache.
const CACHE_BYTES: usize = 16 << 20;

/// From text to a record in JSON, or to a key.
pub(super) type Table<'a> = TableDefinition<'a, &'static str, &'static [u8]>;

/// A key, and what stands there.
pub(super) type Row = (String, Result<Record, redb::Error>);

/// One bucket's place in the index.
#[derive(Debug)]
pub(super) struct Tables {
    objects: String,
    data: String,
    uploads: String,
    closed: AtomicBool,
}

impl Tables {
    /// Those of the bucket of this name.
    pub(super) fn of(bucket: &str) -> Self {
        Self {
            objects: format!("objects/{bucket}"),
            data: format!("data/{bucket}"),
            uploads: format!("uploads/{bucket}"),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn objects(&self) -> Table<'_> {
        Table::new(&self.objects)
    }

    pub(super) fn data(&self) -> Table<'_> {
        Table::new(&self.data)
    }

    pub(super) fn uploads(&self) -> Table<'_> {
        Table::new(&self.uploads)
    }

    /// Whether the bucket is being deleted, so that nothing may come into it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Release);
    }
}

/// What a file or directory of data belongs to.
#[derive(Debug)]
pub(super) enum Owner {
    Object(Box<Record>),
    OpenUpload,
    /// Of a request under way.
    InUse,
    Nobody,
}

/// Opens the file, with or without waiting for the disk later on, as a new one or one that is there.
pub(super) type Open = fn(&Path, bool, bool) -> Result<Database, redb::Error>;

/// The database, open until [`Index::close`].
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    sync: bool,
    open: Open,
    database: RwLock<Option<Database>>,
}

impl Index {
    /// Opens the database in `root`, which must be there. After a crash that takes until it is whole again.
    pub(super) fn open(root: &Path, sync: bool) -> Result<Self, redb::Error> {
        Self::open_by(open, root, sync, false)
    }

    /// Makes an empty database in `root`.
    pub(super) fn create(root: &Path, sync: bool) -> Result<Self, redb::Error> {
        Self::open_by(open, root, sync, true)
    }

    pub(super) fn open_by(open: Open, root: &Path, sync: bool, new: bool) -> Result<Self, redb::Error> {
        let path = root.join(INDEX);
        let database = RwLock::new(Some(open(&path, sync, new)?));
        Ok(Self {
            path,
            sync,
            open,
            database,
        })
    }

    /// Lets go of the file, once nobody reads any more.
    pub(super) fn close(&self) {
        self.database.write().take();
    }

    /// Opens the file once more: after a failure to write, a full disk for one, the database refuses all else.
    pub(super) fn reopen(&self) -> Result<(), redb::Error> {
        let mut database = self.database.write();
        if let Some(failed) = database.take() {
            let again = whole(|| {
                drop(failed);
                (self.open)(&self.path, self.sync, false)
            })?;
            *database = Some(again);
        }
        Ok(())
    }

    /// Runs `work` with the database, which cannot be closed meanwhile.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, DiskError> {
        match &*self.database.read() {
            Some(database) => whole(|| work(database)),
            None => Err(redb::Error::DatabaseClosed),
        }
        .map_err(|failure| self.failed("use the index", failure))
    }

    /// Says that the index in the store's directory `root` could not be opened.
    pub(super) fn failure_in(root: &Path, failure: redb::Error) -> DiskError {
        DiskError::Io {
            doing: "open",
            path: root.join(INDEX),
            source: into_io(failure),
        }
    }

    /// Says that the index failed.
    pub(super) fn failed(&self, doing: &'static str, failure: redb::Error) -> DiskError {
        DiskError::Io {
            doing,
            path: self.path.clone(),
            source: into_io(failure),
        }
    }

    /// Runs `look` over one moment's state.
    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, DiskError> {
        self.with(|database| look(&database.begin_read()?))
    }

    /// The record of the object at `key`.
    pub(super) fn object(&self, tables: &Tables, key: &str) -> Result<Option<Record>, DiskError> {
        self.read(|now| match table(now, tables.objects())? {
            Some(objects) => objects.get(key)?.map(|value| parse(value.value())).transpose(),
            None => Ok(None),
        })
    }

    /// One page of a listing.
    pub(super) fn page(&self, tables: &Tables, listing: &Listing<'_>) -> Result<Page<Entry>, DiskError> {
        self.read(|now| match table(now, tables.objects())? {
            Some(objects) => listing.page(
                |from| {
                    let rows = objects.range::<&str>((from, Bound::Unbounded))?;
                    Ok(rows.map(|row| {
                        let (key, value) = row?;
                        Ok((key.value().to_owned(), value))
                    }))
                },
                |value| parse(value.value()),
            ),
            None => Ok(Page::default()),
        })
    }

    /// The records after the key `after`, as they are, at most `max`.
    pub(super) fn records(&self, tables: &Tables, after: Option<&str>, max: usize) -> Result<Vec<Row>, DiskError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|now| {
            let Some(objects) = table(now, tables.objects())? else {
                return Ok(Vec::new());
            };
            let rows = objects.range::<&str>((from, Bound::Unbounded))?.take(max);
            rows.map(|row| {
                let (key, value) = row?;
                Ok((key.value().to_owned(), parse(value.value())))
            })
            .collect()
        })
    }

    /// How many objects there are.
    pub(super) fn count(&self, tables: &Tables) -> Result<u64, DiskError> {
        self.read(|now| match table(now, tables.objects())? {
            Some(objects) => Ok(objects.len()?),
            None => Ok(0),
        })
    }

    /// The open uploads, by their ids.
    pub(super) fn uploads(&self, tables: &Tables) -> Result<Vec<(String, UploadRecord)>, DiskError> {
        self.read(|now| {
            let Some(uploads) = table(now, tables.uploads())? else {
                return Ok(Vec::new());
            };
            let rows = uploads.iter()?.map(|row| {
                let (id, value) = row?;
                Ok((id.value().to_owned(), parse(value.value())?))
            });
            rows.collect()
        })
    }

    /// Whose data have this id.
    pub(super) fn owner(&self, tables: &Tables, id: &str) -> Result<Owner, DiskError> {
        self.read(|now| {
            let key = match table(now, tables.data())? {
                Some(data) => data.get(id)?.map(|key| parse_key(key.value())).transpose()?,
                None => None,
            };
            if let (Some(key), Some(objects)) = (key, table(now, tables.objects())?)
                && let Some(value) = objects.get(&*key)?
            {
                return Ok(Owner::Object(Box::new(parse(value.value())?)));
            }
            match table(now, tables.uploads())? {
                Some(uploads) if uploads.get(id)?.is_some() => Ok(Owner::OpenUpload),
                Some(_) | None => Ok(Owner::Nobody),
            }
        })
    }

    /// Names of all buckets that have a place in the index.
    pub(super) fn buckets(&self) -> Result<Vec<String>, DiskError> {
        self.read(|now| {
            let mut names: Vec<_> = now
                .list_tables()?
                .filter_map(|table| table.name().split_once('/').map(|(_, bucket)| bucket.to_owned()))
                .collect();
            names.sort();
            names.dedup();
            Ok(names)
        })
    }

    /// Holds every page of the database against its checksum; whether all are as they were written.
    pub(super) fn check_pages(&self) -> Result<bool, DiskError> {
        match &mut *self.database.write() {
            Some(database) => whole(|| Ok(database.check_integrity()?)),
            None => Err(redb::Error::DatabaseClosed),
        }
        .map_err(|failure| self.failed("check", failure))
    }
}

/// The table, if anything was ever written into it.
fn table(
    now: &ReadTransaction,
    definition: Table<'_>,
) -> Result<Option<ReadOnlyTable<&'static str, &'static [u8]>>, redb::Error> {
    match now.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// A record as it stands in a table.
pub(super) fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(value).map_err(|wrong| redb::Error::Corrupted(format!("a record cannot be read: {wrong}")))
}

/// A key as it stands in a table.
pub(super) fn parse_key(value: &[u8]) -> Result<String, redb::Error> {
    String::from_utf8(value.to_vec()).map_err(|wrong| redb::Error::Corrupted(format!("a key cannot be read: {wrong}")))
}

/// The failure in the system's words, where it was the system's.
pub(super) fn into_io(failure: redb::Error) -> io::Error {
    match failure {
        redb::Error::Io(source) => source,
        other => io::Error::other(other),
    }
}

fn open(path: &Path, sync: bool, new: bool) -> Result<Database, redb::Error> {
    let file = IndexFile::open(path, sync, new)?;
    whole(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        Ok(builder.create_with_backend(file)?)
    })
}

/// Runs `work`, in which the database may come upon damage: it tells most of that as an error, and some by a panic.
fn whole<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let damaged = |_| redb::Error::Corrupted("the database is not as it was written".to_owned());
    catch_unwind(AssertUnwindSafe(work)).map_err(damaged).flatten()
}

/// The database's file. The store's own lock keeps other processes out.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    sync: bool,
}

impl IndexFile {
    pub(super) fn open(path: &Path, sync: bool, new: bool) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(new).open(path)?;
        // To the database an empty file is one to begin in. To us it is one that lost what was in it.
        if !new && file.metadata()?.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        Ok(Self { file, sync })
    }
}

impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Without waiting for the disk, a process that dies loses nothing all the same: the system has what was written.
    fn sync_data(&self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Checksums, Content, Meta};
    use super::*;

    const OBJECTS: usize = 200;

    fn fill(index: &Index, tables: &Tables) {
        let filled = index.with(|database| {
            for number in 0..OBJECTS {
                let record = Record {
                    checksum_kind: None,
                    key: format!("key {number:03}"),
                    size: 0,
                    etag: "etag".to_owned(),
                    modified: 0,
                    content: Content::File(format!("id {number}")),
                    checksums: Checksums::new(),
                    meta: Meta::default(),
                };
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                let json = serde_json::to_vec(&record).unwrap();
                transaction.open_table(tables.objects())?.insert(&*record.key, &*json)?;
                transaction.commit()?;
            }
            Ok(())
        });
        filled.unwrap();
    }

    #[test]
    fn damage_anywhere_is_an_error_and_never_a_listing_that_lacks_something() {
        let root = tempfile::tempdir().unwrap();
        let tables = Tables::of("bucket");
        let index = Index::create(root.path(), false).unwrap();
        fill(&index, &tables);
        // As a process that dies leaves it: what the file says of itself is not taken for granted then.
        let whole = std::fs::read(root.path().join(INDEX)).unwrap();
        let (mut refused, mut unread) = (0, 0);
        for (place, start) in (0..whole.len() - 16).step_by(whole.len() / 150).enumerate() {
            let damaged = tempfile::tempdir().unwrap();
            let mut bytes = whole.clone();
            bytes
                .iter_mut()
                .skip(start + place % 50)
                .take(16)
                .for_each(|byte| *byte ^= 0x5A);
            std::fs::write(damaged.path().join(INDEX), bytes).unwrap();
            let Ok(index) = Index::open(damaged.path(), false) else {
                refused += 1;
                continue;
            };
            let listing = Listing {
                max: 1000,
                ..Listing::default()
            };
            match index.page(&tables, &listing) {
                Ok(page) => assert_eq!(page.items.len(), OBJECTS, "damaged from byte {start}"),
                Err(_) => unread += 1,
            }
        }
        assert!(refused + unread > 0, "nothing was hit");
    }
}
