//! Destinations and grants, as the settings file has them and as they are meant.

use std::time::Duration;

use serde::Deserialize;

use crate::key::KeyTemplate;
use crate::policy::{
    CANNED_ACLS, Destination, Grantee, MAX_METADATA_LEN, Overwrite, Right, Rule, RuleLimits, is_acl, is_type,
};

/// `[[destination]]`: what it does not say, the settings of the same names at the top say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationSettings {
    /// As requests name it: at most 64 letters, digits, dots, dashes and underscores.
    pub name: String,
    /// Bucket at the store.
    pub bucket: Option<String>,
    /// How object keys are made.
    pub key_template: Option<String>,
    /// Canned ACLs that clients may ask for.
    pub acls: Option<Vec<String>>,
    /// Media types that clients may say, `image/*` for all of a kind.
    pub content_types: Option<Vec<String>>,
    /// Whether what browsers execute is stored as it is.
    pub serve_active_content: Option<bool>,
    /// Most bytes of one object.
    pub max_size: Option<u64>,
    /// Most parts of one upload.
    pub max_parts: Option<u16>,
    /// Most bytes of user metadata.
    pub max_metadata: Option<usize>,
    /// Seconds that a part URL of the JSON protocol lives.
    pub url_expires_in: Option<u64>,
    /// Most seconds that a form client may ask its URLs to live.
    pub max_url_expires_in: Option<u64>,
    /// Seconds that an upload stays open.
    pub upload_expires_in: Option<u64>,
    /// What becomes of an object that is there already.
    pub overwrite: Option<Overwrite>,
    /// Whether uploads that run out with all their parts stored become objects.
    pub finish_abandoned: Option<bool>,
}

/// `[[grant]]`: who may do what where.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantSettings {
    /// Names of principals, `role:NAME`, or `*` for everybody with credentials.
    pub to: Vec<String>,
    /// Names of destinations; all where it is left out.
    #[serde(default)]
    pub destinations: Vec<String>,
    /// `upload`, `list`, `download`, `delete`, `tickets`, `admin`.
    pub may: Vec<Right>,
    /// Most bytes of one object.
    pub max_size: Option<u64>,
    /// Most uploads that one principal has open at once, at each destination.
    pub open_uploads: Option<u32>,
    /// Most bytes that one principal uploads on one day (UTC), at each destination.
    pub bytes_per_day: Option<u64>,
}

/// Longest life of an upload.
pub(super) const MAX_UPLOAD_LIFE: u64 = 365 * 24 * 60 * 60;

impl DestinationSettings {
    /// What is meant, with what it does not say taken from `top`. The store's own limits and its name come in later.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn resolve(&self, top: &Destination, max_url_life: u64) -> Result<Destination, Vec<String>> {
        let mut wrong = Vec::new();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            wrong.push("name: expected 1 to 64 letters, digits, dots, dashes and underscores".to_owned());
        }
        let key_template = match &self.key_template {
            None => top.key_template.clone(),
            Some(text) => text.parse::<KeyTemplate>().unwrap_or_else(|error| {
                wrong.push(error.to_string());
                top.key_template.clone()
            }),
        };
        let mut life = |key: &str, seconds: Option<u64>, otherwise: Duration, max: u64| match seconds {
            None => otherwise,
            Some(seconds) if (1..=max).contains(&seconds) => Duration::from_secs(seconds),
            Some(seconds) => {
                wrong.push(format!("{key} {seconds}: expected 1 to {max} seconds"));
                otherwise
            }
        };
        let url_life = life("url_expires_in", self.url_expires_in, top.url_life, max_url_life);
        let longest = life(
            "max_url_expires_in",
            self.max_url_expires_in,
            top.max_url_life,
            max_url_life,
        );
        let upload_life = life(
            "upload_expires_in",
            self.upload_expires_in,
            top.upload_life,
            MAX_UPLOAD_LIFE,
        );
        if self.max_parts == Some(0) || self.max_parts.is_some_and(|parts| parts > shared::PartNumber::MAX) {
            wrong.push("max_parts: expected 1 to 10000".to_owned());
        }
        if self.max_metadata.is_some_and(|bytes| bytes > MAX_METADATA_LEN) {
            wrong.push(format!("max_metadata: expected 0 to {MAX_METADATA_LEN} bytes"));
        }
        for kind in self.content_types.iter().flatten() {
            if !is_type(kind) {
                wrong.push(no_type(kind));
            }
        }
        wrong.extend(
            self.acls
                .iter()
                .flatten()
                .filter(|acl| !is_acl(acl))
                .map(|acl| no_acl(acl)),
        );
        if self.max_size == Some(0) {
            wrong.push(nothing("max_size"));
        }
        if !wrong.is_empty() {
            let name = &self.name;
            return Err(wrong
                .into_iter()
                .map(|text| format!("destination {name:?}: {text}"))
                .collect());
        }
        Ok(Destination {
            name: self.name.clone(),
            bucket: self.bucket.clone().unwrap_or_else(|| top.bucket.clone()),
            bucket_id: String::new(),
            key_template,
            acls: self.acls.clone().unwrap_or_else(|| top.acls.clone()),
            content_types: self.content_types.clone().unwrap_or_else(|| top.content_types.clone()),
            serve_active_content: self.serve_active_content.unwrap_or(top.serve_active_content),
            max_size: self.max_size.unwrap_or(top.max_size),
            max_parts: self.max_parts.unwrap_or(top.max_parts),
            max_metadata: self.max_metadata.unwrap_or(top.max_metadata),
            url_life,
            max_url_life: longest,
            upload_life,
            overwrite: self.overwrite.or(top.overwrite),
            finish_abandoned: self.finish_abandoned.unwrap_or(top.finish_abandoned),
        })
    }
}

/// What is said of a text that is none.
pub(super) fn no_type(text: &str) -> String {
    format!("content_types: {text:?} is no media type, such as application/pdf or image/*")
}

/// What is said of a text that is none.
pub(super) fn no_acl(text: &str) -> String {
    format!(
        "acls: {text:?} is no canned ACL of objects; there are {}",
        CANNED_ACLS.join(", ")
    )
}

/// What is said of a limit of 0.
pub(super) fn nothing(key: &str) -> String {
    format!("{key} 0 would let nothing through; leave it out for no limit, or take the right to upload away")
}

impl GrantSettings {
    /// What is meant, among these destinations.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn resolve(&self, destinations: &[Destination]) -> Result<Rule, Vec<String>> {
        let mut wrong = Vec::new();
        if self.to.is_empty() {
            wrong
                .push("grant: to is empty; name principals, role:NAME, or * for everybody with credentials".to_owned());
        }
        let mut to = Vec::with_capacity(self.to.len());
        for text in &self.to {
            match text.parse::<Grantee>() {
                Ok(grantee) => to.push(grantee),
                Err(error) => wrong.push(format!("grant: to: {error}")),
            }
        }
        let limits = [
            ("max_size", self.max_size),
            ("open_uploads", self.open_uploads.map(u64::from)),
            ("bytes_per_day", self.bytes_per_day),
        ];
        for (key, _) in limits.iter().filter(|(_, limit)| *limit == Some(0)) {
            wrong.push(format!("grant: {}", nothing(key)));
        }
        if self.may.is_empty() {
            wrong.push(
                "grant: may is empty; say what it allows: upload, list, download, delete, tickets, admin".to_owned(),
            );
        }
        for name in &self.destinations {
            if !destinations.iter().any(|destination| destination.name == *name) {
                wrong.push(format!("grant: there is no destination {name:?}"));
            }
        }
        // What principals see of objects are the folders that the template gives them.
        let sees = [Right::List, Right::Download, Right::Delete];
        if self.may.iter().any(|right| sees.contains(right)) && !self.may.contains(&Right::Admin) {
            let probe = crate::principal::Principal::named("somebody");
            for destination in destinations {
                let named = self.destinations.is_empty() || self.destinations.contains(&destination.name);
                if named && destination.key_template.prefix(&probe).is_none() {
                    wrong.push(format!(
                        "grant: list, download and delete at {:?}: the key template {} does not keep principals apart by whole \
                         folders before {{date}}, {{uuid}} or {{name}}, so that each would see the others' objects; begin it with \
                         {{principal}}/",
                        destination.name, destination.key_template
                    ));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Rule {
            to,
            destinations: self.destinations.clone(),
            may: self.may.clone(),
            limits: RuleLimits {
                max_size: self.max_size,
                open_uploads: self.open_uploads,
                bytes_per_day: self.bytes_per_day,
            },
        })
    }
}
