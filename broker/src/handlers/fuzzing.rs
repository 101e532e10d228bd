//! Fuzz targets of what only handlers read: forms and queries.

use actix_web::http::Uri;
use actix_web::test::TestRequest;
use serde::de::DeserializeOwned;
use shared::PartNumber;
use shared::api::{ListObjects, ListTickets, ListUploads};

use super::form_fields::{NamedUpload, PresignForm};
use super::query::{key_text, query};
use crate::fuzzing::{NOW, POLICY, RANDOM, alice, check_grant};

/// `POST /presign`: what is admitted has its parts in order and without gaps, and lies where the caller may upload.
pub fn form(data: &[u8]) {
    let Ok(PresignForm(Ok(form))) = serde_urlencoded::from_bytes(data) else {
        return;
    };
    let parts = form.digests.len();
    assert!(parts <= usize::from(PartNumber::MAX));
    if let Ok((grant, life)) = POLICY.admit_form(&alice(), form, NOW, RANDOM) {
        check_grant(&grant);
        assert!(parts > 0 && life.as_secs() > 0);
    }
}

/// `POST /complete` and `POST /abort`.
pub fn named(data: &[u8]) {
    let Ok(named) = serde_urlencoded::from_bytes::<NamedUpload>(data) else {
        return;
    };
    if let Ok((id, name)) = named.into_parts() {
        assert!(!id.is_empty() && !name.is_empty());
    }
}

/// The queries of the listings.
pub fn listing(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else {
        return;
    };
    let mut request = TestRequest::default().to_srv_request();
    request.head_mut().uri = uri;
    let request = request.request();
    fn read<T: DeserializeOwned>(request: &actix_web::HttpRequest) -> Option<T> {
        query(request).ok()
    }
    _ = (read::<ListUploads>(request), read::<ListTickets>(request));
    let Some(asked) = read::<ListObjects>(request) else {
        return;
    };
    let prefix = asked.prefix.unwrap_or_default();
    if key_text("prefix", &prefix).is_ok()
        && let Ok(Some(grant)) = POLICY.admit_list(&alice(), asked.destination.as_deref(), &prefix)
    {
        assert!(grant.prefix.starts_with("in/alice/"), "{}", grant.prefix);
    }
}
