//! How many parts are on their way at once: up to what the user allows, fewer while the store has too much to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Additive increase, multiplicative decrease: halved when the store says so, one more after each full round of successes.
#[derive(Debug)]
pub(crate) struct Limiter {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    most: usize,
    now: usize,
    in_flight: usize,
    /// Successes since the limit last moved.
    successes: usize,
    /// Refusals to pass over: those of parts that were under way when the limit was last halved.
    forgiven: usize,
}

/// Leave for one part to be on its way, until dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Limiter>);

impl Limiter {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let most = most.max(1);
        Arc::new(Self {
            state: Mutex::new(State {
                most,
                now: most,
                in_flight: 0,
                successes: 0,
                forgiven: 0,
            }),
            freed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the numbers whole, so a panic elsewhere has not spoiled them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for leave to send one more part.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        self.acquire_within(|| usize::MAX).await
    }

    /// The same, with no more than so many on their way.
    pub(crate) async fn acquire_within(self: &Arc<Self>, most: impl Fn() -> usize) -> Permit {
        loop {
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                if state.in_flight < state.now.min(most().max(1)) {
                    state.in_flight += 1;
                    return Permit(self.clone());
                }
            }
            freed.await;
        }
    }

    /// The store refused a part because it has too much to do, or a part stalled.
    pub(crate) fn overloaded(&self) {
        let mut state = self.state();
        if state.forgiven > 0 {
            state.forgiven -= 1;
            return;
        }
        state.now = (state.now / 2).max(1);
        state.successes = 0;
        state.forgiven = state.in_flight.saturating_sub(1);
    }

    /// The store took a part.
    pub(crate) fn succeeded(&self) {
        let mut state = self.state();
        state.forgiven = state.forgiven.saturating_sub(1);
        state.successes += 1;
        if state.successes >= state.now && state.now < state.most {
            state.now += 1;
            state.successes = 0;
            drop(state);
            self.freed.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_round_of_refusals_halves_once_and_successes_grow_it_back() {
        let limiter = Limiter::new(8);
        let mut permits = Vec::new();
        for _ in 0..8 {
            permits.push(limiter.acquire().await);
        }
        (0..8).for_each(|_| limiter.overloaded());
        assert_eq!(limiter.state().now, 4);
        limiter.overloaded();
        assert_eq!(limiter.state().now, 2);
        permits.clear();
        (0..7).for_each(|_| limiter.succeeded());
        assert_eq!(limiter.state().now, 4, "2 successes to 3, 3 more to 4");
        (0..100).for_each(|_| limiter.succeeded());
        assert_eq!(limiter.state().now, 8);
    }

    #[tokio::test]
    async fn a_freed_permit_lets_the_next_part_go() {
        let limiter = Limiter::new(1);
        let first = limiter.acquire().await;
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.acquire().await }
        });
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!(limiter.state().in_flight, 1);
        drop(second);
        assert_eq!(limiter.state().in_flight, 0);
    }
}
