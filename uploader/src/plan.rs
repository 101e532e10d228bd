//! The parts still to send, a window at a time: pure arithmetic on what the broker planned and the store holds.

use shared::api::{StoredPart, UploadCreated};
use shared::{GIB, MIB, Md5Digest, PartNumber, PartPlan};

use crate::error::UploadError;

/// Parts hashed side by side: as many as the widest kernel has lanes.
const WINDOW_PARTS: u64 = 16;
/// Bytes of a window, about: what is hashed should still be in the page cache when it is sent.
const WINDOW_BYTES: u64 = GIB;
/// Parts hashed side by side however large they are: fewer would leave the lanes empty.
const LEAST_WINDOW_PARTS: u64 = 4;
/// Bytes of the first window, about: nothing is sent before it has been read and hashed.
const FIRST_WINDOW_BYTES: u64 = 64 * MIB;

/// The broker's plan for a file of `size` bytes, if it covers just that file.
pub(crate) fn agreed(created: &UploadCreated, size: u64) -> Result<PartPlan, UploadError> {
    let contradiction = |why: String| UploadError::Contradiction(why);
    let plan = PartPlan::for_size(size, Some(created.part_size), u64::MAX)
        .map_err(|error| contradiction(error.to_string()))?;
    match created.part_count {
        Some(count) if count == plan.part_count() => Ok(plan),
        other => Err(contradiction(format!(
            "{size} bytes in parts of {} make {} parts, not {}",
            created.part_size,
            plan.part_count(),
            other.map_or("an unknown number".into(), |count| count.to_string()),
        ))),
    }
}

/// Cuts a list of parts into the windows that are hashed, signed and sent together. The first is shorter, so that sending
/// begins soon.
pub(crate) fn windows(plan: &PartPlan, parts: &[PartNumber]) -> Vec<Vec<PartNumber>> {
    let parts_in = |bytes: u64, least| {
        let length = (bytes / plan.part_size().max(1)).clamp(least, WINDOW_PARTS);
        usize::try_from(length).unwrap_or(1)
    };
    let (first, rest) = parts.split_at(parts_in(FIRST_WINDOW_BYTES, 1).min(parts.len()));
    let rest = rest.chunks(parts_in(WINDOW_BYTES, LEAST_WINDOW_PARTS));
    first
        .chunks(first.len().max(1))
        .chain(rest)
        .map(<[PartNumber]>::to_vec)
        .collect()
}

/// Whether the store's part is the file's: as long, and of the same MD5. Where the store's ETags are not MD5s it cannot
/// be known, and the part is sent again.
pub(crate) fn is_kept(stored: &StoredPart, length: u64, digest: &Md5Digest) -> bool {
    stored.size == length && stored.etag.unquoted().eq_ignore_ascii_case(&digest.to_hex())
}

#[cfg(test)]
mod tests {
    use shared::ETag;

    use super::*;

    fn plan(part_size: u64, count: u64) -> (PartPlan, Vec<PartNumber>) {
        let plan = PartPlan::for_size(part_size * count, Some(part_size), u64::MAX).unwrap();
        let parts = plan.parts().collect();
        (plan, parts)
    }

    #[test]
    fn windows_begin_short_then_fill_the_lanes_but_stay_in_the_page_cache() {
        for (part_size, count, expected) in [
            (8 * MIB, 0, vec![]),
            (8 * MIB, 3, vec![3]),
            (8 * MIB, 40, vec![8, 16, 16]),
            (128 * MIB, 17, vec![1, 8, 8]),
            (5 * GIB, 6, vec![1, 4, 1]),
        ] {
            let (plan, parts) = plan(part_size, count);
            let lengths: Vec<_> = windows(&plan, &parts).iter().map(Vec::len).collect();
            assert_eq!(lengths, expected, "parts of {part_size}");
        }
    }

    #[test]
    fn a_plan_that_does_not_cover_the_file_is_refused() {
        let created = |part_size: u64, part_count: u16| -> UploadCreated {
            let json = format!(
                r#"{{"upload_id": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "state": "open", "key": "k", "part_size": {part_size},
                    "part_count": {part_count}, "integrity": "content_md5", "expires_at": "2026-01-01T00:00:00Z",
                    "expires_in": 1, "server_time": "2026-01-01T00:00:00Z", "parts": []}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        assert_eq!(agreed(&created(8 * MIB, 2), 9 * MIB).unwrap().part_count(), 2);
        assert_eq!(agreed(&created(8 * MIB, 0), 0).unwrap().part_count(), 0);
        for wrong in [created(8 * MIB, 3), created(1, 2), created(0, 0), created(u64::MAX, 1)] {
            assert!(matches!(agreed(&wrong, 9 * MIB), Err(UploadError::Contradiction(_))));
        }
    }

    #[test]
    fn only_a_part_with_the_same_md5_is_kept() {
        let stored = |etag: &str| StoredPart {
            number: PartNumber::FIRST,
            size: 7,
            etag: ETag::new(etag),
        };
        let hex = Md5Digest::EMPTY.to_hex();
        for same in [hex.clone(), format!("\"{hex}\""), hex.to_uppercase()] {
            assert!(is_kept(&stored(&same), 7, &Md5Digest::EMPTY), "{same}");
        }
        assert!(!is_kept(&stored(&hex), 8, &Md5Digest::EMPTY));
        for other in ["", "\"opaque\"", &format!("{hex}-1"), &"0".repeat(32)] {
            assert!(!is_kept(&stored(other), 7, &Md5Digest::EMPTY), "{other}");
        }
    }
}
