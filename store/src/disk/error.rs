//! Why the disk layer did not do what was asked, before it becomes one of S3's codes.

use std::io;
use std::path::{Path, PathBuf};

use shared::PartNumber;

/// What went wrong with a bucket, an object or an upload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the bucket does not exist")]
    NoSuchBucket,
    #[error("the bucket is not empty: delete its objects first")]
    BucketNotEmpty,
    #[error("the key does not exist")]
    NoSuchKey,
    #[error("the upload does not exist: it may have been completed or aborted, or belongs to another key")]
    NoSuchUpload,
    #[error("part {0} was not uploaded, or its ETag is another")]
    InvalidPart(PartNumber),
    #[error("the parts are not listed in ascending order of their numbers")]
    InvalidPartOrder,
    #[error("part {number} has {size} bytes; every part but the last needs at least {least}")]
    PartTooSmall { number: PartNumber, size: u64, least: u64 },
    #[error("the parts have {actual} bytes together, not {declared}")]
    WrongObjectSize { actual: u64, declared: u64 },
    #[error("the condition {0} does not hold")]
    PreconditionFailed(&'static str),
    #[error("Content-MD5 is not the MD5 of the body that arrived")]
    BadDigest,
    #[error("{0} is not the checksum of the body that arrived")]
    BadChecksum(&'static str),
    #[error("the headers behind the body are not those that x-amz-trailer announced, each once")]
    MalformedTrailer,
    #[error("the upload was not created for {0}")]
    ChecksumNotPlanned(String),
    #[error("{received} bytes of the body arrived, not {declared}")]
    IncompleteBody { received: u64, declared: u64 },
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DiskError {
    /// The same failure for one more of those who shared it.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Io { doing, path, source } => Self::Io {
                doing,
                path: path.clone(),
                source: io::Error::new(source.kind(), source.to_string()),
            },
            other => Self::Io {
                doing: "change",
                path: PathBuf::from("the index"),
                source: io::Error::other(other.to_string()),
            },
        }
    }
}

/// Says what was tried on which path when the system refuses.
pub(crate) trait IoContext<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::Io {
            doing,
            path: path.to_owned(),
            source,
        })
    }
}
