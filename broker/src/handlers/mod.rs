//! One file an operation: a request is parsed, the policy asked, the ledger and the store told, the answer written.

pub mod abort;
pub mod batches;
pub mod body;
pub mod complete;
pub mod create;
pub mod delete;
pub mod download;
pub mod events;
pub mod form;
mod form_fields;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod me;
pub mod objects;
pub mod openapi;
mod query;
pub mod session;
pub mod sign_parts;
pub mod status;
pub mod tickets;
pub mod uploads;
