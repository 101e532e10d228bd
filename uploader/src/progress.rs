//! What happens during an upload or a download, for whoever shows it: silent, a bar, JSON lines.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shared::{ETag, ObjectKey, PartNumber, UploadId};
use time::OffsetDateTime;

use crate::{Downloaded, Uploaded};

/// Watches uploads. Called from several threads, often: it should return soon.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// One thing that happened to the file being sent or fetched. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The broker is asked to open an upload.
    Creating,
    /// The broker has admitted the file.
    Started {
        /// What the broker names the upload by.
        upload_id: UploadId,
        /// Where the object will be.
        key: ObjectKey,
        /// Bytes in the file; nothing for a stream that does not say when it will end.
        size: Option<u64>,
        /// Bytes in every part but the last; where parts grow, in the first one.
        part_size: u64,
        /// How many parts there are, if that is known.
        part_count: Option<u16>,
        /// Parts that the store holds from an earlier run; each is compared before it counts.
        stored: usize,
        /// Whether an earlier run goes on.
        resumed: Resumed,
    },
    /// An earlier run's upload of the file was still open though it cannot be gone on with: its parts are of no use any more.
    GaveUp {
        /// What the broker names it by.
        upload_id: UploadId,
        /// When it expires, if it could not be aborted.
        ends_at: Option<OffsetDateTime>,
    },
    /// The file is at the store already, and was not sent.
    Unchanged {
        /// Where the object is; nothing where the destination makes keys of more than the name.
        key: Option<ObjectKey>,
        /// Its bytes.
        size: u64,
        /// What the store calls it; nothing if that is no MD5, of which only a hash is kept.
        etag: Option<ETag>,
    },
    /// Something does not work that uploads can do without.
    Warning {
        /// What, why, and what to do.
        what: Arc<str>,
    },
    /// Bytes were handed to the network.
    Sent {
        /// How many.
        bytes: u64,
    },
    /// Bytes counted as sent will have to be sent again.
    Unsent {
        /// How many.
        bytes: u64,
    },
    /// The store holds this part from an earlier run, and it is still right.
    PartKept {
        /// Its place.
        number: PartNumber,
        /// Its bytes.
        size: u64,
    },
    /// The store has taken this part.
    PartStored {
        /// Its place.
        number: PartNumber,
        /// Its bytes.
        size: u64,
    },
    /// Something failed that may pass by itself.
    Retrying {
        /// What failed, in words, and why.
        what: Arc<str>,
        /// Why alone, in words that are the same for all that it keeps waiting.
        trouble: Arc<str>,
        /// How long until it is tried again.
        after: Duration,
        /// Which try failed, from 1.
        attempt: u32,
    },
    /// Every part is there; the broker has the store join them.
    Completing,
    /// The object is there.
    Completed(Arc<Uploaded>),
    /// An object is about to be downloaded.
    Fetching {
        /// Its key.
        key: ObjectKey,
        /// Its bytes.
        size: u64,
    },
    /// Bytes of an object have arrived.
    Received {
        /// How many.
        bytes: u64,
    },
    /// Bytes counted as received will have to come again.
    Unreceived {
        /// How many.
        bytes: u64,
    },
    /// All bytes are there, and are compared with the object's ETag.
    Verifying,
    /// The file is there.
    Fetched(Arc<Downloaded>),
}

/// What an upload has to do with earlier runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Resumed {
    /// Nothing, as far as anybody knows.
    New,
    /// It is the upload that one has begun.
    Continued,
    /// One has begun an upload of this file, which cannot be gone on with.
    Anew(Anew),
}

/// Why the upload that an earlier run has begun is not gone on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Anew {
    /// It was given up, by whomever, or the store has lost it.
    Aborted,
    /// It was not completed in time.
    Expired,
    /// It became an object, which since then has been replaced or removed.
    Completed,
    /// The broker does not know it.
    NotFound,
    /// The file has other content now.
    FileChanged,
    /// It was begun with other settings: media type, metadata, ACL, part size.
    SettingsChanged,
}

impl Anew {
    /// A stable name for machines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Expired => "expired",
            Self::Completed => "completed",
            Self::NotFound => "not_found",
            Self::FileChanged => "file_changed",
            Self::SettingsChanged => "settings_changed",
        }
    }
}

impl fmt::Display for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aborted => "the earlier upload was aborted",
            Self::Expired => "the earlier upload was not completed in time and expired",
            Self::Completed => "what the earlier upload became has since been replaced or removed",
            Self::NotFound => "the broker does not know the earlier upload",
            Self::FileChanged => "the file has changed since the earlier upload was begun",
            Self::SettingsChanged => "the earlier upload was begun with other settings",
        })
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &Event) {}
}

impl<P: Progress + ?Sized> Progress for Arc<P> {
    fn event(&self, event: &Event) {
        (**self).event(event);
    }
}
