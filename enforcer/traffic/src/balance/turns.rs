//! Whose turn it is among endpoints that share calls: one state, whatever the algorithm.

use super::Dice;
use super::p2c::P2c;
use super::random::Random;
use super::round_robin::RoundRobin;
use crate::BalancerKind;

#[derive(Debug)]
pub(super) enum Turns {
    P2c(P2c),
    RoundRobin(RoundRobin),
    Random(Random),
    /// The key decides.
    Keyed,
}

impl Turns {
    pub(super) fn new(kind: BalancerKind, weights: &[u32], dice: &mut Dice) -> Self {
        match kind {
            BalancerKind::P2c => Self::P2c(P2c::new(weights, dice)),
            BalancerKind::PeakEwma => Self::P2c(P2c::by_cost(weights)),
            BalancerKind::RoundRobin => Self::RoundRobin(RoundRobin::new(weights, dice)),
            BalancerKind::Random => Self::Random(Random::new(weights)),
            BalancerKind::Maglev | BalancerKind::RingHash | BalancerKind::Rendezvous => Self::Keyed,
        }
    }

    /// The member whose turn it is. `load` answers the load of a member, or none when it must not be used now.
    pub(super) fn pick(&mut self, dice: &mut Dice, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        match self {
            Self::P2c(p2c) => p2c.pick(dice, load),
            Self::RoundRobin(turns) => turns.pick(load),
            Self::Random(random) => random.pick(dice, load),
            Self::Keyed => None,
        }
    }
}
