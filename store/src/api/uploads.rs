//! Multipart uploads: created, filled part by part, listed, completed or aborted.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, Initiator, ListPartsInput, ListPartsOutput, Part, StorageClass, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use shared::PartNumber;

use crate::disk::{Algorithm, ChecksumKind, DiskError, ListedPart, PlannedChecksum, Upload, Whole};

use super::Api;
use super::access::owner;
use super::error::{blocking, to_s3};
use super::meta::{
    check_key, checksum_named, checksum_type, condition, etag, kind_told, refuse_not_kept, said, signed,
    tell_checksums, timestamp,
};
use super::receive::{Declared, receive};
use super::sharing::admit;

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
        admit(meta.acl, &bucket.settings())?;
        let checksum = planned(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let key = input.key.clone();
        let upload = blocking(move || bucket.create_upload(key, meta, checksum)).await?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: checksum.map(|planned| algorithm_told(planned.algorithm)),
            checksum_type: checksum.map(|planned| kind_told(planned.kind)),
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
        let declared = Declared::of(&request.headers, input.content_length, request.trailing_headers)?;
        let planned = upload.record.checksum.map(|planned| planned.algorithm);
        if let Some((planned, other)) = planned.and_then(|planned| Some((planned, declared.other_than(planned)?))) {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                planned.name().to_ascii_lowercase(),
                other.name().to_ascii_lowercase()
            ));
        }
        let declared = declared.and(planned);
        let draft = upload.draft(declared.hasher()).map_err(to_s3)?;
        let of_part = upload.clone();
        let received = receive(input.body, draft, declared, move |written, checksums| {
            let md5 = written.md5;
            of_part.add(number, written)?;
            Ok((md5, checksums))
        });
        let (md5, checksums) = unless_ended(&upload, received.await)?;
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
        let planned = upload.record.checksum;
        let parts = stored.into_iter().map(|stored| {
            let checksums = stored.part.checksums(planned.map(|planned| planned.algorithm));
            let mut part = Part {
                e_tag: Some(etag(&stored.part.md5.to_hex())),
                last_modified: Some(timestamp(stored.modified)),
                part_number: Some(stored.part.number.get().into()),
                size: Some(signed(stored.part.size)),
                ..Part::default()
            };
            tell_checksums!(part, checksums);
            part
        });
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            checksum_algorithm: planned.map(|planned| algorithm_told(planned.algorithm)),
            checksum_type: planned.map(|planned| kind_told(planned.kind)),
            initiator: Some(initiator()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
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
        let whole = Whole {
            size: object_size,
            checksums: told_checksums!(input),
        };
        let condition = condition(input.if_match, input.if_none_match);
        let min_part_size = self.disk.min_part_size();
        let (key, id) = (input.key.clone(), input.upload_id);
        let object =
            blocking(move || bucket.complete_upload(&key, &id, &listed, &whole, min_part_size, &condition)).await?;
        let mut output = CompleteMultipartUploadOutput {
            checksum_type: checksum_type(&object.record),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            e_tag: Some(etag(&object.record.etag)),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        };
        tell_checksums!(output, object.record.checksums);
        Ok(output)
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

/// What has come of a part, unless its upload was aborted or completed meanwhile: then its directory went away under the part.
pub(super) fn unless_ended<T>(upload: &Upload, came: S3Result<T>) -> S3Result<T> {
    if came.is_err() && !upload.is_open() {
        return Err(to_s3(DiskError::NoSuchUpload));
    }
    came
}

pub(super) fn part_number(number: i32) -> S3Result<PartNumber> {
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
        checksums: told_checksums!(part),
    })
}

/// The checksums that an input tells, by their headers.
macro_rules! told_checksums {
    ($input:expr) => {{
        let told = [
            (Algorithm::Crc32, &$input.checksum_crc32),
            (Algorithm::Crc32c, &$input.checksum_crc32c),
            (Algorithm::Crc64Nvme, &$input.checksum_crc64nvme),
            (Algorithm::Sha1, &$input.checksum_sha1),
            (Algorithm::Sha256, &$input.checksum_sha256),
        ];
        let told = told.into_iter();
        told.filter_map(|(algorithm, value)| Some((algorithm.header().to_owned(), value.clone()?)))
            .collect()
    }};
}
use told_checksums;

/// The checksum that an upload is created for.
fn planned(algorithm: Option<&ChecksumAlgorithm>, kind: Option<&ChecksumType>) -> S3Result<Option<PlannedChecksum>> {
    let kind = match kind.map(ChecksumType::as_str) {
        None => None,
        Some(ChecksumType::FULL_OBJECT) => Some(ChecksumKind::FullObject),
        Some(ChecksumType::COMPOSITE) => Some(ChecksumKind::Composite),
        Some(_) => {
            return Err(s3_error!(
                InvalidRequest,
                "Value for x-amz-checksum-type header is invalid."
            ));
        }
    };
    let Some(algorithm) = checksum_named(algorithm)? else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
        };
    };
    let planned = PlannedChecksum::new(algorithm, kind).ok_or_else(|| {
        let kind = if kind == Some(ChecksumKind::FullObject) {
            "FULL_OBJECT"
        } else {
            "COMPOSITE"
        };
        s3_error!(
            InvalidRequest,
            "The {kind} checksum type cannot be used with the {} checksum algorithm.",
            algorithm.name().to_ascii_lowercase()
        )
    });
    planned.map(Some)
}

fn algorithm_told(algorithm: Algorithm) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from_static(algorithm.name())
}

/// The owner, as the one who began an upload.
pub(super) fn initiator() -> Initiator {
    let owner = owner();
    Initiator {
        display_name: owner.display_name,
        id: owner.id,
    }
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
