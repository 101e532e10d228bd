//! The system as its users meet it: sentences told through a store, a broker and an uploader on free ports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod access;
mod batches;
mod browsers;
mod check_config;
mod crash;
mod credentials;
mod edge;
mod events;
mod fetch;
mod form;
mod garbage;
mod if_changed;
mod json;
mod library;
mod listings;
mod mixed;
mod operator;
mod origin;
mod overwriting;
mod problems;
mod proxy;
mod replicas;
mod resume;
mod rules;
mod secrets;
mod store_trouble;
mod sweeping;
mod uploader;
mod urls;
