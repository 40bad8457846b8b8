//! Active checks: what an endpoint is asked, and when its answers make it ill or well (HC-01).

use std::time::Duration;

use super::Health;

/// An endpoint that is ill, or not known yet, is asked so often.
const SOON: Duration = Duration::from_secs(1);
/// So many failures in a row make an endpoint ill, and so many passes well.
const FAILURES: u32 = 3;
const PASSES: u32 = 2;

/// How the endpoints of a cluster are asked for their health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSettings {
    /// What is asked.
    pub probe: Probe,
    /// How often, less or more a tenth.
    pub interval: Duration,
    /// An answer that takes longer is none.
    pub timeout: Duration,
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of this path; passes with 2xx.
    Http {
        /// Path and query.
        path: String,
        /// The host that is asked for; none = the address.
        host: Option<String>,
    },
    /// `grpc.health.v1.Health/Check` of this service, empty for the server as a whole; passes with SERVING.
    Grpc {
        /// The service.
        service: String,
    },
    /// A connection; passes when it comes about.
    Tcp,
}

/// What is known of one endpoint from its checks.
#[derive(Debug)]
pub struct Checkup {
    health: Health,
    /// Answers in a row that speak against `health`.
    against: u32,
}

impl Default for Checkup {
    fn default() -> Self {
        Self { health: Health::Untried, against: 0 }
    }
}

impl Checkup {
    /// Learns of a check; answers the new health when it turned. The first pass makes an endpoint well at once.
    pub fn seen(&mut self, passed: bool) -> Option<Health> {
        let (needed, next) = match (self.health, passed) {
            (Health::Untried, true) => (1, Health::Well),
            (Health::Untried, false) | (Health::Well, false) => (FAILURES, Health::Ill),
            (Health::Ill, true) => (PASSES, Health::Well),
            (Health::Well, true) | (Health::Ill, false) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        (self.health, self.against) = (next, 0);
        Some(next)
    }

    /// How long to wait for the next check; `roll` is in 0..1.
    #[must_use]
    pub fn pause(&self, settings: &CheckSettings, roll: f64) -> Duration {
        let is_sure = self.health == Health::Well && self.against == 0;
        let interval = if is_sure { settings.interval } else { settings.interval.min(SOON) };
        interval.mul_f64(0.9 + 0.2 * roll.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(answers: &str) -> Vec<Option<Health>> {
        let mut checkup = Checkup::default();
        answers.chars().map(|answer| checkup.seen(answer == '+')).collect()
    }

    #[test]
    fn hc_01_three_failures_make_ill_and_two_passes_well() {
        let (none, well, ill) = (None, Some(Health::Well), Some(Health::Ill));
        assert_eq!(health("+++"), [well, none, none], "the first pass is enough");
        assert_eq!(health("---+"), [none, none, ill, none]);
        assert_eq!(health("+--+---++"), [well, none, none, none, none, none, ill, none, well]);
        assert_eq!(
            health("+---+-++"),
            [well, none, none, ill, none, none, none, well],
            "passes are in a row"
        );
    }

    #[test]
    fn hc_01_checks_are_ten_seconds_apart_and_one_while_ill() {
        let settings = CheckSettings { probe: Probe::Tcp, interval: Duration::from_secs(10), timeout: SOON };
        let mut checkup = Checkup::default();
        assert_eq!(checkup.pause(&settings, 0.5), SOON, "nothing is known yet");
        checkup.seen(true);
        let pauses: Vec<_> = [0.0, 0.5, 1.0].map(|roll| checkup.pause(&settings, roll).as_millis()).into();
        assert_eq!(pauses, [9_000, 10_000, 11_000]);
        checkup.seen(false);
        assert_eq!(checkup.pause(&settings, 0.5), SOON, "a doubt is settled soon");
    }
}
