//! How many bytes a second leave: one bucket for every part under way, changeable while they are, out of the way where
//! there is no limit.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as Turn, Notify};

/// What may leave at once after a pause, and what one body is given at a time: each as much as goes in so long, so that
/// no burst is longer than twice that.
const BURST: Duration = Duration::from_millis(50);

/// The limit that all bodies share.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Bytes a second; 0 where there is no limit, which a body sees without a lock.
    limit: AtomicU64,
    bucket: Mutex<Bucket>,
    /// Bodies are served in the order they came, so that none of them goes hungry until its store hangs up.
    turn: Turn<()>,
    changed: Notify,
}

/// The accounting: a bucket kept as the time at which it will have paid for all that was taken ("generic cell rate
/// algorithm"). Pure, time is an argument.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    paid_at: Option<Instant>,
}

impl Bucket {
    /// Takes `bytes` at `rate`, or says how long to wait before asking again.
    fn take(&mut self, bytes: u64, rate: NonZeroU64, now: Instant) -> Result<(), Duration> {
        let paid_at = self.paid_at.unwrap_or(now);
        let wait = paid_at.saturating_duration_since(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        let saved_since = now.checked_sub(BURST).unwrap_or(now);
        self.paid_at = Some(paid_at.max(saved_since) + time_for(bytes, rate));
        Ok(())
    }

    /// What is still to pay is paid at another rate from now on.
    fn change(&mut self, from: NonZeroU64, to: NonZeroU64, now: Instant) {
        if let Some(wait) = self.paid_at.and_then(|paid_at| paid_at.checked_duration_since(now)) {
            let bytes = wait.as_nanos() * u128::from(from.get()) / NANOS;
            self.paid_at = Some(now + time_for(u64::try_from(bytes).unwrap_or(u64::MAX), to));
        }
    }
}

const NANOS: u128 = 1_000_000_000;

/// How long `bytes` take.
fn time_for(bytes: u64, rate: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * NANOS / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What one body is given at a time, at least a byte.
fn share(rate: NonZeroU64, most: usize) -> usize {
    let bytes = u128::from(rate.get()) * BURST.as_nanos() / NANOS;
    usize::try_from(bytes).unwrap_or(usize::MAX).clamp(1, most.max(1))
}

impl Rate {
    pub(crate) fn new(limit: Option<NonZeroU64>) -> Self {
        Self {
            limit: AtomicU64::new(limit.map_or(0, NonZeroU64::get)),
            bucket: Mutex::default(),
            turn: Turn::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn limit(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.limit.load(Ordering::Relaxed))
    }

    pub(crate) fn set_limit(&self, limit: Option<NonZeroU64>) {
        let mut bucket = self.bucket();
        let before = self.limit.swap(limit.map_or(0, NonZeroU64::get), Ordering::Relaxed);
        match (NonZeroU64::new(before), limit) {
            (Some(from), Some(to)) => bucket.change(from, to, Instant::now()),
            _ => *bucket = Bucket::default(),
        }
        drop(bucket);
        self.changed.notify_waiters();
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for leave to send all of so many bytes, which then go at once.
    pub(crate) async fn leave_all(&self, bytes: u64) {
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        while left > 0 && self.limit().is_some() {
            left -= self.leave(left).await.min(left);
        }
    }

    /// Waits for leave to send some bytes, at most `most`; how many.
    async fn leave(&self, most: usize) -> usize {
        let _turn = self.turn.lock().await;
        loop {
            let changed = self.changed.notified();
            let wait = {
                let mut bucket = self.bucket();
                let Some(rate) = self.limit() else { return most };
                let bytes = share(rate, most);
                match bucket.take(bytes as u64, rate, Instant::now()) {
                    Ok(()) => return bytes,
                    Err(wait) => wait,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

/// One body's way to the shared limit.
pub(crate) struct Pace {
    rate: Arc<Rate>,
    waiting: Option<Pin<Box<dyn Future<Output = usize> + Send + Sync>>>,
}

impl Pace {
    pub(crate) fn new(rate: Arc<Rate>) -> Self {
        Self { rate, waiting: None }
    }

    /// Ready with the number of bytes that may be sent now, 1 to `most`. Asked again after it was not ready, it is to be
    /// asked for no fewer.
    pub(crate) fn poll_leave(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<usize> {
        if self.waiting.is_none() && self.rate.limit().is_none() {
            return Poll::Ready(most);
        }
        let rate = &self.rate;
        let waiting = self.waiting.get_or_insert_with(|| {
            let rate = rate.clone();
            Box::pin(async move { rate.leave(most).await })
        });
        let bytes = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).unwrap()
    }

    /// Takes as often as the bucket lets it for `length`, from `now`, by a clock that only moves when it has to wait; the
    /// bytes that were taken.
    fn drain(bucket: &mut Bucket, at: NonZeroU64, mut now: Instant, length: Duration) -> u64 {
        let (end, bytes, mut taken) = (now + length, share(at, 64 * 1024) as u64, 0);
        while now < end {
            match bucket.take(bytes, at, now) {
                Ok(()) => taken += bytes,
                Err(wait) => now += wait,
            }
        }
        taken
    }

    #[test]
    fn what_leaves_in_any_time_is_the_rate_and_a_tenth_of_a_second() {
        let now = Instant::now();
        for bytes in [1, 7, 1000, 512 << 10, 10 << 20, 10 << 30] {
            for length in [1, 3, 10] {
                let taken = drain(&mut Bucket::default(), rate(bytes), now, Duration::from_secs(length));
                let (least, most) = (bytes * length, bytes * length + bytes / 10 + 1);
                assert!(
                    (least..=most).contains(&taken),
                    "{taken} in {length} s at {bytes}, not {least} to {most}"
                );
            }
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let (mut bucket, at, now) = (Bucket::default(), rate(1 << 20), Instant::now());
        drain(&mut bucket, at, now, Duration::from_secs(1));
        let later = now + Duration::from_hours(1);
        let taken = drain(&mut bucket, at, later, Duration::from_millis(1));
        assert!(taken <= (1 << 20) / 10 + 1, "{taken} at once");
    }

    #[test]
    fn what_is_still_to_pay_is_paid_at_the_new_rate() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        bucket.take(1000, rate(100), now).unwrap();
        assert_eq!(bucket.take(1, rate(100), now), Err(Duration::from_secs(10)));
        bucket.change(rate(100), rate(1000), now + Duration::from_secs(5));
        let wait = bucket.take(1, rate(1000), now + Duration::from_secs(5));
        assert_eq!(wait, Err(Duration::from_millis(500)));
    }

    #[test]
    fn slow_rates_are_cut_finely_so_that_every_connection_keeps_moving() {
        assert_eq!(share(rate(1), 65_536), 1);
        assert_eq!(share(rate(20_000), 65_536), 1000);
        assert_eq!(share(rate(u64::MAX), 65_536), 65_536);
        assert_eq!(share(rate(20_000), 7), 7);
    }

    #[tokio::test]
    async fn whoever_waits_follows_a_change_at_once() {
        let shared = Arc::new(Rate::new(Some(rate(1))));
        assert_eq!(shared.leave(100).await, 1);
        let mut waiting = Box::pin(shared.leave(100));
        // A second would have to pass.
        assert!(std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        shared.set_limit(Some(rate(1 << 40)));
        assert_eq!(waiting.await, 100);
        shared.set_limit(None);
        assert_eq!(shared.leave(100).await, 100);
    }
}
