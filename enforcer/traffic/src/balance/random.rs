//! Random by weight, from an alias table: two numbers per pick, whatever the number of endpoints (LB-05).

use super::Dice;

#[derive(Debug, Clone)]
pub(super) struct Random {
    /// Per place: the share of draws that stay, and where the others go.
    table: Vec<(f64, usize)>,
    weights: Vec<u32>,
}

/// Draws that hit an unusable endpoint before all are looked at.
const DRAWS: usize = 4;

impl Random {
    /// Vose's method: every place is filled up to the mean, from one endpoint that has more.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let mean = total / weights.len().max(1) as f64;
        let mut table: Vec<(f64, usize)> =
            weights.iter().enumerate().map(|(at, &weight)| (f64::from(weight) / mean, at)).collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..table.len()).partition(|&at| table.get(at).is_some_and(|(share, _)| *share < 1.0));
        while let (Some(small), Some(&large)) = (poor.pop(), rich.last()) {
            let share = table.get(small).map_or(0.0, |(share, _)| *share);
            if let Some(slot) = table.get_mut(small) {
                slot.1 = large;
            }
            if let Some(slot) = table.get_mut(large) {
                slot.0 -= 1.0 - share;
                if slot.0 < 1.0 {
                    rich.pop();
                    poor.push(large);
                }
            }
        }
        // What is left of rounding keeps its own place.
        for at in poor.into_iter().chain(rich) {
            if let Some(slot) = table.get_mut(at) {
                slot.0 = 1.0;
            }
        }
        Self { table, weights: weights.into() }
    }

    pub(super) fn pick(&self, dice: &mut Dice, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        for _ in 0..DRAWS {
            let at = dice.below(self.table.len());
            let &(stays, other) = self.table.get(at)?;
            let at = if dice.fraction() < stays { at } else { other };
            if load(at).is_some() {
                return Some(at);
            }
        }
        self.of_usable(dice, load)
    }

    fn of_usable(&self, dice: &mut Dice, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        let usable = || (0..self.weights.len()).filter(|&at| load(at).is_some());
        let weight = |at: usize| u64::from(self.weights.get(at).copied().unwrap_or(0));
        let total: u64 = usable().map(weight).sum();
        let mut drawn = dice.below(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
        usable().find(|&at| {
            let here = weight(at);
            let is_here = drawn < here;
            drawn = drawn.saturating_sub(here);
            is_here
        })
    }
}
