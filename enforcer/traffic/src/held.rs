//! Which calls end when memory runs out (OV-01, OV-02): callers without identity first, then by the class of their routes, and
//! within a class the largest call of whoever holds most. Nothing here permits anything.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::Priority;

/// What a call holds in memory, as it is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whoever asked for it; callers without identity stand for themselves.
    pub owner: u64,
    /// Its caller has no identity.
    pub is_stranger: bool,
    /// The class of its route.
    pub priority: Priority,
    /// Bytes.
    pub bytes: u64,
}

/// The places of those that end so that at least so many bytes become free, first the first; all of them when they hold
/// less together.
pub fn to_end(all: &[Held], bytes: u64) -> Vec<usize> {
    let mut owned: HashMap<u64, u64> = HashMap::new();
    let mut groups = HashMap::<(bool, Priority, u64), BinaryHeap<_>>::new();
    for (at, held) in all.iter().enumerate() {
        let sum = owned.entry(held.owner).or_default();
        *sum = sum.saturating_add(held.bytes);
        let group = groups.entry((held.is_stranger, held.priority, held.owner)).or_default();
        group.push((held.bytes, Reverse(at)));
    }
    let holds = |owned: &HashMap<u64, u64>, owner| owned.get(&owner).copied().unwrap_or_default();
    let mut next: BinaryHeap<(bool, Priority, u64, u64)> = groups
        .keys()
        .map(|(stranger, class, owner)| (*stranger, *class, holds(&owned, *owner), *owner))
        .collect();
    let (mut ends, mut freed) = (Vec::new(), 0_u64);
    while freed < bytes
        && let Some((stranger, class, held, owner)) = next.pop()
    {
        let holds_now = holds(&owned, owner);
        if holds_now != held {
            // Its calls of another class ended meanwhile.
            next.push((stranger, class, holds_now, owner));
            continue;
        }
        let group = groups.get_mut(&(stranger, class, owner));
        let Some((largest, Reverse(at))) = group.and_then(BinaryHeap::pop) else { continue };
        ends.push(at);
        freed = freed.saturating_add(largest);
        let left = holds_now.saturating_sub(largest);
        owned.insert(owner, left);
        next.push((stranger, class, left, owner));
    }
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(owner: u64, is_stranger: bool, priority: Priority, bytes: u64) -> Held {
        Held { owner, is_stranger, priority, bytes }
    }

    #[test]
    fn ov_01_the_largest_call_of_whoever_holds_most_ends_first() {
        let many = (0..10).map(|at| held(1, false, Priority::Normal, 50 + at));
        let one = held(2, false, Priority::Normal, 300);
        let all: Vec<Held> = many.chain([one]).collect();
        // Ten calls of 50 to 59 are more than one of 300, until five are gone.
        assert_eq!(to_end(&all, 280), [9, 8, 7, 6, 5]);
        assert_eq!(to_end(&all, 286), [9, 8, 7, 6, 5, 10]);
        assert!(to_end(&all, 0).is_empty());
        assert_eq!(to_end(&all, u64::MAX).len(), all.len());
    }

    #[test]
    fn ov_02_strangers_end_first_then_routes_by_their_priority() {
        let all = [
            held(1, false, Priority::High, 900),
            held(2, false, Priority::Normal, 500),
            held(3, false, Priority::Low, 40),
            held(4, true, Priority::High, 33),
            held(5, true, Priority::Low, 32),
        ];
        assert_eq!(to_end(&all, u64::MAX), [4, 3, 2, 1, 0]);
        assert_eq!(to_end(&all, 1), [4], "no more than is needed");
    }

    proptest! {
        #[test]
        fn ov_01_so_much_is_freed_and_not_one_call_more(
            calls in proptest::collection::vec((0_u64..5, any::<bool>(), 0_u8..3, 1_u64..1_000), 0..60), bytes in 0_u64..40_000,
        ) {
            let priorities = [Priority::High, Priority::Normal, Priority::Low];
            let all: Vec<Held> = calls
                .iter()
                .map(|(owner, is_stranger, class, bytes)| held(*owner, *is_stranger, priorities[usize::from(*class)], *bytes))
                .collect();
            let ends = to_end(&all, bytes);
            let freed: Vec<u64> = ends.iter().map(|at| all[*at].bytes).collect();
            let whole: u64 = all.iter().map(|held| held.bytes).sum();
            prop_assert!(freed.iter().sum::<u64>() >= bytes.min(whole));
            if let Some((_, before)) = freed.split_last() {
                prop_assert!(before.iter().sum::<u64>() < bytes);
            }
            let mut places = ends.clone();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), ends.len(), "none ends twice");
            let classes: Vec<_> = ends.iter().map(|at| Reverse((all[*at].is_stranger, all[*at].priority))).collect();
            prop_assert!(classes.is_sorted());
            let stays = (0..all.len()).filter(|at| !places.contains(at));
            let last = classes.last().map_or((true, Priority::Low), |Reverse(class)| *class);
            for at in stays {
                prop_assert!((all[at].is_stranger, all[at].priority) <= last, "a lower class stays");
            }
        }
    }
}
