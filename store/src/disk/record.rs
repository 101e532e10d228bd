//! What is written about an object or an upload: one JSON record each in the index, which names the data.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use shared::{Md5Digest, PartNumber};

use crate::lifecycle::LifecycleRule;

use super::checksum::{Algorithm, ChecksumKind, PlannedChecksum};

/// Who may read an object besides its owner (S3 User Guide, "Canned ACL").
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Acl {
    #[default]
    Private,
    PublicRead,
    /// For whoever signs with a key of this store.
    AuthenticatedRead,
}

/// What the writer said about an object and every reader gets back.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Meta {
    pub(crate) acl: Acl,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) website_redirect_location: Option<String>,
    /// Tags by their keys (S3 User Guide, "Categorizing your objects using tags").
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub(crate) tags: Tags,
    /// Names without `x-amz-meta-`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user: BTreeMap<String, String>,
}

/// Tags of an object or a bucket: values by keys.
pub(crate) type Tags = BTreeMap<String, String>;

/// Additional checksums of one body, base64 as S3 carries them, by the header that S3 has for the algorithm.
pub(crate) type Checksums = BTreeMap<String, String>;

/// A part as it lies in its upload's directory.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub(crate) struct Part {
    pub(crate) number: PartNumber,
    /// Grows with every part that arrives in the upload: of two files for one number, the higher counts.
    pub(crate) seq: u64,
    pub(crate) md5: Md5Digest,
    pub(crate) size: u64,
    /// By the algorithm that the upload was created for, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<String>,
}

impl Part {
    /// Its checksum by its header, of an upload that was created for this algorithm.
    pub(crate) fn checksums(&self, algorithm: Option<Algorithm>) -> Checksums {
        let header = algorithm.map(|algorithm| algorithm.header().to_owned());
        header.zip(self.checksum.clone()).into_iter().collect()
    }

    /// The file that holds its bytes. The name says all but the size, so that one rename makes a part.
    pub(super) fn file_name(&self) -> String {
        let mut name = format!("{:05}.{:016x}.{}", self.number.get(), self.seq, self.md5.to_hex());
        if let Some(bytes) = self.checksum.as_ref().and_then(|value| BASE64.decode(value).ok()) {
            name.push('.');
            push_hex(&bytes, &mut name);
        }
        name
    }

    /// The part that a file of this name and size holds.
    pub(super) fn from_file_name(name: &str, size: u64) -> Option<Self> {
        let mut fields = name.split('.');
        let (number, seq, md5) = (fields.next()?, fields.next()?, fields.next()?);
        let mut bytes = [0; Md5Digest::LEN];
        bytes.copy_from_slice(&u128::from_str_radix(md5, 16).ok()?.to_be_bytes());
        let part = Self {
            number: number.parse::<u64>().ok()?.try_into().ok()?,
            seq: u64::from_str_radix(seq, 16).ok()?,
            md5: Md5Digest::from_bytes(bytes),
            size,
            checksum: fields.next().and_then(from_hex).map(|bytes| BASE64.encode(bytes)),
        };
        (part.file_name() == name).then_some(part)
    }
}

/// Where an object's bytes are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// In one file, `data/ID`.
    File(String),
    /// In the files of a completed upload, `uploads/ID/…`, one after the other.
    Parts { upload: String, parts: Vec<Part> },
}

/// One object: written before it can be seen, never changed, replaced as a whole.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) size: u64,
    /// Without quotes: the MD5 in hexadecimal, or for parts the MD5 of their MD5s and `-COUNT`.
    pub(crate) etag: String,
    /// Milliseconds since 1970.
    pub(crate) modified: i64,
    pub(crate) content: Content,
    #[serde(default, skip_serializing_if = "Checksums::is_empty")]
    pub(crate) checksums: Checksums,
    /// What the checksums are of; not said by records of old, which are of all bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum_kind: Option<ChecksumKind>,
    pub(crate) meta: Meta,
}

impl Content {
    /// The name of the file in `data/`, or of the directory in `uploads/`.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::File(id) | Self::Parts { upload: id, .. } => id,
        }
    }
}

/// What a listing tells of an object: the record without where its bytes are, which may be long.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    /// Milliseconds since 1970.
    pub(crate) modified: i64,
}

/// An upload as it was created; the parts are told by the files beside it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct UploadRecord {
    pub(crate) key: String,
    /// Milliseconds since 1970.
    pub(crate) initiated: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<PlannedChecksum>,
    pub(crate) meta: Meta,
}

/// A bucket.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct BucketRecord {
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    #[serde(default)]
    pub(crate) settings: BucketSettings,
}

/// What its owner has said of a bucket.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct BucketSettings {
    /// Who may list it.
    pub(crate) acl: Acl,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub(crate) tags: Tags,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cors: Vec<CorsRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lifecycle: Vec<LifecycleRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ownership: Option<Ownership>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_access: Option<PublicAccess>,
}

/// Who owns what others put into a bucket (S3 API, OwnershipControlsRule). Here that is always the one owner; what differs is
/// whether ACLs count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ownership {
    /// The bucket's owner, and no ACL counts.
    Enforced,
    Preferred,
    Writer,
}

/// What others are kept from, whatever ACLs and policies say (S3 API, PublicAccessBlockConfiguration).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct PublicAccess {
    pub(crate) block_acls: bool,
    pub(crate) ignore_acls: bool,
    pub(crate) block_policy: bool,
    pub(crate) restrict_buckets: bool,
}

/// Whose web pages may do what (S3 API, CORSRule).
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct CorsRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) allowed_methods: Vec<String>,
    pub(crate) allowed_headers: Vec<String>,
    pub(crate) expose_headers: Vec<String>,
    /// How long a browser may remember the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age_seconds: Option<i32>,
}

/// The name that a record's file had in format 1, before there was an index.
pub(super) fn record_name(key: &str) -> String {
    let mut name = String::with_capacity(64);
    push_hex(&Sha256::digest(key.as_bytes()), &mut name);
    name
}

fn push_hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

/// The ETag of an object made of these parts.
pub(super) fn etag_of_parts(parts: &[Part]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part.md5.as_bytes());
    }
    format!(
        "{}-{}",
        Md5Digest::from_bytes(md5.finalize().into()).to_hex(),
        parts.len()
    )
}

/// Milliseconds since 1970, by the system's clock.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_from_its_file_name_and_size_alone() {
        let part = Part {
            number: PartNumber::try_from(7).unwrap(),
            seq: 300,
            md5: Md5Digest::EMPTY,
            size: 5,
            checksum: None,
        };
        assert_eq!(
            part.file_name(),
            "00007.000000000000012c.d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(Part::from_file_name(&part.file_name(), 5), Some(part.clone()));
        let part = Part {
            checksum: Some("NhCmhg==".to_owned()),
            ..part
        };
        assert!(part.file_name().ends_with("427e.3610a686"));
        assert_eq!(Part::from_file_name(&part.file_name(), 5), Some(part));
        for other in [
            "upload.json",
            "draft-00007",
            "00000.0.0",
            "7.12c.d41d8cd98f00b204e9800998ecf8427e",
            "00007.000000000000012c.d41d8cd98f00b204e9800998ecf8427e.xyz",
        ] {
            assert_eq!(Part::from_file_name(other, 5), None, "{other}");
        }
    }

    #[test]
    fn the_etag_of_parts_is_the_md5_of_their_md5s_and_their_count() {
        // printf '\xd4\x1d…\xd4\x1d…' | md5sum, over two empty parts.
        let empty = Part {
            number: PartNumber::FIRST,
            seq: 0,
            md5: Md5Digest::EMPTY,
            size: 0,
            checksum: None,
        };
        let expected = Md5Digest::from_bytes(Md5::digest([*Md5Digest::EMPTY.as_bytes(); 2].concat()).into());
        assert_eq!(
            etag_of_parts(&[empty.clone(), empty]),
            format!("{}-2", expected.to_hex())
        );
    }
}
