//! A place to upload to, and its rules.

use std::time::Duration;

use serde::Deserialize;

use super::fields::shortened;
use crate::error::{ApiError, RuleOf};
use crate::key::KeyTemplate;

/// A place to upload to, and its rules.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As requests name it.
    pub name: String,
    /// The store's bucket.
    pub bucket: String,
    /// What callers tell it by from a bucket of the same name at another store.
    pub bucket_id: String,
    /// How keys are made.
    pub key_template: KeyTemplate,
    /// Canned ACLs that clients may ask for.
    pub acls: Vec<String>,
    /// Media types that clients may say, `image/*` for all of a kind; any, and none, where there are none.
    pub content_types: Vec<String>,
    /// Whether what browsers execute is stored as it is, rather than to be saved when it is opened.
    pub serve_active_content: bool,
    /// Most bytes of one object.
    pub max_size: u64,
    /// Most parts of one upload.
    pub max_parts: u16,
    /// Most bytes of user metadata, names and values together.
    pub max_metadata: usize,
    /// How long part URLs of the JSON protocol live.
    pub url_life: Duration,
    /// How long a client of the form protocol may ask its URLs to live.
    pub max_url_life: Duration,
    /// How long an upload may stay open.
    pub upload_life: Duration,
    /// What becomes of an object that is there already, where that is said.
    pub overwrite: Option<Overwrite>,
    /// Whether an upload that runs out with all its parts stored becomes an object.
    pub finish_abandoned: bool,
}

/// Whether an upload may take the place of an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    /// Of none.
    Never,
    /// Of one that the same principal uploaded.
    SameOwner,
    /// Of any that has its key.
    Always,
}

impl Overwrite {
    /// As settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::SameOwner => "same-owner",
            Self::Always => "always",
        }
    }
}

/// Kinds that browsers show or play, and run nothing of; but for those of [`is_inert`].
const INERT_KINDS: [&str; 4] = ["image", "audio", "video", "font"];
/// Others of which they run nothing. What stands nowhere here is saved when it is opened: what browsers take for a page, or look
/// into to find out, differs and changes.
const INERT: [&str; 14] = [
    "text/plain",
    "text/csv",
    "text/markdown",
    "application/octet-stream",
    "binary/octet-stream",
    "application/json",
    "application/pdf",
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/x-tar",
    "application/x-7z-compressed",
    "application/zstd",
    "application/x-xz",
];

/// Canned ACLs of objects (S3 User Guide, "Canned ACL").
pub const CANNED_ACLS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// What an object is sent with so that it is saved instead of opened (RFC 6266).
const ATTACHMENT: &str = "attachment";

impl Destination {
    /// Whether a media type may be said here.
    ///
    /// # Errors
    /// [`ApiError::TypeNotGranted`]
    pub(super) fn check_type(&self, content_type: Option<&str>) -> Result<(), ApiError> {
        if type_among(&self.content_types, content_type) {
            return Ok(());
        }
        Err(ApiError::TypeNotGranted {
            given: content_type.map(shortened),
            granted: self.content_types.join(", "),
            rule: RuleOf::Destination(self.name.clone()),
        })
    }

    /// What becomes of an object that has the key of an upload: no rule is needed where there can be none. Where none is given,
    /// whoever has a ticket replaces nothing but what was uploaded with it: they are somebody's guest.
    pub fn overwrites(&self, by_ticket: bool) -> Overwrite {
        match self.overwrite {
            _ if self.key_template.is_unique() => Overwrite::Always,
            Some(rule) => rule,
            None if by_ticket => Overwrite::SameOwner,
            None => Overwrite::Always,
        }
    }

    /// What keeps an object of this type from running on the bucket's origin, if it would.
    pub(super) fn disposition(&self, content_type: Option<&str>) -> Option<&'static str> {
        let inert = content_type.is_none_or(|content_type| is_inert(&essence(content_type)));
        (!inert && !self.serve_active_content).then_some(ATTACHMENT)
    }
}

/// Whether browsers run nothing of this type, in lower case and without parameters. Scripts in XML run (HTML Living Standard,
/// "scripting"; SVG 2 section 15).
fn is_inert(kind: &str) -> bool {
    let xml = kind.ends_with("+xml") || kind.contains("svg");
    let of_a_kind = kind.split_once('/').is_some_and(|(top, _)| INERT_KINDS.contains(&top));
    (of_a_kind && !xml) || INERT.contains(&kind)
}

/// Pairs of destinations whose uploads can meet in one bucket, so that what is granted at one reaches what lies at the other.
pub fn meeting(destinations: &[Destination]) -> Vec<(&str, &str)> {
    let prefixes: Vec<_> = destinations
        .iter()
        .map(|each| (each, each.key_template.fixed_prefix()))
        .collect();
    let mut found = Vec::new();
    for (at, (one, first)) in prefixes.iter().enumerate() {
        for (other, second) in prefixes.iter().skip(at + 1) {
            if one.bucket == other.bucket && (first.starts_with(second) || second.starts_with(first)) {
                found.push((one.name.as_str(), other.name.as_str()));
            }
        }
    }
    found
}

/// Whether a type is one of these, or there are none. One that is not said is none of them.
pub(super) fn type_among(types: &[String], content_type: Option<&str>) -> bool {
    if types.is_empty() {
        return true;
    }
    let kind = essence(content_type.unwrap_or_default());
    types.iter().any(|allowed| match allowed.strip_suffix("/*") {
        Some(range) => kind
            .split_once('/')
            .is_some_and(|(top, _)| top.eq_ignore_ascii_case(range)),
        None => allowed.eq_ignore_ascii_case(&kind),
    })
}

/// Whether a text is a media type, or all of a kind.
pub fn is_type(text: &str) -> bool {
    let token = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(plain)
    };
    text.split_once('/')
        .is_some_and(|(top, sub)| token(top) && (sub == "*" || token(sub)))
}

/// Whether a text is the name of a canned ACL.
pub fn is_acl(text: &str) -> bool {
    CANNED_ACLS.contains(&text)
}

/// A media type without its parameters, in lower case.
fn essence(content_type: &str) -> String {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t14_what_is_not_known_to_run_nothing_is_saved_when_it_is_opened() {
        for inert in ["image/png", "video/mp4", "text/plain", "application/pdf", "font/woff2"] {
            assert!(is_inert(inert), "{inert}");
        }
        for active in [
            "text/html",
            "image/svg+xml",
            "image/svg-xml",
            "application/xhtml+xml",
            "text/rdf",
            "unknown/unknown",
            "*/*",
            "multipart/x-mixed-replace",
            "application/x-shockwave-flash",
            "imagex/png",
        ] {
            assert!(!is_inert(active), "{active}");
        }
    }

    #[test]
    fn a_type_is_among_others_by_itself_or_by_its_kind_whatever_its_parameters() {
        let types = vec!["image/*".to_owned(), "application/pdf".to_owned()];
        for good in ["image/png", "IMAGE/PNG; q=1", "application/pdf;x=y"] {
            assert!(type_among(&types, Some(good)), "{good}");
        }
        for bad in [
            Some("text/html"),
            Some("imagex/png"),
            Some("application/pdfx"),
            Some("image"),
            None,
        ] {
            assert!(!type_among(&types, bad), "{bad:?}");
        }
        assert!(type_among(&[], None));
    }
}
