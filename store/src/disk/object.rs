//! One version of an object: its record, its bytes, and their end once nobody reads them any more.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use shared::PartNumber;

use super::error::{DiskError, IoContext as _};
use super::pins::Pin;
use super::record::{Content, Part, Record};

/// Bytes that a reader takes from the disk at once.
const READ_SIZE: u64 = 512 * 1024;

/// A version that is or was current. Its data stay until the last reader has let go of it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) record: Record,
    data: Pin,
}

impl Object {
    /// The object that `record` tells of, with its data pinned.
    pub(super) fn new(record: Record, data: Pin) -> Self {
        Self { record, data }
    }

    /// The one file of an object put in one piece.
    pub(super) fn data_file(&self) -> Option<&Path> {
        matches!(self.record.content, Content::File(_)).then(|| self.data.path())
    }

    /// The parts that it was completed from; none if it was put in one piece.
    pub(crate) fn parts(&self) -> &[Part] {
        parts(&self.record)
    }

    /// The bytes of part `number`. An object put in one piece is its own part 1.
    pub(crate) fn part_range(&self, number: PartNumber) -> Option<Range<u64>> {
        if self.parts().is_empty() {
            return (number == PartNumber::FIRST).then_some(0..self.record.size);
        }
        let mut start = 0;
        // Part numbers may have gaps, and GET counts the parts that are there (S3 API, GetObject, partNumber).
        for (position, part) in (1..).zip(self.parts()) {
            if position == u64::from(number) {
                return Some(start..start + part.size);
            }
            start += part.size;
        }
        None
    }
}

/// The parts that the object was completed from; none if it was put in one piece.
pub(super) fn parts(record: &Record) -> &[Part] {
    match &record.content {
        Content::File(_) => &[],
        Content::Parts { parts, .. } => parts,
    }
}

/// The file or directory that holds the bytes.
pub(super) fn data_path(bucket: &Path, content: &Content) -> PathBuf {
    match content {
        Content::File(id) => bucket.join("data").join(id),
        Content::Parts { upload, .. } => bucket.join("uploads").join(upload),
    }
}

/// Reads a range of an object, one buffer at a time.
#[derive(Debug)]
pub(crate) struct Reader {
    object: Arc<Object>,
    next: u64,
    end: u64,
    open: Option<(File, PathBuf, u64)>,
}

impl Reader {
    /// A reader of the bytes in `range`, which must lie in the object.
    pub(crate) fn new(object: Arc<Object>, range: Range<u64>) -> Self {
        Self {
            object,
            next: range.start,
            end: range.end,
            open: None,
        }
    }

    /// Opens the first file, so that what is missing is told before the answer begins.
    pub(crate) fn open(mut self) -> Result<Self, DiskError> {
        if self.next < self.end {
            self.open = Some(self.file_at(self.next)?);
        }
        Ok(self)
    }

    /// The next bytes; none at the end.
    pub(crate) fn read(&mut self) -> Result<Option<Bytes>, DiskError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let (file, path, file_end) = match self.open.take() {
            Some(open) if self.next < open.2 => open,
            Some(_) | None => self.file_at(self.next)?,
        };
        let wanted = READ_SIZE.min(self.end.min(file_end) - self.next);
        let mut buffer = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let got = (&file).take(wanted).read_to_end(&mut buffer).context("read", &path)?;
        if got as u64 != wanted {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).context("read all of", &path);
        }
        self.next += wanted;
        self.open = Some((file, path, file_end));
        Ok(Some(buffer.into()))
    }

    /// The file that holds the byte at `position`, ready to read it, and where in the object it ends.
    fn file_at(&self, position: u64) -> Result<(File, PathBuf, u64), DiskError> {
        let mut path = self.object.data.path().to_owned();
        let (mut start, mut end) = (0, self.object.record.size);
        if !self.object.parts().is_empty() {
            end = 0;
            for part in self.object.parts() {
                (start, end) = (end, end + part.size);
                if position < end {
                    path.push(part.file_name());
                    break;
                }
            }
        }
        let file = (|| {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(position - start))?;
            Ok(file)
        })()
        .context("open", &path)?;
        Ok((file, path, end))
    }
}
