//! An S3-compatible store in one process and one directory: durable, small, strict about signatures.
//!
//! ```text
//! connection ─ server ─▶ front ─ filter ─▶ s3s ─ access ─▶ api ─▶ disk
//!                │         │       │        │               │       └ records and bytes, one transaction at a time
//!                │         │       │        │               └ S3's operations: input -> disk -> output
//!                │         │       │        └ the protocol: routes, XML, SigV4, aws-chunked (a crate)
//!                │         │       └ what s3s 0.14.1 lets through and S3 does not; SigV2
//!                │         └ request ids, refusals that the client gets to read, the log line; HTML forms go past s3s
//!                └ listens, bounds, stops; [`DevStore`] puts faults here
//! ```
//!
//! [`Store::start`] serves a directory until [`Store::stop`]. Tests use [`DevStore`]: a temporary directory, a free port,
//! and [`Fault`]s that strike where a test wants them. [`check`] compares the data of a store that is stopped with its index.

mod api;
mod body;
mod config;
mod cors;
mod dev_store;
mod disk;
mod document;
mod error;
pub mod fault;
mod filter;
mod form;
mod front;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hoisted;
mod key_file;
mod keys;
mod lifecycle;
mod range;
mod references;
mod server;
mod sigv2;
mod sigv4;
mod tamper;
mod words;

pub use config::{DEFAULT_REGION, MIN_PART_SIZE, StoreConfig};
pub use dev_store::DevStore;
pub use disk::{CheckEvent, CheckSummary, Problem, check};
pub use error::StoreError;
pub use fault::{Fault, Garbled, When};
pub use keys::{AccessKey, Credentials, Keys, Rights};
pub use server::{Store, endpoint};
