//! Multipart uploads: created, filled part by part, listed, completed or aborted.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, ListPartsInput, ListPartsOutput, Part,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use shared::PartNumber;

use crate::disk::{DiskError, ListedPart};

use super::Api;
use super::access::owner;
use super::error::{blocking, to_s3};
use super::meta::{check_key, condition, etag, refuse_not_kept, said, signed, tell_checksums, timestamp};
use super::receive::{Declared, receive};

/// Most parts on one page of a listing.
const MAX_PAGE: u16 = 1000;

impl Api {
    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let mut input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        check_key(&input.key)?;
        refuse_not_kept(&request.headers)?;
        let meta = said!(input).into_meta()?;
        let key = input.key.clone();
        let upload = blocking(move || bucket.create_upload(key, meta)).await?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            key: Some(input.key),
            upload_id: Some(upload.id.clone()),
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(super) async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
        let input = request.input;
        let number = part_number(input.part_number)?;
        let upload = self
            .bucket(&input.bucket)?
            .upload(&input.key, &input.upload_id)
            .map_err(to_s3)?;
        refuse_not_kept(&request.headers)?;
        let declared = Declared::of(
            &request.headers,
            input.content_length,
            input.content_md5.as_deref(),
            request.trailing_headers,
        )?;
        let draft = upload.draft(declared.hasher()).map_err(to_s3)?;
        let of_part = upload.clone();
        let received = receive(input.body, draft, declared, move |written, checksums| {
            let md5 = written.md5;
            of_part.add(number, written)?;
            Ok((md5, checksums))
        });
        let (md5, checksums) = match received.await {
            // It was aborted or completed meanwhile, and its directory went away under the part.
            Err(_) if !upload.is_open() => return Err(to_s3(DiskError::NoSuchUpload)),
            received => received?,
        };
        let mut output = UploadPartOutput {
            e_tag: Some(etag(&md5.to_hex())),
            ..UploadPartOutput::default()
        };
        tell_checksums!(output, checksums);
        Ok(output)
    }

    pub(super) fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
        let input = request.input;
        let upload = self
            .bucket(&input.bucket)?
            .upload(&input.key, &input.upload_id)
            .map_err(to_s3)?;
        let max = page_size(input.max_parts, "max-parts")?;
        let marker = input.part_number_marker.unwrap_or_default();
        let after = u64::try_from(marker)
            .map_err(|_| s3_error!(InvalidArgument, "part-number-marker is a number from 0 on"))?;
        let (stored, more) = upload.parts_after(after, max.into()).map_err(to_s3)?;
        let last = stored
            .last()
            .map_or(marker, |stored| i32::from(stored.part.number.get()));
        let parts = stored.into_iter().map(|stored| Part {
            e_tag: Some(etag(&stored.part.md5.to_hex())),
            last_modified: Some(timestamp(stored.modified)),
            part_number: Some(stored.part.number.get().into()),
            size: Some(signed(stored.part.size)),
            ..Part::default()
        });
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(more),
            key: Some(input.key),
            max_parts: Some(max.into()),
            next_part_number_marker: Some(last),
            owner: Some(owner()),
            part_number_marker: Some(marker),
            parts: Some(parts.collect()),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        })
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let listed = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "no part is listed"));
        }
        let listed = listed.into_iter().map(listed_part).collect::<S3Result<Vec<_>>>()?;
        let object_size = input
            .mpu_object_size
            .map(u64::try_from)
            .transpose()
            .map_err(|_| s3_error!(InvalidArgument, "x-amz-mp-object-size is a number from 0 on"))?;
        let condition = condition(input.if_match, input.if_none_match);
        let min_part_size = self.disk.min_part_size();
        let (key, id) = (input.key.clone(), input.upload_id);
        let object =
            blocking(move || bucket.complete_upload(&key, &id, &listed, object_size, min_part_size, &condition))
                .await?;
        Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            e_tag: Some(etag(&object.record.etag)),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        blocking(move || bucket.abort_upload(&input.key, &input.upload_id)).await?;
        Ok(AbortMultipartUploadOutput::default())
    }
}

fn part_number(number: i32) -> S3Result<PartNumber> {
    let parsed = u64::try_from(number).ok().and_then(|number| number.try_into().ok());
    parsed.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "partNumber {number} is outside 1 to {}",
            PartNumber::MAX
        )
    })
}

fn listed_part(part: CompletedPart) -> S3Result<ListedPart> {
    let missing = |what: &str| S3Error::with_message(S3ErrorCode::MalformedXML, format!("a part has no {what}"));
    Ok(ListedPart {
        number: part_number(part.part_number.ok_or_else(|| missing("PartNumber"))?)?,
        etag: part.e_tag.ok_or_else(|| missing("ETag"))?.into_value(),
    })
}

/// How many entries a page may have: what was asked for, at most 1000.
pub(super) fn page_size(asked: Option<i32>, name: &str) -> S3Result<u16> {
    match asked {
        None => Ok(MAX_PAGE),
        Some(asked) => match u16::try_from(asked) {
            Ok(asked) => Ok(asked.min(MAX_PAGE)),
            Err(_) if asked > 0 => Ok(MAX_PAGE),
            Err(_) => Err(s3_error!(InvalidArgument, "{name} is a number from 0 on")),
        },
    }
}
