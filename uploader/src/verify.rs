//! Whether a file, or the parts that were sent of it, is what an ETag was made of.

use std::sync::Arc;

use md5::{Digest as _, Md5};
use shared::api::CompletedObject;
use shared::plan::{MAX_PART_SIZE, MIN_PART_SIZE};
use shared::{ETag, MIB, Md5Digest, PartPlan, PartSizes};

use crate::error::UploadError;
use crate::hash::Hashing;
use crate::source::{Source, SourceError};

/// Part sizes that clients commonly use, and those of our own streams, where nobody knows which ones were.
const COMMON_PART_SIZES: [PartSizes; 6] = [
    PartSizes::Equal(8 * MIB),
    PartSizes::Equal(16 * MIB),
    PartSizes::Equal(5 * MIB),
    PartSizes::Equal(64 * MIB),
    PartSizes::Equal(15 * MIB),
    PartSizes::Growing,
];

/// What comparing a file with an ETag has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// The ETag was made of just these bytes.
    Same,
    /// It was made of others.
    Other,
    /// It is no MD5, or one of parts whose size nobody knows.
    Unknown,
}

/// Reads the file and compares. `known` says how large the object's parts are, if anybody knows.
pub(crate) async fn compare(
    hashing: &Hashing,
    source: &Arc<Source>,
    etag: &ETag,
    known: Option<PartSizes>,
) -> Result<Verdict, SourceError> {
    let Some((_, parts)) = made_of(etag) else {
        return Ok(Verdict::Unknown);
    };
    let size = source.size().unwrap_or_default();
    // One part is the whole file whatever its size.
    let one = PartPlan::for_size(size, Some(size.clamp(MIN_PART_SIZE, MAX_PART_SIZE)), u64::MAX).ok();
    let Some(parts) = parts else {
        let digests = hashing.hash(source.clone(), std::iter::once(0..size).collect()).await?;
        return Ok(of_parts(&digests, etag));
    };
    let sizes: Vec<_> = known.map_or_else(|| COMMON_PART_SIZES.to_vec(), |known| vec![known]);
    let cut = |sizes| PartPlan::for_stream(size, sizes, u64::MAX).ok();
    let plans = one.into_iter().chain(sizes.into_iter().filter_map(cut));
    let mut compared = false;
    for plan in plans.filter(|plan| u64::from(plan.part_count()) == parts) {
        let ranges = plan.parts().filter_map(|number| plan.range(number)).collect();
        if of_parts(&hashing.hash(source.clone(), ranges).await?, etag) == Verdict::Same {
            return Ok(Verdict::Same);
        }
        compared = parts == 1 || known.is_some();
        if compared {
            break;
        }
    }
    Ok(if compared { Verdict::Other } else { Verdict::Unknown })
}

/// Compares the MD5s of an upload's parts, all of them and in order, with the ETag of what they have become. A whole that was
/// put at once is one part.
pub(crate) fn of_parts(digests: &[Md5Digest], etag: &ETag) -> Verdict {
    let Some((md5, parts)) = made_of(etag) else {
        return Verdict::Unknown;
    };
    let ours = match (parts, digests) {
        (None, []) => Md5Digest::EMPTY,
        (None, [whole]) => *whole,
        // The MD5 of all bytes in a row, which nobody has hashed so.
        (None, _) => return Verdict::Unknown,
        (Some(parts), _) if parts != digests.len() as u64 => return Verdict::Other,
        (Some(_), _) => {
            let mut all = Md5::new();
            for digest in digests {
                all.update(digest.as_bytes());
            }
            Md5Digest::from_bytes(all.finalize().into())
        }
    };
    if md5.eq_ignore_ascii_case(&ours.to_hex()) {
        Verdict::Same
    } else {
        Verdict::Other
    }
}

/// Refuses an object that was not made of the parts with these MD5s: another upload of the same name, or another machine's
/// share in this one, has got into it.
pub(crate) fn hold(object: &CompletedObject, digests: &[Md5Digest]) -> Result<(), UploadError> {
    match of_parts(digests, &object.etag) {
        Verdict::Other if object.etag_is_md5 => Err(UploadError::OtherBytes {
            key: object.key.clone(),
        }),
        Verdict::Same | Verdict::Other | Verdict::Unknown => Ok(()),
    }
}

/// The MD5 in an ETag, and of how many parts it was made; nothing for an ETag of another kind.
pub(crate) fn made_of(etag: &ETag) -> Option<(&str, Option<u64>)> {
    let text = etag.unquoted();
    let (md5, parts) = match text.split_once('-') {
        Some((md5, parts)) => (md5, Some(parts.parse().ok()?)),
        None => (text, None),
    };
    (md5.len() == 32 && md5.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some((md5, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_held_to_the_etag_of_its_parts_and_to_that_of_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = vec![7; 11 << 20];
        std::fs::write(&path, &bytes).unwrap();
        let source = Arc::new(Source::open(&path).unwrap());
        let of_parts = |size: usize| {
            let mut all = Md5::new();
            bytes.chunks(size).for_each(|part| all.update(Md5::digest(part)));
            let digest = Md5Digest::from_bytes(all.finalize().into());
            ETag::new(format!("\"{}-{}\"", digest.to_hex(), bytes.len().div_ceil(size)))
        };
        let whole = ETag::new(Md5Digest::from_bytes(Md5::digest(&bytes).into()).to_hex());
        let hashing = Hashing::new(None);
        for (etag, part_size, verdict) in [
            (whole, None, Verdict::Same),
            (ETag::new("00000000000000000000000000000000"), None, Verdict::Other),
            (of_parts(8 << 20), None, Verdict::Same),
            (of_parts(6 << 20), Some(6 << 20), Verdict::Same),
            (of_parts(6 << 20), None, Verdict::Unknown),
            (of_parts(7 << 20), Some(6 << 20), Verdict::Other),
            (of_parts(12 << 20), None, Verdict::Same),
            (of_parts(6 << 20), Some(7 << 20), Verdict::Other),
            (ETag::new("\"something else\""), None, Verdict::Unknown),
        ] {
            assert_eq!(
                compare(&hashing, &source, &etag, part_size.map(PartSizes::Equal))
                    .await
                    .unwrap(),
                verdict,
                "{etag} {part_size:?}"
            );
        }
    }

    #[test]
    fn an_object_of_other_parts_is_refused_where_etags_are_of_md5s() {
        let object = |etag: &str, etag_is_md5| CompletedObject {
            key: "key".parse().unwrap(),
            etag: ETag::new(etag),
            etag_is_md5,
            size: 0,
            version_id: None,
            location: String::new(),
        };
        let empty = Md5Digest::EMPTY.to_hex();
        // Of two parts of no bytes.
        let of_two = format!("\"{}-2\"", "5873dd45edd01f09c1ef2e7819369e8e");
        for (etag, digests, same) in [
            (&*empty, 0, true),
            (&empty.to_uppercase(), 1, true),
            (&of_two, 2, true),
            (&of_two, 1, false),
            (&of_two, 3, false),
            (&of_two.replace('5', "6"), 2, false),
            (&"0".repeat(32), 1, false),
            (&"0".repeat(32), 2, true),
            ("\"of another kind\"", 2, true),
            ("", 1, true),
        ] {
            let digests = vec![Md5Digest::EMPTY; digests];
            assert_eq!(hold(&object(etag, true), &digests).is_ok(), same, "{etag} {digests:?}");
            hold(&object(etag, false), &digests).unwrap();
        }
    }
}
