//! SigV2: checked here in constant time and with either spelling of a bucket's path, then once more by the protocol layer.
//!
//! S3 User Guide, "Signing and authenticating REST requests".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use sha1::Sha1;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::filter::{Query, Refusal, does_not_match, one, refuse};
use crate::keys::Keys;

/// Query parameters that belong to the resource, in the order in which they are signed.
const SUB_RESOURCES: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Domain below which the first label is a bucket: `BUCKET.localhost`.
const DOMAIN: &str = ".localhost";

/// The bucket that a `Host` header names, if it names one.
pub(crate) fn bucket_of_host(host: &str) -> Option<&str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    name.strip_suffix(DOMAIN).filter(|bucket| !bucket.is_empty())
}

/// A date as SigV2 headers carry it: RFC 1123 with a zone, `GMT` or `+0000`; or `UTC`, as Go's clients write it.
pub(crate) fn parse_date(text: &str) -> Option<OffsetDateTime> {
    let with_zone = text.strip_suffix(" UTC").map(|date| format!("{date} GMT"));
    OffsetDateTime::parse(with_zone.as_deref().unwrap_or(text), &Rfc2822).ok()
}

/// Refuses a request that does not tell when it was signed.
pub(crate) const fn no_date() -> Refusal {
    refuse(
        StatusCode::FORBIDDEN,
        "AccessDenied",
        "AWS authentication requires a valid Date or x-amz-date header",
    )
}

/// The key and the signature of a presigned URL that says when it ends.
pub(crate) fn of_query(query: &Query) -> Result<[&str; 2], Refusal> {
    let denied = |what| refuse(StatusCode::FORBIDDEN, "AccessDenied", what);
    let need = |name| {
        one(query, name).ok_or_else(|| {
            denied("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
        })
    };
    let end = need("Expires")?.parse().ok();
    if end
        .and_then(|end| OffsetDateTime::from_unix_timestamp(end).ok())
        .is_none()
    {
        return Err(denied("Invalid date (should be seconds since epoch)"));
    }
    Ok([need("AWSAccessKeyId")?, need("Signature")?])
}

/// Checks a signature; where it fits the other spelling of a bucket's path, `/bucket` or `/bucket/`, the URI so spelt.
pub(crate) fn verify(
    keys: &Keys,
    head: &Parts,
    query: &Query,
    key: &str,
    signature: &str,
) -> Result<Option<Uri>, Refusal> {
    let Some(key) = keys.find(key) else {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        ));
    };
    let fits = |path: &str| {
        let signed = string_to_sign(head.method.as_str(), path, &head.headers, query);
        let expected = sign(&key.credentials.secret_access_key, &signed);
        bool::from(expected.as_bytes().ct_eq(signature.as_bytes()))
    };
    let path = head.uri.path();
    if fits(path) {
        return Ok(None);
    }
    let other = other_spelling(path).filter(|other| fits(other));
    match other.and_then(|other| respell(&head.uri, &other)) {
        Some(uri) => Ok(Some(uri)),
        None => Err(does_not_match()),
    }
}

/// What the holder of `secret` signs `text` with.
pub(crate) fn sign(secret: &str, text: &str) -> String {
    // A key of any length is a key to HMAC; an error cannot come, and if it did no signature would fit.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

/// Tools disagree on whether the path of a bucket ends with a slash.
fn other_spelling(path: &str) -> Option<String> {
    let bucket = path.strip_prefix('/')?;
    match bucket.strip_suffix('/') {
        Some(bare) if !bare.is_empty() && !bare.contains('/') => Some(format!("/{bare}")),
        None if !bucket.is_empty() && !bucket.contains('/') => Some(format!("/{bucket}/")),
        Some(_) | None => None,
    }
}

fn respell(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

pub(crate) fn string_to_sign(method: &str, path: &str, headers: &HeaderMap, query: &Query) -> String {
    let utf8 = |value: &'_ http::HeaderValue| str::from_utf8(value.as_bytes()).unwrap_or_default().trim().to_owned();
    let text = |name: &str| headers.get(name).map(utf8).unwrap_or_default();
    let date = match one(query, "Expires") {
        Some(expires) if one(query, "Signature").is_some() => expires.to_owned(),
        Some(_) | None if headers.contains_key("x-amz-date") => String::new(),
        Some(_) | None => text(header::DATE.as_str()),
    };
    let mut signed = format!("{method}\n{}\n{}\n{date}\n", text("content-md5"), text("content-type"));
    let mut names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-amz-"))
        .collect();
    names.sort_unstable_by_key(|name| name.as_str());
    for name in names {
        let values: Vec<_> = headers.get_all(name).iter().map(utf8).collect();
        for text in [name.as_str(), ":", &values.join(","), "\n"] {
            signed.push_str(text);
        }
    }
    if let Some(bucket) = bucket_of_host(&text(header::HOST.as_str())) {
        signed.push('/');
        signed.push_str(bucket);
    }
    signed.push_str(path);
    let mut separator = '?';
    for name in SUB_RESOURCES {
        if let Some(value) = one(query, name) {
            signed.push(separator);
            signed.push_str(name);
            if !value.is_empty() {
                signed.push('=');
                signed.push_str(value);
            }
            separator = '&';
        }
    }
    signed
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The key pair of the User Guide's examples.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    fn signature(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let query = serde_urlencoded::from_str(head.uri.query().unwrap_or_default()).unwrap();
        sign(SECRET, &string_to_sign(method, head.uri.path(), &head.headers, &query))
    }

    #[test]
    fn the_published_examples_have_their_published_signatures() {
        // S3 User Guide, "Signing and authenticating REST requests", "Authentication examples".
        for (method, target, headers, expected) in [
            (
                "GET",
                "/awsexamplebucket1/photos/puppy.jpg",
                vec![("date", "Tue, 27 Mar 2007 19:36:42 +0000")],
                "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
            ),
            (
                "PUT",
                "/awsexamplebucket1/photos/puppy.jpg",
                vec![
                    ("content-type", "image/jpeg"),
                    ("date", "Tue, 27 Mar 2007 21:15:45 +0000"),
                ],
                "iqRzw+ileNPu1fhspnRs8nOjjIA=",
            ),
            (
                "GET",
                "/awsexamplebucket1/?prefix=photos&max-keys=50&marker=puppy",
                vec![("date", "Tue, 27 Mar 2007 19:42:41 +0000")],
                "m0WP8eCtspQl5Ahe6L1SozdX9YA=",
            ),
            (
                "GET",
                "/awsexamplebucket1/?acl",
                vec![("date", "Tue, 27 Mar 2007 19:44:46 +0000")],
                "82ZHiFIjc+WbcwFKGUVEQspPn+0=",
            ),
        ] {
            assert_eq!(signature(method, target, &headers), expected, "{method} {target}");
        }
    }

    #[test]
    fn a_bucket_of_its_own_host_is_part_of_the_resource() {
        let date = ("date", "Tue, 27 Mar 2007 19:36:42 +0000");
        assert_eq!(
            signature("GET", "/puppy.jpg", &[date, ("host", "photos.localhost:5001")]),
            signature("GET", "/photos/puppy.jpg", &[date, ("host", "localhost:5001")]),
        );
    }

    #[test]
    fn dates_are_read_as_tools_write_them() {
        let dates = [
            "Tue, 27 Mar 2007 19:36:42 +0000",
            "Tue, 27 Mar 2007 19:36:42 GMT",
            "Tue, 27 Mar 2007 19:36:42 UTC",
        ];
        for date in dates {
            assert_eq!(
                parse_date(date).map(OffsetDateTime::unix_timestamp),
                Some(1_175_024_202),
                "{date}"
            );
        }
        assert_eq!(parse_date("27 March 2007"), None);
    }

    #[test]
    fn only_the_path_of_a_bucket_has_another_spelling() {
        assert_eq!(other_spelling("/bucket").as_deref(), Some("/bucket/"));
        assert_eq!(other_spelling("/bucket/").as_deref(), Some("/bucket"));
        for path in ["/", "", "/bucket/key", "/bucket/key/", "//"] {
            assert_eq!(other_spelling(path), None, "{path:?}");
        }
    }
}
