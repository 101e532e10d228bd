//! One suite for every store: what the broker and its signers rely on, asked of a real one.
//!
//! `cargo test --test conformance` takes the embedded store; `tests/stores/conformance.sh garage|ceph` takes those. Objects of
//! a test are under a prefix of its own, since a store that a script started outlives each test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod batches;
mod broker;
mod signers;
