//! What came of each condition of a plan, packed: plans find a verdict they gave before by it.

use crate::ErrorClass;

/// What came of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Unsatisfied,
    Satisfied,
    Failed(ErrorClass),
}

/// Three bits per condition, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcomes {
    bits: u128,
    count: usize,
}

const CLASSES: [ErrorClass; 6] = [
    ErrorClass::Overflow,
    ErrorClass::MissingAttribute,
    ErrorClass::MissingEntity,
    ErrorClass::MissingTag,
    ErrorClass::Extension,
    ErrorClass::Type,
];

impl Outcomes {
    /// Conditions that fit.
    pub(super) const MOST: usize = 42;

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
        debug_assert!(self.count < Self::MOST);
        self.bits |= code.checked_shl(u32::try_from(3 * self.count).unwrap_or(u32::MAX)).unwrap_or_default();
        self.count += 1;
    }

    /// All of them, one by one.
    pub(super) fn to_vec(self) -> Vec<Outcome> {
        (0..self.count.min(Self::MOST)).map(|number| self.at(number)).collect()
    }

    fn at(self, number: usize) -> Outcome {
        let code = usize::try_from(self.bits >> (3 * number) & 7).unwrap_or_default();
        match code.checked_sub(2).and_then(|class| CLASSES.get(class)) {
            Some(class) => Outcome::Failed(*class),
            None if code == 1 => Outcome::Satisfied,
            None => Outcome::Unsatisfied,
        }
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
            let mut packed = Outcomes::default();
            all.iter().for_each(|one| packed.push(*one));
            prop_assert_eq!(packed.to_vec(), all);
        }
    }
}
