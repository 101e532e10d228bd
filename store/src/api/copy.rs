//! Copies within the store: of an object, and of a piece of one into an upload's part. A copy reads with the caller's rights.

use std::ops::Range;
use std::sync::Arc;

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETagCondition, MetadataDirective,
    TaggingDirective, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use shared::GIB;

use crate::disk::{
    Algorithm, Checksums, Condition, DiskError, Draft, Object, Reader, Tag, Written, hasher, now, recorded,
};

use super::Api;
use super::error::{blocking, to_s3};
use super::meta::{check_key, checksum_named, etag, refuse_not_kept, said, tag, tell_checksums, timestamp};
use super::objects::{ReadConditions, check_version};
use super::sharing::admit;
use super::uploads::{part_number, unless_ended};

/// Most bytes that one copy may take (S3 API, CopyObject and UploadPartCopy).
const MAX_COPY: u64 = 5 * GIB;

impl Api {
    pub(super) async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<CopyObjectOutput> {
        let mut input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        check_key(&input.key)?;
        refuse_not_kept(&request.headers)?;
        let replace = directive(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
        let replace_tags = directive(input.tagging_directive.as_ref().map(TaggingDirective::as_str))?;
        let conditions = ReadConditions {
            matches: input.copy_source_if_match.take(),
            none_matches: input.copy_source_if_none_match.take(),
            modified_since: input.copy_source_if_modified_since.take(),
            unmodified_since: input.copy_source_if_unmodified_since.take(),
        };
        let (from, source) = self.source(&input.copy_source, conditions).await?;
        let onto_itself = from == input.bucket && source.record.key == input.key;
        if onto_itself && !replace && !replace_tags && input.storage_class.is_none() {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        if source.record.size > MAX_COPY {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_COPY}"
            ));
        }
        let algorithm = checksum_named(input.checksum_algorithm.as_ref())?;
        let said = said!(input).into_meta()?;
        admit(said.acl, &bucket.settings())?;
        let mut meta = if replace {
            said.clone()
        } else {
            source.record.meta.clone()
        };
        // A copy has the ACL that its request asks for, and private is what one asks for who says nothing.
        meta.acl = said.acl;
        meta.website_redirect_location = said.website_redirect_location;
        meta.tags = if replace_tags {
            said.tags
        } else {
            source.record.meta.tags.clone()
        };
        let condition = Condition {
            if_match: written_tag(&request.headers, &IF_MATCH)?,
            if_none_match: written_tag(&request.headers, &IF_NONE_MATCH)?,
            ..Condition::default()
        };
        let key = input.key;
        let object = blocking(move || {
            let kept = (algorithm.is_none() && source.parts().is_empty()).then(|| source.record.checksums.clone());
            let linked = match &kept {
                Some(_) => bucket.duplicate(&source)?,
                None => None,
            };
            let (written, checksums) = if let (Some(written), Some(kept)) = (linked, kept) {
                (written, kept)
            } else {
                let algorithms: Vec<_> = match algorithm {
                    Some(algorithm) => vec![algorithm],
                    // Of the bytes, also where the source's are of its parts, which the copy will not have.
                    None => recorded(&source.record.checksums),
                };
                let draft = bucket.draft(hasher(&algorithms))?;
                let all = 0..source.record.size;
                let written = copied(&source, all, draft)?;
                let checksums = told(&algorithms, &written);
                (written, checksums)
            };
            bucket.put(key, meta, checksums, written, &condition)
        })
        .await?;
        let mut result = CopyObjectResult {
            e_tag: Some(etag(&object.record.etag)),
            last_modified: Some(timestamp(object.record.modified)),
            ..CopyObjectResult::default()
        };
        tell_checksums!(result, object.record.checksums);
        Ok(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        })
    }

    pub(super) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<UploadPartCopyOutput> {
        let input = request.input;
        let number = part_number(input.part_number)?;
        let upload = self
            .bucket(&input.bucket)?
            .upload(&input.key, &input.upload_id)
            .map_err(to_s3)?;
        let conditions = ReadConditions {
            matches: input.copy_source_if_match,
            none_matches: input.copy_source_if_none_match,
            modified_since: input.copy_source_if_modified_since,
            unmodified_since: input.copy_source_if_unmodified_since,
        };
        let (_, source) = self.source(&input.copy_source, conditions).await?;
        let range = match &input.copy_source_range {
            None => 0..source.record.size,
            Some(text) => copy_range(text, source.record.size)?,
        };
        if range.end - range.start > MAX_COPY {
            return Err(s3_error!(
                InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_COPY}"
            ));
        }
        let algorithms: Vec<_> = upload.record.checksum.iter().map(|planned| planned.algorithm).collect();
        let of_part = Arc::clone(&upload);
        let copied = blocking(move || {
            let written = copied(&source, range, of_part.draft(hasher(&algorithms))?)?;
            let (md5, checksums) = (written.md5, told(&algorithms, &written));
            of_part.add(number, written)?;
            Ok((md5, checksums))
        });
        let (md5, checksums) = unless_ended(&upload, copied.await)?;
        let mut result = CopyPartResult {
            e_tag: Some(etag(&md5.to_hex())),
            last_modified: Some(timestamp(now())),
            ..CopyPartResult::default()
        };
        tell_checksums!(result, checksums);
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        })
    }

    /// The bucket's name and the object to copy from, if it is as the request wants it.
    async fn source(&self, source: &CopySource, conditions: ReadConditions) -> S3Result<(String, Arc<Object>)> {
        let CopySource::Bucket {
            bucket,
            key,
            version_id,
        } = source
        else {
            return Err(s3_error!(
                NotImplemented,
                "this store has no access points; name the source as BUCKET/KEY"
            ));
        };
        check_version(version_id.as_deref())?;
        let (found, wanted) = (self.bucket(bucket)?, key.to_string());
        let object = blocking(move || found.object(&wanted)).await?;
        let failed = |failure: S3Error| match failure.code() {
            // Where a reader has what it needs, a copier has not.
            S3ErrorCode::NotModified => to_s3(DiskError::PreconditionFailed("x-amz-copy-source-If-None-Match")),
            _ => failure,
        };
        conditions.check(&object).map_err(failed)?;
        Ok((bucket.to_string(), object))
    }
}

/// A condition on what is at the target, which the protocol layer does not know for copies.
fn written_tag(headers: &HeaderMap, name: &HeaderName) -> S3Result<Option<Tag>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // As the protocol layer has it for all other operations.
    if values.next().is_some() {
        return Err(s3_error!(InvalidRequest, "duplicate header: {name}"));
    }
    let parsed = ETagCondition::parse_http_header(value.as_bytes());
    parsed
        .map(|condition| Some(tag(condition)))
        .map_err(|_| s3_error!(InvalidArgument, "{name} is neither an ETag nor *"))
}

/// Whether what the source has is replaced by what the request says; copied is what happens unasked.
fn directive(asked: Option<&str>) -> S3Result<bool> {
    match asked {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(s3_error!(InvalidArgument, "{other:?} is neither COPY nor REPLACE")),
    }
}

/// These checksums of what was written.
fn told(algorithms: &[Algorithm], written: &Written) -> Checksums {
    let told = |algorithm: &Algorithm| {
        let value = algorithm.computed(&written.checksums)?;
        Some((algorithm.header().to_owned(), value.clone()))
    };
    algorithms.iter().filter_map(told).collect()
}

/// Reads `range` of `source` into `draft`.
fn copied(source: &Arc<Object>, range: Range<u64>, mut draft: Draft) -> Result<Written, DiskError> {
    let mut reader = Reader::new(Arc::clone(source), range).open()?;
    while let Some(bytes) = reader.read()? {
        draft.write(&[bytes])?;
    }
    draft.finish()
}

/// `bytes=FIRST-LAST`, both given and both in the source (S3 API, UploadPartCopy).
fn copy_range(text: &str, size: u64) -> S3Result<Range<u64>> {
    let parsed = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)))
        .filter(|(first, last)| first <= last);
    match parsed {
        None => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
        )),
        Some((_, last)) if last >= size => Err(s3_error!(
            InvalidRange,
            "Range specified is not valid for source object of size: {size}"
        )),
        Some((first, last)) => Ok(first..last + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_to_copy_has_two_ends_within_the_source() {
        assert_eq!(copy_range("bytes=0-0", 1).unwrap(), 0..1);
        assert_eq!(copy_range("bytes=2-9", 10).unwrap(), 2..10);
        for wrong in [
            "bytes=0-10",
            "bytes=-5",
            "bytes=5-",
            "bytes=5-4",
            "0-1",
            "bytes=a-b",
            "bytes=0-1,3-4",
        ] {
            assert!(copy_range(wrong, 10).is_err(), "{wrong}");
        }
    }
}
