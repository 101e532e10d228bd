//! From format 1, where each object had a record file and each open upload another, to the index.
//!
//! The old files stay until the index is whole and on the disk: a crash in between begins again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadableTable as _, WriteTransaction};
use serde::de::DeserializeOwned;
use tracing::info;

use crate::error::StoreError;

use super::files::DRAFT;
use super::index::{Index, Tables};
use super::record::{Record, UploadRecord, record_name};
use super::recover::{at, entries, unusable};
use super::sweep::OLD_RECORDS;

/// The record of an open upload, in the directory of its parts.
const UPLOAD_RECORD: &str = "upload.json";
/// How much is read before it is written, in one transaction.
const BATCH_BYTES: usize = 8 << 20;
const BATCH: usize = 10_000;

/// An old record, as it was and as it stays, and the name of the data.
struct Old {
    key: String,
    id: String,
    json: Vec<u8>,
}

/// Puts what is told by files below `buckets` into the empty index.
pub(super) fn migrate(buckets: &Path, index: &Index) -> Result<(), StoreError> {
    info!(dir = %buckets.display(), "bringing the directory over to an index; this happens once");
    let (mut objects, mut uploads) = (0, 0);
    for entry in entries(buckets)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        let tables = Arc::new(Tables::of(&name));
        objects += move_objects(&buckets.join(&name).join(OLD_RECORDS), index, &tables)?;
        uploads += move_uploads(&buckets.join(&name).join("uploads"), index, &tables)?;
    }
    info!(objects, open_uploads = uploads, "the directory is brought over");
    Ok(())
}

fn move_objects(dir: &Path, index: &Index, tables: &Tables) -> Result<usize, StoreError> {
    let (mut batch, mut bytes, mut moved) = (Vec::new(), 0, 0);
    for entry in entries(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(DRAFT) {
            continue;
        }
        let (json, record) = read::<Record>(entry.path())?;
        if record_name(&record.key) != name {
            let wrong = io::Error::new(io::ErrorKind::InvalidData, "it is the record of another key");
            return Err(damaged(entry.path(), wrong));
        }
        bytes += json.len();
        moved += 1;
        batch.push(Old {
            id: record.content.id().to_owned(),
            key: record.key,
            json,
        });
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            write(index, |now| put_objects(now, tables, &batch))?;
            batch.clear();
            bytes = 0;
        }
    }
    write(index, |now| put_objects(now, tables, &batch))?;
    Ok(moved)
}

fn put_objects(now: &WriteTransaction, tables: &Tables, batch: &[Old]) -> Result<(), redb::Error> {
    let (mut objects, mut data) = (now.open_table(tables.objects())?, now.open_table(tables.data())?);
    for Old { key, id, json } in batch {
        objects.insert(&**key, &**json)?;
        data.insert(&**id, key.as_bytes())?;
    }
    Ok(())
}

fn move_uploads(dir: &Path, index: &Index, tables: &Tables) -> Result<usize, StoreError> {
    let mut open = Vec::new();
    for entry in entries(dir)? {
        let entry = entry?;
        let Ok(id) = entry.file_name().into_string() else {
            continue;
        };
        // One that cannot be read is of an upload whose creation was cut off: nobody was told of it.
        if let Ok((json, _)) = read::<UploadRecord>(entry.path().join(UPLOAD_RECORD)) {
            open.push((id, json));
        }
    }
    let mut moved = 0;
    write(index, |now| {
        let (data, mut uploads) = (now.open_table(tables.data())?, now.open_table(tables.uploads())?);
        for (id, json) in &open {
            // It may have been completed already, and the process died before it removed the upload's record.
            if data.get(&**id)?.is_none() {
                uploads.insert(&**id, &**json)?;
                moved += 1;
            }
        }
        Ok(())
    })?;
    Ok(moved)
}

fn write(index: &Index, work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StoreError> {
    index
        .with(|database| {
            let transaction = database.begin_write()?;
            work(&transaction)?;
            Ok(transaction.commit()?)
        })
        .map_err(unusable)
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Result<(Vec<u8>, T), StoreError> {
    let json = at(fs::read(&path), "read", &path)?;
    match serde_json::from_slice(&json) {
        Ok(record) => Ok((json, record)),
        Err(wrong) => Err(damaged(path, wrong.into())),
    }
}

fn damaged(path: PathBuf, source: io::Error) -> StoreError {
    StoreError::OldRecord { path, source }
}
