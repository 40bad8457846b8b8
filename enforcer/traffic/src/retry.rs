//! Whether a call that failed is tried once more, and when (RY-01 to RY-04).
//!
//! What may have been done already is told again only when doing it twice does no more than doing it once. Retries are
//! bounded by a budget of their route, so that an outage is never made worse by them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base_ports::Mono;
use parking_lot::Mutex;

use crate::window::Window;

/// The window of a budget.
const WINDOW: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How the calls of a route are tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// Further tries after the first; 0 = none.
    pub attempts: u32,
    /// The head of the answer must come within this time of its try; none = only the clocks of the call.
    pub try_timeout: Option<Duration>,
    /// gRPC calls of the route may be executed twice.
    pub grpc_is_idempotent: bool,
    /// Retries of the route within ten seconds: this part of its calls,
    pub budget_percent: u32,
    /// and so many a second.
    pub budget_per_second: u32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 2,
            try_timeout: None,
            grpc_is_idempotent: false,
            budget_percent: 20,
            budget_per_second: 10,
        }
    }
}

/// What went wrong with a try, before any byte of an answer was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// No connection: nothing was sent.
    Connect,
    /// The endpoint did nothing with it: a refused stream, a request that was not fully written.
    Unprocessed,
    /// The connection went away after the request was written, or nothing came in time.
    Lost,
    /// The endpoint answered with that status.
    Status(u16),
    /// The endpoint answered with that gRPC status and nothing else.
    Grpc(u8),
}

impl Trigger {
    /// A word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Unprocessed => "unprocessed",
            Self::Lost => "lost",
            Self::Status(_) => "status",
            Self::Grpc(_) => "grpc",
        }
    }

    /// Whether it may be tried again; `is_idempotent` when doing it twice does no more than doing it once.
    #[must_use]
    pub fn allows(self, is_idempotent: bool) -> bool {
        match self {
            Self::Connect | Self::Unprocessed => true,
            Self::Lost | Self::Status(502..=504) | Self::Grpc(14) => is_idempotent,
            Self::Status(_) | Self::Grpc(_) => false,
        }
    }
}

/// How long to wait before the n-th retry, from 1: full jitter. `roll` is in 0..1.
#[must_use]
pub fn pause(nth: u32, roll: f64) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << nth.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
    most.mul_f64(roll.clamp(0.0, 1.0))
}

/// The retries that a route has left, shared by all workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RetryBudget {
    calls: Window,
    spent: Mutex<Spent>,
}

/// The retries of the last ten seconds; there are never more than the budget allows.
#[derive(Debug, Default)]
struct Spent {
    recent: VecDeque<(Mono, u64)>,
    by_principal: HashMap<u64, u64>,
}

impl RetryBudget {
    /// Counts a call, which earns the route a part of a retry.
    pub fn earn(&self, now: Mono) {
        self.calls.add(true, now);
    }

    /// Takes a retry for a call of that principal; false when there is none left, or none for it: no principal has more
    /// than half of what its route may spend.
    #[must_use]
    pub fn spend(&self, settings: &RetrySettings, principal: u64, now: Mono) -> bool {
        let mut spent = self.spent.lock();
        spent.forget(now);
        let allowed = self.allowed(settings, now);
        let own = spent.by_principal.get(&principal).copied().unwrap_or(0);
        if spent.recent.len() as u64 >= allowed || own * 2 >= allowed {
            return false;
        }
        spent.recent.push_back((now, principal));
        spent.by_principal.insert(principal, own + 1);
        true
    }

    /// The part of the budget that is spent, from 0 to 1.
    #[must_use]
    pub fn ratio(&self, settings: &RetrySettings, now: Mono) -> f64 {
        let mut spent = self.spent.lock();
        spent.forget(now);
        spent.recent.len() as f64 / self.allowed(settings, now).max(1) as f64
    }

    fn allowed(&self, settings: &RetrySettings, now: Mono) -> u64 {
        let earned = self.calls.counts(now).good * u64::from(settings.budget_percent) / 100;
        earned + u64::from(settings.budget_per_second) * WINDOW.as_secs()
    }
}

impl Spent {
    fn forget(&mut self, now: Mono) {
        while let Some(&(at, principal)) = self.recent.front()
            && now.saturating_since(at) >= WINDOW
        {
            self.recent.pop_front();
            if let Some(own) = self.by_principal.get_mut(&principal) {
                *own -= 1;
                if *own == 0 {
                    self.by_principal.remove(&principal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn ry_01_retries_are_a_fifth_of_the_calls_and_ten_a_second() {
        let (budget, settings) = (RetryBudget::default(), RetrySettings::default());
        for _ in 0..1_000 {
            budget.earn(at(0));
        }
        let spent = (0..1_000).filter(|nth| budget.spend(&settings, nth % 7, at(1))).count();
        assert_eq!(spent, 300);
        assert!((budget.ratio(&settings, at(1)) - 1.0).abs() < f64::EPSILON);
        assert!(!budget.spend(&settings, 99, at(9_999)));
        // Ten seconds later nothing is earned and nothing is spent: the constant part is left.
        assert_eq!((0..1_000).filter(|nth| budget.spend(&settings, nth % 7, at(20_000))).count(), 100);
    }

    #[test]
    fn ry_01_no_principal_takes_more_than_half() {
        let (budget, settings) = (RetryBudget::default(), RetrySettings::default());
        assert_eq!((0..1_000).filter(|_| budget.spend(&settings, 1, at(1))).count(), 50);
        assert_eq!((0..1_000).filter(|_| budget.spend(&settings, 2, at(1))).count(), 50);
        assert!(!budget.spend(&settings, 3, at(1)));
    }

    #[test]
    fn ry_02_only_what_was_not_done_or_may_be_done_twice_is_tried_again() {
        for (trigger, any, idempotent) in [
            (Trigger::Connect, true, true),
            (Trigger::Unprocessed, true, true),
            (Trigger::Lost, false, true),
            (Trigger::Status(502), false, true),
            (Trigger::Status(503), false, true),
            (Trigger::Status(504), false, true),
            (Trigger::Grpc(14), false, true),
            // RY-06: what the next hop refuses is refused.
            (Trigger::Status(401), false, false),
            (Trigger::Status(403), false, false),
            (Trigger::Status(429), false, false),
            (Trigger::Status(500), false, false),
            (Trigger::Grpc(7), false, false),
            (Trigger::Grpc(16), false, false),
            (Trigger::Grpc(4), false, false),
        ] {
            assert_eq!((trigger.allows(false), trigger.allows(true)), (any, idempotent), "{trigger:?}");
        }
    }

    #[test]
    fn ry_03_pauses_double_up_to_a_quarter_second_and_are_left_to_chance() {
        let most: Vec<_> = (1..=6).map(|nth| pause(nth, 1.0).as_millis()).collect();
        assert_eq!(most, [25, 50, 100, 200, 250, 250]);
        assert_eq!(pause(3, 0.0), Duration::ZERO);
        assert_eq!(pause(3, 0.5), Duration::from_millis(50));
    }

    proptest! {
        /// In any ten seconds, retries stay within the budget of the calls of the last ten.
        #[test]
        fn ry_01_no_history_of_calls_and_retries_exceeds_the_budget(
            steps in proptest::collection::vec((0_u64..400, 0_u8..2, 0_u64..4), 1..600),
        ) {
            let settings = RetrySettings { budget_per_second: 1, ..RetrySettings::default() };
            let budget = RetryBudget::default();
            let (mut now, mut calls, mut retries) = (0, Vec::new(), Vec::new());
            for (passed, kind, principal) in steps {
                now += passed;
                if kind == 0 {
                    budget.earn(at(now));
                    calls.push(now);
                } else if budget.spend(&settings, principal, at(now)) {
                    let recent = |times: &[u64]| times.iter().filter(|then| **then + 10_000 > now).count();
                    prop_assert!(recent(&retries) < recent(&calls) / 5 + 10);
                    retries.push(now);
                }
            }
        }
    }
}
