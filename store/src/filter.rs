//! What the protocol layer (s3s 0.14.1) lets through and S3 does not. Pure: a request's head and a time -> go on, or not.
//!
//! The holder of a presigned URL chooses the headers that were not signed. If one of them is `x-amz-copy-source` or
//! `x-amz-acl`, the store would do it in the signer's name; so what names an action must be signed.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use time::OffsetDateTime;

use crate::hoisted;
use crate::keys::Keys;
use crate::range;
use crate::sigv2;
use crate::sigv4::{self, SigV4};
use crate::words::SIGNATURE_DOES_NOT_MATCH;

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

/// Of a signature that is not that of the secret.
pub(crate) const fn does_not_match() -> Refusal {
    refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", SIGNATURE_DOES_NOT_MATCH)
}

/// What the store expects of signatures.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) keys: Arc<Keys>,
    pub(crate) region: String,
}

/// How a request says who sends it.
enum Signature {
    Unsigned,
    V4(SigV4),
    V2Header { key: String, signature: String },
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
        let respelt = match signature(&mut head.headers, &query)? {
            Signature::Unsigned => {
                // An empty one says nothing, and the protocol layer would read it.
                head.headers.remove(header::AUTHORIZATION);
                None
            }
            _ if is_post_form(head) => return Err(signed_twice()),
            Signature::V4(signature) => {
                self.check_v4(&signature, &head.headers, &query)?;
                self.put_hoisted(&signature, head, &query)?;
                self.pass_over_v4(&signature, head, &query);
                return Ok(());
            }
            Signature::V2Header { key, signature } => {
                check_v2_date(&head.headers, now)?;
                sigv2::verify(&self.keys, head, &query, &key, &signature)?
            }
            Signature::V2Query => {
                let [key, signature] = sigv2::of_query(&query)?;
                sigv2::verify(&self.keys, head, &query, key, signature)?
            }
        };
        if let Some(uri) = respelt {
            head.uri = uri;
        }
        // Version 2 does not sign what is passed over.
        let changes = range::passed_over(&head.method, &head.headers);
        sigv4::apply(&mut head.headers, changes);
        Ok(())
    }

    fn check_v4(&self, signature: &SigV4, headers: &HeaderMap, query: &Query) -> Result<(), Refusal> {
        if signature.service != "s3" {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "AuthorizationHeaderMalformed",
                "the credential scope names another service than s3",
            ));
        }
        // Where a bucket is may be asked with the signature of any region (S3 API, GetBucketLocation).
        if signature.region != self.region && one(query, "location").is_none() {
            return Err(Refusal {
                region: Some(self.region.clone()),
                ..refuse(
                    StatusCode::BAD_REQUEST,
                    "AuthorizationHeaderMalformed",
                    "the credential scope names another region than this store's",
                )
            });
        }
        // By names in lower case, as they have to be: by another spelling a header would count as signed here and not there.
        let is_there = |name: &str| headers.contains_key(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if !signature.signs("host") || !signature.signed_headers().all(is_there) {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "a header that the signature names is not in the request, or the signature does not cover Host",
            ));
        }
        let unsigned = |name: &HeaderName| {
            let name = name.as_str();
            // The store itself may have said in x-amz-date what the signed `Date` says.
            let of_date = name == "x-amz-date" && signature.signs("date");
            name.starts_with("x-amz-") && name != "x-amz-content-sha256" && !of_date && !signature.signs(name)
        };
        if headers.keys().any(unsigned) {
            return Err(refuse(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "There were headers present in the request which were not signed",
            ));
        }
        Ok(())
    }

    /// Reads what a presigned URL says in place of headers, by a signature that is good.
    fn put_hoisted(&self, signature: &SigV4, head: &mut Parts, query: &Query) -> Result<(), Refusal> {
        match self.keys.find(&signature.key) {
            Some(key) if signature.is_in_query() && hoisted::is_any_in(query) => {
                if !signature.is_good(&key.credentials.secret_access_key, head, query) {
                    return Err(does_not_match());
                }
                hoisted::put(query, &mut head.headers)
            }
            // A key that there is not is for the protocol layer to refuse.
            Some(_) | None => Ok(()),
        }
    }

    /// Takes off what S3 passes over. Where it was signed, what is left is signed anew.
    fn pass_over_v4(&self, signature: &SigV4, head: &mut Parts, query: &Query) {
        let changes = range::passed_over(&head.method, &head.headers);
        if !changes.iter().any(|(name, _)| signature.signs(name.as_str())) {
            sigv4::apply(&mut head.headers, changes);
        } else if let Some(key) = self.keys.find(&signature.key) {
            signature.resign(&key.credentials.secret_access_key, head, query, changes);
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
    let known = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let to_the_store = head.uri.path() == "/" && host.and_then(sigv2::bucket_of_host).is_none();
    if !known.contains(&head.method) || (to_the_store && head.method != Method::GET && head.method != Method::HEAD) {
        return Err(refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        ));
    }
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

pub(crate) fn parse_query(uri: &Uri) -> Result<Query, Refusal> {
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

fn signature(headers: &mut HeaderMap, query: &Query) -> Result<Signature, Refusal> {
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
        return SigV4::of_query(query).map(Signature::V4);
    }
    let Some(authorization) = authorization.filter(|text| !text.is_empty()).map(str::to_owned) else {
        return Ok(Signature::Unsigned);
    };
    let (kind, rest) = authorization.split_once(' ').unwrap_or((&authorization, ""));
    let wrong = |message| Err(refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message));
    match (kind, rest.split_once(':')) {
        (sigv4::ALGORITHM, _) => SigV4::of_header(&authorization, headers).map(Signature::V4),
        ("AWS", Some((key, signature))) => Ok(Signature::V2Header {
            key: key.to_owned(),
            signature: signature.to_owned(),
        }),
        ("AWS", None) => wrong("AWS authorization header is invalid.  Expected AwsAccessKeyId:signature"),
        _ => wrong("Unsupported Authorization Type"),
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
        None => Err(sigv2::no_date()),
    }
}
