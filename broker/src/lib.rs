//! Holds the storage keys, so that the machines and browsers which upload need none.
//!
//! ```text
//! HTTP request ─▶ handlers ─▶ policy ─▶ Grant ─┬─▶ sign ─▶ presigned part URLs
//!                    │                         └─▶ s3: create, list parts, complete, head, abort
//!                    └──────▶ ledger: what was admitted, declared, completed
//! ```
//!
//! [`config`] turns settings into a [`Config`], [`start()`] runs a broker by it, [`app`] has the route table, [`handlers`] one
//! file an operation. Bytes of files never pass through here.

pub mod admit;
pub mod app;
pub mod auth;
pub mod batch;
pub mod cli;
pub mod complete;
pub mod config;
pub mod deliver;
pub mod edge;
pub mod embedded;
pub mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod give_up;
pub mod handlers;
pub mod judge;
pub mod key;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod openapi;
pub mod operate;
pub mod overwrite;
pub mod policy;
pub mod principal;
pub mod put_whole;
pub mod random;
pub mod s3;
pub mod sign;
pub mod start;
pub mod sweep;
pub mod webhook;

pub use config::{Config, Settings};
pub use start::{Running, StartError, start};
