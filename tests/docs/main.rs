//! What the documents say, held to the code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod examples;
mod operations;
mod tables;

const README: &str = include_str!("../../README.md");
const PROTOCOL: &str = include_str!("../../docs/PROTOCOL.md");
const ARCHITECTURE: &str = include_str!("../../docs/ARCHITECTURE.md");
const DECISIONS: &str = include_str!("../../docs/DECISIONS.md");
const OPERATIONS: &str = include_str!("../../docs/OPERATIONS.md");
const AUTHENTICATION: &str = include_str!("../../docs/AUTHENTICATION.md");
const SECURITY: &str = include_str!("../../docs/SECURITY.md");
