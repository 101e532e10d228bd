//! Forms and their policies, as the fuzz targets call them; see `crate::fuzzing`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::Full;

use crate::api::Access;
use crate::fuzzing::{NOW, keys_in_use};

use super::fields::{self, Fields, MAX_FIELDS};
use super::policy::Policy;
use super::{answer, object, signature};

/// Fields before a file: no more than are allowed, named in lower case, each name once. What they say is then read on.
pub fn form(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("multipart/form-data; boundary=b");
    headers.insert(header::CONTENT_TYPE, kind);
    let body = Full::new(Bytes::copy_from_slice(data));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let Ok((fields, file)) = runtime.block_on(fields::read(&headers, body)) else {
        return;
    };
    assert!(!file.name().contains(['/', '\\']));
    let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
    assert!(
        names
            .iter()
            .all(|name| names.iter().filter(|other| *other == name).count() == 1)
    );
    let without_file_names = fields.iter().filter(|(_, value)| !value.contains(file.name()));
    let size: usize = without_file_names.map(|(name, value)| name.len() + value.len()).sum();
    assert!(size <= MAX_FIELDS + names.len());
    if let Ok(key) = object::key(&fields) {
        assert!(!key.is_empty());
    }
    let _ = (
        object::headers(&fields),
        object::input(&fields),
        answer::Success::asked_for(&fields),
    );
    let access = Access(keys_in_use());
    let _ = signature::signer(&fields, &access, "us-east-1", NOW);
}

/// Policies: one that lets a form pass does so before its end only, for its bucket only, and not with a field that it does not
/// know.
pub fn policy(data: &[u8]) {
    let _ = String::from_utf8(data.to_vec()).map(|text| Policy::parse(&text));
    let Ok(policy) = Policy::parse(&BASE64.encode(data)) else {
        return;
    };
    let form = |more: &[(&str, &str)]| {
        let mut all = vec![("key", "a/b"), ("content-type", "image/png"), ("acl", "private")];
        all.retain(|(name, _)| policy.mentions(name));
        all.extend_from_slice(more);
        Fields::of(&all)
    };
    let Ok(bounds) = policy.check(&form(&[]), "b", NOW) else {
        return;
    };
    assert!(*bounds.end() <= 5 * shared::GIB);
    assert!(policy.mentions("bucket") && policy.mentions("key") == form(&[]).get("key").is_some());
    let stranger = [("never-heard-of", "x")];
    if !policy.mentions("never-heard-of") {
        policy
            .check(&form(&stranger), "b", NOW)
            .expect_err("a field that no condition names passes");
    }
    assert!(
        policy
            .check(&form(&[]), "b", time::macros::datetime!(9999-12-31 23:59:59 UTC))
            .is_err()
            || policy.never_ends()
    );
}
