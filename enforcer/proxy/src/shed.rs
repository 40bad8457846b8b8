//! The closed list of reasons for which something is refused because of load or lack of endpoints (OV-03): one word each,
//! in the header `portcullis-shed`, in `portcullis_shed_total` and in the log. They are no decisions and never allow.

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shed {
    /// The listener has as many connections as it may have.
    ConnLimit,
    /// The source address has its share of the connections.
    IpShare,
    /// The identity has its share of the connections.
    IdShare,
    /// As many handshakes run as may, in all or of the source.
    HandshakeBudget,
    /// The listener or the route takes no more calls a second.
    Rate,
    /// As many calls wait for the cluster as may.
    QueueFull,
    /// No endpoint had a place in time.
    QueueDeadline,
    /// The cluster is at its limit, or fails too many calls.
    Breaker,
    /// Every endpoint is out of use.
    NoEndpoint,
    /// The route may not try calls again for now.
    RetryBudget,
    /// Too little memory is left.
    Memory,
    /// The worker cannot keep up.
    Cpu,
    /// Too few file descriptors are left.
    Fds,
}

impl Shed {
    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ConnLimit => "conn_limit",
            Self::IpShare => "ip_share",
            Self::IdShare => "id_share",
            Self::HandshakeBudget => "handshake_budget",
            Self::Rate => "rate",
            Self::QueueFull => "queue_full",
            Self::QueueDeadline => "queue_deadline",
            Self::Breaker => "breaker",
            Self::NoEndpoint => "no_endpoint",
            Self::RetryBudget => "retry_budget",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Fds => "fds",
        }
    }
}
