//! Objects: put whole, read whole or in ranges, deleted.

use std::ops::Range;
use std::sync::Arc;

use futures::stream;
use http::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETagCondition,
    GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, PutObjectInput, PutObjectOutput,
    Range as AskedRange, StreamingBlob, Timestamp, TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use time::OffsetDateTime;

use crate::disk::{Condition, DiskError, Object, Reader, Tag};
use crate::lifecycle;

use super::Api;
use super::access::not_signed;
use super::error::{blocking, to_s3};
use super::meta::{
    check_key, checksum_type, condition, etag, refuse_not_kept, said, signed, tag, tell_checksums, timestamp, told,
};
use super::receive::{Declared, receive};
use super::sharing::{admit, is_public};
use super::uploads::part_number;

/// Most keys of one DeleteObjects.
const MAX_DELETED: usize = 1000;

impl Api {
    pub(crate) async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let mut input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        check_key(&input.key)?;
        refuse_not_kept(&request.headers)?;
        let meta = said!(input).into_meta()?;
        admit(meta.acl, &bucket.settings())?;
        let declared = Declared::of(&request.headers, input.content_length, request.trailing_headers)?;
        let draft = bucket.draft(declared.hasher()).map_err(to_s3)?;
        let condition = condition(input.if_match, input.if_none_match);
        let key = input.key;
        let object = receive(input.body, draft, declared, move |written, checksums| {
            bucket.put(key, meta, checksums, written, &condition)
        })
        .await?;
        let mut output = PutObjectOutput {
            expiration: self.expiration(&input.bucket, &object),
            e_tag: Some(etag(&object.record.etag)),
            ..PutObjectOutput::default()
        };
        output.checksum_type = checksum_type(&object.record);
        tell_checksums!(output, object.record.checksums);
        Ok(output)
    }

    pub(super) async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
        let input = request.input;
        let anonymous = request.credentials.is_none();
        let chosen = [
            input.response_cache_control.is_some(),
            input.response_content_disposition.is_some(),
            input.response_content_encoding.is_some(),
            input.response_content_language.is_some(),
            input.response_content_type.is_some(),
            input.response_expires.is_some(),
        ];
        if anonymous && chosen.contains(&true) {
            return Err(s3_error!(
                InvalidRequest,
                "only a signed request may choose the answer's headers"
            ));
        }
        check_version(input.version_id.as_deref())?;
        let object = self.readable(&input.bucket, &input.key, anonymous).await?;
        let conditions = ReadConditions {
            matches: input.if_match,
            none_matches: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let range = input.range.filter(|_| still_is(&request.headers, &object));
        let (range, partial) = part_of(&object, range, input.part_number)?;
        let length = range.end - range.start;
        let reader = Reader::new(Arc::clone(&object), range.clone());
        let reader = blocking(move || reader.open()).await?;
        let mut output: GetObjectOutput = told!(GetObjectOutput, object);
        output.body = Some(body(reader));
        output.tag_count = i32::try_from(object.record.meta.tags.len())
            .ok()
            .filter(|count| *count > 0);
        output.expiration = self.expiration(&input.bucket, &object);
        output.content_length = Some(signed(length));
        output.content_range = partial.then(|| content_range(&range, object.record.size));
        output.parts_count = parts_count(&object, input.part_number);
        if input.checksum_mode.is_some() && !partial {
            output.checksum_type = checksum_type(&object.record);
            tell_checksums!(output, object.record.checksums);
        }
        Ok(output)
    }

    pub(super) async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<HeadObjectOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let object = self
            .readable(&input.bucket, &input.key, request.credentials.is_none())
            .await?;
        let conditions = ReadConditions {
            matches: input.if_match,
            none_matches: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let range = input.range.filter(|_| still_is(&request.headers, &object));
        let (range, partial) = part_of(&object, range, input.part_number)?;
        let mut output: HeadObjectOutput = told!(HeadObjectOutput, object);
        output.expiration = self.expiration(&input.bucket, &object);
        output.content_length = Some(signed(range.end - range.start));
        output.content_range = partial.then(|| content_range(&range, object.record.size));
        output.parts_count = parts_count(&object, input.part_number);
        if input.checksum_mode.is_some() && !partial {
            output.checksum_type = checksum_type(&object.record);
            tell_checksums!(output, object.record.checksums);
        }
        Ok(output)
    }

    /// Deleting what is not there is a success (S3 API, DeleteObject).
    pub(super) async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<DeleteObjectOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        check_version(input.version_id.as_deref())?;
        let condition = Condition {
            size: told_size(&request.headers)?,
            modified: told_time(&request.headers)?,
            ..condition(input.if_match, None)
        };
        blocking(move || bucket.delete(&input.key, &condition)).await?;
        Ok(DeleteObjectOutput::default())
    }

    pub(super) async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<DeleteObjectsOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let objects = input.delete.objects;
        if objects.len() > MAX_DELETED {
            return Err(s3_error!(
                MalformedXML,
                "at most {MAX_DELETED} keys can be deleted at once"
            ));
        }
        let (mut wanted, mut failed) = (Vec::with_capacity(objects.len()), Vec::new());
        for object in objects {
            match check_version(object.version_id.as_deref()) {
                Ok(()) => {
                    let condition = Condition {
                        size: object.size,
                        modified: object.last_modified_time.map(seconds),
                        ..condition(object.e_tag.map(ETagCondition::ETag), None)
                    };
                    wanted.push((object.key, condition));
                }
                Err(error) => failed.push(failure(object.key, object.version_id, &error)),
            }
        }
        let deleted = blocking(move || bucket.delete_all(wanted)).await?;
        let mut told = Vec::with_capacity(deleted.len());
        for (key, deleted) in deleted {
            match deleted {
                Ok(()) => told.push(DeletedObject {
                    key: Some(key),
                    ..DeletedObject::default()
                }),
                Err(error) => failed.push(failure(key, None, &to_s3(error))),
            }
        }
        Ok(DeleteObjectsOutput {
            deleted: (!input.delete.quiet.unwrap_or_default()).then_some(told),
            errors: (!failed.is_empty()).then_some(failed),
            ..DeleteObjectsOutput::default()
        })
    }

    /// When the object expires by a lifecycle rule of its bucket, and by which, as `x-amz-expiration` tells it.
    fn expiration(&self, bucket: &str, object: &Object) -> Option<String> {
        let settings = self.bucket(bucket).ok()?.settings();
        let (end, rule) = lifecycle::expiration(&settings.lifecycle, &object.record)?;
        let end = Timestamp::from(end);
        let mut date = Vec::new();
        end.format(TimestampFormat::HttpDate, &mut date).ok()?;
        let rule = utf8_percent_encode(rule, NON_ALPHANUMERIC);
        Some(format!(
            "expiry-date=\"{}\", rule-id=\"{rule}\"",
            String::from_utf8_lossy(&date)
        ))
    }

    /// The object, if the caller may read it. Who may not is not told whether it is there.
    pub(super) async fn readable(&self, bucket: &str, key: &str, anonymous: bool) -> S3Result<Arc<Object>> {
        let (found, settings) = match self.bucket(bucket) {
            Ok(found) => {
                let (key, settings) = (key.to_owned(), found.settings());
                (blocking(move || found.object(&key)).await, Some(settings))
            }
            Err(failure) => (Err(failure), None),
        };
        if !anonymous {
            return found;
        }
        let is_public = |object: &Object| settings.is_some_and(|settings| is_public(object.record.meta.acl, &settings));
        match found {
            Ok(object) if is_public(&object) => Ok(object),
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey && self.listable(bucket, true).is_ok() => Err(error),
            Ok(_) | Err(_) => Err(not_signed()),
        }
    }
}

/// A size that the object to delete has to have, which the protocol layer does not know (S3 API, DeleteObject).
fn told_size(headers: &HeaderMap) -> S3Result<Option<i64>> {
    let size = headers.get("x-amz-if-match-size");
    let size = size.map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    size.map(|size| size.ok_or_else(|| s3_error!(InvalidArgument, "x-amz-if-match-size is a number of bytes")))
        .transpose()
}

/// Likewise, the second of its last change.
fn told_time(headers: &HeaderMap) -> S3Result<Option<i64>> {
    let time = headers.get("x-amz-if-match-last-modified-time");
    let parsed = time.map(|value| {
        let parsed = value.to_str().ok();
        let parsed = parsed.and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok());
        parsed.ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "x-amz-if-match-last-modified-time is a date as HTTP has them"
            )
        })
    });
    parsed.map(|time| time.map(seconds)).transpose()
}

/// Since 1970.
fn seconds(time: Timestamp) -> i64 {
    OffsetDateTime::from(time).unix_timestamp()
}

/// One of many that was not deleted.
fn failure(key: String, version_id: Option<String>, error: &S3Error) -> s3s::dto::Error {
    s3s::dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id,
    }
}

/// Refuses a version that nothing here has: objects are as in a bucket that was never versioned.
pub(super) fn check_version(id: Option<&str>) -> S3Result<()> {
    match id {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(InvalidArgument, "Invalid version id specified")),
    }
}

/// The `If-…` headers of a request that reads.
pub(super) struct ReadConditions {
    pub(super) matches: Option<ETagCondition>,
    pub(super) none_matches: Option<ETagCondition>,
    pub(super) modified_since: Option<Timestamp>,
    pub(super) unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// In the order of RFC 9110 section 13.2.2: a tag counts before a date.
    pub(super) fn check(&self, object: &Object) -> S3Result<()> {
        let etag_there = &object.record.etag;
        let names = |condition: &ETagCondition| tag(condition.clone()).names(etag_there);
        let names_strongly = |condition: &ETagCondition| tag(condition.clone()).names_strongly(etag_there);
        let modified = object.record.modified / 1000; // Dates in headers have whole seconds.
        let seconds = |date: &Timestamp| seconds(date.clone());
        let failed = |what| to_s3(DiskError::PreconditionFailed(what));
        match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) if !names_strongly(condition) => return Err(failed("If-Match")),
            (None, Some(date)) if modified > seconds(date) => return Err(failed("If-Unmodified-Since")),
            (Some(_) | None, _) => {}
        }
        let unchanged = match (&self.none_matches, &self.modified_since) {
            (Some(condition), _) => names(condition),
            (None, Some(date)) => modified <= seconds(date),
            (None, None) => false,
        };
        if !unchanged {
            return Ok(());
        }
        let mut not_modified = S3Error::new(S3ErrorCode::NotModified);
        let mut headers = HeaderMap::new();
        if let Ok(value) = etag(&object.record.etag).to_http_header() {
            headers.insert(http::header::ETAG, value);
        }
        not_modified.set_headers(headers);
        Err(not_modified)
    }
}

/// The bytes asked for, and whether they are told as a part of the object.
fn part_of(object: &Object, range: Option<AskedRange>, number: Option<i32>) -> S3Result<(Range<u64>, bool)> {
    match (range, number) {
        (None, None) => Ok((0..object.record.size, false)),
        (Some(range), None) => match range.check(object.record.size) {
            Ok(range) if !range.is_empty() => Ok((range, true)),
            Ok(_) | Err(_) => Err(s3_error!(InvalidRange, "the object has {} bytes", object.record.size)),
        },
        (None, Some(number)) => match object.part_range(part_number(number)?) {
            Some(range) => Ok((range, object.record.size > 0)),
            None => Err(no_such_part()),
        },
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "ask for a range or for a part, not for both")),
    }
}

fn no_such_part() -> S3Error {
    let code = S3ErrorCode::Custom("InvalidPartNumber".into());
    let mut error = S3Error::with_message(code, "the object has no such part");
    error.set_status_code(http::StatusCode::RANGE_NOT_SATISFIABLE);
    error
}

fn parts_count(object: &Object, number: Option<i32>) -> Option<i32> {
    number
        .and_then(|_| i32::try_from(object.parts().len()).ok())
        .filter(|count| *count > 0)
}

/// Whether the object is the one that the client has a part of and goes on with; if not, it gets the whole (RFC 9110 section
/// 13.1.5: by a strong tag, or by the very date).
fn still_is(headers: &http::HeaderMap, object: &Object) -> bool {
    let Some(known) = headers.get(http::header::IF_RANGE) else {
        return true;
    };
    let Ok(known) = known.to_str() else { return false };
    if known.ends_with('"') {
        return Tag::Listed(known.to_owned()).names_strongly(&object.record.etag);
    }
    let date = Timestamp::parse(TimestampFormat::HttpDate, known);
    date.is_ok_and(|date| seconds(date) == object.record.modified / 1000)
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// Reads on as the client takes what was read.
fn body(reader: Reader) -> StreamingBlob {
    let chunks = stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        let next = blocking(move || {
            let chunk = reader.read()?;
            Ok((chunk, reader))
        });
        match next.await {
            Ok((Some(chunk), reader)) => Some((Ok(chunk), Some(reader))),
            Ok((None, _)) => None,
            // The answer has begun; all that is left is to cut it off.
            Err(failure) => Some((Err(failure), None)),
        }
    });
    StreamingBlob::wrap(Box::pin(chunks))
}
