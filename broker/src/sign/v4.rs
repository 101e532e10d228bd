//! AWS Signature Version 4 in the query string, for the parts of an upload.
//!
//! Follows "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" of the S3 API Reference:
//!
//! ```text
//! canonical request ─SHA-256─▶ string to sign ─HMAC with the signing key─▶ signature
//! ```
//!
//! In byte order every `X-Amz-*` parameter comes before `partNumber`, so all of the canonical request up to the part's
//! number is the same for a window of parts, and what follows changes in two places only: the number and the MD5. So the
//! three texts (canonical request, string to sign, URL) are written once and patched for each part; what is left is about
//! eight hash blocks.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use time::OffsetDateTime;
use time::macros::format_description;

use super::block::{Hash as _, KeyedText, Sha256, Text};
use super::{Credentials, Part, Target, Validity, encode};

/// The key of one date, region and service, with the credential scope that names it.
#[derive(Clone)]
pub struct SigningKey {
    key: [u8; 32],
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
            key,
            scope: format!("{date}/{region}/s3/aws4_request"),
            access_key_id: credentials.access_key_id.clone(),
            session_token: credentials.session_token.clone(),
        }
    }

    /// The query of any presigned URL up to the value of `X-Amz-SignedHeaders`.
    pub(super) fn query(&self, validity: Validity) -> String {
        let mut query = String::with_capacity(256);
        query.push_str("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
        encode::query(&self.access_key_id, &mut query);
        query.push_str("%2F");
        encode::query(&self.scope, &mut query);
        query.push_str("&X-Amz-Date=");
        query.push_str(&timestamp(validity.signed_at));
        query.push_str("&X-Amz-Expires=");
        query.push_str(&validity.expires_in.as_secs().to_string());
        if let Some(token) = &self.session_token {
            query.push_str("&X-Amz-Security-Token=");
            encode::query(token, &mut query);
        }
        query.push_str("&X-Amz-SignedHeaders=");
        query
    }

    /// The signature of one canonical request, given by its hash in hexadecimal.
    pub(super) fn sign(&self, hash: &[u8; 64], signed_at: OffsetDateTime) -> [u8; 32] {
        let (mut string_to_sign, hash_at) = self.string_to_sign(signed_at);
        string_to_sign.text().patch(0, hash_at, hash);
        string_to_sign.hash(0);
        string_to_sign.code(0)
    }

    /// The string to sign, with room for the canonical request's hash at its end; and where that is.
    fn string_to_sign(&self, signed_at: OffsetDateTime) -> (KeyedText<Sha256>, usize) {
        let start = format!("AWS4-HMAC-SHA256\n{}\n{}\n", timestamp(signed_at), self.scope);
        let text = format!("{start}{:64}", "");
        (KeyedText::new(&self.key, text.as_bytes(), start.len()), start.len())
    }
}

/// HMAC takes keys of any length, so this cannot fail; a signature by the zero key would be refused by any store.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn date(at: OffsetDateTime) -> String {
    at.format(format_description!("[year][month][day]")).unwrap_or_default()
}

fn timestamp(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(format_description!("[year][month][day]T[hour][minute][second]Z"))
        .unwrap_or_default()
}

/// Signs the parts of one upload that share a life.
pub struct PartSigner {
    request: Request,
    string_to_sign: KeyedText<Sha256>,
    hash_at: usize,
    /// The texts of the last part, good for every part of the same shape.
    texts: Option<Texts>,
}

/// What the texts are made from.
struct Request {
    url: String,
    path: String,
    host: String,
    /// The query up to the value of `X-Amz-SignedHeaders`.
    query: String,
    upload_id: String,
    /// What follows `host` in the list of signed headers.
    barred: String,
}

/// All that makes one part's texts differ from another's in more than the patched places.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Shape {
    digits: usize,
    size: Option<u64>,
    md5: bool,
}

impl Shape {
    fn of(part: &Part) -> Self {
        Self {
            digits: super::digits(part.number),
            size: part.size,
            md5: part.md5.is_some(),
        }
    }
}

/// The texts for parts of one shape.
struct Texts {
    shape: Shape,
    canonical_request: Text<Sha256>,
    number_in_request: usize,
    md5_in_request: usize,
    /// The URL up to the signature.
    url: Vec<u8>,
    number_in_url: usize,
}

impl PartSigner {
    /// Prepares all that does not depend on the part.
    pub fn new(key: &SigningKey, target: &Target, store_upload_id: &str, validity: Validity) -> Self {
        let mut upload_id = String::with_capacity(store_upload_id.len());
        encode::query(store_upload_id, &mut upload_id);
        let (string_to_sign, hash_at) = key.string_to_sign(validity.signed_at);
        Self {
            request: Request {
                url: target.url(),
                path: target.path.clone(),
                host: target.host.clone(),
                query: key.query(validity),
                upload_id,
                barred: String::new(),
            },
            string_to_sign,
            hash_at,
            texts: None,
        }
    }

    /// Bars these headers, which come after `host` in byte order: see [`Barred`](crate::s3::Barred).
    #[must_use]
    pub fn barring(mut self, headers: &[&str]) -> Self {
        self.request.barred = headers.iter().fold(String::new(), |list, header| list + ";" + header);
        self.texts = None;
        self
    }

    /// Appends for each part what `before` writes, and the part's URL.
    pub fn write_urls(&mut self, parts: &[Part], out: &mut Vec<u8>, mut before: impl FnMut(&Part, &mut Vec<u8>)) {
        for batch in super::batches(parts, Shape::of) {
            let Some(shape) = batch.first().map(Shape::of) else {
                continue;
            };
            let texts = match &mut self.texts {
                Some(texts) if texts.shape == shape => texts,
                other => other.insert(self.request.texts(shape)),
            };
            for (lane, part) in batch.iter().enumerate() {
                let place = texts
                    .canonical_request
                    .place(lane, texts.number_in_request, shape.digits);
                super::write_number(part.number, place);
                if let Some(md5) = part.md5 {
                    texts
                        .canonical_request
                        .patch(lane, texts.md5_in_request, &super::base64(md5));
                }
            }
            for lane in 0..batch.len() {
                let hash = encode::hex(&texts.canonical_request.hash(lane));
                self.string_to_sign.text().patch(lane, self.hash_at, &hash);
            }
            for lane in 0..batch.len() {
                self.string_to_sign.hash(lane);
            }
            for (lane, part) in batch.iter().enumerate() {
                let signature = self.string_to_sign.code(lane);
                before(part, out);
                let number_at = out.len() + texts.number_in_url;
                out.extend_from_slice(&texts.url);
                if let Some(place) = out.get_mut(number_at..number_at + shape.digits) {
                    super::write_number(part.number, place);
                }
                out.extend_from_slice(&encode::hex(&signature));
            }
        }
    }
}

impl Request {
    fn texts(&self, shape: Shape) -> Texts {
        let Self {
            url,
            path,
            host,
            query,
            upload_id,
            barred,
        } = self;
        let number = "0".repeat(shape.digits);
        let mut headers = String::with_capacity(96);
        let mut signed_headers = String::with_capacity(32);
        if let Some(size) = shape.size {
            _ = writeln!(headers, "content-length:{size}");
            signed_headers.push_str("content-length;");
        }
        if shape.md5 {
            _ = writeln!(headers, "content-md5:{:24}", "");
            signed_headers.push_str("content-md5;");
        }
        signed_headers.push_str("host");
        signed_headers.push_str(barred);
        let mut escaped = String::with_capacity(48);
        encode::query(&signed_headers, &mut escaped);

        let start = format!("PUT\n{path}\n{query}{escaped}&partNumber=");
        let with_number = format!("{start}{number}&uploadId={upload_id}\n{headers}");
        let request = format!("{with_number}host:{host}\n\n{signed_headers}\nUNSIGNED-PAYLOAD");
        let url_start = format!("{url}?{query}{escaped}&partNumber=");
        Texts {
            shape,
            canonical_request: Text::new(Sha256::START, 0, request.as_bytes(), start.len()),
            number_in_request: start.len(),
            // Before the line's end.
            md5_in_request: with_number.len().saturating_sub(25),
            number_in_url: url_start.len(),
            url: format!("{url_start}{number}&uploadId={upload_id}&X-Amz-Signature=").into_bytes(),
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
        let canonical_request = "GET\n/test.txt\nX-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1\
             %2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\n\
             host:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD";
        let hash = Text::<Sha256>::new(Sha256::START, 0, canonical_request.as_bytes(), 0).hash(0);
        let key = SigningKey::new(&credentials, "us-east-1", at);
        let signature = encode::hex(&key.sign(&encode::hex(&hash), at));
        assert_eq!(
            std::str::from_utf8(&signature),
            Ok("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
        );
    }
}
