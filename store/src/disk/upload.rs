//! An upload that is open: parts come in any order, and one Complete or Abort ends it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use s3s::checksum::ChecksumHasher;
use shared::PartNumber;

use super::checksum::PlannedChecksum;
use super::draft::{Draft, Written};
use super::error::{DiskError, IoContext as _};
use super::files::{DRAFT, Files, random_name};
use super::pins::Pins;
use super::record::{Checksums, Part, UploadRecord, now};

/// One multipart upload, of one key of one bucket.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) record: UploadRecord,
    path: PathBuf,
    files: Files,
    pins: Arc<Pins>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: bool,
    next_seq: u64,
    parts: BTreeMap<PartNumber, StoredPart>,
}

/// A part and when it arrived.
#[derive(Clone, Debug)]
pub(crate) struct StoredPart {
    pub(crate) part: Part,
    /// Milliseconds since 1970.
    pub(crate) modified: i64,
}

/// What Complete names: a part, and the ETag that the client was given for it, without quotes.
#[derive(Clone, Debug)]
pub(crate) struct ListedPart {
    pub(crate) number: PartNumber,
    pub(crate) etag: String,
    /// The part's checksums, as far as the client told them.
    pub(crate) checksums: Checksums,
}

impl Upload {
    /// The upload in the directory `path`, with the parts found there.
    pub(super) fn new(
        id: String,
        record: UploadRecord,
        path: PathBuf,
        (files, pins): (Files, Arc<Pins>),
        found: Vec<StoredPart>,
    ) -> Self {
        let next_seq = found.iter().map(|stored| stored.part.seq + 1).max().unwrap_or_default();
        let mut parts = BTreeMap::<PartNumber, StoredPart>::new();
        for stored in found {
            let newer = parts
                .get(&stored.part.number)
                .is_none_or(|other| other.part.seq < stored.part.seq);
            if newer {
                parts.insert(stored.part.number, stored);
            }
        }
        Self {
            id,
            record,
            path,
            files,
            pins,
            state: Mutex::new(State {
                open: true,
                next_seq,
                parts,
            }),
        }
    }

    /// Whether it has been neither completed nor aborted.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// A place for the bytes of a part. It becomes one by [`Upload::add`].
    ///
    /// `others` has to compute the checksum that the upload was created for.
    pub(crate) fn draft(&self, others: ChecksumHasher) -> Result<Draft, DiskError> {
        if !self.state.lock().open {
            return Err(DiskError::NoSuchUpload);
        }
        let path = self.path.join(format!("{DRAFT}{}", random_name()?));
        Ok(Draft::new(self.files.clone(), self.pins.hold(path), others))
    }

    /// Makes what was written the part `number`, in place of an earlier one.
    pub(crate) fn add(&self, number: PartNumber, written: Written) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(DiskError::NoSuchUpload);
        }
        let part = Part {
            number,
            seq: state.next_seq,
            md5: written.md5,
            size: written.size,
            checksum: self
                .record
                .checksum
                .and_then(|planned| planned.algorithm.computed(&written.checksums).cloned()),
        };
        let path = self.path.join(part.file_name());
        fs::rename(written.path(), &path).context("put the part at", &path)?;
        written.keep();
        state.next_seq += 1;
        let stored = StoredPart { part, modified: now() };
        let replaced = state.parts.insert(number, stored);
        drop(state);
        self.files.sync_dir(&self.path)?;
        if let Some(replaced) = replaced {
            self.files.remove_later(self.path.join(replaced.part.file_name()));
        }
        Ok(())
    }

    /// The parts after `marker` in order, at most `max`, and whether there are more.
    pub(crate) fn parts_after(&self, marker: u64, max: usize) -> Result<(Vec<StoredPart>, bool), DiskError> {
        let state = self.state.lock();
        if !state.open {
            return Err(DiskError::NoSuchUpload);
        }
        let mut after = state
            .parts
            .values()
            .filter(|stored| u64::from(stored.part.number) > marker);
        let page: Vec<_> = after.by_ref().take(max).cloned().collect();
        let more = max > 0 && after.next().is_some();
        Ok((page, more))
    }

    /// Ends the upload by `publish`, which gets the parts listed, once they are all there with these ETags, in order and
    /// large enough. Whatever fails, the upload stays open.
    pub(super) fn complete<T>(
        &self,
        listed: &[ListedPart],
        min_part_size: u64,
        publish: impl FnOnce(Vec<Part>) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(DiskError::NoSuchUpload);
        }
        let parts = state.check(listed, self.record.checksum, min_part_size)?;
        // A part may be listed whose own request has not yet waited for its name to be on the disk.
        self.files.sync_dir(&self.path)?;
        let published = publish(parts)?;
        state.open = false;
        for stored in state.parts.values() {
            // `check` has seen that the list is in order.
            let number = stored.part.number;
            if listed.binary_search_by_key(&number, |listed| listed.number).is_err() {
                self.files.remove_later(self.path.join(stored.part.file_name()));
            }
        }
        Ok(published)
    }

    /// Gives the upload up, with all its parts, once `forget` has taken it off the index.
    pub(super) fn abort(&self, forget: impl FnOnce() -> Result<(), DiskError>) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(DiskError::NoSuchUpload);
        }
        forget()?;
        state.open = false;
        drop(state);
        self.files.remove_later(self.path.clone());
        Ok(())
    }
}

impl State {
    fn check(
        &self,
        listed: &[ListedPart],
        planned: Option<PlannedChecksum>,
        min_part_size: u64,
    ) -> Result<Vec<Part>, DiskError> {
        let as_told = |part: &Part, listed: &ListedPart| {
            let told = planned.and_then(|planned| listed.checksums.get(planned.algorithm.header()));
            // Where none was planned, clients tell again what the part itself was checked by when it arrived.
            let planned_only = planned.is_none() || listed.checksums.len() == usize::from(told.is_some());
            part.md5.to_hex().eq_ignore_ascii_case(&listed.etag)
                && planned_only
                && (told.is_none() || told == part.checksum.as_ref())
        };
        if !listed.is_sorted_by(|one, next| one.number < next.number) {
            return Err(DiskError::InvalidPartOrder);
        }
        let mut parts = Vec::with_capacity(listed.len());
        for wanted in listed {
            match self.parts.get(&wanted.number) {
                Some(stored) if as_told(&stored.part, wanted) => {
                    parts.push(stored.part.clone());
                }
                Some(_) | None => return Err(DiskError::InvalidPart(wanted.number)),
            }
        }
        if let Some((_last, others)) = parts.split_last() {
            for part in others {
                if part.size < min_part_size {
                    return Err(DiskError::PartTooSmall {
                        number: part.number,
                        size: part.size,
                        least: min_part_size,
                    });
                }
            }
        }
        Ok(parts)
    }
}
