//! When an endpoint is worse than it may be, and for how long it is left alone then (OD-01 to OD-03).

use std::time::Duration;

use crate::window::Counts;

/// How often endpoints are compared with each other.
pub(super) const REVIEW: Duration = Duration::from_secs(10);

/// Calls that an endpoint must have had to be compared by success, and by failure.
const CALLS_FOR_SUCCESS: u64 = 100;
const CALLS_FOR_FAILURE: u64 = 10;
/// Endpoints that must have had so many.
const ENDPOINTS: usize = 5;
const DEVIATIONS: f64 = 1.9;
const TIMES_THE_MEAN: f64 = 5.0;

const SENTENCE: Duration = Duration::from_secs(30);
const LONGEST_SENTENCE: Duration = Duration::from_secs(300);

/// When an endpoint is shut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierSettings {
    /// After so many failures in a row.
    pub failures_in_a_row: u32,
    /// Below this part of success within ten seconds.
    pub least_success_percent: u32,
    /// From so many calls within them.
    pub least_calls: u64,
    /// Shut for about so long the first time, doubling each time in a row.
    pub first: Duration,
    /// Never for longer.
    pub longest: Duration,
    /// At most this part of the endpoints is shut out, by all rules together.
    pub most_percent: u32,
    /// At most this part by comparison with the others; one always may.
    pub most_compared_percent: u32,
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            failures_in_a_row: 5,
            least_success_percent: 50,
            least_calls: 20,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            most_percent: 50,
            most_compared_percent: 10,
        }
    }
}

/// Why an endpoint is shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Too many failures in a row.
    InARow,
    /// Too small a part of its calls succeeded.
    Ratio,
    /// Fewer succeeded than at the others, by 1.9 standard deviations.
    Success,
    /// More failed than at the others, by five times their mean.
    Failure,
    /// The call that was to open it failed.
    Trial,
}

impl Cause {
    /// A word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InARow => "failures_in_a_row",
            Self::Ratio => "success_ratio",
            Self::Success => "success_compared",
            Self::Failure => "failure_compared",
            Self::Trial => "trial_failed",
        }
    }

    pub(super) fn is_compared(self) -> bool {
        matches!(self, Self::Success | Self::Failure)
    }
}

/// How long an endpoint is shut the n-th time in a row: doubling, and half of it left to chance.
pub(super) fn back_off(nth: u32, settings: &OutlierSettings, roll: f64) -> Duration {
    let doubled = settings.first.saturating_mul(1 << nth.saturating_sub(1).min(16));
    doubled.min(settings.longest).mul_f64(0.5 + roll.clamp(0.0, 1.0)).min(settings.longest)
}

/// How long an endpoint is shut that stood out the n-th time.
pub(super) fn sentence(nth: u32) -> Duration {
    SENTENCE.saturating_mul(nth.max(1)).min(LONGEST_SENTENCE)
}

/// The endpoints that are much worse than the others, the worst first. None stands for one that is out of use.
pub(super) fn stand_out(counts: &[Option<Counts>], settings: &OutlierSettings) -> Vec<(usize, Cause)> {
    let mut found = by_success(counts);
    for (place, cause) in by_failure(counts) {
        if !found.iter().any(|(known, _)| *known == place) {
            found.push((place, cause));
        }
    }
    let rate = |place: usize| counts.get(place).copied().flatten().map_or(0.0, failure_rate);
    found.sort_by(|(a, _), (b, _)| rate(*b).total_cmp(&rate(*a)));
    let room = (counts.len() * settings.most_compared_percent as usize / 100).max(1);
    found.truncate(room);
    found
}

fn by_success(counts: &[Option<Counts>]) -> Vec<(usize, Cause)> {
    let rates = rates(counts, CALLS_FOR_SUCCESS, |counts| 1.0 - failure_rate(counts));
    if rates.len() < ENDPOINTS {
        return Vec::new();
    }
    let mean = mean(&rates);
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
    let least = mean - DEVIATIONS * variance.sqrt();
    rates.into_iter().filter(|(_, rate)| *rate < least).map(|(place, _)| (place, Cause::Success)).collect()
}

fn by_failure(counts: &[Option<Counts>]) -> Vec<(usize, Cause)> {
    let rates = rates(counts, CALLS_FOR_FAILURE, failure_rate);
    let most = mean(&rates) * TIMES_THE_MEAN;
    let is_worse = |rate: f64| rate > 0.0 && rate >= most;
    rates.into_iter().filter(|(_, rate)| is_worse(*rate)).map(|(place, _)| (place, Cause::Failure)).collect()
}

fn rates(counts: &[Option<Counts>], least: u64, rate: impl Fn(Counts) -> f64) -> Vec<(usize, f64)> {
    let known = counts.iter().enumerate().filter_map(|(place, counts)| Some((place, (*counts)?)));
    known.filter(|(_, counts)| counts.all() >= least).map(|(place, counts)| (place, rate(counts))).collect()
}

fn mean(rates: &[(usize, f64)]) -> f64 {
    rates.iter().map(|(_, rate)| rate).sum::<f64>() / rates.len().max(1) as f64
}

fn failure_rate(counts: Counts) -> f64 {
    counts.bad as f64 / counts.all().max(1) as f64
}
