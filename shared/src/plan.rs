//! How a file is cut: pure arithmetic, done by the broker, followed by the uploader.
//!
//! Parts are equal but for the last, or they grow by a rule that depends on nothing but their numbers: for streams, where
//! nobody knows how many parts there will be, and on stores that take parts of different sizes.

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

/// Growing parts: up to which part number, each of so many MiB. Small for as long as most streams last; room for more than
/// 5 TiB in all.
const GROWING: [(u64, u64); 8] = [
    (1000, 16),
    (5500, 32),
    (6000, 64),
    (6500, 128),
    (7000, 256),
    (7500, 512),
    (8000, 1024),
    (10_000, 2048),
];

/// How large each part is, however many there will be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartSizes {
    /// All of so many bytes.
    Equal(u64),
    /// Parts 1 to 1,000 of 16 MiB, to 5,500 of 32 MiB, to 6,000 of 64 MiB, to 6,500 of 128 MiB, to 7,000 of 256 MiB, to 7,500
    /// of 512 MiB, to 8,000 of 1 GiB, to 10,000 of 2 GiB: 5,248,000 MiB in all, a little more than 5 TiB.
    Growing,
}

impl PartSizes {
    /// Bytes in part `number`, unless it is the last.
    pub fn part_size(self, number: PartNumber) -> u64 {
        match self {
            Self::Equal(size) => size,
            Self::Growing => {
                let step = GROWING.iter().find(|(last, _)| u64::from(number.get()) <= *last);
                step.map_or(MAX_PART_SIZE, |(_, mib)| mib * MIB)
            }
        }
    }

    /// Bytes in all parts before part `number`, none of which is the last.
    pub fn start(self, number: PartNumber) -> u64 {
        self.bytes_in(u64::from(number.get()) - 1)
    }

    /// Most bytes that fit into 10,000 parts.
    pub fn capacity(self) -> u64 {
        self.bytes_in(PartNumber::MAX.into())
    }

    /// Bytes in the first `count` parts.
    fn bytes_in(self, count: u64) -> u64 {
        match self {
            Self::Equal(size) => size.saturating_mul(count),
            Self::Growing => {
                let mut before = 0;
                let of_step = GROWING.iter().map(|(last, mib)| {
                    let parts = count.min(*last).saturating_sub(before);
                    before = *last;
                    parts * mib * MIB
                });
                of_step.sum()
            }
        }
    }

    /// How many parts `size` bytes fill, the last one perhaps not to its end.
    fn count(self, size: u64) -> u64 {
        match self {
            Self::Equal(part) => size.div_ceil(part.max(1)),
            Self::Growing => {
                let (mut before, mut left, mut count) = (0, size, 0);
                for (last, mib) in GROWING {
                    let parts = (last - before).min(left.div_ceil(mib * MIB));
                    left = left.saturating_sub(parts * mib * MIB);
                    count += parts;
                    before = last;
                }
                // What is beyond all of them would be parts beyond the last.
                count + left.div_ceil(MAX_PART_SIZE)
            }
        }
    }
}

/// A file of known size, cut into parts. An empty file has no parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartPlan {
    size: u64,
    sizes: PartSizes,
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

/// Part size for a file of `size` bytes that may have at most `max_parts`: 8 MiB, and for one that would have more such parts
/// the smallest whole number of MiB that gives no more. 5 GiB at most, with which there may be more parts all the same.
pub fn part_size_for(size: u64, max_parts: u16) -> u64 {
    let least = size.div_ceil(max_parts.max(1).into());
    DEFAULT_PART_SIZE.max(least.next_multiple_of(MIB)).min(MAX_PART_SIZE)
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
            None => part_size_for(size, PartNumber::MAX),
        };
        // Only a `max_object_size` above 10,000 parts of 5 GiB leads beyond.
        Self::cut(size, PartSizes::Equal(part_size.min(MAX_PART_SIZE)))
    }

    /// Cuts a stream that has turned out to have `size` bytes, and whose parts have these sizes.
    ///
    /// # Errors
    /// As [`PartPlan::for_size`]; growing parts hold 5,248,000 MiB at most.
    pub fn for_stream(size: u64, sizes: PartSizes, max_object_size: u64) -> Result<Self, PlanError> {
        match sizes {
            PartSizes::Equal(part_size) => Self::for_size(size, Some(part_size), max_object_size),
            PartSizes::Growing if size > max_object_size => Err(PlanError::TooLarge {
                size,
                max: max_object_size,
            }),
            PartSizes::Growing => Self::cut(size, sizes),
        }
    }

    fn cut(size: u64, sizes: PartSizes) -> Result<Self, PlanError> {
        match u16::try_from(sizes.count(size)) {
            Ok(part_count) if part_count <= PartNumber::MAX => Ok(Self {
                size,
                sizes,
                part_count,
            }),
            Ok(_) | Err(_) => Err(PlanError::TooLarge {
                size,
                max: sizes.capacity(),
            }),
        }
    }

    /// Bytes in the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in the first part, and where parts are equal in every one but the last.
    pub fn part_size(&self) -> u64 {
        self.sizes.part_size(PartNumber::FIRST)
    }

    /// How large each part is, but for the last.
    pub const fn sizes(&self) -> PartSizes {
        self.sizes
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
        let start = self.sizes.start(number);
        Some(start..self.size.min(start + self.sizes.part_size(number)))
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

    #[test]
    fn a_plan_tells_its_numbers() {
        let told = |plan: PartPlan| (plan.size(), plan.part_size(), plan.part_count());
        assert_eq!(told(plan(20_000_000)), (20_000_000, 8_388_608, 3));
        assert_eq!(told(plan(5_497_558_138_880)), (5_497_558_138_880, 550_502_400, 9987));
        let lens = plan(20_000_000);
        let lens: Vec<_> = (1..=4)
            .map(|number: u64| lens.part_len(number.try_into().unwrap()))
            .collect();
        assert_eq!(lens, [Some(8_388_608), Some(8_388_608), Some(3_222_784), None]);
        assert_eq!((MIN_PART_SIZE, MAX_OBJECT_SIZE), (5_242_880, 5_497_558_138_880));
    }

    #[test]
    fn what_is_just_as_large_as_allowed_is_planned() {
        let largest = 10_000 * MIN_PART_SIZE;
        let plan = PartPlan::for_size(largest, Some(MIN_PART_SIZE), largest).unwrap();
        assert_eq!(plan.part_count(), 10_000);
        let least = MIN_PART_SIZE + 1;
        assert_eq!(
            PartPlan::for_size(largest + 1, Some(MIN_PART_SIZE), MAX_OBJECT_SIZE),
            Err(PlanError::TooManyParts {
                part_size: MIN_PART_SIZE,
                least
            })
        );
        assert!(PartPlan::for_size(largest + 1, Some(least), MAX_OBJECT_SIZE).is_ok());
        assert!(PartPlan::for_stream(GIB, PartSizes::Growing, GIB).is_ok());
    }

    #[test]
    fn growing_parts_hold_the_largest_object_and_stay_small_for_as_long_as_most_streams_last() {
        let sizes = PartSizes::Growing;
        assert_eq!(sizes.capacity(), 5_248_000 * MIB);
        assert!(sizes.capacity() >= MAX_OBJECT_SIZE);
        let all = || PartNumber::up_to(PartNumber::MAX);
        assert!(all().all(|number| (MIN_PART_SIZE..=MAX_PART_SIZE).contains(&sizes.part_size(number))));
        let small = all().filter(|number| sizes.part_size(*number) <= 32 * MIB).count();
        assert_eq!(
            sizes.bytes_in(small as u64),
            160_000 * MIB,
            "as much as 10,000 parts of 16 MiB"
        );
        let beyond = sizes.capacity() + 1;
        assert_eq!(
            PartPlan::for_stream(beyond, sizes, u64::MAX),
            Err(PlanError::TooLarge {
                size: beyond,
                max: sizes.capacity()
            })
        );
        assert!(PartPlan::for_stream(GIB + 1, sizes, GIB).is_err());
        assert!(PartPlan::for_stream(u64::MAX, sizes, u64::MAX).is_err());
    }

    /// The parts follow each other from the first byte to the last, none is empty, and all but the last are as large as said.
    fn covers(plan: &PartPlan, size: u64, part_size: impl Fn(PartNumber) -> u64) -> Result<(), TestCaseError> {
        let mut end = 0;
        for number in plan.parts() {
            let range = plan.range(number).unwrap();
            prop_assert_eq!(range.start, end);
            prop_assert!(range.end > range.start);
            if number.get() < plan.part_count() {
                prop_assert_eq!(range.end - range.start, part_size(number));
            }
            end = range.end;
        }
        prop_assert_eq!(end, size);
        Ok(())
    }

    proptest! {
        #[test]
        fn growing_parts_cover_every_stream_and_each_is_told_by_its_number_alone(
            size in prop_oneof![0..64 * MIB, 0..200 * GIB, 0..=5_248_000 * MIB, Just(5_248_000 * MIB)],
        ) {
            let plan = PartPlan::for_stream(size, PartSizes::Growing, u64::MAX).unwrap();
            covers(&plan, size, |number| PartSizes::Growing.part_size(number))?;
            prop_assert_eq!(PartPlan::for_stream(size, PartSizes::Equal(5 * GIB), u64::MAX), PartPlan::for_size(size, Some(5 * GIB), u64::MAX));
        }

        #[test]
        fn the_parts_cover_the_file_without_gap_or_overlap(
            size in prop_oneof![0..64 * MIB, 0..MAX_OBJECT_SIZE, Just(MAX_OBJECT_SIZE)],
            part_size in prop::option::of(MIN_PART_SIZE..MAX_PART_SIZE),
        ) {
            let Ok(plan) = PartPlan::for_size(size, part_size, MAX_OBJECT_SIZE) else { return Ok(()) };
            covers(&plan, size, |_| plan.part_size())?;
        }
    }
}
