//! Text that became a type at the edge, so that nothing past it checks again.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The broker's name for one upload: 192 random bits as 32 URL-safe characters, worthless to anyone but its owner.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId(String);

/// The text cannot be an upload id of this broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an upload id of this broker")]
pub struct UploadIdError;

impl UploadId {
    /// Random bytes in an id.
    pub const RANDOM_BYTES: usize = 24;

    /// The id that these random bytes spell.
    pub fn from_random(bytes: [u8; Self::RANDOM_BYTES]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The 32 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UploadId {
    type Error = UploadIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let urlsafe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() == 32 && text.bytes().all(urlsafe) {
            Ok(Self(text))
        } else {
            Err(UploadIdError)
        }
    }
}

impl std::str::FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> Self {
        id.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The broker's name for one event: 28 hexadecimal digits, of which the first 12 are milliseconds since 1970 by the clock of the
/// broker that recorded it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(String);

/// The text cannot be an event's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the id of an event: 28 hexadecimal digits in lower case")]
pub struct EventIdError;

impl EventId {
    /// The id of an event at this time, in milliseconds since 1970; a random number tells it from others.
    pub fn new(millis: u64, random: u64) -> Self {
        Self(format!("{:012x}{random:016x}", millis & 0xffff_ffff_ffff))
    }

    /// The 28 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EventId {
    type Error = EventIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 28 && text.bytes().all(digit) {
            Ok(Self(text))
        } else {
            Err(EventIdError)
        }
    }
}

impl std::str::FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the finished object lives in its bucket: 1 to 1024 bytes of UTF-8 (S3 User Guide, "Naming Amazon S3 objects").
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

/// Why a text cannot be an object key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ObjectKeyError {
    /// No text at all.
    #[error("the key is empty")]
    Empty,
    /// Longer than S3 allows.
    #[error("the key has {0} bytes; at most 1024 are allowed")]
    TooLong(usize),
}

impl ObjectKey {
    /// Most bytes that a key may have.
    pub const MAX_LEN: usize = 1024;

    /// The key as text, not escaped.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = ObjectKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() {
            0 => Err(ObjectKeyError::Empty),
            1..=Self::MAX_LEN => Ok(Self(text)),
            length => Err(ObjectKeyError::TooLong(length)),
        }
    }
}

impl std::str::FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the store calls a version of an object or a part. Opaque, quotes kept as the store gave them (RFC 9110 section 8.8.3).
#[derive(Clone, Debug, Eq, Hash, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// The entity tag as the store gave it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// With its quotes, if the store gave any.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without quotes: what MD5-based ETags are compared by, since stores differ in whether they quote.
    pub fn unquoted(&self) -> &str {
        self.0.trim_matches('"')
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_id_is_32_url_safe_characters() {
        let id = UploadId::from_random([0xfb; 24]);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for bad in [
            "",
            "short",
            &id.as_str().replace('-', "+"),
            &format!("{id}A"),
            "../../../../../../../../etc/passwd",
        ] {
            assert!(bad.parse::<UploadId>().is_err(), "{bad:?} was taken as an upload id");
        }
    }

    #[test]
    fn event_ids_are_in_the_order_of_time_whatever_is_random_in_them() {
        let (earlier, later) = (EventId::new(999, u64::MAX), EventId::new(1_000, 0));
        assert!(earlier < later);
        assert_eq!(later.as_str().parse(), Ok(later.clone()));
        for bad in ["", "1", &later.as_str().replace('8', "G"), &format!("{later}0")] {
            assert!(bad.parse::<EventId>().is_err(), "{bad:?} was taken as an event's id");
        }
    }

    #[test]
    fn a_key_has_1_to_1024_bytes_not_characters() {
        assert!("ü".repeat(512).parse::<ObjectKey>().is_ok());
        assert_eq!("ü".repeat(513).parse::<ObjectKey>(), Err(ObjectKeyError::TooLong(1026)));
        assert_eq!("".parse::<ObjectKey>(), Err(ObjectKeyError::Empty));
    }
}
