//! Where a connection with calls side by side stands: when it says goodbye, and when it is cut.

use std::time::Duration;

use base_ports::Mono;

use super::Connection;

/// After GOAWAY the running calls have until here, or until the connection ends.
const GOODBYE: Duration = Duration::from_secs(30);

/// Where a connection stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Busy,
    Idle {
        since: Mono,
    },
    /// GOAWAY was sent.
    Leaving {
        since: Mono,
    },
}

impl Phase {
    pub(super) fn busy(&mut self) {
        if let Self::Idle { .. } = self {
            *self = Self::Busy;
        }
    }

    pub(super) fn still(&mut self, now: Mono) {
        if let Self::Busy = self {
            *self = Self::Idle { since: now };
        }
    }

    pub(super) fn is_leaving(self) -> bool {
        matches!(self, Self::Leaving { .. })
    }

    /// When the connection must be looked at.
    pub(super) fn look(self, conn: &Connection) -> Mono {
        let secured = &conn.secured;
        match self {
            Self::Busy => secured.retires,
            Self::Idle { since } => (since + conn.idle_time()).min(secured.retires),
            Self::Leaving { since } => (since + GOODBYE).min(secured.ends),
        }
    }
}
