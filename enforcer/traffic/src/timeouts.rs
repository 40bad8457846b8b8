//! The clocks of a call (TO-01, TO-02): defaults of a route, and the time that is left for one call.

use std::time::Duration;

use enforcer_codec::{Call, CallProtocol};

/// Timeouts of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the head of the answer.
    pub header: Duration,
    /// The whole call. gRPC calls are exempt and follow their own `grpc-timeout`; tunnels have no end.
    pub call: Duration,
    /// A stream without a byte in either direction.
    pub idle: Duration,
}

/// A tunnel without a byte in either direction (TP-01).
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(15),
            call: Duration::from_secs(15),
            idle: Duration::from_secs(300),
        }
    }
}

impl Timeouts {
    /// The time from the arrival of a call to its deadline; none when only idleness ends it. A gRPC call may
    /// be a stream, so only its own timeout bounds it.
    pub fn budget(&self, call: &Call) -> Option<Duration> {
        match call.protocol() {
            CallProtocol::Grpc => call.grpc_timeout(),
            CallProtocol::H1 | CallProtocol::H2 | CallProtocol::H3 if call.upgrade().is_some() => None,
            CallProtocol::H1 | CallProtocol::H2 | CallProtocol::H3 => Some(self.call),
            CallProtocol::Tcp => None,
        }
    }

    /// What is left of a budget after `elapsed`; none when the deadline has passed and no work may start.
    pub fn left(budget: Duration, elapsed: Duration) -> Option<Duration> {
        budget.checked_sub(elapsed).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_01_defaults_are_those_of_the_spec() {
        let timeouts = Timeouts::default();
        let seconds = [timeouts.header, timeouts.call, timeouts.idle].map(|t| t.as_secs());
        assert_eq!(seconds, [15, 15, 300]);
        assert_eq!(crate::ClusterSpec::default().connect_timeout.as_secs(), 3);
    }

    #[test]
    fn to_02_a_spent_budget_starts_no_work() {
        let second = Duration::from_secs(1);
        assert_eq!(Timeouts::left(second, second / 4), Some(second * 3 / 4));
        assert_eq!(Timeouts::left(second, second), None);
        assert_eq!(Timeouts::left(second, second * 2), None);
    }
}
