//! The rate changes while files are sent: by the timetable, and by signals: SIGUSR1 halves it, SIGUSR2 doubles it.

use std::future::pending;
use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use time::PrimitiveDateTime;
use tokio::signal::unix::{SignalKind, signal};
use uploader::Uploader;

use crate::screen::Screen;
use crate::timetable::{Rate, RateLimit, Timetable, local_now};

/// Longest time without a look at the clock: a machine that slept, a clock that was set and the hour that a night has more or
/// less are noticed within it.
const LOOK: Duration = Duration::from_mins(1);

/// Follows table and signals from now on, where a rate is set; without one the signals keep their meaning, which is to end the
/// process.
pub(crate) fn follow(limit: Option<&RateLimit>, uploader: &Uploader, screen: &Screen) -> io::Result<()> {
    let mut changes = match limit {
        Some(RateLimit::Daily(table)) => {
            let in_force = table.in_force(local_now());
            uploader.set_limit_rate(in_force.rate);
            Some(Changes {
                table: table.clone(),
                since: in_force.since,
            })
        }
        Some(RateLimit::Always(Some(_))) => None,
        Some(RateLimit::Always(None)) | None => return Ok(()),
    };
    let (mut halve, mut double) = (
        signal(SignalKind::user_defined1())?,
        signal(SignalKind::user_defined2())?,
    );
    let (uploader, screen) = (uploader.clone(), screen.clone());
    tokio::spawn(async move {
        loop {
            let next_entry = async {
                match &mut changes {
                    Some(changes) => changes.next().await,
                    None => pending().await,
                }
            };
            // Where there is no limit for now, there is nothing to halve or double.
            let current = uploader.limit_rate();
            let rate = tokio::select! {
                Some(()) = halve.recv() => match current { Some(rate) => Some(halved(rate)), None => continue },
                Some(()) = double.recv() => match current { Some(rate) => Some(doubled(rate)), None => continue },
                rate = next_entry => rate,
            };
            uploader.set_limit_rate(rate);
            screen.rate_changed(rate.map(NonZeroU64::get));
        }
    });
    Ok(())
}

/// A table, and where in it this run is.
struct Changes {
    table: Timetable,
    since: PrimitiveDateTime,
}

impl Changes {
    /// Waits for the next entry to begin.
    async fn next(&mut self) -> Rate {
        loop {
            let in_force = self.table.in_force(local_now());
            if in_force.since != self.since {
                self.since = in_force.since;
                return in_force.rate;
            }
            tokio::time::sleep(in_force.until_next.min(LOOK)).await;
        }
    }
}

/// Half of it, but never nothing: that would be no limit.
fn halved(rate: NonZeroU64) -> NonZeroU64 {
    NonZeroU64::new(rate.get() / 2).unwrap_or(rate)
}

fn doubled(rate: NonZeroU64) -> NonZeroU64 {
    rate.saturating_mul(NonZeroU64::MIN.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_halved_down_to_a_byte_and_doubled_up_to_all_there_is() {
        let rate = |bytes| NonZeroU64::new(bytes).unwrap();
        assert_eq!((halved(rate(7)), halved(rate(1))), (rate(3), rate(1)));
        assert_eq!(
            (doubled(rate(7)), doubled(NonZeroU64::MAX)),
            (rate(14), NonZeroU64::MAX)
        );
    }

    #[tokio::test]
    async fn an_entry_that_began_while_nobody_looked_is_followed_at_once() {
        let Ok(RateLimit::Daily(table)) = "00:00,1k 12:00,2k".parse() else {
            panic!("it is a table");
        };
        // As after a night's sleep of the machine.
        let since = local_now() - time::Duration::DAY;
        let rate = Changes {
            table: table.clone(),
            since,
        }
        .next()
        .await;
        assert_eq!(rate, table.in_force(local_now()).rate);
    }
}
