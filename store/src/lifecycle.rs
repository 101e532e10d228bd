//! Lifecycle rules: which objects and open uploads have had their time, and the round that takes them away.
//!
//! S3 User Guide, "Lifecycle configuration elements". Of the actions there are two here: objects expire, and uploads that
//! nobody completes are aborted. Versions and storage classes, which the others are about, this store does not have.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, Time};
use tracing::{debug, info, warn};

use crate::disk::{Bucket, Condition, Disk, Listing, Record, Tags};

/// One rule of a bucket.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct LifecycleRule {
    pub(crate) id: String,
    pub(crate) enabled: bool,
    /// Said outside a filter, as rules of old say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<Filter>,
    /// Days that an object lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_days: Option<i32>,
    /// Or the day on which it ends, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_date: Option<i64>,
    /// Days that an upload may stay open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) abort_days: Option<i32>,
}

/// Which objects a rule is for: those for which all of this holds.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub(crate) tags: Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) larger_than: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smaller_than: Option<i64>,
}

impl Filter {
    /// Whether it asks for what only objects have: tags or a size.
    pub(crate) fn is_of_objects(&self) -> bool {
        self.len() > usize::from(self.prefix.is_some())
    }

    /// How many things it asks for: more than one are told in an `And`.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.prefix.is_some())
            + self.tags.len()
            + usize::from(self.larger_than.is_some())
            + usize::from(self.smaller_than.is_some())
    }
}

impl LifecycleRule {
    fn begins(&self) -> &str {
        let filter = self.filter.as_ref().and_then(|filter| filter.prefix.as_deref());
        self.prefix.as_deref().or(filter).unwrap_or_default()
    }

    fn is_for(&self, record: &Record) -> bool {
        let size = i64::try_from(record.size).unwrap_or(i64::MAX);
        let filtered = self.filter.as_ref().is_none_or(|filter| {
            filter
                .tags
                .iter()
                .all(|(key, value)| record.meta.tags.get(key) == Some(value))
                && filter.larger_than.is_none_or(|least| size > least)
                && filter.smaller_than.is_none_or(|most| size < most)
        });
        self.enabled && record.key.starts_with(self.begins()) && filtered
    }

    /// When an object expires by this rule, if it does.
    fn end_of(&self, record: &Record) -> Option<OffsetDateTime> {
        if !self.is_for(record) {
            return None;
        }
        match (self.expiration_date, self.expiration_days) {
            (Some(date), _) => OffsetDateTime::from_unix_timestamp(date).ok(),
            (None, Some(days)) => midnight_after(record.modified, days),
            (None, None) => None,
        }
    }

    /// Whether an upload of `key` that began then has had its time.
    fn ends_upload(&self, key: &str, initiated: i64, now: OffsetDateTime) -> bool {
        // What a filter says of tags and sizes is of objects: such a rule is for no upload (S3 API, LifecycleRule).
        let of_objects = self.filter.as_ref().is_some_and(Filter::is_of_objects);
        let end = self.abort_days.and_then(|days| midnight_after(initiated, days));
        self.enabled && !of_objects && key.starts_with(self.begins()) && end.is_some_and(|end| end <= now)
    }
}

/// The midnight, UTC, after so many days: S3 rounds up.
fn midnight_after(milliseconds: i64, days: i32) -> Option<OffsetDateTime> {
    let from = OffsetDateTime::from_unix_timestamp(milliseconds.div_euclid(1000)).ok()?;
    let end = from.checked_add(Duration::days(days.into()))?;
    let midnight = end.replace_time(Time::MIDNIGHT);
    if midnight == end {
        Some(end)
    } else {
        midnight.checked_add(Duration::days(1))
    }
}

/// The first of these rules to end the object, and when: what `x-amz-expiration` tells.
pub(crate) fn expiration<'a>(rules: &'a [LifecycleRule], record: &Record) -> Option<(OffsetDateTime, &'a str)> {
    let ends = rules
        .iter()
        .filter_map(|rule| Some((rule.end_of(record)?, rule.id.as_str())));
    ends.min_by_key(|(end, _)| *end)
}

/// One round over all buckets: removes what has had its time, until it is told to stop. Blocks.
pub(crate) fn sweep(disk: &Disk, now: OffsetDateTime, stopping: impl Fn() -> bool) {
    for (name, _) in disk.buckets() {
        if stopping() {
            return;
        }
        let Ok(bucket) = disk.bucket(&name) else { continue };
        let rules = bucket.settings().lifecycle.clone();
        if rules.is_empty() {
            continue;
        }
        let (objects, uploads) = (expire(&bucket, &rules, now, &stopping), abort(&bucket, &rules, now));
        if objects + uploads > 0 {
            info!(bucket = name, objects, uploads, "expired by lifecycle rules");
        } else {
            debug!(bucket = name, "nothing has expired by lifecycle rules");
        }
    }
}

fn expire(bucket: &Bucket, rules: &[LifecycleRule], now: OffsetDateTime, stopping: &impl Fn() -> bool) -> usize {
    let (mut expired, mut after) = (0, None::<String>);
    loop {
        let listing = Listing {
            after: after.as_deref(),
            max: 1000,
            ..Listing::default()
        };
        let page = match bucket.page(&listing) {
            Ok(page) => page,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the rest of a bucket waits for the next round of lifecycle rules"
                );
                return expired;
            }
        };
        for entry in page.items {
            let concerned = |rule: &LifecycleRule| rule.enabled && entry.key.starts_with(rule.begins());
            if !rules.iter().any(concerned) {
                continue;
            }
            let Ok(object) = bucket.object(&entry.key) else {
                continue;
            };
            let record = &object.record;
            if expiration(rules, record).is_none_or(|(end, _)| end > now) {
                continue;
            }
            if stopping() {
                return expired;
            }
            // Not one that has taken its place meanwhile, and be it of the same bytes.
            let this = Condition::of(record);
            match bucket.delete(&record.key, &this) {
                Ok(_) => expired += 1,
                Err(error) => warn!(
                    key = record.key,
                    error = &error as &dyn std::error::Error,
                    "an object did not expire"
                ),
            }
        }
        after = page.next;
        if after.is_none() {
            return expired;
        }
    }
}

fn abort(bucket: &Bucket, rules: &[LifecycleRule], now: OffsetDateTime) -> usize {
    let uploads: Vec<_> = bucket.uploads().values().map(Arc::clone).collect();
    let stale = |key: &str, initiated| rules.iter().any(|rule| rule.ends_upload(key, initiated, now));
    let stale = uploads
        .iter()
        .filter(|upload| stale(&upload.record.key, upload.record.initiated));
    // One that has been completed meanwhile is gone, which is as well.
    stale
        .filter(|upload| bucket.abort_upload(&upload.record.key, &upload.id).is_ok())
        .count()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::disk::Meta;

    fn record(key: &str, modified: OffsetDateTime) -> Record {
        Record {
            key: key.to_owned(),
            size: 10,
            etag: String::new(),
            modified: modified.unix_timestamp() * 1000,
            content: crate::disk::Content::File(String::new()),
            checksums: std::collections::BTreeMap::new(),
            checksum_kind: None,
            meta: Meta::default(),
        }
    }

    fn rule() -> LifecycleRule {
        LifecycleRule {
            id: "rule".into(),
            enabled: true,
            expiration_days: Some(1),
            ..LifecycleRule::default()
        }
    }

    #[test]
    fn an_object_lives_to_the_midnight_after_its_days() {
        let at = record("a", datetime!(2026-03-01 00:00:01 UTC));
        assert_eq!(rule().end_of(&at), Some(datetime!(2026-03-03 00:00 UTC)));
        let at = record("a", datetime!(2026-03-01 00:00 UTC));
        assert_eq!(rule().end_of(&at), Some(datetime!(2026-03-02 00:00 UTC)));
    }

    #[test]
    fn a_rule_is_for_what_all_of_its_filter_holds_for() {
        let filtered = |filter| LifecycleRule {
            filter: Some(filter),
            ..rule()
        };
        let object = record("logs/1", datetime!(2026-03-01 00:00 UTC));
        let prefix = |text: &str| Filter {
            prefix: Some(text.to_owned()),
            ..Filter::default()
        };
        assert!(filtered(prefix("logs/")).is_for(&object));
        assert!(!filtered(prefix("data/")).is_for(&object));
        let sized = |larger_than| Filter {
            larger_than: Some(larger_than),
            ..prefix("logs/")
        };
        assert!(filtered(sized(9)).is_for(&object) && !filtered(sized(10)).is_for(&object));
        let tagged = Filter {
            tags: [("k".to_owned(), "v".to_owned())].into_iter().collect(),
            ..Filter::default()
        };
        assert!(!filtered(tagged).is_for(&object));
        let off = LifecycleRule {
            enabled: false,
            ..rule()
        };
        assert!(!off.is_for(&object));
    }

    #[test]
    fn an_upload_ends_by_its_own_days_only() {
        let abort = LifecycleRule {
            abort_days: Some(7),
            ..rule()
        };
        let began = datetime!(2026-03-01 12:00 UTC).unix_timestamp() * 1000;
        assert!(!abort.ends_upload("a", began, datetime!(2026-03-08 23:59 UTC)));
        assert!(abort.ends_upload("a", began, datetime!(2026-03-09 00:00 UTC)));
        assert!(!rule().ends_upload("a", began, datetime!(2027-01-01 00:00 UTC)));
    }
}
