//! `--limit-rate` as it is meant: one rate, or another for each time of the day.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use time::{OffsetDateTime, PrimitiveDateTime, Time};

use crate::cli::size;

const DAY: u64 = 24 * 60 * 60;
const HOW: &str = "a table has TIME,RATE with spaces between, such as \"08:00,1MiB 18:00,10MiB 23:00,off\"";

/// Most bytes a second, or nothing for as many as the network takes.
pub(crate) type Rate = Option<NonZeroU64>;

/// What `--limit-rate` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RateLimit {
    Always(Rate),
    Daily(Timetable),
}

/// Rates of a day, each from its time to the next one's, and the last one's on over midnight.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Timetable {
    first: Entry,
    /// In the order of the day, without two of one time.
    others: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry {
    from: Time,
    rate: Rate,
}

/// The entry that holds at some time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct InForce {
    /// When it began, by local time: what tells it from the same entry a day later.
    pub(crate) since: PrimitiveDateTime,
    pub(crate) rate: Rate,
    /// How long until the next one, by that day's clock: where a night has an hour more or less, to be asked again.
    pub(crate) until_next: Duration,
}

impl RateLimit {
    /// The rate to begin with.
    pub(crate) fn now(&self) -> Rate {
        match self {
            Self::Always(rate) => *rate,
            Self::Daily(table) => table.in_force(local_now()).rate,
        }
    }
}

/// The time of this machine's zone (`TZ`, `/etc/localtime`); UTC where the system does not know its own.
pub(crate) fn local_now() -> PrimitiveDateTime {
    let now = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc());
    PrimitiveDateTime::new(now.date(), now.time())
}

impl Timetable {
    /// What holds at this local time.
    pub(crate) fn in_force(&self, at: PrimitiveDateTime) -> InForce {
        let begun = |entry: &&Entry| entry.from <= at.time();
        let all = || std::iter::once(&self.first).chain(&self.others);
        let (entry, date) = match all().rfind(begun) {
            Some(entry) => (entry, at.date()),
            // Before the first one of the day, it is still the last one of the day before.
            None => (
                self.others.last().unwrap_or(&self.first),
                at.date().previous_day().unwrap_or(at.date()),
            ),
        };
        let next = all().find(|entry| entry.from > at.time());
        let wait = match next {
            Some(next) => next.from - at.time(),
            None => self.first.from - at.time() + Duration::from_secs(DAY),
        };
        InForce {
            since: PrimitiveDateTime::new(date, entry.from),
            rate: entry.rate,
            until_next: wait.unsigned_abs(),
        }
    }
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            // How scripts leave it out.
            "" => return Ok(Self::Always(None)),
            text if !text.contains([',', ':']) => return rate(text).map(Self::Always),
            _ => {}
        }
        let mut entries = text.split_whitespace().map(entry).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(|entry| entry.from);
        let mut entries = entries.into_iter();
        let first = entries.next().ok_or(HOW)?;
        let mut others: Vec<Entry> = Vec::new();
        for entry in entries {
            if entry.from == others.last().unwrap_or(&first).from {
                let (hour, minute) = (entry.from.hour(), entry.from.minute());
                return Err(format!("{hour:02}:{minute:02} is there twice"));
            }
            others.push(entry);
        }
        Ok(Self::Daily(Timetable { first, others }))
    }
}

/// A number of bytes for each second; `off` or 0 is no limit.
fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "off" => Ok(None),
        text => size(text).map(NonZeroU64::new),
    }
}

/// `08:00`
pub(crate) fn clock(text: &str) -> Option<Time> {
    // A number may also have a sign.
    let digits = |text: &str, most: usize| {
        let fits = (1..=most).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse().ok().filter(|_| fits)
    };
    let (hour, minute) = text.split_once(':').filter(|(_, minute)| minute.len() == 2)?;
    Time::from_hms(digits(hour, 2)?, digits(minute, 2)?, 0).ok()
}

/// `08:00,1MiB`
fn entry(text: &str) -> Result<Entry, String> {
    let (from, limit) = text.split_once(',').ok_or_else(|| format!("{text:?}: {HOW}"))?;
    Ok(Entry {
        from: clock(from).ok_or_else(|| format!("{text:?} does not begin with a time of 00:00 to 23:59; {HOW}"))?,
        rate: rate(limit).map_err(|why| format!("{text:?}: {why}"))?,
    })
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, time};

    use super::*;

    fn table(text: &str) -> Timetable {
        match text.parse() {
            Ok(RateLimit::Daily(table)) => table,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn bytes(number: u64) -> Rate {
        NonZeroU64::new(number)
    }

    #[test]
    fn a_rate_is_a_size_and_none_of_it_is_no_limit() {
        for (text, rate) in [("500k", bytes(500 << 10)), ("0", None), ("off", None), ("", None)] {
            assert_eq!(text.parse(), Ok(RateLimit::Always(rate)), "{text}");
        }
        assert!("fast".parse::<RateLimit>().is_err());
    }

    #[test]
    fn each_entry_holds_from_its_minute_to_the_next_and_the_last_one_over_midnight() {
        // In any order, as people add to it.
        let table = table("18:00,10MiB 8:00,1MiB 23:00,off");
        let (morning, evening, night) = (bytes(1 << 20), bytes(10 << 20), None);
        for (at, since, rate, minutes) in [
            (datetime!(2026-03-01 08:00), datetime!(2026-03-01 08:00), morning, 600),
            (datetime!(2026-03-01 17:59), datetime!(2026-03-01 08:00), morning, 1),
            (datetime!(2026-03-01 18:00), datetime!(2026-03-01 18:00), evening, 300),
            (datetime!(2026-03-01 23:00), datetime!(2026-03-01 23:00), night, 540),
            (datetime!(2026-03-01 23:59), datetime!(2026-03-01 23:00), night, 481),
            (datetime!(2026-03-02 00:00), datetime!(2026-03-01 23:00), night, 480),
            (datetime!(2026-03-02 07:30), datetime!(2026-03-01 23:00), night, 30),
        ] {
            let until_next = Duration::from_mins(minutes);
            let expected = InForce {
                since,
                rate,
                until_next,
            };
            assert_eq!(table.in_force(at), expected, "{at}");
        }
    }

    #[test]
    fn what_is_left_of_a_minute_counts() {
        let left = table("00:00,1k 12:00,2k")
            .in_force(datetime!(2026-03-01 11:59:59.75))
            .until_next;
        assert_eq!(left, Duration::from_millis(250));
    }

    #[test]
    fn a_single_entry_begins_anew_each_day() {
        let table = table("02:00,1k");
        let before = table.in_force(datetime!(2026-03-01 01:59));
        let after = table.in_force(datetime!(2026-03-01 02:00));
        assert_eq!((before.rate, after.rate), (bytes(1024), bytes(1024)));
        assert_eq!(before.until_next, Duration::from_mins(1));
        assert_eq!(after.since - before.since, time::Duration::DAY);
        assert_eq!(after.until_next, Duration::from_secs(DAY));
        assert_eq!(after.since.time(), time!(02:00));
    }

    #[test]
    fn a_table_that_nobody_could_follow_is_refused_in_words() {
        for (text, expected) in [
            ("08:00", "TIME,RATE"),
            ("08:00,1MiB,18:00,off", "18:00"),
            ("24:00,1MiB", "00:00 to 23:59"),
            ("8:5,1MiB", "00:00 to 23:59"),
            ("+8:00,1MiB", "00:00 to 23:59"),
            ("8:+5,1MiB", "00:00 to 23:59"),
            ("008:00,1MiB", "00:00 to 23:59"),
            ("Mon-08:00,1MiB", "00:00 to 23:59"),
            ("08:00,fast", "MiB"),
            ("08:00,", "whole number"),
            ("08:00,1MiB 8:00,2MiB", "08:00 is there twice"),
            (",", "00:00 to 23:59"),
        ] {
            let error = text.parse::<RateLimit>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
