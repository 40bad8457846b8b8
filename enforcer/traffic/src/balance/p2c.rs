//! The less loaded of two: by calls in flight, with unequal weights earliest-deadline-first over the load (LB-01); by
//! expected latency for peak EWMA, where a weight divides the cost (LB-02).

use super::Dice;

#[derive(Debug, Clone)]
pub(super) struct P2c {
    weights: Vec<u32>,
    /// Next virtual time per endpoint, only for unequal weights.
    deadlines: Option<Vec<f64>>,
    /// The load is a cost, which a weight divides.
    by_cost: bool,
}

/// Keeps costs apart that a large weight divides.
const SCALE: u64 = 1_000;

impl P2c {
    pub(super) fn new(weights: &[u32], dice: &mut Dice) -> Self {
        let equal = weights.windows(2).all(|pair| pair.first() == pair.last());
        // A random share of the first turn, so that workers start at different endpoints.
        let deadlines =
            (!equal).then(|| weights.iter().map(|&w| dice.fraction() / f64::from(w.max(1))).collect());
        Self { weights: weights.into(), deadlines, by_cost: false }
    }

    /// By cost alone: no turns are kept.
    pub(super) fn by_cost(weights: &[u32]) -> Self {
        Self { weights: weights.into(), deadlines: None, by_cost: true }
    }

    pub(super) fn pick(&mut self, dice: &mut Dice, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        match &mut self.deadlines {
            Some(deadlines) => earliest(deadlines, &self.weights, load),
            None if self.by_cost => two(self.weights.len(), dice, |at| {
                let weight = self.weights.get(at).copied().unwrap_or(1);
                load(at).map(|cost| cost.saturating_mul(SCALE) / u64::from(weight.max(1)))
            }),
            None => two(self.weights.len(), dice, load),
        }
    }
}

/// Two distinct random usable endpoints; fewer in flight wins, the first on a tie.
fn two(n: usize, dice: &mut Dice, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    match n {
        0 => return None,
        1 => return load(0).map(|_| 0),
        _ => {}
    }
    let first = dice.below(n);
    let mut second = dice.below(n - 1);
    if second >= first {
        second += 1;
    }
    match (load(first), load(second)) {
        (Some(a), Some(b)) => Some(if b < a { second } else { first }),
        _ => two_of_usable(n, dice, load),
    }
}

/// The slow way when a draw hit an unusable endpoint: two of the usable ones, each pair equally likely.
fn two_of_usable(n: usize, dice: &mut Dice, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    let (mut first, mut second) = (None, None);
    let usable = (0..n).filter_map(|at| Some((at, load(at)?)));
    for (seen, candidate) in usable.enumerate() {
        match seen {
            0 => first = Some(candidate),
            1 => second = Some(candidate),
            _ => match dice.below(seen + 1) {
                0 => first = Some(candidate),
                1 => second = Some(candidate),
                _ => {}
            },
        }
    }
    match (first?, second) {
        ((_, a), Some((at, b))) if b < a => Some(at),
        ((at, _), _) => Some(at),
    }
}

/// The usable endpoint whose turn comes first; its next turn is further away the more it has in flight.
fn earliest(deadlines: &mut [f64], weights: &[u32], load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    let mut best: Option<(usize, f64, u64)> = None;
    for (at, (&deadline, &weight)) in deadlines.iter().zip(weights).enumerate() {
        if weight == 0 || best.is_some_and(|(_, earliest, _)| deadline >= earliest) {
            continue;
        }
        if let Some(in_flight) = load(at) {
            best = Some((at, deadline, in_flight));
        }
    }
    let (at, now, in_flight) = best?;
    for (deadline, &weight) in deadlines.iter_mut().zip(weights) {
        // Whoever could not be used keeps no turns from the past.
        if weight > 0 {
            *deadline = deadline.max(now);
        }
    }
    if let (Some(deadline), Some(&weight)) = (deadlines.get_mut(at), weights.get(at)) {
        *deadline = now + (in_flight as f64 + 1.0) / f64::from(weight);
    }
    Some(at)
}
