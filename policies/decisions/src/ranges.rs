//! Sets of sequence numbers as inclusive ranges, for completeness (decisions.md SQ4).
//!
//! Called by recovery, which must declare what a crash left out, and by tests. Input is mostly ascending, so the
//! common insert extends the last range.

/// A set of numbers kept as sorted, disjoint, inclusive ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    sorted: Vec<(u64, u64)>,
}

impl Ranges {
    /// Adds `first..=last`; an empty range (`first > last`) adds nothing.
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // All ranges that touch or overlap the new one become one.
        let start = self.sorted.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let stop = self.sorted.partition_point(|&(begin, _)| begin <= last.saturating_add(1));
        let merged = self
            .sorted
            .get(start..stop)
            .unwrap_or_default()
            .iter()
            .fold((first, last), |(low, high), &(begin, end)| (low.min(begin), high.max(end)));
        self.sorted.splice(start..stop.max(start), [merged]);
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[(u64, u64)] {
        &self.sorted
    }

    /// The ranges of `first..=last` that are not in the set.
    pub(crate) fn missing(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut next = first;
        for &(begin, end) in &self.sorted {
            if begin > last {
                break;
            }
            if begin > next {
                missing.push((next, begin - 1));
            }
            next = next.max(end.saturating_add(1));
        }
        if next <= last {
            missing.push((next, last));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_a_plain_set_holds(inserts in prop::collection::vec((0_u64..40, 0_u64..6), 0..20)) {
            let mut ranges = Ranges::default();
            let mut plain = BTreeSet::new();
            for (first, length) in inserts {
                ranges.insert(first, first + length);
                plain.extend(first..=first + length);
            }
            let missing: BTreeSet<u64> = ranges.missing(0, 50).into_iter().flat_map(|(a, b)| a..=b).collect();
            let expected: BTreeSet<u64> = (0..=50).filter(|n| !plain.contains(n)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert!(ranges.sorted.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }

    #[test]
    fn an_empty_set_misses_everything() {
        assert_eq!(Ranges::default().missing(1, 9), [(1, 9)]);
        assert_eq!(Ranges::default().missing(2, 1), []);
    }
}
