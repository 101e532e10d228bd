//! What a store is told at its start: where its data are, where it listens, whom it trusts.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::keys::Keys;

/// The region that the S3 protocol takes for granted where none is named.
pub const DEFAULT_REGION: &str = "us-east-1";
/// Least bytes of every part but the last, as on AWS (S3 User Guide, "Multipart upload limits").
pub const MIN_PART_SIZE: u64 = 5 * shared::MIB;

/// How to run a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where the data are; created if absent. One process at a time may serve it.
    pub dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The region that V4 signatures must name.
    pub region: String,
    /// Whose signatures count, and what each key may do.
    pub keys: Keys,
    /// Buckets that shall exist; created if absent.
    pub buckets: Vec<String>,
    /// Whether data are on the disk before the answer says so. Without it a power cut can take what was answered 200,
    /// or damage the index so that the store is lost; the end of the process cannot.
    pub sync: bool,
    /// Least bytes of every part but the last; [`MIN_PART_SIZE`], or less for tests.
    pub min_part_size: u64,
}

impl StoreConfig {
    /// A store in `dir` as most want it: a free port of 127.0.0.1, `us-east-1`, no buckets, synced, AWS's part size.
    pub fn new(dir: PathBuf, keys: impl Into<Keys>) -> Self {
        Self {
            dir,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            region: DEFAULT_REGION.to_owned(),
            keys: keys.into(),
            buckets: Vec::new(),
            sync: true,
            min_part_size: MIN_PART_SIZE,
        }
    }
}
