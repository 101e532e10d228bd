//! What the fuzz targets in `fuzz/` call: each takes bytes from anywhere to a parser of what comes from outside, and asserts
//! what has to hold of all that the parser accepts. Compiled for them alone.

// A broken assertion is what a target is for.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use s3s::dto::Range;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::filter::{self, Expected};
use crate::keys::{AccessKey, Credentials, Keys, Rights};
use crate::{document, key_file, range, sigv2, sigv4};

pub use crate::api::fuzzing::{cors, lifecycle, tagging};
pub use crate::form::fuzzing::{form, policy};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(crate) const NOW: OffsetDateTime = datetime!(2026-01-02 00:00 UTC);

pub(crate) fn keys_in_use() -> Arc<Keys> {
    Arc::new(Keys::from(Credentials {
        access_key_id: KEY.to_owned(),
        secret_access_key: SECRET.to_owned(),
    }))
}

fn expected() -> Expected {
    Expected {
        keys: keys_in_use(),
        region: "us-east-1".to_owned(),
    }
}

/// `METHOD TARGET`, then a header a line, as the server hands a request's head on; nothing, if it would not.
fn parse(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(first.next()?).uri(first.next()?);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        request = request.header(name, value.get(1..)?.trim_ascii());
    }
    let (head, ()) = request.body(()).ok()?.into_parts();
    head.uri.path().starts_with('/').then_some(head)
}

/// The pre-filter: what it lets through it lets through again, and of a header that only one may be there is one.
pub fn head(data: &[u8]) {
    let Some(mut head) = parse(data) else { return };
    let expected = expected();
    if expected.check(&mut head, NOW).is_err() {
        return;
    }
    for name in [
        header::AUTHORIZATION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::CONTENT_TYPE,
    ] {
        assert!(head.headers.get_all(name).iter().count() <= 1);
    }
    check_readable(&head);
    let (uri, headers) = (head.uri.clone(), head.headers.clone());
    expected.check(&mut head, NOW).expect("what was let through is refused");
    assert_eq!(
        (uri, headers),
        (head.uri, head.headers),
        "what was let through is changed"
    );
}

/// A reader's range and dates are of a form that the protocol layer reads.
fn check_readable(head: &Parts) {
    let is_read = head.method == http::Method::GET || head.method == http::Method::HEAD;
    let signed = head.headers.contains_key(header::AUTHORIZATION) || head.uri.query().is_some();
    if let Some(range) = head.headers.get(header::RANGE).filter(|_| is_read && !signed) {
        Range::parse(range.to_str().unwrap()).expect("a range that cannot be read is left");
    }
}

/// Ranges: what stays can be read and stays as it is; what the protocol layer reads as two ends is not passed over.
pub fn range(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let read = |value: &HeaderValue| value.to_str().ok().and_then(|text| Range::parse(text).ok());
    let before = read(&value);
    let mut headers = HeaderMap::new();
    headers.insert(header::RANGE, value);
    let changes = range::passed_over(&http::Method::GET, &headers);
    sigv4::apply(&mut headers, changes);
    let after = headers
        .get(header::RANGE)
        .map(|value| read(value).expect("an odd range is left"));
    if let Some(Range::Int { .. }) = before {
        assert_eq!(before, after);
    }
    assert!(range::passed_over(&http::Method::GET, &headers).is_empty());
}

/// V2: what is signed is let in, by either spelling of a bucket's path, and with another signature it is not.
pub fn v2(data: &[u8]) {
    let Some(head) = parse(data) else { return };
    let Ok(query) = filter::parse_query(&head.uri) else {
        return;
    };
    let keys = keys_in_use();
    let signed = sigv2::string_to_sign(head.method.as_str(), head.uri.path(), &head.headers, &query);
    let signature = sigv2::sign(SECRET, &signed);
    assert_eq!(
        sigv2::verify(&keys, &head, &query, KEY, &signature).unwrap(),
        None::<Uri>
    );
    let forged = sigv2::sign("another secret", &signed);
    sigv2::verify(&keys, &head, &query, KEY, &forged).unwrap_err();
    sigv2::verify(&keys, &head, &query, "NOBODY", &signature).unwrap_err();
    if let Some(text) = head.headers.get(header::DATE).and_then(|date| date.to_str().ok()) {
        let _ = sigv2::parse_date(text);
    }
}

/// V4: what was signed well and is let in is still signed well, whatever was taken off; a request that was signed otherwise
/// is never changed and signed anew.
pub fn v4(data: &[u8]) {
    let Some(mut head) = parse(data) else { return };
    let Ok(query) = filter::parse_query(&head.uri) else {
        return;
    };
    let parsed = |head: &mut Parts| {
        let query = filter::parse_query(&head.uri).ok()?;
        let text = head
            .headers
            .get(header::AUTHORIZATION)
            .map(|value| value.to_str().map(str::to_owned));
        match text {
            Some(Ok(text)) => sigv4::SigV4::of_header(&text, &mut head.headers).ok(),
            Some(Err(_)) => None,
            None => sigv4::SigV4::of_query(&query).ok(),
        }
    };
    let Some(unsigned) = parsed(&mut head) else { return };
    let untouched = head.clone();
    let off = || vec![(header::RANGE, None)];
    unsigned.resign("another secret", &mut head, &query, off());
    assert_eq!((&head.uri, &head.headers), (&untouched.uri, &untouched.headers));

    // Whoever is unknown is refused by the protocol layer, before it reads a range.
    if unsigned.key != KEY
        || !unsigned.sign_in_place(SECRET, &mut head, &query)
        || expected().check(&mut head, NOW).is_err()
    {
        return;
    }
    let query = filter::parse_query(&head.uri).unwrap();
    let signed = parsed(&mut head).expect("what was let in is no signature any more");
    assert!(signed.is_good(SECRET, &head, &query));
    if let Some(range) = head
        .headers
        .get(header::RANGE)
        .filter(|_| head.method == http::Method::GET)
    {
        Range::parse(range.to_str().unwrap()).expect("a range that cannot be read is left");
    }
}

/// Keys' files: the first key may do everything, each is found by its id, and what is wrong is told in
/// the same words whatever the secret is.
pub fn keys(data: &[u8]) {
    match key_file::parse(data) {
        Ok(keys) => {
            let AccessKey {
                rights,
                buckets,
                prefix,
                ..
            } = keys.find(&keys.owner().access_key_id).unwrap();
            assert!(*rights == Rights::Full && buckets.is_none() && prefix.is_empty());
        }
        Err(flaw) => {
            let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(data) else {
                return;
            };
            let Some(serde_json::Value::String(secret)) = fields.get_mut("secret_access_key") else {
                return;
            };
            // Another secret of the same characters but for these.
            *secret = secret.replace(['x', 'y'], "z");
            let other = serde_json::to_vec(&fields).unwrap();
            assert_eq!(key_file::parse(&other).err(), Some(flaw));
        }
    }
}

/// Documents: an element that passes for a number is one to the very end, and chunks give no more than they hold.
pub fn document(data: &[u8]) {
    if let Some(whole) = document::unframed(data) {
        assert!(whole.len() < data.len());
    }
    let text = String::from_utf8_lossy(data);
    if text.len() < 64 && !text.contains(['<', '>']) && document::is_number(&format!("<Days>{text}</Days>"), "Days") {
        let digits = text.trim_ascii();
        assert!(
            digits
                .trim_start_matches('-')
                .chars()
                .all(|digit| digit.is_ascii_digit())
        );
    }
    let _ = document::is_number(&text, "Days");
}
