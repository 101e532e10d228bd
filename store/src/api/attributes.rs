//! An object's attributes without its bytes (S3 API, GetObjectAttributes).

use s3s::dto::{
    Checksum, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, ObjectAttributes,
    ObjectPart, StorageClass,
};
use s3s::{S3Request, S3Result, s3_error};

use crate::disk::{Object, recorded};

use super::Api;
use super::meta::{checksum_type, etag, signed, tell_checksums, timestamp};
use super::objects::check_version;
use super::uploads::page_size;

impl Api {
    pub(super) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<GetObjectAttributesOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let object = self.readable(&input.bucket, &input.key, false).await?;
        let record = &object.record;
        // One header may hold them all.
        let asked = input
            .object_attributes
            .iter()
            .flat_map(|names| names.as_str().split(','));
        let mut output = GetObjectAttributesOutput {
            last_modified: Some(timestamp(record.modified)),
            ..GetObjectAttributesOutput::default()
        };
        for name in asked {
            match name.trim() {
                ObjectAttributes::ETAG => output.e_tag = Some(etag(&record.etag)),
                ObjectAttributes::OBJECT_SIZE => output.object_size = Some(signed(record.size)),
                ObjectAttributes::STORAGE_CLASS => {
                    output.storage_class = Some(StorageClass::from_static(StorageClass::STANDARD));
                }
                ObjectAttributes::CHECKSUM if record.checksums.is_empty() => {}
                ObjectAttributes::CHECKSUM => {
                    let mut checksum = Checksum {
                        checksum_type: checksum_type(record),
                        ..Checksum::default()
                    };
                    tell_checksums!(checksum, record.checksums);
                    output.checksum = Some(checksum);
                }
                ObjectAttributes::OBJECT_PARTS if object.parts().is_empty() => {}
                ObjectAttributes::OBJECT_PARTS => {
                    let max = page_size(input.max_parts, "x-amz-max-parts")?;
                    let marker = input.part_number_marker.unwrap_or_default();
                    output.object_parts = Some(parts(&object, marker, max));
                }
                other => return Err(s3_error!(InvalidArgument, "Invalid attribute name specified: {other}")),
            }
        }
        Ok(output)
    }
}

/// The parts after `marker`, one by one only if they have checksums of their own, as AWS does it.
fn parts(object: &Object, marker: i32, max: u16) -> GetObjectAttributesParts {
    let all = object.parts();
    let total = i32::try_from(all.len()).unwrap_or(i32::MAX);
    let Some(algorithm) = recorded(&object.record.checksums).into_iter().next() else {
        return GetObjectAttributesParts {
            total_parts_count: Some(total),
            ..GetObjectAttributesParts::default()
        };
    };
    let mut rest = all.iter().filter(|part| i32::from(part.number.get()) > marker);
    let page: Vec<_> = rest
        .by_ref()
        .take(max.into())
        .map(|part| {
            let mut told = ObjectPart {
                part_number: Some(part.number.get().into()),
                size: Some(signed(part.size)),
                ..ObjectPart::default()
            };
            tell_checksums!(told, part.checksums(Some(algorithm)));
            told
        })
        .collect();
    GetObjectAttributesParts {
        is_truncated: Some(rest.next().is_some()),
        max_parts: Some(max.into()),
        next_part_number_marker: Some(page.last().and_then(|part| part.part_number).unwrap_or(marker)),
        part_number_marker: Some(marker),
        parts: Some(page),
        total_parts_count: Some(total),
    }
}
