//! Bytes on their way in: written and hashed in one pass, gone again unless something comes of them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::mem;
use std::path::Path;

use bytes::Bytes;
use s3s::checksum::ChecksumHasher;
use shared::Md5Digest;
use shared::md5_lanes::Md5Stream;

use super::error::{DiskError, IoContext as _};
use super::files::Files;
use super::hashing::{Hashed, Leading};
use super::pins::Pin;
use super::record::Record;

/// Bytes with which the disk begins at once: of a part of 8 MiB, half is there before the rest has come. Much less would lie in
/// pieces between those of other bodies.
const EARLY: u64 = 4 * shared::MIB;

/// A file being written. Dropped, it takes the file with it.
#[derive(Debug)]
pub(crate) struct Draft {
    file: DraftFile,
    open: Option<File>,
    hashes: Hashes,
    size: u64,
    /// Bytes that the disk has begun with.
    begun: u64,
}

struct Hashes {
    md5: Md5Stream,
    others: ChecksumHasher,
}

impl std::fmt::Debug for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashes")
    }
}

/// All bytes of a body, on the disk, and what they hash to.
#[derive(Debug)]
pub(crate) struct Written {
    file: DraftFile,
    pub(crate) size: u64,
    pub(crate) md5: Md5Digest,
    pub(crate) checksums: s3s::dto::Checksum,
}

#[derive(Debug)]
struct DraftFile {
    pin: Pin,
    files: Files,
    kept: bool,
}

impl Draft {
    /// A file where `pin` says, made when the first bytes arrive; hashed with MD5 and with what `others` asks for.
    pub(super) fn new(files: Files, pin: Pin, others: ChecksumHasher) -> Self {
        Self {
            file: DraftFile {
                pin,
                files,
                kept: false,
            },
            open: None,
            hashes: Hashes {
                md5: Md5Stream::new(),
                others,
            },
            size: 0,
            begun: 0,
        }
    }

    /// Hashes and writes what arrived.
    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> Result<(), DiskError> {
        for chunk in chunks {
            self.hashes.md5.update(chunk);
        }
        self.append(chunks)
    }

    /// Has what arrived hashed with what other drafts get, for [`Draft::append`] to write meanwhile. The stream that comes back
    /// is for [`Draft::hashed`].
    pub(crate) fn hash(&mut self, chunks: &[Bytes]) -> (Hashed, Option<Leading>) {
        let stream = mem::take(&mut self.hashes.md5);
        self.file.files.hashing().feed(stream, chunks)
    }

    /// Takes back what was hashed elsewhere.
    pub(crate) fn hashed(&mut self, stream: Md5Stream) {
        self.hashes.md5 = stream;
    }

    /// Writes what is hashed elsewhere.
    pub(crate) fn append(&mut self, chunks: &[Bytes]) -> Result<(), DiskError> {
        let Self {
            file: DraftFile { pin, files, .. },
            open,
            hashes,
            size,
            begun,
        } = self;
        let mut write = || -> io::Result<()> {
            files.reserve().require()?;
            let file = match open {
                Some(file) => file,
                None => open.insert(File::create_new(pin.path())?),
            };
            for chunk in chunks {
                hashes.others.update(chunk);
                file.write_all(chunk)?;
                *size += chunk.len() as u64;
            }
            if *size - *begun >= EARLY {
                files.begin_sync(file, &(*begun..*size));
                *begun = *size;
            }
            Ok(())
        };
        write().context("write", pin.path())
    }

    /// Waits for the disk and gives the hashes.
    pub(crate) fn finish(mut self) -> Result<Written, DiskError> {
        self.append(&[])?; // An empty body is a file too.
        if let Some(open) = &self.open {
            self.file.files.sync_data(open).context("sync", self.file.pin.path())?;
        }
        Ok(Written {
            file: self.file,
            size: self.size,
            md5: self.hashes.md5.finish(),
            checksums: self.hashes.others.finalize(),
        })
    }
}

impl Written {
    /// The file `data` of the object that `record` tells of, by a second name, which `pin` pins; nothing where that
    /// cannot be had.
    pub(super) fn linked(files: Files, data: &Path, pin: Pin, record: &Record) -> Result<Option<Self>, DiskError> {
        let Some(md5) = Md5Digest::from_hex(&record.etag) else {
            return Ok(None);
        };
        match fs::hard_link(data, pin.path()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StorageFull) => {
                return Err(error).context("link", pin.path());
            }
            // As many names as it may have, or a file system without: the bytes can still be read and written.
            Err(_) => return Ok(None),
        }
        Ok(Some(Self {
            file: DraftFile {
                pin,
                files,
                kept: false,
            },
            size: record.size,
            md5,
            checksums: s3s::dto::Checksum::default(),
        }))
    }

    /// Where the bytes are now.
    pub(super) fn path(&self) -> &Path {
        self.file.pin.path()
    }

    /// Something names the file now, or may after a crash: it stays.
    pub(super) fn keep(mut self) {
        self.file.kept = true;
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        if !self.kept {
            self.pin.condemn();
        }
    }
}
