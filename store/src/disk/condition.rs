//! `If-Match` and `If-None-Match` of a request that writes (RFC 9110 section 13.1).

use super::error::DiskError;
use super::record::Record;

/// What must hold of the object there before another takes its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    pub(crate) if_match: Option<Tag>,
    pub(crate) if_none_match: Option<Tag>,
    /// Of so many bytes.
    pub(crate) size: Option<i64>,
    /// Changed in this second, since 1970.
    pub(crate) modified: Option<i64>,
    /// The very version: what was said of it, and when it came.
    pub(crate) is: Option<Box<Record>>,
}

/// Any version, or those with one of these ETags: a list of them as headers have it, each in quotes, weak ones behind `W/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Tag {
    Any,
    Listed(String),
}

impl Tag {
    /// Whether it names this version, as `If-None-Match` compares: weak or not (RFC 9110 section 8.8.3.2).
    pub(crate) fn names(&self, etag: &str) -> bool {
        self.lists(|listed| listed.strip_prefix("W/").unwrap_or(listed).trim_matches('"') == etag)
    }

    /// Whether it names these very bytes, as `If-Match` compares: by no weak tag.
    pub(crate) fn names_strongly(&self, etag: &str) -> bool {
        self.lists(|listed| !listed.starts_with("W/") && listed.trim_matches('"') == etag)
    }

    /// No ETag here has a comma in it.
    fn lists(&self, is_it: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.split(',').any(|listed| is_it(listed.trim())),
        }
    }
}

impl Condition {
    /// That what is there is still this, and not another of the same bytes.
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            is: Some(Box::new(record.clone())),
            ..Self::default()
        }
    }

    /// Checks it against what is there now.
    pub(super) fn check(&self, current: Option<&Record>) -> Result<(), DiskError> {
        let etag = current.map(|record| record.etag.as_str());
        match (&self.if_match, etag) {
            (Some(_), None) => return Err(DiskError::NoSuchKey),
            (Some(tag), Some(etag)) if !tag.names_strongly(etag) => {
                return Err(DiskError::PreconditionFailed("If-Match"));
            }
            (Some(_) | None, _) => {}
        }
        let of_size = |record: &Record| i64::try_from(record.size).ok();
        if self.size.is_some() && current.and_then(of_size) != self.size {
            return Err(DiskError::PreconditionFailed("on the size"));
        }
        let of_second = |record: &Record| record.modified.div_euclid(1000);
        if self.modified.is_some() && current.map(of_second) != self.modified {
            return Err(DiskError::PreconditionFailed("on the time of the last change"));
        }
        if let Some(is) = &self.is {
            let same = |current: &Record| {
                current.content.id() == is.content.id() && current.modified == is.modified && current.meta == is.meta
            };
            if !current.is_some_and(same) {
                return Err(DiskError::PreconditionFailed("to be the same version"));
            }
        }
        match (&self.if_none_match, etag) {
            (Some(tag), Some(etag)) if tag.names(etag) => Err(DiskError::PreconditionFailed("If-None-Match")),
            (Some(_) | None, _) => Ok(()),
        }
    }
}
