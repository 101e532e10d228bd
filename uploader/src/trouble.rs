//! What keeps failing, told once for all that it keeps waiting: a store that is away fails every part, for one reason.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long until the same trouble is worth another line.
const AGAIN: Duration = Duration::from_secs(10);
/// Trouble that nobody has met for so long is over.
const OVER: Duration = Duration::from_mins(1);

/// Each trouble by its words. Pure, time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Troubles(HashMap<Arc<str>, Trouble>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    told: Instant,
    /// Until when each of those that met it waits, by a hash of who it is.
    waiting: HashMap<u64, Instant>,
}

impl Troubles {
    /// `who` has met the trouble and waits for a while; what is to be said of it, if that is not said too often already.
    pub(crate) fn met(&mut self, trouble: &Arc<str>, who: impl Hash, wait: Duration, now: Instant) -> Option<String> {
        self.0
            .retain(|_, trouble| trouble.waiting.values().any(|until| now < *until + OVER));
        let until = now + wait;
        let mut hasher = DefaultHasher::new();
        who.hash(&mut hasher);
        let who = hasher.finish();
        let Some(known) = self.0.get_mut(trouble) else {
            let first = Trouble {
                since: now,
                told: now,
                waiting: HashMap::from([(who, until)]),
            };
            self.0.insert(trouble.clone(), first);
            return Some(format!("{trouble}; trying again in {:.1} s", wait.as_secs_f64()));
        };
        known.waiting.retain(|_, until| now < *until + OVER);
        known.waiting.insert(who, until);
        if now < known.told + AGAIN {
            return None;
        }
        known.told = now;
        let waiting = known.waiting.values().filter(|until| now < **until).count();
        let seconds = (now - known.since).as_secs();
        Some(match waiting {
            0 | 1 => format!("{trouble}, for {seconds} s now; trying again"),
            _ => format!("{trouble}, for {seconds} s now; trying again ({waiting} parts or requests wait)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_keeps_many_waiting_is_told_at_once_and_then_now_and_then() {
        let (mut troubles, start, away) = (Troubles::default(), Instant::now(), Arc::from("the store is away"));
        let mut met = |who: u32, seconds| troubles.met(&away, who, 4 * SECOND, start + seconds * SECOND);
        assert_eq!(met(1, 0).unwrap(), "the store is away; trying again in 4.0 s");
        let others: Vec<_> = (2..=12).filter_map(|who| met(who, 1)).collect();
        assert!(others.is_empty(), "{others:?}");
        for who in 1..=12 {
            assert_eq!(met(who, 9), None);
        }
        assert_eq!(
            met(1, 10).unwrap(),
            "the store is away, for 10 s now; trying again (12 parts or requests wait)"
        );
        assert_eq!(met(2, 19), None);
        assert_eq!(met(2, 20).unwrap(), "the store is away, for 20 s now; trying again");
    }

    #[test]
    fn another_trouble_and_one_that_comes_back_later_are_told_again() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let (away, full) = (Arc::from("away"), Arc::from("full"));
        assert!(troubles.met(&away, 1, SECOND, start).is_some());
        assert!(troubles.met(&full, 1, SECOND, start).is_some());
        assert!(troubles.met(&away, 1, SECOND, start + SECOND).is_none());
        let later = troubles.met(&away, 1, SECOND, start + 100 * SECOND).unwrap();
        assert_eq!(later, "away; trying again in 1.0 s");
    }
}
