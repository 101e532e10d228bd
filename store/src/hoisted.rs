//! What signers of URLs move from headers into the query: there it says the same, and whoever holds the URL need not send it.
//!
//! The SDKs for JavaScript, Java and Ruby move every `x-amz-…` header. S3 goes by them as by the headers, ACL, metadata and
//! tags among them, with one exception: values of checksums are signed and then passed over. They could not be right, as an
//! SDK that signs a URL has no body yet and names the checksum of an empty one.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::filter::{Query, Refusal, refuse};

/// What belongs to the signature itself, or to a body that a presigned URL cannot have.
const NOT_HEADERS: [&str; 10] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-trailer",
];
/// Checksums, and what only says which of them there is.
const PASSED_OVER: [&str; 6] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-sdk-checksum-algorithm",
];

/// Whether there is anything of it.
pub(crate) fn is_any_in(query: &Query) -> bool {
    query.iter().any(|(name, _)| is_hoisted(&name.to_ascii_lowercase()))
}

fn is_hoisted(name: &str) -> bool {
    name.starts_with("x-amz-") && !NOT_HEADERS.contains(&name) && !PASSED_OVER.contains(&name)
}

/// Puts into `headers` what `query` says in their place. Only for a query whose signature is good: what is added is taken
/// for signed.
pub(crate) fn put(query: &Query, headers: &mut HeaderMap) -> Result<(), Refusal> {
    for (name, value) in query {
        let name = name.to_ascii_lowercase();
        if !is_hoisted(&name) {
            continue;
        }
        let header = (HeaderName::try_from(name), HeaderValue::try_from(value));
        let (Ok(name), Ok(value)) = header else {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "an x-amz- parameter of the query could not be a header",
            ));
        };
        // Which of the two S3 would go by is not said anywhere.
        if headers.get_all(&name).iter().any(|known| *known != value) {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "an x-amz- parameter of the query and the header of the same name differ",
            ));
        }
        headers.insert(name, value);
    }
    Ok(())
}
