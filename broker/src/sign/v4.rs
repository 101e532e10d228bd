//! AWS Signature Version 4 in the query string, for the parts of an upload.
//!
//! Follows "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" of the S3 API Reference:
//!
//! ```text
//! canonical request ─SHA-256─▶ string to sign ─HMAC with the signing key─▶ signature
//! ```
//!
//! In byte order every `X-Amz-*` parameter comes before `partNumber`, so all of the canonical request up to the part's
//! number is the same for a window of parts. Its SHA-256 state is kept and cloned, and so is the HMAC state that has
//! already taken in the constant start of the string to sign: what is left for a part is about eight hash blocks.

use hmac::digest::array::Array;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Credentials, Part, Target, Validity, encode};

type HmacSha256 = Hmac<Sha256>;

/// The key of one date, region and service, with the credential scope that names it.
#[derive(Clone)]
pub struct SigningKey {
    mac: HmacSha256,
    scope: String,
    access_key_id: String,
    session_token: Option<String>,
}

impl SigningKey {
    /// Derives the key: HMAC over date, region, `s3` and `aws4_request` in turn.
    pub fn new(credentials: &Credentials, region: &str, at: OffsetDateTime) -> Self {
        let date = date(at);
        let secret = format!("AWS4{}", credentials.secret_access_key);
        let mut key = hmac(secret.as_bytes(), date.as_bytes());
        for step in [region, "s3", "aws4_request"] {
            key = hmac(&key, step.as_bytes());
        }
        Self {
            mac: keyed(&key),
            scope: format!("{date}/{region}/s3/aws4_request"),
            access_key_id: credentials.access_key_id.clone(),
            session_token: credentials.session_token.clone(),
        }
    }
}

/// HMAC takes keys of any length, so this cannot fail; a signature by the empty key would be refused by any store.
fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| HmacSha256::new(&Array::default()))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn date(at: OffsetDateTime) -> String {
    at.format(format_description!("[year][month][day]")).unwrap_or_default()
}

fn timestamp(at: OffsetDateTime) -> String {
    at.format(format_description!("[year][month][day]T[hour][minute][second]Z"))
        .unwrap_or_default()
}

/// Signs the parts of one upload that share a life.
pub struct PartSigner {
    /// The signing key, fed with the string to sign up to the canonical request's hash.
    string_to_sign: HmacSha256,
    request: Request,
    /// By which headers are signed besides `host`: none, `content-length`, `content-md5`, both. Made at first use.
    shapes: [Option<Shape>; 4],
    /// Tail of the canonical request, put together anew for each part.
    tail: Vec<u8>,
}

/// What the shapes are made from.
struct Request {
    url: String,
    path: String,
    host: String,
    /// The query up to the value of `X-Amz-SignedHeaders`.
    query: String,
    upload_id: String,
}

/// What parts with the same set of signed headers have in common.
struct Shape {
    /// SHA-256 of the canonical request up to `partNumber=`.
    canonical_start: Sha256,
    /// The canonical request from `host:` to its end.
    canonical_end: String,
    url_start: String,
}

impl PartSigner {
    /// Prepares all that does not depend on the part.
    pub fn new(key: &SigningKey, target: &Target, store_upload_id: &str, validity: Validity) -> Self {
        let signed_at = validity.signed_at.to_offset(time::UtcOffset::UTC);
        let timestamp = timestamp(signed_at);
        let mut query = String::with_capacity(256);
        query.push_str("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
        encode::query(&key.access_key_id, &mut query);
        query.push_str("%2F");
        encode::query(&key.scope, &mut query);
        query.push_str("&X-Amz-Date=");
        query.push_str(&timestamp);
        query.push_str("&X-Amz-Expires=");
        query.push_str(&validity.expires_in.as_secs().to_string());
        if let Some(token) = &key.session_token {
            query.push_str("&X-Amz-Security-Token=");
            encode::query(token, &mut query);
        }
        query.push_str("&X-Amz-SignedHeaders=");
        let mut upload_id = String::with_capacity(store_upload_id.len());
        encode::query(store_upload_id, &mut upload_id);
        Self {
            string_to_sign: string_to_sign(key, &timestamp),
            request: Request {
                url: target.url(),
                path: target.path.clone(),
                host: target.host.clone(),
                query,
                upload_id,
            },
            shapes: [const { None }; 4],
            tail: Vec::with_capacity(512),
        }
    }

    /// Appends the part's URL to `out`.
    pub fn write_url(&mut self, part: &Part, out: &mut Vec<u8>) {
        let [plain, sized, digested, both] = &mut self.shapes;
        let (slot, signed_headers) = match (part.size, part.md5) {
            (None, None) => (plain, "host"),
            (Some(_), None) => (sized, "content-length;host"),
            (None, Some(_)) => (digested, "content-md5;host"),
            (Some(_), Some(_)) => (both, "content-length;content-md5;host"),
        };
        let shape = slot.get_or_insert_with(|| self.request.shape(signed_headers));

        let mut digits = itoa::Buffer::new();
        let number = digits.format(part.number.get()).as_bytes();
        let tail = &mut self.tail;
        tail.clear();
        tail.extend_from_slice(number);
        tail.extend_from_slice(b"&uploadId=");
        tail.extend_from_slice(self.request.upload_id.as_bytes());
        tail.push(b'\n');
        if let Some(size) = part.size {
            tail.extend_from_slice(b"content-length:");
            tail.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
            tail.push(b'\n');
        }
        if let Some(md5) = part.md5 {
            tail.extend_from_slice(b"content-md5:");
            tail.extend_from_slice(&super::base64::<24>(md5.as_bytes()));
            tail.push(b'\n');
        }
        tail.extend_from_slice(shape.canonical_end.as_bytes());

        let mut canonical_request = shape.canonical_start.clone();
        canonical_request.update(&*tail);
        let signature = signature(&self.string_to_sign, canonical_request);

        out.extend_from_slice(shape.url_start.as_bytes());
        out.extend_from_slice(number);
        out.extend_from_slice(b"&uploadId=");
        out.extend_from_slice(self.request.upload_id.as_bytes());
        out.extend_from_slice(b"&X-Amz-Signature=");
        out.extend_from_slice(&signature);
    }
}

/// The string to sign up to the canonical request's hash, taken in by the signing key.
fn string_to_sign(key: &SigningKey, timestamp: &str) -> HmacSha256 {
    let mut mac = key.mac.clone();
    mac.update(format!("AWS4-HMAC-SHA256\n{timestamp}\n{}\n", key.scope).as_bytes());
    mac
}

fn signature(string_to_sign: &HmacSha256, canonical_request: Sha256) -> [u8; 64] {
    let mut mac = string_to_sign.clone();
    mac.update(&encode::hex(&canonical_request.finalize().into()));
    encode::hex(&mac.finalize().into_bytes().into())
}

impl Request {
    fn shape(&self, signed_headers: &str) -> Shape {
        let Self {
            url,
            path,
            host,
            query,
            upload_id: _,
        } = self;
        let mut escaped = String::with_capacity(48);
        encode::query(signed_headers, &mut escaped);
        let mut canonical_start = Sha256::new();
        canonical_start.update(format!("PUT\n{path}\n{query}{escaped}&partNumber="));
        Shape {
            canonical_start,
            canonical_end: format!("host:{host}\n\n{signed_headers}\nUNSIGNED-PAYLOAD"),
            url_start: format!("{url}?{query}{escaped}&partNumber="),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// The GET of test.txt in "Authenticating Requests: Using Query Parameters", S3 API Reference.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let at = datetime!(2013-05-24 0:00 UTC);
        let key = SigningKey::new(&credentials, "us-east-1", at);
        let mut canonical_request = Sha256::new();
        canonical_request.update(
            "GET\n/test.txt\nX-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1\
             %2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\n\
             host:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD",
        );
        let signature = signature(&string_to_sign(&key, &timestamp(at)), canonical_request);
        assert_eq!(
            std::str::from_utf8(&signature),
            Ok("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
        );
    }
}
