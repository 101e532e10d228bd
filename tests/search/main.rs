//! Proof by search that completing is exactly once: thousands of short histories, each by its seed, against a model.
//!
//! ```text
//! seed ─▶ scenario (history.rs) ─▶ run (run.rs): two brokers, one ledger, one store ─▶ model (model.rs) says what must hold
//! ```
//!
//! `SEARCH_RUNS=N SEARCH_SEED=S cargo test --workspace --locked --test search` runs the seeds S to S+N-1; without, 2,000 of them
//! from 0. A seed that fails is told with its history as short as it could be made.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "all of this runs inside tests, where a surprise has to end the test, loudly"
)]

mod client;
mod end;
mod faults;
mod history;
mod ledger;
mod model;
mod run;
mod stories;
mod told;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::history::{Scenario, scenarios};
use crate::run::World;

/// Runs unless the environment says otherwise.
const RUNS: u64 = 2_000;
/// Attempts at making a failing history shorter.
const SHORTER: usize = 300;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// What is wrong with this seed's history, told with the shortest one that fails.
async fn search(world: &World, seed: u64) -> Result<(), String> {
    let mut tree = scenarios().new_tree(&mut runner(seed)).unwrap();
    let Err(mut wrong) = world.run(seed, &tree.current()).await else {
        return Ok(());
    };
    let mut shortest: Scenario = tree.current();
    let mut left = SHORTER;
    let mut simpler = tree.simplify();
    while simpler && left > 0 {
        left -= 1;
        let scenario = tree.current();
        simpler = match world.run(seed, &scenario).await {
            Err(found) => {
                (wrong, shortest) = (found, scenario);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    Err(format!(
        "seed {seed}: {wrong}\n\n{shortest:#?}\n\nagain: SEARCH_SEED={seed} SEARCH_RUNS=1 cargo test --workspace --locked --test search"
    ))
}

#[test]
fn under_every_fault_an_upload_becomes_its_object_or_nothing_and_success_is_told_only_of_the_object() {
    let (first, runs) = (number("SEARCH_SEED", 0), number("SEARCH_RUNS", RUNS));
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let worker = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            // Where the brokers' own tasks find what spawns them, as in their server.
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let world = World::start().await;
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        return None;
                    }
                    if let Err(wrong) = search(&world, seed).await {
                        // The others end with the run that they are at.
                        next.store(first + runs, Ordering::Relaxed);
                        return Some(wrong);
                    }
                }
            })
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    eprintln!("{runs} runs from seed {first} in {:.1?}", began.elapsed());
}
