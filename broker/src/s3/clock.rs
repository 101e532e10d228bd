//! The store's clock, read off the `Date` of its answers: presigned URLs are dated by it, not by the broker's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

/// A difference below this is the `Date` header's rounding and the network's delay.
const NOTEWORTHY_SECONDS: i64 = 5;

/// A store further ahead or behind than this has no clock to go by.
const BELIEVABLE: Duration = Duration::days(1);

/// The broker's clock and how far the store's differs from it. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Seconds that the store is ahead.
    store_ahead: Arc<AtomicI64>,
    /// Milliseconds that tests have moved this clock ahead.
    moved: Arc<AtomicI64>,
    /// Whether a pause moves this clock instead of taking its time.
    jumps: bool,
}

impl Clock {
    /// A clock for tests, whose pauses are over at once and move it ahead.
    pub fn jumping() -> Self {
        Self {
            jumps: true,
            ..Self::default()
        }
    }

    /// Whether pauses are over at once.
    pub(super) fn jumps(&self) -> bool {
        self.jumps
    }

    /// Waits until so much time has passed on this clock.
    pub async fn pause(&self, time: std::time::Duration) {
        if self.jumps {
            self.advance(time);
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(time).await;
        }
    }

    /// The broker's time, in whole milliseconds as the ledger keeps it.
    pub fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc() + Duration::milliseconds(self.moved.load(Ordering::Relaxed));
        now.replace_millisecond(now.millisecond()).unwrap_or(now)
    }

    /// The store's time, as well as it is known.
    pub fn store_now(&self) -> OffsetDateTime {
        self.now() + Duration::seconds(self.store_ahead())
    }

    /// Seconds that the store's clock is ahead of the broker's; 0 while they agree within a few seconds.
    pub fn store_ahead(&self) -> i64 {
        self.store_ahead.load(Ordering::Relaxed)
    }

    /// Moves this clock, for tests of what happens when time has passed.
    pub fn advance(&self, by: std::time::Duration) {
        self.moved
            .fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Takes note of a store's `Date`, and answers whether it can be believed.
    fn observe(&self, date: &str) -> bool {
        // HTTP dates are RFC 2822 dates but for the zone's name (RFC 9110 section 5.6.7).
        let Ok(store) = OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822) else {
            return false;
        };
        let ahead = (store - self.now()).whole_seconds();
        if ahead.unsigned_abs() > BELIEVABLE.unsigned_abs().as_secs() {
            tracing::warn!(
                seconds_ahead = ahead,
                "the store's date cannot be right, or this machine's is far off; set the clock by NTP"
            );
            return false;
        }
        let ahead = if ahead.abs() < NOTEWORTHY_SECONDS { 0 } else { ahead };
        let before = self.store_ahead.swap(ahead, Ordering::Relaxed);
        if ahead.abs_diff(before) >= NOTEWORTHY_SECONDS.unsigned_abs() {
            tracing::warn!(
                seconds_ahead = ahead,
                "the store's clock differs from this machine's; URLs are dated by the store's; set the clock by NTP"
            );
        }
        true
    }
}

/// Reads the `Date` of every answer that the SDK gets.
#[derive(Debug)]
pub(super) struct ReadDate(pub(super) Clock);

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "ReadDate"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let believed = context
            .response()
            .headers()
            .get("date")
            .is_none_or(|date| self.0.observe(date));
        if !believed {
            // The SDK would correct its own clock by it.
            context.response_mut().headers_mut().remove("date");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_dated_by_the_stores_clock_unless_it_cannot_be_right() {
        let clock = Clock::default();
        let header = |ahead: Duration| (clock.now() + ahead).format(&Rfc2822).unwrap().replace("+0000", "GMT");
        assert!(clock.observe(&header(Duration::hours(3))));
        assert!((clock.store_now() - clock.now() - Duration::hours(3)).abs() < Duration::seconds(5));
        for bad in [
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "yesterday",
        ] {
            assert!(!clock.observe(bad), "{bad} was believed");
        }
        assert!(clock.store_ahead() > 0, "what cannot be believed changes nothing");
    }
}
