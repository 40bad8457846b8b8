//! Sharing the calls of a route between clusters by weight.
//!
//! A pure function of one number per call: a random one spreads calls, the hash of a key keeps equal keys together.
//! Moving weight from one neighbour to the next moves only the calls between the two bounds.

/// Weights as bounds on a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Sums of the weights so far; the last one is the length of the line.
    bounds: Vec<u64>,
}

impl Split {
    /// Over these weights.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let bounds = weights.into_iter().scan(0u64, |sum, weight| {
            *sum = sum.saturating_add(weight.into());
            Some(*sum)
        });
        Self { bounds: bounds.collect() }
    }

    /// The place of the weight that `roll`, any 64 bits, falls on. None when all weights are 0.
    pub fn pick(&self, roll: u64) -> Option<usize> {
        let length = *self.bounds.last().filter(|length| **length > 0)?;
        let point = u64::try_from((u128::from(roll) * u128::from(length)) >> 64).unwrap_or(0);
        Some(self.bounds.partition_point(|bound| *bound <= point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rt_04_a_split_without_weight_takes_nothing() {
        assert_eq!(Split::new([]).pick(7), None);
        assert_eq!(Split::new([0, 0]).pick(7), None);
        assert_eq!(Split::new([0, 3, 0]).pick(u64::MAX), Some(1));
    }

    proptest! {
        #[test]
        fn rt_04_every_weight_takes_its_exact_share(weights in proptest::collection::vec(0u32..50, 1..8)) {
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            prop_assume!(total > 0);
            let split = Split::new(weights.iter().copied());
            let mut taken = vec![0u32; weights.len()];
            for part in 0..total {
                // The middle of each part of the line.
                let roll = ((u128::from(part) << 64) + (1 << 63)) / u128::from(total);
                taken[split.pick(u64::try_from(roll).unwrap()).unwrap()] += 1;
            }
            prop_assert_eq!(taken, weights);
        }

        #[test]
        fn rt_04_equal_keys_stay_together_when_weight_moves(roll in any::<u64>(), old in 1u32..99, more in 0u32..50) {
            let (before, after) = (Split::new([100 - old, old]), Split::new([100 - old.saturating_add(more).min(100), old.saturating_add(more).min(100)]));
            if before.pick(roll) == Some(1) {
                prop_assert_eq!(after.pick(roll), Some(1), "who was moved stays moved");
            }
        }
    }
}
