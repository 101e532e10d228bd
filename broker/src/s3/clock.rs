//! The store's clock, read off the `Date` of its answers: presigned URLs are dated by it, not by the broker's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

/// A difference below this is the `Date` header's rounding and the network's delay.
const NOTEWORTHY_SECONDS: i64 = 5;

/// The broker's clock and how far the store's differs from it. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Seconds that the store is ahead.
    store_ahead: Arc<AtomicI64>,
    /// Seconds that tests have moved this clock ahead.
    moved: Arc<AtomicI64>,
}

impl Clock {
    /// The broker's time.
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::seconds(self.moved.load(Ordering::Relaxed))
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
            .fetch_add(i64::try_from(by.as_secs()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn observe(&self, date: &str) {
        // HTTP dates are RFC 2822 dates but for the zone's name (RFC 9110 section 5.6.7).
        let Ok(store) = OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822) else {
            return;
        };
        let ahead = (store - self.now()).whole_seconds();
        let ahead = if ahead.abs() < NOTEWORTHY_SECONDS { 0 } else { ahead };
        let before = self.store_ahead.swap(ahead, Ordering::Relaxed);
        if ahead.abs_diff(before) >= NOTEWORTHY_SECONDS.unsigned_abs() {
            tracing::warn!(
                seconds_ahead = ahead,
                "the store's clock differs from this machine's; URLs are dated by the store's; set the clock by NTP"
            );
        }
    }
}

/// Reads the `Date` of every answer that the SDK gets.
#[derive(Debug)]
pub(super) struct ReadDate(pub(super) Clock);

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "ReadDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.0.observe(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_dated_by_the_stores_clock() {
        let clock = Clock::default();
        clock.observe("Fri, 01 Jan 2100 00:00:00 GMT");
        let difference = clock.store_now() - time::macros::datetime!(2100-01-01 0:00 UTC);
        assert!(difference.abs() < Duration::seconds(5), "{difference}");
        clock.observe("yesterday");
        assert!(clock.store_ahead() > 0, "a date that cannot be read changes nothing");
    }
}
