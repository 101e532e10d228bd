//! What the protocol layer (s3s 0.14.1) lets through and S3 does not. Pure: a request's head and a time -> go on, or not.
//!
//! The holder of a presigned URL chooses the headers that were not signed. If one of them is `x-amz-copy-source` or
//! `x-amz-acl`, the store would do it in the signer's name; so what names an action must be signed.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use time::OffsetDateTime;

use crate::keys::Keys;
use crate::range;
use crate::sigv2;

/// Longest life of a presigned URL, seconds (SigV4, "X-Amz-Expires").
const MAX_EXPIRES: i64 = 7 * 24 * 60 * 60;
/// Largest body of one request (S3 User Guide, "Multipart upload limits").
const MAX_BODY: u64 = 5 * shared::GIB;
/// Largest body in signed or checksummed chunks: the protocol layer holds each chunk whole in memory.
const MAX_CHUNKED_BODY: u64 = 256 * shared::MIB;
/// Headers that a signature or the framing of the body depends on, so that two of them would be read in two ways.
const SINGLE: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::HOST,
    HeaderName::from_static("content-md5"),
];

/// Why a request goes no further, as S3 says it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
    /// The region to sign for instead: clients sign anew when they are told.
    pub(crate) region: Option<String>,
}

/// A refusal of this kind.
pub(crate) const fn refuse(status: StatusCode, code: &'static str, message: &'static str) -> Refusal {
    Refusal {
        status,
        code,
        message,
        region: None,
    }
}

/// What the store expects of signatures.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) keys: Arc<Keys>,
    pub(crate) region: String,
}

/// How a request says who sends it.
enum Signature<'a> {
    Unsigned,
    V4 { scope: &'a str, signed_headers: &'a str },
    V2Header { key: &'a str, signature: &'a str },
    V2Query,
}

/// The query as pairs, decoded as the protocol layer decodes it.
pub(crate) type Query = Vec<(String, String)>;

/// The one value of `name`.
pub(crate) fn one<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

impl Expected {
    /// Checks the head of a request, and spells it as the protocol layer needs it.
    pub(crate) fn check(&self, head: &mut Parts, now: OffsetDateTime) -> Result<(), Refusal> {
        check_form(head)?;
        let query = parse_query(&head.uri)?;
        check_length(head)?;
        // Version 2 does not sign ranges.
        let mut signed = String::new();
        let respelt = match signature(&head.headers, &query)? {
            Signature::Unsigned => {
                // An empty one says nothing, and the protocol layer would read it.
                head.headers.remove(header::AUTHORIZATION);
                None
            }
            _ if is_post_form(head) => return Err(signed_twice()),
            Signature::V4 { scope, signed_headers } => {
                self.check_v4(scope, signed_headers, &head.headers, &query)?;
                signed_headers.clone_into(&mut signed);
                None
            }
            Signature::V2Header { key, signature } => {
                check_v2_date(&head.headers, now)?;
                sigv2::verify(&self.keys, head, &query, key, signature)?
            }
            Signature::V2Query => {
                let key = one(&query, "AWSAccessKeyId").unwrap_or_default();
                let signature = one(&query, "Signature").unwrap_or_default();
                sigv2::verify(&self.keys, head, &query, key, signature)?
            }
        };
        if let Some(uri) = respelt {
            head.uri = uri;
        }
        range::pass_over(&mut head.headers, &signed);
        Ok(())
    }

    fn check_v4(&self, scope: &str, signed: &str, headers: &HeaderMap, query: &Query) -> Result<(), Refusal> {
        // ACCESS_KEY/DATE/REGION/SERVICE/aws4_request (SigV4, "Credential scope"); the key and date are checked by s3s.
        let mut fields = scope.rsplit('/');
        let (_, service, region) = (fields.next(), fields.next(), fields.next());
        if service != Some("s3") {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "AuthorizationHeaderMalformed",
                "the credential scope names another service than s3",
            ));
        }
        // Where a bucket is may be asked with the signature of any region (S3 API, GetBucketLocation).
        if region != Some(self.region.as_str()) && one(query, "location").is_none() {
            return Err(Refusal {
                region: Some(self.region.clone()),
                ..refuse(
                    StatusCode::BAD_REQUEST,
                    "AuthorizationHeaderMalformed",
                    "the credential scope names another region than this store's",
                )
            });
        }
        let is_signed = |name: &str| signed.split(';').any(|listed| listed == name);
        if !is_signed("host") || signed.split(';').any(|listed| !headers.contains_key(listed)) {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "a header that the signature names is not in the request, or the signature does not cover Host",
            ));
        }
        let unsigned = |name: &HeaderName| {
            name.as_str().starts_with("x-amz-") && name != "x-amz-content-sha256" && !is_signed(name.as_str())
        };
        if headers.keys().any(unsigned) {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "There were headers present in the request which were not signed",
            ));
        }
        let wrong = |message| {
            Err(refuse(
                StatusCode::BAD_REQUEST,
                "AuthorizationQueryParametersError",
                message,
            ))
        };
        match one(query, "X-Amz-Expires").map(str::parse::<i64>) {
            None | Some(Ok(0..=MAX_EXPIRES)) => Ok(()),
            Some(Ok(..0)) => wrong("X-Amz-Expires must be non-negative"),
            Some(Ok(_)) => wrong(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 \
                 seconds",
            ),
            Some(Err(_)) => wrong("X-Amz-Expires should be a number"),
        }
    }
}

/// Whether an HTML form is posted, which is signed by fields of its own (S3 API, "POST Object").
pub(crate) fn is_post_form(head: &Parts) -> bool {
    let kind = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    head.method == Method::POST && kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("multipart/form-data"))
}

/// Refuses what could be read in two ways.
fn check_form(head: &Parts) -> Result<(), Refusal> {
    let twice = |name: &HeaderName| head.headers.get_all(name).iter().nth(1).is_some();
    if SINGLE.iter().any(twice) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "a header is there twice",
        ));
    }
    let text = |name: &HeaderName| head.headers.get(name).is_none_or(|value| value.to_str().is_ok());
    if !SINGLE.iter().all(text) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "a header is not plain ASCII",
        ));
    }
    Ok(())
}

fn parse_query(uri: &Uri) -> Result<Query, Refusal> {
    let mut query: Query = serde_urlencoded::from_str(uri.query().unwrap_or_default())
        .map_err(|_| refuse(StatusCode::BAD_REQUEST, "InvalidURI", "the query is not form-encoded"))?;
    query.sort();
    if query
        .windows(2)
        .any(|pair| matches!(pair, [(one, _), (next, _)] if one == next))
    {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            "a query parameter is there twice",
        ));
    }
    Ok(query)
}

fn check_length(head: &Parts) -> Result<(), Refusal> {
    let Parts {
        method, uri, headers, ..
    } = head;
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let to_object = uri.path().trim_start_matches('/').contains('/');
    let carries_object =
        method == Method::PUT && (to_object || headers.contains_key(header::TRANSFER_ENCODING)) || is_post_form(head);
    if carries_object && length.is_none() {
        return Err(refuse(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "send the body with a Content-Length, not in chunks of unknown number",
        ));
    }
    let chunked = headers
        .get("x-amz-content-sha256")
        .is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
    let most = if chunked { MAX_CHUNKED_BODY } else { MAX_BODY };
    if length.is_some_and(|length| length > most) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "EntityTooLarge",
            "the body exceeds 5 GiB, or 256 MiB in signed chunks; use a multipart upload",
        ));
    }
    Ok(())
}

fn signature<'a>(headers: &'a HeaderMap, query: &'a Query) -> Result<Signature<'a>, Refusal> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (v4, v2) = (
        one(query, "X-Amz-Signature").is_some(),
        one(query, "Signature").is_some(),
    );
    if u8::from(authorization.is_some()) + u8::from(v4) + u8::from(v2) > 1 {
        return Err(signed_twice());
    }
    if v2 {
        return Ok(Signature::V2Query);
    }
    if v4 {
        return Ok(Signature::V4 {
            scope: one(query, "X-Amz-Credential").unwrap_or_default(),
            signed_headers: one(query, "X-Amz-SignedHeaders").unwrap_or_default(),
        });
    }
    let Some(authorization) = authorization.filter(|text| !text.is_empty()) else {
        return Ok(Signature::Unsigned);
    };
    if authorization.starts_with("AWS ") && !authorization.contains(':') {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
        ));
    }
    if !authorization.starts_with("AWS") {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "InvalidArgument",
            "Unsupported Authorization Type",
        ));
    }
    if let Some((key, signature)) = authorization.strip_prefix("AWS ").and_then(|rest| rest.split_once(':')) {
        return Ok(Signature::V2Header { key, signature });
    }
    let field = |name: &str| {
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256")?.split(',');
        fields.into_iter().find_map(|field| field.trim().strip_prefix(name))
    };
    match (field("Credential="), field("SignedHeaders=")) {
        (Some(scope), Some(signed_headers)) => Ok(Signature::V4 { scope, signed_headers }),
        _ => Err(refuse(
            StatusCode::BAD_REQUEST,
            "AuthorizationHeaderMalformed",
            "the Authorization header is neither SigV4 (AWS4-HMAC-SHA256) nor SigV2 (AWS)",
        )),
    }
}

const fn signed_twice() -> Refusal {
    refuse(
        StatusCode::BAD_REQUEST,
        "InvalidArgument",
        "the request is signed in more than one way",
    )
}

/// A request signed with V2 headers would work for ever if its date did not count (SigV2, "Time stamp requirement").
fn check_v2_date(headers: &HeaderMap, now: OffsetDateTime) -> Result<(), Refusal> {
    let date = headers.get("x-amz-date").or_else(|| headers.get(header::DATE));
    let date = date.and_then(|value| value.to_str().ok()).and_then(sigv2::parse_date);
    match date {
        Some(date) if (now - date).abs() <= time::Duration::minutes(15) => Ok(()),
        Some(_) => Err(refuse(
            StatusCode::FORBIDDEN,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )),
        None => Err(refuse(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "AWS authentication requires a valid Date or x-amz-date header",
        )),
    }
}
