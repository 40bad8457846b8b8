//! What came of each condition of a plan, packed: plans find a verdict they gave before by it.

use crate::ErrorClass;

/// What came of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Unsatisfied,
    Satisfied,
    Failed(ErrorClass),
}

/// Three bits per condition, in order. How many there are, the plan knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcomes([u64; 2]);

/// Packs outcomes one after the other.
#[derive(Debug, Default)]
pub(super) struct Packing {
    bits: u128,
    count: u32,
}

const CLASSES: [ErrorClass; 6] = [
    ErrorClass::Overflow,
    ErrorClass::MissingAttribute,
    ErrorClass::MissingEntity,
    ErrorClass::MissingTag,
    ErrorClass::Extension,
    ErrorClass::Type,
];

impl Packing {
    pub(super) fn push(&mut self, outcome: Outcome) {
        let code: u128 = match outcome {
            Outcome::Unsatisfied => 0,
            Outcome::Satisfied => 1,
            Outcome::Failed(ErrorClass::Overflow) => 2,
            Outcome::Failed(ErrorClass::MissingAttribute) => 3,
            Outcome::Failed(ErrorClass::MissingEntity) => 4,
            Outcome::Failed(ErrorClass::MissingTag) => 5,
            Outcome::Failed(ErrorClass::Extension) => 6,
            Outcome::Failed(ErrorClass::Type) => 7,
        };
        // INVARIANT: plans with more conditions than fit do not pack them.
        debug_assert!((self.count as usize) < Outcomes::MOST);
        self.bits |= code.checked_shl(3 * self.count).unwrap_or_default();
        self.count += 1;
    }

    pub(super) fn finish(self) -> Outcomes {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        Outcomes([half(self.bits), half(self.bits >> 64)])
    }
}

impl Outcomes {
    /// Conditions that fit.
    pub(super) const MOST: usize = 42;

    /// The first `count` of them, one by one.
    pub(super) fn to_vec(self, count: usize) -> Vec<Outcome> {
        let [low, high] = self.0;
        let bits = u128::from(high) << 64 | u128::from(low);
        (0..count.min(Self::MOST)).map(|number| of_code(bits >> (3 * number) & 7)).collect()
    }
}

fn of_code(code: u128) -> Outcome {
    let code = usize::try_from(code).unwrap_or_default();
    match code.checked_sub(2).and_then(|class| CLASSES.get(class)) {
        Some(class) => Outcome::Failed(*class),
        None if code == 1 => Outcome::Satisfied,
        None => Outcome::Unsatisfied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let failed = prop::sample::select(&CLASSES[..]).prop_map(Outcome::Failed);
        prop_oneof![Just(Outcome::Unsatisfied), Just(Outcome::Satisfied), failed]
    }

    proptest! {
        #[test]
        fn outcomes_read_back(all in prop::collection::vec(outcome(), 0..=Outcomes::MOST)) {
            let mut packing = Packing::default();
            all.iter().for_each(|one| packing.push(*one));
            prop_assert_eq!(packing.finish().to_vec(all.len()), all);
        }
    }
}
