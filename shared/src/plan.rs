//! How a file is cut: pure arithmetic, done by the broker, followed by the uploader.

use std::ops::Range;

use crate::{GIB, MIB, PartNumber};

/// Least size of every part but the last (S3 User Guide, "Amazon S3 multipart upload limits").
pub const MIN_PART_SIZE: u64 = 5 * MIB;
/// Most bytes of one part.
pub const MAX_PART_SIZE: u64 = 5 * GIB;
/// Most bytes of one object where the store's profile says nothing else: 5 TiB.
pub const MAX_OBJECT_SIZE: u64 = 5 << 40;
/// Part size for a file that needs no larger one.
pub const DEFAULT_PART_SIZE: u64 = 8 * MIB;

/// A file of known size, cut into equal parts but for the last. An empty file has no parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartPlan {
    size: u64,
    part_size: u64,
    part_count: u16,
}

/// Why a file cannot be cut as asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// More bytes than an object may have.
    #[error("the file has {size} bytes; this store takes objects of at most {max}")]
    TooLarge {
        /// Bytes in the file.
        size: u64,
        /// Bytes the store takes.
        max: u64,
    },
    /// A part size that S3 does not allow.
    #[error("a part size of {0} bytes is outside 5 MiB to 5 GiB (5242880 to 5368709120)")]
    PartSize(u64),
    /// The part size asked for would make more than 10,000 parts.
    #[error("a part size of {part_size} bytes would make more than 10000 parts; ask for at least {least}")]
    TooManyParts {
        /// Bytes asked for.
        part_size: u64,
        /// The smallest part size that works.
        least: u64,
    },
}

impl PartPlan {
    /// Cuts a file of `size` bytes into parts of `part_size` bytes, or of a size chosen for it: 8 MiB, and for a file that
    /// would have more than 10,000 such parts the smallest whole number of MiB that gives at most 10,000.
    ///
    /// # Errors
    /// A file larger than `max_object_size`, or a part size outside S3's limits or too small for this file.
    pub fn for_size(size: u64, part_size: Option<u64>, max_object_size: u64) -> Result<Self, PlanError> {
        if size > max_object_size {
            return Err(PlanError::TooLarge {
                size,
                max: max_object_size,
            });
        }
        let least = size.div_ceil(PartNumber::MAX.into());
        let part_size = match part_size {
            Some(asked) if !(MIN_PART_SIZE..=MAX_PART_SIZE).contains(&asked) => return Err(PlanError::PartSize(asked)),
            Some(asked) if asked < least => {
                return Err(PlanError::TooManyParts {
                    part_size: asked,
                    least,
                });
            }
            Some(asked) => asked,
            None => DEFAULT_PART_SIZE.max(least.next_multiple_of(MIB)),
        };
        match u16::try_from(size.div_ceil(part_size)) {
            Ok(part_count) if part_count <= PartNumber::MAX && part_size <= MAX_PART_SIZE => Ok(Self {
                size,
                part_size,
                part_count,
            }),
            // Only a `max_object_size` above 10,000 parts of 5 GiB leads here.
            Ok(_) | Err(_) => Err(PlanError::TooLarge {
                size,
                max: MAX_PART_SIZE * u64::from(PartNumber::MAX),
            }),
        }
    }

    /// Bytes in the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in every part but the last.
    pub const fn part_size(&self) -> u64 {
        self.part_size
    }

    /// How many parts there are, 0 to 10,000; 0 only for an empty file.
    pub const fn part_count(&self) -> u16 {
        self.part_count
    }

    /// Every part, in order.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = PartNumber> + Clone {
        PartNumber::up_to(self.part_count)
    }

    /// The bytes of the file that part `number` carries, or nothing if the plan has no such part.
    pub fn range(&self, number: PartNumber) -> Option<Range<u64>> {
        if number.get() > self.part_count {
            return None;
        }
        let start = u64::from(number.get() - 1) * self.part_size;
        Some(start..self.size.min(start + self.part_size))
    }

    /// Bytes in part `number`, or nothing if the plan has no such part.
    pub fn part_len(&self, number: PartNumber) -> Option<u64> {
        self.range(number).map(|range| range.end - range.start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(size: u64) -> PartPlan {
        PartPlan::for_size(size, None, MAX_OBJECT_SIZE).unwrap()
    }

    #[test]
    fn an_empty_file_has_no_parts() {
        assert_eq!(plan(0).part_count(), 0);
        assert_eq!(plan(0).range(PartNumber::FIRST), None);
    }

    #[test]
    fn the_largest_object_fits_ten_thousand_parts() {
        let plan = plan(MAX_OBJECT_SIZE);
        assert!(plan.part_count() <= PartNumber::MAX);
        assert!(plan.part_size().is_multiple_of(MIB));
    }

    #[test]
    fn a_file_past_the_limit_or_a_bad_part_size_is_refused() {
        let over = MAX_OBJECT_SIZE + 1;
        assert_eq!(
            PartPlan::for_size(over, None, MAX_OBJECT_SIZE),
            Err(PlanError::TooLarge {
                size: over,
                max: MAX_OBJECT_SIZE
            })
        );
        assert_eq!(
            PartPlan::for_size(1, Some(MIN_PART_SIZE - 1), GIB),
            Err(PlanError::PartSize(MIN_PART_SIZE - 1))
        );
        assert_eq!(
            PartPlan::for_size(1, Some(MAX_PART_SIZE + 1), GIB),
            Err(PlanError::PartSize(MAX_PART_SIZE + 1))
        );
        assert!(matches!(
            PartPlan::for_size(100 * GIB, Some(MIN_PART_SIZE), MAX_OBJECT_SIZE),
            Err(PlanError::TooManyParts { .. })
        ));
        assert!(PartPlan::for_size(u64::MAX, None, u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn the_parts_cover_the_file_without_gap_or_overlap(
            size in prop_oneof![0..64 * MIB, 0..MAX_OBJECT_SIZE, Just(MAX_OBJECT_SIZE)],
            part_size in prop::option::of(MIN_PART_SIZE..MAX_PART_SIZE),
        ) {
            let Ok(plan) = PartPlan::for_size(size, part_size, MAX_OBJECT_SIZE) else { return Ok(()) };
            let mut end = 0;
            for number in plan.parts() {
                let range = plan.range(number).unwrap();
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start);
                if number.get() < plan.part_count() {
                    prop_assert_eq!(range.end - range.start, plan.part_size());
                }
                end = range.end;
            }
            prop_assert_eq!(end, size);
        }
    }
}
