//! Turns by weight, exact: in every full round each endpoint is picked as often as its weight says (LB-04).

use std::cmp::Ordering;

use super::Dice;

#[derive(Debug, Clone)]
pub(super) struct RoundRobin {
    weights: Vec<u32>,
    equal: bool,
    /// The next place, for equal weights.
    cursor: usize,
    /// Picks of this round, for unequal weights.
    picks: Vec<u32>,
}

impl RoundRobin {
    pub(super) fn new(weights: &[u32], dice: &mut Dice) -> Self {
        let equal = weights.windows(2).all(|pair| pair.first() == pair.last());
        let start = dice.below(weights.len());
        let mut turns = Self { picks: vec![0; weights.len()], weights: weights.into(), equal, cursor: start };
        if !equal {
            // Not all workers start with the same endpoint.
            for _ in 0..start {
                turns.pick(|_| Some(0));
            }
        }
        turns
    }

    pub(super) fn pick(&mut self, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        if self.equal { self.next(load) } else { self.earliest(load) }
    }

    fn next(&mut self, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        let n = self.weights.len();
        let at = (self.cursor..n).chain(0..self.cursor).find(|&at| load(at).is_some())?;
        self.cursor = if at + 1 < n { at + 1 } else { 0 };
        Some(at)
    }

    /// The endpoint with the smallest (picks + 1) / weight. Turns of an endpoint that cannot be used are lost.
    fn earliest(&mut self, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        let mut best: Option<(usize, u32, u32)> = None;
        for (at, (&picks, &weight)) in self.picks.iter().zip(&self.weights).enumerate() {
            let sooner = best.is_none_or(|(_, p, w)| compare(picks, weight, p, w) == Ordering::Less);
            if weight > 0 && sooner && load(at).is_some() {
                best = Some((at, picks, weight));
            }
        }
        let (at, picks, weight) = best?;
        for (slot, (other, &other_weight)) in self.picks.iter_mut().zip(&self.weights).enumerate() {
            if slot != at
                && other_weight > 0
                && compare(*other, other_weight, picks, weight) == Ordering::Less
            {
                *other = turns_before(picks, weight, other_weight);
            }
        }
        if let Some(picks) = self.picks.get_mut(at) {
            *picks = picks.saturating_add(1);
        }
        if self.picks.iter().zip(&self.weights).all(|(picks, weight)| picks >= weight) {
            for (picks, weight) in self.picks.iter_mut().zip(&self.weights) {
                *picks -= weight;
            }
        }
        Some(at)
    }
}

/// Orders (picks + 1) / weight by cross multiplication: no rounding.
fn compare(picks: u32, weight: u32, other_picks: u32, other_weight: u32) -> Ordering {
    let left = (u64::from(picks) + 1) * u64::from(other_weight);
    let right = (u64::from(other_picks) + 1) * u64::from(weight);
    left.cmp(&right)
}

/// The turns that lie before the moment (picks + 1) / weight for an endpoint of another weight.
fn turns_before(picks: u32, weight: u32, other_weight: u32) -> u32 {
    let passed = (u64::from(picks) + 1) * u64::from(other_weight) / u64::from(weight);
    u32::try_from(passed).unwrap_or(u32::MAX)
}
