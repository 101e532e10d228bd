//! What the broker and the uploader must agree on. No IO, no clock, no randomness.
//!
//! ```text
//! api        a request and a response for each /v1 route, and the problem that every failure is told as
//! ids        UploadId, EventId, ObjectKey, ETag: text that became a type at the edge
//! part       PartNumber, Md5Digest: one slice of a file, and what its bytes hash to
//! plan       PartPlan: a file's size -> part sizes, part count, byte ranges
//! schema     JSON schemas of all that, for the broker's /openapi.json
//! md5_lanes  Md5Stream: many digests in the time of one
//! ```

pub mod api;
pub mod ids;
pub mod md5_lanes;
pub mod part;
pub mod plan;
#[cfg(feature = "openapi")]
mod schema;

pub use ids::{ETag, EventId, ObjectKey, UploadId};
pub use part::{Md5Digest, PartNumber};
pub use plan::{PartPlan, PartSizes};

/// One mebibyte, 2^20 bytes.
pub const MIB: u64 = 1 << 20;
/// One gibibyte, 2^30 bytes.
pub const GIB: u64 = 1 << 30;
