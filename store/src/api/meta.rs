//! What a writer says about an object, from its headers to the record; and what of S3 this store does not keep.

use http::HeaderMap;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, ETag, ETagCondition, Metadata, ObjectCannedACL, StorageClass, Timestamp,
};
use s3s::{S3Result, s3_error};
use time::OffsetDateTime;

use crate::disk::{Acl, Algorithm, ChecksumKind, Condition, Meta, Record, Tag};

use super::acl::canned;
use super::tagging;

/// Most bytes of user metadata, names and values together (S3 User Guide, "Working with object metadata").
const MAX_USER_METADATA: usize = 2048;

/// Longest key, in bytes (S3 User Guide, "Naming Amazon S3 objects").
const MAX_KEY: usize = 1024;

/// How headers begin that ask for what this store does not do. Refused, since dropping one would be a promise broken in silence.
const NOT_KEPT: [&str; 8] = [
    "x-amz-bucket-object-lock-enabled",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-write",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-write-offset-bytes",
];

/// The parts of the inputs of PutObject and CreateMultipartUpload that say the same.
pub(super) struct Said {
    pub(super) acl: Option<ObjectCannedACL>,
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) expires: Option<Timestamp>,
    pub(super) metadata: Option<Metadata>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) tagging: Option<String>,
    pub(super) website_redirect_location: Option<String>,
}

/// Takes a [`Said`] out of an input that has these fields.
macro_rules! said {
    ($input:expr) => {
        $crate::api::meta::Said {
            acl: $input.acl.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $input.content_encoding.take(),
            content_language: $input.content_language.take(),
            content_type: $input.content_type.take(),
            expires: $input.expires.take(),
            metadata: $input.metadata.take(),
            storage_class: $input.storage_class.take(),
            tagging: $input.tagging.take(),
            website_redirect_location: $input.website_redirect_location.take(),
        }
    };
}
pub(super) use said;

impl Said {
    /// As the record keeps it.
    pub(super) fn into_meta(self) -> S3Result<Meta> {
        if let Some(class) = self
            .storage_class
            .filter(|class| class.as_str() != StorageClass::STANDARD)
        {
            return Err(s3_error!(InvalidStorageClass, "{} is not STANDARD", class.as_str()));
        }
        let user = self.metadata.unwrap_or_default();
        if user.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_USER_METADATA {
            return Err(s3_error!(
                MetadataTooLarge,
                "the user metadata exceed {MAX_USER_METADATA} bytes"
            ));
        }
        Ok(Meta {
            acl: self.acl.map_or(Ok(Acl::Private), |acl| canned(acl.as_str()))?,
            content_type: self.content_type,
            cache_control: self.cache_control,
            content_disposition: self.content_disposition,
            content_encoding: self.content_encoding.and_then(|coding| without_aws_chunked(&coding)),
            content_language: self.content_language,
            expires: self.expires.map(|at| OffsetDateTime::from(at).unix_timestamp()),
            website_redirect_location: self.website_redirect_location,
            tags: self
                .tagging
                .as_deref()
                .map(tagging::of_header)
                .transpose()?
                .unwrap_or_default(),
            user: user.into_iter().collect(),
        })
    }
}

/// `aws-chunked` tells how the body travelled, not what it is (SigV4 streaming, "Content-Encoding").
fn without_aws_chunked(coding: &str) -> Option<String> {
    let kept: Vec<_> = coding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// Refuses what is asked for and would not be done.
pub(super) fn refuse_not_kept(headers: &HeaderMap) -> S3Result<()> {
    // Some clients also say what they do not ask for.
    let asked = headers
        .iter()
        .filter(|(_, value)| *value != "false")
        .map(|(name, _)| name.as_str());
    let is_kept = |name: &&str| !NOT_KEPT.iter().any(|start| name.starts_with(start));
    match asked.into_iter().find(|name| !is_kept(name)) {
        Some(name) => Err(s3_error!(
            NotImplemented,
            "this store does not implement {name}; leave it out"
        )),
        None => Ok(()),
    }
}

/// Refuses what is no key: S3 allows any text of 1 to 1024 bytes. A character that XML cannot carry is told to who lists
/// with `encoding-type=url`.
pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > MAX_KEY {
        return Err(s3_error!(KeyTooLongError, "Your key is too long"));
    }
    Ok(())
}

/// The request's conditions for writing.
pub(super) fn condition(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> Condition {
    Condition {
        if_match: if_match.map(tag),
        if_none_match: if_none_match.map(tag),
        ..Condition::default()
    }
}

/// Any version, or those of these ETags: the protocol layer takes a list for one, from the first quote to the last.
pub(super) fn tag(condition: ETagCondition) -> Tag {
    match condition {
        ETagCondition::Any => Tag::Any,
        ETagCondition::ETag(ETag::Strong(tags)) => Tag::Listed(format!("\"{tags}\"")),
        ETagCondition::ETag(ETag::Weak(tags)) => Tag::Listed(format!("W/\"{tags}\"")),
    }
}

/// The checksum of this name.
pub(super) fn checksum_named(name: Option<&ChecksumAlgorithm>) -> S3Result<Option<Algorithm>> {
    let named = |name: &ChecksumAlgorithm| {
        Algorithm::named(name.as_str()).ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
            )
        })
    };
    name.map(named).transpose()
}

/// What an object's checksums are of, if it has some.
pub(super) fn checksum_type(record: &Record) -> Option<ChecksumType> {
    if record.checksums.is_empty() {
        return None;
    }
    Some(kind_told(record.checksum_kind.unwrap_or(ChecksumKind::FullObject)))
}

/// As S3 names it.
pub(super) fn kind_told(kind: ChecksumKind) -> ChecksumType {
    ChecksumType::from_static(match kind {
        ChecksumKind::FullObject => ChecksumType::FULL_OBJECT,
        ChecksumKind::Composite => ChecksumType::COMPOSITE,
    })
}

/// An ETag as S3 answers it.
pub(super) fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

/// Milliseconds since 1970 as the protocol layer wants them.
pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .into()
}

/// A size as the protocol layer wants it.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The fields that GetObject and HeadObject answer alike.
macro_rules! told {
    ($output:ident, $object:expr) => {{
        let record = &$object.record;
        let meta = record.meta.clone();
        $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: meta.cache_control,
            content_disposition: meta.content_disposition,
            content_encoding: meta.content_encoding,
            content_language: meta.content_language,
            content_type: Some(meta.content_type.unwrap_or_else(|| "binary/octet-stream".to_owned())),
            e_tag: Some(etag(&record.etag)),
            expires: meta.expires.map(|seconds| timestamp(seconds.saturating_mul(1000))),
            last_modified: Some(timestamp(record.modified)),
            metadata: Some(meta.user.into_iter().collect()),
            website_redirect_location: meta.website_redirect_location,
            ..$output::default()
        }
    }};
}
pub(super) use told;

/// The additional checksums that the writer sent.
macro_rules! tell_checksums {
    ($output:expr, $checksums:expr) => {{
        let checksums = &$checksums;
        let told = |name: &str| checksums.get(name).cloned();
        $output.checksum_crc32 = told("x-amz-checksum-crc32");
        $output.checksum_crc32c = told("x-amz-checksum-crc32c");
        $output.checksum_crc64nvme = told("x-amz-checksum-crc64nvme");
        $output.checksum_sha1 = told("x-amz-checksum-sha1");
        $output.checksum_sha256 = told("x-amz-checksum-sha256");
    }};
}
pub(super) use tell_checksums;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_body_travelled_is_not_kept_as_its_encoding() {
        assert_eq!(without_aws_chunked("aws-chunked"), None);
        assert_eq!(without_aws_chunked("aws-chunked,gzip").as_deref(), Some("gzip"));
        assert_eq!(without_aws_chunked("gzip, br").as_deref(), Some("gzip, br"));
    }
}
