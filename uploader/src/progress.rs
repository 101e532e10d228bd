//! What happens during an upload or a download, for whoever shows it: silent, a bar, JSON lines.

use std::sync::Arc;
use std::time::Duration;

use shared::{ObjectKey, PartNumber, UploadId};

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
