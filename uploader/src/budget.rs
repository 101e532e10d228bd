//! How many retries one uploader may afford, over all its files, parts and requests: what a store in trouble gets on top
//! of the first tries stays a small share of them.
//!
//! A retry that fails has cost [`Cost::Retry`], and every first try that succeeds earns [`FIRST_TRY`]: in the long run one
//! failed retry for ten successes. A retry that succeeds gets its price back, so that what was held up by an outage goes on
//! as fast as the store answers. Where nothing is left a retry waits, in the order they failed, and [`PER_SECOND`] comes by
//! itself: an uploader knocks on a store that refuses everything once in ten seconds, and not once for each part under way.
//! Nothing fails for want of budget: when to give up is for [`crate::RetryPolicy`] to say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as Turn, Notify};

use crate::progress::{Event, Progress};

/// What there is at first, and at most: fifty retries.
const CAPACITY: u32 = 500;
/// What a first try that succeeds earns.
const FIRST_TRY: u32 = 1;
/// What comes by itself.
const PER_SECOND: u32 = 1;

/// The price of a retry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cost {
    /// After an answer, or a connection that was refused or cut.
    Retry,
    /// After silence, which has kept both sides busy for longest.
    Timeout,
}

impl Cost {
    /// What a failure below HTTP makes of the next try.
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() { Self::Timeout } else { Self::Retry }
    }

    const fn tokens(self) -> u32 {
        match self {
            Self::Retry => 10,
            Self::Timeout => 20,
        }
    }
}

/// What all uploads of one uploader may spend.
#[derive(Debug)]
pub(crate) struct Budget {
    purse: Mutex<Purse>,
    turn: Turn<()>,
    earned: Notify,
}

/// The accounting. Pure, time is an argument.
#[derive(Clone, Copy, Debug)]
struct Purse {
    tokens: u32,
    /// Up to when what comes by itself is counted.
    counted: Instant,
    /// The price of all retries that wait.
    owed: u32,
}

impl Purse {
    fn new(now: Instant) -> Self {
        Self {
            tokens: CAPACITY,
            counted: now,
            owed: 0,
        }
    }

    fn count(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.counted).as_secs();
        self.counted += Duration::from_secs(seconds);
        let came = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
        self.earn(came);
    }

    fn earn(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(CAPACITY);
    }

    /// Spends `tokens`, or says how long it takes until they have come by themselves.
    fn spend(&mut self, tokens: u32, now: Instant) -> Result<(), Duration> {
        self.count(now);
        match self.tokens.checked_sub(tokens) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            None => Err(self.until(tokens, now)),
        }
    }

    /// How long until there are `tokens`, if nothing is earned.
    fn until(&self, tokens: u32, now: Instant) -> Duration {
        let seconds = tokens.saturating_sub(self.tokens).div_ceil(PER_SECOND);
        let end = self.counted + Duration::from_secs(seconds.into());
        end.saturating_duration_since(now)
    }
}

/// A retry that waits; until it is dropped its price is owed.
struct Owed<'a>(&'a Budget, Cost);

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.purse().owed -= self.1.tokens();
    }
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            purse: Mutex::new(Purse::new(Instant::now())),
            turn: Turn::default(),
            earned: Notify::new(),
        }
    }

    fn purse(&self) -> MutexGuard<'_, Purse> {
        // Every change leaves the numbers whole, so a panic elsewhere has not spoiled them.
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something succeeded: at the first try, or after retries of which the last has cost this.
    pub(crate) fn succeeded(&self, last: Option<Cost>) {
        self.purse().earn(last.map_or(FIRST_TRY, Cost::tokens));
        self.earned.notify_one();
    }

    /// Tells of a retry, of what and for which trouble, and waits for it: at least for `after`, and until it is paid for.
    pub(crate) async fn wait_and_spend(
        &self,
        cost: Cost,
        after: Duration,
        attempt: u32,
        (what, trouble): (String, String),
        progress: &dyn Progress,
    ) {
        progress.event(&Event::Retrying {
            what: what.into(),
            trouble: trouble.into(),
            after: after.max(self.wait(cost)),
            attempt,
        });
        tokio::join!(tokio::time::sleep(after), self.spend(cost));
    }

    /// How long one more retry would have to wait at most.
    fn wait(&self, cost: Cost) -> Duration {
        let (mut purse, now) = (self.purse(), Instant::now());
        purse.count(now);
        purse.until(purse.owed.saturating_add(cost.tokens()), now)
    }

    /// Pays for a retry, as soon as there is enough and all that came before have paid.
    async fn spend(&self, cost: Cost) {
        self.purse().owed += cost.tokens();
        let _owed = Owed(self, cost);
        let _turn = self.turn.lock().await;
        loop {
            // Bound first: its lock must not last while this waits.
            let spent = self.purse().spend(cost.tokens(), Instant::now());
            let Err(wait) = spent else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.earned.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    const RETRY: u32 = Cost::Retry.tokens();

    /// How many retries are let through in `seconds`, if one is asked for every millisecond and none succeeds.
    fn retries(purse: &mut Purse, start: Instant, seconds: u64) -> u32 {
        let times = (0..seconds * 1000).map(|ms| start + Duration::from_millis(ms));
        times.map(|now| u32::from(purse.spend(RETRY, now).is_ok())).sum()
    }

    #[test]
    fn a_store_that_refuses_everything_is_asked_fifty_times_and_then_once_in_ten_seconds() {
        let now = Instant::now();
        let mut purse = Purse::new(now);
        assert_eq!(retries(&mut purse, now, 1), 50);
        assert_eq!(retries(&mut purse, now + Duration::from_secs(1), 600), 60);
    }

    #[test]
    fn in_the_long_run_there_is_one_failed_retry_for_ten_successes() {
        let now = Instant::now();
        let mut purse = Purse::new(now);
        let mut spent = 0;
        for _ in 0..10_000 {
            purse.earn(FIRST_TRY);
            spent += u32::from(purse.spend(RETRY, now).is_ok());
        }
        assert!(spent <= 50 + 1000, "{spent} retries beside 10000 successes");
    }

    #[test]
    fn it_recovers_by_itself_and_never_beyond_what_there_was() {
        let now = Instant::now();
        let mut purse = Purse::new(now);
        retries(&mut purse, now, 1);
        assert_eq!(purse.spend(RETRY, now), Err(Duration::from_secs(10)));
        assert_eq!(
            purse.spend(RETRY, now + Duration::from_millis(9500)),
            Err(Duration::from_millis(500))
        );
        assert_eq!(purse.spend(RETRY, now + Duration::from_secs(10)), Ok(()));
        purse.count(now + Duration::from_hours(1000));
        assert_eq!(purse.tokens, CAPACITY);
    }

    #[tokio::test]
    async fn a_retry_without_budget_waits_until_another_has_succeeded() {
        let budget = Budget::new();
        for _ in 0..CAPACITY / RETRY {
            budget.spend(Cost::Retry).await;
        }
        let (mut first, mut second) = (
            Box::pin(budget.spend(Cost::Retry)),
            Box::pin(budget.spend(Cost::Timeout)),
        );
        let mut wait =
            async || std::future::poll_fn(|cx| Poll::Ready((first.as_mut().poll(cx), second.as_mut().poll(cx)))).await;
        assert_eq!(wait().await, (Poll::Pending, Poll::Pending));
        let owed = budget.wait(Cost::Retry);
        assert!(
            owed > Duration::from_secs(35) && owed <= Duration::from_secs(40),
            "{owed:?}"
        );
        budget.succeeded(Some(Cost::Retry));
        assert_eq!(wait().await, (Poll::Ready(()), Poll::Pending));
    }
}
