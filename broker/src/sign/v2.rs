//! AWS Signature Version 2 in the query string, for the parts of an upload.
//!
//! Follows "Signing and Authenticating REST Requests", section "Query String Request Authentication Alternative", of the
//! S3 developer guide. String to sign and URL are written once and patched for each part: with its `Content-MD5`, which
//! stands at the start of the string, and its number.

use super::block::{KeyedText, Sha1};
use super::{Credentials, Part, Target, Validity, encode};

/// Signs the parts of one upload that share a life.
pub struct PartSigner {
    request: Request,
    /// The texts of the last part, good for every part of the same shape.
    texts: Option<Texts>,
}

/// What the texts are made from.
struct Request {
    secret_access_key: String,
    /// The string to sign between the MD5 and the part's number.
    middle: String,
    /// The string to sign after the part's number.
    end: String,
    url_start: String,
    /// The URL between the part's number and the signature.
    url_end: String,
}

/// All that makes one part's texts differ from another's in more than the patched places.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Shape {
    digits: usize,
    md5: bool,
}

impl Shape {
    fn of(part: &Part) -> Self {
        Self {
            digits: super::digits(part.number),
            md5: part.md5.is_some(),
        }
    }
}

/// The texts for parts of one shape.
struct Texts {
    shape: Shape,
    string_to_sign: KeyedText<Sha1>,
    number_in_string: usize,
    /// The URL, with room for the signature.
    url: Vec<u8>,
    number_in_url: usize,
}

/// What every string to sign begins with; the MD5 comes next.
const START: &str = "PUT\n";

impl PartSigner {
    /// Prepares all that does not depend on the part.
    pub fn new(credentials: &Credentials, target: &Target, store_upload_id: &str, validity: Validity) -> Self {
        let expires = validity
            .signed_at
            .unix_timestamp()
            .saturating_add_unsigned(validity.expires_in.as_secs());
        let token = credentials.session_token.as_ref();
        let amz_headers = token
            .map(|token| format!("x-amz-security-token:{token}\n"))
            .unwrap_or_default();
        let mut url_end = String::with_capacity(192);
        url_end.push_str("&uploadId=");
        encode::query(store_upload_id, &mut url_end);
        url_end.push_str("&AWSAccessKeyId=");
        encode::query(&credentials.access_key_id, &mut url_end);
        url_end.push_str("&Expires=");
        url_end.push_str(&expires.to_string());
        if let Some(token) = token {
            url_end.push_str("&x-amz-security-token=");
            encode::query(token, &mut url_end);
        }
        url_end.push_str("&Signature=");
        Self {
            request: Request {
                secret_access_key: credentials.secret_access_key.clone(),
                // An empty line: parts are sent without a Content-Type.
                middle: format!("\n\n{expires}\n{amz_headers}{}?partNumber=", target.v2_resource),
                // Sub-resource values are signed as they are meant, not as they are escaped.
                end: format!("&uploadId={store_upload_id}"),
                url_start: format!("{}?partNumber=", target.url()),
                url_end,
            },
            texts: None,
        }
    }

    /// Appends for each part what `before` writes, and the part's URL. The parts' sizes cannot be signed in this version.
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
                if let Some(md5) = part.md5 {
                    texts
                        .string_to_sign
                        .text()
                        .patch(lane, START.len(), &super::base64(md5));
                }
                let text = texts.string_to_sign.text();
                super::write_number(part.number, text.place(lane, texts.number_in_string, shape.digits));
            }
            for lane in 0..batch.len() {
                texts.string_to_sign.hash(lane);
            }
            for (lane, part) in batch.iter().enumerate() {
                let signature = texts.string_to_sign.code(lane);
                before(part, out);
                let number_at = out.len() + texts.number_in_url;
                out.extend_from_slice(&texts.url);
                if let Some(place) = out.get_mut(number_at..number_at + shape.digits) {
                    super::write_number(part.number, place);
                }
                sign_off(&signature, out);
            }
        }
    }
}

impl Request {
    fn texts(&self, shape: Shape) -> Texts {
        let Self {
            secret_access_key,
            middle,
            end,
            url_start,
            url_end,
        } = self;
        let number = "0".repeat(shape.digits);
        let md5 = " ".repeat(if shape.md5 { 24 } else { 0 });
        let before_number = format!("{START}{md5}{middle}");
        let text = format!("{before_number}{number}{end}");
        let constant = if shape.md5 { START.len() } else { before_number.len() };
        Texts {
            shape,
            string_to_sign: KeyedText::new(secret_access_key.as_bytes(), text.as_bytes(), constant),
            number_in_string: before_number.len(),
            url: format!("{url_start}{number}{url_end}{:SIGNATURE_ROOM$}", "").into_bytes(),
            number_in_url: url_start.len(),
        }
    }
}

/// Every character of base64 as a query value, in little-endian order: three bytes, and how many of them count.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would refuse to go out of bounds"
)]
const ESCAPED: [u32; 64] = {
    let mut table = [0; 64];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut at = 0;
    while at < 62 {
        table[at] = u32::from_le_bytes([alphabet[at], 0, 0, 1]);
        at += 1;
    }
    table[62] = u32::from_le_bytes(*b"%2B\x03");
    table[63] = u32::from_le_bytes(*b"%2F\x03");
    table
};

/// Room for a signature as a query value, padding aside: 27 characters, and what the table writes beyond the last.
const SIGNATURE_ROOM: usize = 3 * 27 + 1;

/// Puts the base64 of a signature, as a query value, into the room at the end of `out` and ends `out` behind it. Which
/// characters have to be escaped is as random as the signature, so there is no branch on it for the processor to guess wrong.
#[inline]
fn sign_off(signature: &[u8; 20], out: &mut Vec<u8>) {
    let start = out.len().saturating_sub(SIGNATURE_ROOM);
    let Some(text) = out.last_chunk_mut::<SIGNATURE_ROOM>() else {
        return;
    };
    let mut length = 0;
    let mut push = |sextet: u32| {
        let entry = ESCAPED.get(sextet as usize & 63).copied().unwrap_or_default();
        // Whole, over what did not count of the entry before.
        if let Some(place) = text.get_mut(length..).and_then(|rest| rest.first_chunk_mut()) {
            *place = entry.to_le_bytes();
        }
        length += (entry >> 24) as usize;
    };
    let (threes, rest) = signature.as_chunks::<3>();
    for [first, second, third] in threes {
        let bits = u32::from_be_bytes([0, *first, *second, *third]);
        push(bits >> 18);
        push(bits >> 12);
        push(bits >> 6);
        push(bits);
    }
    if let [first, second] = rest {
        let bits = u32::from_be_bytes([0, *first, *second, 0]);
        push(bits >> 18);
        push(bits >> 12);
        push(bits >> 6);
    }
    out.truncate(start + length);
    out.extend_from_slice(b"%3D");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The query string example of "Signing and Authenticating REST Requests", S3 developer guide.
    #[test]
    fn the_published_example_has_the_published_signature() {
        let secret = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let text = b"GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg";
        let mut text = KeyedText::<Sha1>::new(secret, text, 0);
        text.hash(0);
        let signature = text.code(0);
        let mut escaped = vec![0; SIGNATURE_ROOM];
        sign_off(&signature, &mut escaped);
        assert_eq!(escaped, b"NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D");
    }
}
