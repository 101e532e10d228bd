//! The store over its wire: what it keeps, what it refuses, what a restart finds, and the faults that tests ask for.

// Helpers of tests may fail as tests do; clippy knows only the functions marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::format_push_string, clippy::format_collect)]

mod acls;
mod check;
mod checksums;
mod client;
mod connections;
mod copies;
mod crash;
mod documents;
mod faults;
mod form;
mod forms;
mod full;
mod hoisted;
mod objects;
mod races;
mod reads;
mod restart;
mod rights;
mod settings;
mod sharing;
mod signatures;
mod uploads;

/// Bytes that differ from place to place, the same at every run.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
