//! What sending a file would take, told by its size and the broker's rules, with nothing read or sent.

use std::num::NonZeroU64;
use std::path::Path;

use serde::Serialize;
use shared::api::{DestinationInfo, Me};
use shared::{PartNumber, PartPlan, plan as part_plan};

use crate::error::{Refusal, UploadError};
use crate::options::PutOptions;
use crate::source::Source;
use crate::{plan, stream};

/// What one file would take, if nothing of it has been sent before and nothing has to be sent twice.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Planned {
    /// What the broker would be asked to make the key from.
    pub name: String,
    /// How the destination makes keys, for example `{principal}/{date}/{name}`.
    pub key_template: String,
    /// Bytes in the file; nothing for a stream, nor in any field that follows from it.
    pub size: Option<u64>,
    /// Bytes in every part but the last; where parts grow, in the first one.
    pub part_size: u64,
    /// Whether the parts of a stream would grow.
    pub growing_parts: bool,
    /// How many parts there would be.
    pub part_count: Option<u16>,
    /// Requests to the broker: one to create, one for the URLs of each window of parts, one to complete.
    pub broker_requests: Option<u64>,
    /// Requests to the store: one for each part.
    pub store_requests: Option<u64>,
}

/// The limit that a growing file meets first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bound {
    /// Which one it is.
    pub by: Limit,
    /// Bytes of the largest file within it.
    pub bytes: u64,
}

/// What keeps files from being larger.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// The destination takes no larger ones.
    MaxSize,
    /// There are no more parts, and parts are no larger.
    PartCount,
    /// At the given rate the upload would end before its last part.
    UploadLife,
    /// At the given rate parts would be under way for longer than their URLs live.
    UrlLife,
}

impl PutOptions {
    /// What [`crate::Uploader::put`] would do with the file at `path`, going by what [`crate::Uploader::whoami`] answered.
    /// The file is opened and not read.
    ///
    /// # Errors
    /// Those of `put` that can be foreseen: the file is not there or may not be read, or the broker would refuse it
    /// ([`UploadError::WouldBeRefused`]).
    pub fn preview(&self, path: impl AsRef<Path>, me: &Me) -> Result<Planned, UploadError> {
        let source = Source::open(path.as_ref())?;
        let destination = self.granted(me)?;
        let size = source.size().unwrap_or_default();
        let plan = PartPlan::for_size(size, self.part_size, destination.max_size).map_err(Refusal::Plan)?;
        let parts: Vec<_> = plan.parts().collect();
        let windows = plan::windows(&plan, &parts).len() as u64;
        Ok(Planned {
            name: self.request(&source)?.name,
            key_template: destination.key_template.clone(),
            size: Some(size),
            part_size: plan.part_size(),
            growing_parts: false,
            part_count: Some(plan.part_count()),
            broker_requests: Some(windows + 2),
            store_requests: Some(plan.part_count().into()),
        })
    }

    /// What [`crate::Uploader::put_reader`] would do: of a stream only the parts' size is known.
    ///
    /// # Errors
    /// As for [`PutOptions::preview`]; [`UploadError::Settings`] where there is no name.
    pub fn preview_stream(&self, me: &Me) -> Result<Planned, UploadError> {
        let destination = self.granted(me)?;
        let part_size = self.part_size.unwrap_or(stream::PART_SIZE);
        PartPlan::for_size(0, Some(part_size), 0).map_err(Refusal::Plan)?;
        Ok(Planned {
            name: self.request(&Source::stream("standard input", None))?.name,
            key_template: destination.key_template.clone(),
            size: None,
            part_size,
            growing_parts: self.part_size.is_none() && me.limits.growing_parts,
            part_count: None,
            broker_requests: None,
            store_requests: None,
        })
    }

    /// The limit that a growing file would meet first, with so many parts under way at once; lives count only where a rate
    /// is given, in bytes a second.
    ///
    /// # Errors
    /// The broker would refuse every file.
    pub fn first_limit(&self, me: &Me, rate: Option<NonZeroU64>, concurrency: usize) -> Result<Bound, UploadError> {
        let destination = self.granted(me)?;
        let most_parts = u64::from(PartNumber::MAX);
        let largest_part = self.part_size.unwrap_or(part_plan::MAX_PART_SIZE);
        let mut bounds = vec![
            (Limit::MaxSize, destination.max_size),
            (Limit::PartCount, largest_part.saturating_mul(most_parts)),
        ];
        if let Some(rate) = rate {
            let at_once = u64::try_from(concurrency).unwrap_or(u64::MAX).max(1);
            let in_time = |seconds: u64| rate.get().saturating_mul(seconds);
            let within_url = in_time(me.limits.url_expires_in);
            let least_part = self.part_size.unwrap_or(part_plan::DEFAULT_PART_SIZE);
            bounds.push((Limit::UploadLife, in_time(me.limits.upload_expires_in)));
            bounds.push((
                Limit::UrlLife,
                if least_part.saturating_mul(at_once) > within_url {
                    within_url
                } else if self.part_size.is_some() {
                    u64::MAX
                } else {
                    // Parts grow with the file, once there are as many as there may be.
                    (within_url / at_once).saturating_mul(most_parts)
                },
            ));
        }
        let first = bounds.into_iter().min_by_key(|(_, bytes)| *bytes);
        let (by, bytes) = first.unwrap_or((Limit::MaxSize, destination.max_size));
        Ok(Bound { by, bytes })
    }

    /// The destination, if the broker has it and grants there what is asked.
    pub(crate) fn granted<'a>(&self, me: &'a Me) -> Result<&'a DestinationInfo, UploadError> {
        let found = match &self.destination {
            Some(name) => me.destinations.iter().find(|destination| destination.name == *name),
            None => me.destinations.first(),
        };
        let none = || Refusal::NoSuchDestination(self.destination.clone().unwrap_or_default());
        let destination = found.ok_or_else(none)?;
        match &self.acl {
            Some(acl) if !destination.acls.contains(acl) => Err(Refusal::AclNotGranted(acl.clone()).into()),
            _ => Ok(destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::{GIB, MIB};

    use super::*;
    use crate::error::ErrorKind;

    fn me() -> Me {
        let json = serde_json::json!({
            "principal": "alice", "server_time": "2026-01-01T00:00:00Z",
            "destinations": [
                {"name": "default", "key_template": "{name}", "max_size": 5_u64 << 40, "acls": ["private"]},
                {"name": "small", "key_template": "{uuid}", "max_size": 10 * MIB, "acls": []},
            ],
            "limits": {"max_parts_per_sign": 1000, "max_parts": 10_000, "min_part_size": 5 * MIB,
                "max_part_size": 5 * GIB, "url_expires_in": 900, "upload_expires_in": 86_400},
        });
        serde_json::from_value(json).unwrap()
    }

    fn file(size: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.bin");
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        (directory, path)
    }

    fn to(destination: &str) -> PutOptions {
        PutOptions {
            destination: Some(destination.into()),
            ..PutOptions::default()
        }
    }

    #[test]
    fn a_file_takes_a_request_a_part_and_one_a_window_beside_create_and_complete() {
        for (size, parts, to_broker) in [(0, 0, 2), (1, 1, 3), (20 * MIB, 3, 3), (17 * 8 * MIB, 17, 4)] {
            let (_directory, path) = file(size);
            let planned = PutOptions::default().preview(&path, &me()).unwrap();
            let expected = Planned {
                name: "file.bin".into(),
                key_template: "{name}".into(),
                size: Some(size),
                part_size: 8 * MIB,
                growing_parts: false,
                part_count: Some(parts),
                broker_requests: Some(to_broker),
                store_requests: Some(parts.into()),
            };
            assert_eq!(planned, expected);
        }
    }

    #[test]
    fn what_the_broker_would_refuse_is_known_with_its_code() {
        let (_directory, path) = file(11 * MIB);
        let acl = PutOptions {
            acl: Some("public-read".into()),
            ..PutOptions::default()
        };
        let part_size = PutOptions {
            part_size: Some(1),
            ..PutOptions::default()
        };
        for (options, code, kind) in [
            (to("small"), "file_too_large", ErrorKind::Failed),
            (to("none"), "no_such_destination", ErrorKind::Auth),
            (acl, "acl_not_granted", ErrorKind::Auth),
            (part_size, "invalid_part_size", ErrorKind::Failed),
        ] {
            let error = options.preview(&path, &me()).unwrap_err();
            assert_eq!((error.code(), error.kind()), (code, kind), "{error}");
        }
        let error = PutOptions::default().preview("/no/such/file", &me()).unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    #[test]
    fn the_limit_that_bites_first_is_the_smallest() {
        let rate = NonZeroU64::new;
        let first = |options: PutOptions, rate| {
            let bound = options.first_limit(&me(), rate, 8).unwrap();
            (bound.by, bound.bytes)
        };
        let parts_of = |part_size| PutOptions {
            part_size: Some(part_size),
            ..PutOptions::default()
        };
        assert_eq!(first(to("default"), None), (Limit::MaxSize, 5 << 40));
        assert_eq!(first(parts_of(5 * MIB), None), (Limit::PartCount, 50_000 * MIB));
        assert_eq!(first(to("default"), rate(MIB)), (Limit::UploadLife, 86_400 * MIB));
        assert_eq!(first(to("default"), rate(1000)), (Limit::UrlLife, 900_000));
        assert_eq!(first(parts_of(GIB), rate(MIB)), (Limit::UrlLife, 900 * MIB));
    }

    #[test]
    fn of_a_stream_the_parts_size_is_known() {
        let named = PutOptions {
            name: Some("dump".into()),
            ..PutOptions::default()
        };
        let mut me = me();
        let planned = named.preview_stream(&me).unwrap();
        assert_eq!((planned.part_size, planned.size), (16 * MIB, None));
        assert!(!planned.growing_parts, "a broker that does not say so has equal ones");
        me.limits.growing_parts = true;
        assert!(named.preview_stream(&me).unwrap().growing_parts);
        let pinned = PutOptions {
            part_size: Some(16 * MIB),
            ..named
        };
        assert!(!pinned.preview_stream(&me).unwrap().growing_parts);
        assert!(PutOptions::default().preview_stream(&me).is_err());
    }
}
