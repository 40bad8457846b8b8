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
        if self.count < Self::MOST {
            self.bits |= code << (3 * self.count);
        }
        self.count += 1;
    }

    /// The same with `more` conditions that came to nothing.
    pub(super) fn with_none(mut self, more: usize) -> Outcomes {
        self.count += more;
        self
    }

    /// Whether some did not fit.
    pub(super) fn rest(&self) -> bool {
        self.count > Self::MOST
    }

    pub(super) fn at(&self, number: usize) -> Option<Outcome> {
        if number >= self.count.min(Self::MOST) {
            return None;
        }
        let code = usize::try_from(self.bits >> (3 * number) & 7).unwrap_or_default();
        Some(match code.checked_sub(2).and_then(|class| CLASSES.get(class)) {
            Some(class) => Outcome::Failed(*class),
            None if code == 1 => Outcome::Satisfied,
            None => Outcome::Unsatisfied,
        })
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
        fn outcomes_read_back(all in prop::collection::vec(outcome(), 0..60)) {
            let mut packed = Outcomes::default();
            all.iter().for_each(|one| packed.push(*one));
            prop_assert_eq!(packed.rest(), all.len() > Outcomes::MOST);
            for (number, one) in all.iter().enumerate() {
                prop_assert_eq!(packed.at(number), (number < Outcomes::MOST).then_some(*one));
            }
            prop_assert_eq!(packed.at(all.len()), None);
        }
    }
}
