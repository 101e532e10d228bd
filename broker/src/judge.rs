//! Whether the parts that the store holds are the ones that were planned and declared: a pure function.

use shared::PartNumber;
use shared::api::StoredPart;

use crate::ledger::{Digests, Plan};

/// What is wrong with the parts that the store holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing: these parts, of this many bytes in all, make the object.
    Join(u64),
    /// These parts are not there.
    Missing(Vec<PartNumber>),
    /// These parts have another size or MD5 than declared.
    Wrong(Vec<PartNumber>),
    /// These parts are there but not planned.
    Unplanned(Vec<PartNumber>),
}

/// Compares what the store holds with what was planned and declared. `listed` is in order, each part once.
pub fn judge(plan: &Plan, digests: &Digests, listed: &[StoredPart], etag_is_md5: bool) -> Verdict {
    let count = match plan {
        Plan::Sized(plan) => plan.part_count(),
        Plan::Counted { part_count } => *part_count,
        // Completing turns a stream's plan into a sized one first.
        Plan::Stream(_) => 0,
    };
    let stored = |number| listed.binary_search_by_key(&number, |part| part.number).is_ok();
    let missing: Vec<_> = PartNumber::up_to(count).filter(|number| !stored(*number)).collect();
    if !missing.is_empty() {
        return Verdict::Missing(missing);
    }
    let unplanned: Vec<_> = listed
        .iter()
        .map(|part| part.number)
        .filter(|number| number.get() > count)
        .collect();
    if !unplanned.is_empty() {
        return Verdict::Unplanned(unplanned);
    }
    let wrong: Vec<_> = listed
        .iter()
        .filter(|part| {
            let size = match plan {
                Plan::Sized(plan) => plan.part_len(part.number).is_some_and(|planned| planned != part.size),
                Plan::Stream(_) | Plan::Counted { .. } => false,
            };
            let digest = etag_is_md5
                && digests
                    .get(part.number)
                    .is_some_and(|md5| !part.etag.unquoted().eq_ignore_ascii_case(&md5.to_hex()));
            size || digest
        })
        .map(|part| part.number)
        .collect();
    if wrong.is_empty() {
        Verdict::Join(listed.iter().map(|part| part.size).sum())
    } else {
        Verdict::Wrong(wrong)
    }
}

#[cfg(test)]
mod tests {
    use shared::{ETag, MIB, Md5Digest, PartPlan, PartSizes};

    use super::*;

    fn part(number: u64, size: u64, etag: &str) -> StoredPart {
        StoredPart {
            number: number.try_into().unwrap(),
            size,
            etag: ETag::new(etag),
        }
    }

    fn numbers(parts: &[u64]) -> Vec<PartNumber> {
        parts.iter().map(|number| (*number).try_into().unwrap()).collect()
    }

    fn sized(size: u64) -> Plan {
        Plan::Sized(PartPlan::for_size(size, Some(5 * MIB), u64::MAX).unwrap())
    }

    #[test]
    fn every_planned_part_has_to_be_there_and_none_else() {
        let plan = sized(12 * MIB);
        let all = [part(1, 5 * MIB, "a"), part(2, 5 * MIB, "b"), part(3, 2 * MIB, "c")];
        let none = Digests::default();
        assert_eq!(judge(&plan, &none, &all, true), Verdict::Join(12 * MIB));
        assert_eq!(judge(&plan, &none, &all[..1], true), Verdict::Missing(numbers(&[2, 3])));
        assert_eq!(judge(&plan, &none, &[], true), Verdict::Missing(numbers(&[1, 2, 3])));
        assert_eq!(
            judge(&plan, &none, &[all[0].clone(), all[2].clone()], true),
            Verdict::Missing(numbers(&[2]))
        );
        let mut more = all.to_vec();
        more.push(part(7, 1, "d"));
        assert_eq!(judge(&plan, &none, &more, true), Verdict::Unplanned(numbers(&[7])));
    }

    #[test]
    fn a_part_of_another_size_is_wrong() {
        let listed = [part(1, 5 * MIB, "a"), part(2, 5 * MIB, "b"), part(3, 2 * MIB - 1, "c")];
        assert_eq!(
            judge(&sized(12 * MIB), &Digests::default(), &listed, true),
            Verdict::Wrong(numbers(&[3]))
        );
    }

    #[test]
    fn a_stream_of_growing_parts_is_judged_part_by_part_by_the_size_stated_at_its_end() {
        let size = 1001 * 16 * MIB;
        let plan = Plan::Sized(PartPlan::for_stream(size, PartSizes::Growing, u64::MAX).unwrap());
        let mut listed: Vec<_> = (1..=1001).map(|number| part(number, 16 * MIB, "e")).collect();
        let none = Digests::default();
        assert_eq!(judge(&plan, &none, &listed, false), Verdict::Join(size));
        // As many bytes in all, cut at another place; and one part fewer than the bytes take.
        listed[999].size -= 1;
        listed[1000].size += 1;
        assert_eq!(
            judge(&plan, &none, &listed, false),
            Verdict::Wrong(numbers(&[1000, 1001]))
        );
        assert_eq!(
            judge(&plan, &none, &listed[..1000], false),
            Verdict::Missing(numbers(&[1001]))
        );
    }

    #[test]
    fn a_part_of_another_md5_is_wrong_where_etags_are_md5s() {
        let plan = Plan::Counted { part_count: 1 };
        let digests: Digests = [(PartNumber::FIRST, Md5Digest::EMPTY)].into_iter().collect();
        let other = [part(1, 0, "\"00000000000000000000000000000000\"")];
        let same = [part(1, 0, "\"D41D8CD98F00B204E9800998ECF8427E\"")];
        assert_eq!(judge(&plan, &digests, &other, true), Verdict::Wrong(numbers(&[1])));
        assert_eq!(judge(&plan, &digests, &other, false), Verdict::Join(0));
        assert_eq!(judge(&plan, &digests, &same, true), Verdict::Join(0));
    }
}
