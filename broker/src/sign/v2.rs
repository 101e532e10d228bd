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

/// The texts for parts of one shape.
struct Texts {
    shape: Shape,
    string_to_sign: KeyedText<Sha1>,
    number_in_string: usize,
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

    /// Appends the part's URL to `out`. The part's size cannot be signed in this version.
    pub fn write_url(&mut self, part: &Part, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let number = digits.format(part.number.get()).as_bytes();
        let shape = Shape {
            digits: number.len(),
            md5: part.md5.is_some(),
        };
        let texts = match &mut self.texts {
            Some(texts) if texts.shape == shape => texts,
            other => other.insert(self.request.texts(shape)),
        };
        if let Some(md5) = part.md5 {
            texts
                .string_to_sign
                .patch(START.len(), &super::base64::<24>(md5.as_bytes()));
        }
        texts.string_to_sign.patch(texts.number_in_string, number);
        let signature = texts.string_to_sign.code();

        let url_at = out.len();
        out.extend_from_slice(&texts.url);
        let number_at = url_at + texts.number_in_url;
        if let Some(place) = out.get_mut(number_at..number_at + number.len()) {
            place.copy_from_slice(number);
        }
        push_base64_escaped(&signature, out);
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
            url: format!("{url_start}{number}{url_end}").into_bytes(),
            number_in_url: url_start.len(),
        }
    }
}

/// Every character of base64 as a query value: three bytes of which so many count.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would refuse to go out of bounds"
)]
const ESCAPED: [([u8; 3], usize); 64] = {
    let mut table = [([0; 3], 1); 64];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut at = 0;
    while at < 62 {
        table[at].0[0] = alphabet[at];
        at += 1;
    }
    table[62] = (*b"%2B", 3);
    table[63] = (*b"%2F", 3);
    table
};

/// Appends the base64 of a signature as a query value. Which characters have to be escaped is as random as the signature, so
/// there is no branch on it for the processor to guess wrong.
fn push_base64_escaped(signature: &[u8; 20], out: &mut Vec<u8>) {
    let mut text = [0; 3 * 28];
    let mut length = 0;
    let mut push = |sextet: u32| {
        let (bytes, count) = ESCAPED.get(sextet as usize & 63).copied().unwrap_or_default();
        if let Some(place) = text.get_mut(length..length + 3) {
            place.copy_from_slice(&bytes);
        }
        length += count;
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
    out.extend_from_slice(text.get(..length).unwrap_or_default());
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
        let signature = KeyedText::<Sha1>::new(secret, text, 0).code();
        let mut escaped = Vec::new();
        push_base64_escaped(&signature, &mut escaped);
        assert_eq!(escaped, b"NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D");
    }
}
