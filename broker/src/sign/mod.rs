//! A grant and a time become presigned part URLs: pure functions, no clock, no store call.
//!
//! ```text
//! Target (where), Credentials (who), PartsGrant (what), now (when)
//!    └─▶ PartSigner: all that the parts of one window share, computed once
//!           └─▶ write_urls(parts): a few hash blocks each, appended to the answer's buffer
//! ```
//!
//! Whole objects are signed one by one, by `object`, and without haste.
//!
//! Only what is meant is signed: method, host, bucket, key, upload, part number, life, `Content-MD5` where the client
//! declared one, and for V4 `Content-Length` where the size is known.

mod block;
mod encode;
pub mod object;
#[cfg(test)]
mod oracle;
pub mod target;
pub mod v2;
pub mod v4;

use std::collections::BTreeMap;
use std::time::Duration;

use shared::{Md5Digest, PartNumber};
use time::OffsetDateTime;

pub use object::{download_url, put_url};
pub use target::{Addressing, Endpoint, EndpointError, Target};

use crate::policy::PartsGrant;

/// The longest life of a V4 URL: 7 days (Signature Version 4, "Authenticating Requests: Using Query Parameters").
pub const MAX_URL_LIFE: Duration = Duration::from_hours(7 * 24);

/// Which signature the store understands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureVersion {
    /// AWS Signature Version 4 (HMAC-SHA256).
    #[default]
    V4,
    /// AWS Signature Version 2 (HMAC-SHA1), for stores that know nothing newer.
    V2,
}

/// The key pair that signs. `Debug` shows the key id only.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// Public name of the key; stands in every URL.
    pub access_key_id: String,
    /// The secret itself; never leaves this process.
    pub secret_access_key: String,
    /// Comes with temporary credentials and stands in every URL.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// One part as the grant allows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// Its place.
    pub number: PartNumber,
    /// The only bytes it may have.
    pub md5: Option<Md5Digest>,
    /// The only length it may have; V4 signs it, V2 cannot.
    pub size: Option<u64>,
}

impl Part {
    /// The headers that the client has to send for the signature to fit, besides `Host` and `Content-Length`.
    pub fn headers(&self) -> BTreeMap<String, String> {
        self.md5
            .map(|md5| ("Content-MD5".to_owned(), md5.to_base64()))
            .into_iter()
            .collect()
    }
}

/// When the URLs are signed and how long they live.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// By the store's clock.
    pub signed_at: OffsetDateTime,
    /// At most [`MAX_URL_LIFE`]; whole seconds count.
    pub expires_in: Duration,
}

/// Signs the parts of one upload, for one window.
pub enum PartSigner {
    /// Signature Version 4.
    V4(Box<v4::PartSigner>),
    /// Signature Version 2.
    V2(Box<v2::PartSigner>),
}

impl PartSigner {
    /// Prepares all that the granted parts have in common. Headers can be barred by version 4 only: version 2 signs whatever
    /// headers `x-amz-*` there are.
    pub fn new(
        version: SignatureVersion,
        target: &Target,
        region: &str,
        credentials: &Credentials,
        grant: &PartsGrant<'_>,
        barred: &[&str],
        signed_at: OffsetDateTime,
    ) -> Self {
        let validity = Validity {
            signed_at,
            expires_in: grant.expires_in(),
        };
        let upload_id = grant.store_upload_id();
        match version {
            SignatureVersion::V4 => {
                let key = v4::SigningKey::new(credentials, region, validity.signed_at);
                Self::V4(Box::new(
                    v4::PartSigner::new(&key, target, upload_id, validity).barring(barred),
                ))
            }
            SignatureVersion::V2 => Self::V2(Box::new(v2::PartSigner::new(credentials, target, upload_id, validity))),
        }
    }

    /// Appends for each part what `before` writes, and the part's URL: ASCII that holds nothing that JSON would escape.
    pub fn write_urls(&mut self, parts: &[Part], out: &mut Vec<u8>, before: impl FnMut(&Part, &mut Vec<u8>)) {
        match self {
            Self::V4(signer) => signer.write_urls(parts, out, before),
            Self::V2(signer) => signer.write_urls(parts, out, before),
        }
    }

    /// The parts' URLs, one by one.
    pub fn urls(&mut self, parts: &[Part]) -> Vec<String> {
        let mut lines = Vec::with_capacity(parts.len() * 640);
        self.write_urls(parts, &mut lines, |_, out| out.push(b'\n'));
        String::from_utf8_lossy(&lines)
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect()
    }
}

/// Neighbours whose texts have the same shape, as many at a time as are hashed side by side.
fn batches<S: PartialEq>(parts: &[Part], shape: impl Fn(&Part) -> S) -> impl Iterator<Item = &[Part]> {
    parts
        .chunk_by(move |one, next| shape(one) == shape(next))
        .flat_map(|alike| alike.chunks(block::LANES))
}

/// How many digits a part number has.
#[inline]
fn digits(number: PartNumber) -> usize {
    number.get().checked_ilog10().map_or(1, |tens| tens as usize + 1)
}

/// Writes a number of as many digits as there is place for.
#[inline]
fn write_number(number: PartNumber, place: &mut [u8]) {
    let mut rest = number.get();
    for digit in place.iter_mut().rev() {
        // Below ten.
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A digest's base64. Of a length known to the compiler, it costs a third of what it costs for any length.
#[inline]
fn base64(md5: Md5Digest) -> [u8; 24] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let character = |sextet: u32| ALPHABET.get(sextet as usize & 63).copied().unwrap_or_default();
    let characters = |bytes: [u8; 3]| {
        [18, 12, 6, 0].map(|shift| character(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) >> shift))
    };
    let (threes, last) = md5.as_bytes().as_chunks::<3>();
    let mut text = [b'='; 24];
    let (fours, _) = text.as_chunks_mut::<4>();
    for (four, three) in fours.iter_mut().zip(threes) {
        *four = characters(*three);
    }
    if let ([.., four], [last]) = (fours, last) {
        let [first, second, ..] = characters([*last, 0, 0]);
        *four = [first, second, b'=', b'='];
    }
    text
}

/// Text percent-encoded as in a path, `/` kept: pure ASCII, for a header.
pub fn escaped_path(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    encode::path(text, &mut escaped);
    escaped
}
