//! AWS Signature Version 2 in the query string, for the parts of an upload.
//!
//! Follows "Signing and Authenticating REST Requests", section "Query String Request Authentication Alternative", of the
//! S3 developer guide. The part's `Content-MD5` stands at the start of the string to sign, so only the HMAC key can be
//! kept from part to part; the string is short enough that this matters little.

use hmac::digest::array::Array;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{Credentials, Part, Target, Validity, encode};

type HmacSha1 = Hmac<Sha1>;

/// Signs the parts of one upload that share a life.
pub struct PartSigner {
    mac: HmacSha1,
    /// The string to sign between the MD5 and the part's number.
    middle: String,
    /// The string to sign after the part's number.
    end: String,
    url_start: String,
    /// The URL between the part's number and the signature.
    url_end: String,
    string_to_sign: Vec<u8>,
}

impl PartSigner {
    /// Prepares all that does not depend on the part.
    pub fn new(credentials: &Credentials, target: &Target, store_upload_id: &str, validity: Validity) -> Self {
        let expires = validity
            .signed_at
            .unix_timestamp()
            .saturating_add_unsigned(validity.expires_in.as_secs());
        let amz_headers = credentials
            .session_token
            .as_ref()
            .map(|token| format!("x-amz-security-token:{token}\n"))
            .unwrap_or_default();
        let mut url_end = String::with_capacity(192);
        url_end.push_str("&uploadId=");
        encode::query(store_upload_id, &mut url_end);
        url_end.push_str("&AWSAccessKeyId=");
        encode::query(&credentials.access_key_id, &mut url_end);
        url_end.push_str("&Expires=");
        url_end.push_str(&expires.to_string());
        if let Some(token) = &credentials.session_token {
            url_end.push_str("&x-amz-security-token=");
            encode::query(token, &mut url_end);
        }
        url_end.push_str("&Signature=");
        Self {
            mac: keyed(credentials),
            // An empty line: parts are sent without a Content-Type.
            middle: format!("\n\n{expires}\n{amz_headers}{}?partNumber=", target.v2_resource),
            // Sub-resource values are signed as they are meant, not as they are escaped.
            end: format!("&uploadId={store_upload_id}"),
            url_start: format!("{}?partNumber=", target.url()),
            url_end,
            string_to_sign: Vec::with_capacity(256),
        }
    }

    /// Appends the part's URL to `out`. The part's size cannot be signed in this version.
    pub fn write_url(&mut self, part: &Part, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let number = digits.format(part.number.get()).as_bytes();
        let text = &mut self.string_to_sign;
        text.clear();
        text.extend_from_slice(b"PUT\n");
        if let Some(md5) = part.md5 {
            text.extend_from_slice(&super::base64::<24>(md5.as_bytes()));
        }
        text.extend_from_slice(self.middle.as_bytes());
        text.extend_from_slice(number);
        text.extend_from_slice(self.end.as_bytes());

        let signature = signature(&self.mac, text);

        out.extend_from_slice(self.url_start.as_bytes());
        out.extend_from_slice(number);
        out.extend_from_slice(self.url_end.as_bytes());
        let signature = super::base64::<28>(&signature);
        let mut rest = signature.as_slice();
        // Two or three of the 28 characters have to be escaped: what lies between goes over in one piece.
        while let Some(at) = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()) {
            let (plain, from) = rest.split_at(at);
            out.extend_from_slice(plain);
            rest = match from.split_first() {
                Some((b'+', after)) => {
                    out.extend_from_slice(b"%2B");
                    after
                }
                Some((b'/', after)) => {
                    out.extend_from_slice(b"%2F");
                    after
                }
                Some((_, after)) => {
                    out.extend_from_slice(b"%3D");
                    after
                }
                None => from,
            };
        }
        out.extend_from_slice(rest);
    }
}

/// As for V4, no key length can fail.
fn keyed(credentials: &Credentials) -> HmacSha1 {
    HmacSha1::new_from_slice(credentials.secret_access_key.as_bytes())
        .unwrap_or_else(|_| HmacSha1::new(&Array::default()))
}

fn signature(key: &HmacSha1, string_to_sign: &[u8]) -> [u8; 20] {
    let mut mac = key.clone();
    mac.update(string_to_sign);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The query string example of "Signing and Authenticating REST Requests", S3 developer guide.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let signature = signature(
            &keyed(&credentials),
            b"GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg",
        );
        assert_eq!(&super::super::base64::<28>(&signature), b"NpgCjnDzrM+WFzoENXmpNDUsSn8=");
    }
}
