//! What a writer says about an object, from its headers to the record; and what of S3 this store does not keep.

use http::HeaderMap;
use s3s::dto::{ETag, ETagCondition, Metadata, ObjectCannedACL, StorageClass, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use time::OffsetDateTime;

use crate::disk::{Acl, Condition, Meta, Tag};

/// Most bytes of user metadata, names and values together (S3 User Guide, "Working with object metadata").
const MAX_USER_METADATA: usize = 2048;

/// Headers that ask for what this store does not do. Refused, since dropping one would be a promise broken in silence.
const NOT_KEPT: [&str; 12] = [
    "x-amz-bucket-object-lock-enabled",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
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
            acl: self.acl.as_ref().map_or(Ok(Acl::Private), canned)?,
            content_type: self.content_type,
            cache_control: self.cache_control,
            content_disposition: self.content_disposition,
            content_encoding: self.content_encoding.and_then(|coding| without_aws_chunked(&coding)),
            content_language: self.content_language,
            expires: self.expires.map(|at| OffsetDateTime::from(at).unix_timestamp()),
            user: user.into_iter().collect(),
        })
    }
}

fn canned(acl: &ObjectCannedACL) -> S3Result<Acl> {
    match acl.as_str() {
        // There is one owner, of buckets and objects alike.
        ObjectCannedACL::PRIVATE | ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL | ObjectCannedACL::BUCKET_OWNER_READ => {
            Ok(Acl::Private)
        }
        ObjectCannedACL::PUBLIC_READ => Ok(Acl::PublicRead),
        ObjectCannedACL::PUBLIC_READ_WRITE | ObjectCannedACL::AUTHENTICATED_READ | ObjectCannedACL::AWS_EXEC_READ => {
            Err(s3_error!(
                NotImplemented,
                "of the canned ACLs this store knows private and public-read"
            ))
        }
        other => Err(s3_error!(InvalidArgument, "{other:?} is not a canned ACL")),
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
    match NOT_KEPT.iter().find(|name| headers.contains_key(**name)) {
        Some(name) => Err(s3_error!(
            NotImplemented,
            "this store does not implement {name}; leave it out"
        )),
        None => Ok(()),
    }
}

/// Refuses keys that no XML answer could carry, so that one key cannot make a listing fail (XML 1.0 section 2.2).
pub(super) fn check_key(key: &str) -> S3Result<()> {
    let told = |character: char| match character {
        '\t' | '\n' | '\r' => true,
        '\u{0}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => false,
        _ => true,
    };
    if key.chars().all(told) {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidArgument,
        "the key holds a control character that XML cannot carry",
    ))
}

/// The request's conditions for writing.
pub(super) fn condition(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> Condition {
    Condition {
        if_match: if_match.map(tag),
        if_none_match: if_none_match.map(tag),
    }
}

/// Any version, or the one with this ETag.
pub(super) fn tag(condition: ETagCondition) -> Tag {
    match condition {
        ETagCondition::Any => Tag::Any,
        ETagCondition::ETag(etag) => Tag::Is(etag.into_value()),
    }
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

    #[test]
    fn a_key_that_a_listing_could_not_tell_is_refused() {
        for good in ["a", "x/", "..", "a//b", "tab\there", "日本", "\u{7f}"] {
            assert!(check_key(good).is_ok(), "{good:?}");
        }
        for bad in ["nul\0", "\u{1}", "\u{1b}[1m", "\u{ffff}"] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }
}
