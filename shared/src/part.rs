//! One slice of a file: its place, and what its bytes hash to.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Place of a part in its upload, 1 to 10,000. Parts may arrive in any order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PartNumber(u16);

/// The number does not name a part.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("part number {0} is outside 1 to 10000")]
pub struct PartNumberError(pub String);

impl PartNumber {
    /// The first part.
    pub const FIRST: Self = Self(1);
    /// The largest part number of S3, which is also the largest number of parts.
    pub const MAX: u16 = 10_000;

    /// The number, 1 to 10,000.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Parts 1 to `count`, in order. `count` above 10,000 counts as 10,000.
    pub fn up_to(count: u16) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (1..=count.min(Self::MAX)).map(Self)
    }
}

impl TryFrom<u64> for PartNumber {
    type Error = PartNumberError;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        match u16::try_from(number) {
            Ok(number @ 1..=Self::MAX) => Ok(Self(number)),
            Ok(_) | Err(_) => Err(PartNumberError(number.to_string())),
        }
    }
}

impl std::str::FromStr for PartNumber {
    type Err = PartNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the digits themselves: no sign, no blank, no leading zero, so that one part has one name.
        let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if canonical => number.try_into(),
            Ok(_) | Err(_) => Err(PartNumberError(
                text.chars().take(32).flat_map(char::escape_debug).collect(),
            )),
        }
    }
}

impl From<PartNumber> for u64 {
    fn from(number: PartNumber) -> Self {
        number.0.into()
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// MD5 of a part's bytes: base64 in `Content-MD5` (RFC 1864), which the store checks on arrival.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Md5Digest([u8; 16]);

/// The text is not the base64 of 16 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Md5DigestError {
    /// Not base64 at all (RFC 4648 section 4, with padding).
    #[error("the MD5 is not base64 (24 characters, ending in ==)")]
    NotBase64,
    /// Base64, but of another length.
    #[error("the MD5 decodes to {0} bytes; an MD5 has 16")]
    WrongLength(usize),
}

impl Md5Digest {
    /// Bytes in a digest.
    pub const LEN: usize = 16;
    /// Characters of its base64.
    pub const BASE64_LEN: usize = 24;
    /// MD5 of no bytes.
    pub const EMPTY: Self = Self([
        0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e,
    ]);

    /// A digest already computed.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// As `Content-MD5` carries it: 24 characters of base64.
    pub fn to_base64(self) -> String {
        BASE64.encode(self.0)
    }

    /// A digest from 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digits = pair.map(|digit| char::from(digit).to_digit(16));
            let [Some(high), Some(low)] = digits else { return None };
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Self(bytes))
    }

    /// As an ETag carries it: 32 lower-case hexadecimal digits, without quotes.
    pub fn to_hex(self) -> String {
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .filter_map(|nibble| char::from_digit(nibble.into(), 16))
            .collect()
    }
}

impl std::str::FromStr for Md5Digest {
    type Err = Md5DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Decoding into a buffer of the right size spares an allocation for each of a form's 10,000 digests.
        let mut bytes = [0; 18];
        match BASE64.decode_slice(text, &mut bytes) {
            Ok(Self::LEN) => {}
            Ok(length) => return Err(Md5DigestError::WrongLength(length)),
            Err(base64::DecodeSliceError::DecodeError(_)) => return Err(Md5DigestError::NotBase64),
            Err(base64::DecodeSliceError::OutputSliceTooSmall) => {
                return match BASE64.decode(text) {
                    Ok(decoded) => Err(Md5DigestError::WrongLength(decoded.len())),
                    Err(_) => Err(Md5DigestError::NotBase64),
                };
            }
        }
        match bytes.first_chunk::<16>() {
            Some(digest) => Ok(Self(*digest)),
            None => Err(Md5DigestError::NotBase64),
        }
    }
}

impl TryFrom<String> for Md5Digest {
    type Error = Md5DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Md5Digest> for String {
    fn from(digest: Md5Digest) -> Self {
        digest.to_base64()
    }
}

impl fmt::Display for Md5Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_numbers_run_from_1_to_10000() {
        for good in ["1", "7", "10000"] {
            assert_eq!(good.parse::<PartNumber>().unwrap().to_string(), good);
        }
        for bad in [
            "0",
            "10001",
            "-1",
            "+1",
            " 1",
            "01",
            "",
            "1.0",
            "99999999999999999999",
            "１",
        ] {
            assert!(bad.parse::<PartNumber>().is_err(), "{bad:?} was taken as a part number");
        }
    }

    #[test]
    fn a_digest_is_the_base64_of_16_bytes() {
        assert_eq!("1B2M2Y8AsgTpgAmY7PhCfg==".parse(), Ok(Md5Digest::EMPTY));
        assert_eq!(Md5Digest::EMPTY.to_hex(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!("AAAA".parse::<Md5Digest>(), Err(Md5DigestError::WrongLength(3)));
        assert_eq!(
            "MTIzNDU2Nzg5MDEyMzQ1".parse::<Md5Digest>(),
            Err(Md5DigestError::WrongLength(15))
        );
        let sha256 = BASE64.encode([7; 32]);
        assert_eq!(sha256.parse::<Md5Digest>(), Err(Md5DigestError::WrongLength(32)));
        for bad in [
            "1B2M2Y8AsgTpgAmY7PhCfg",
            "1B2M2Y8AsgTpgAmY7PhCfg= =",
            "not base64!",
            "d41d8cd98f00b204e9800998ecf8427é",
        ] {
            assert_eq!(bad.parse::<Md5Digest>(), Err(Md5DigestError::NotBase64), "{bad}");
        }
    }
}
