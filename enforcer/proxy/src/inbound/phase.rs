//! Where a connection with calls side by side stands: when it says goodbye, and when it is cut.

use std::time::Duration;

use base_ports::Mono;

use super::Connection;

/// After GOAWAY the running calls have until here, or until the connection ends. In a drain they have until that ends.
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
            Self::Leaving { since } => leaves_until(since, conn.is_draining(), secured.ends),
        }
    }
}

/// The end of a drain cuts what is left by then; a call that fits is never cut before (DR-02).
fn leaves_until(since: Mono, in_drain: bool, ends: Mono) -> Mono {
    if in_drain { ends } else { (since + GOODBYE).min(ends) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dr_02_a_call_that_fits_into_a_drain_is_not_cut_after_30_seconds() {
        let at = |seconds: u64| Mono::from_nanos(seconds * 1_000_000_000);
        assert_eq!(leaves_until(at(10), false, at(1_000)), at(40));
        assert_eq!(leaves_until(at(10), true, at(1_000)), at(1_000));
        assert_eq!(leaves_until(at(10), false, at(20)), at(20), "nor does it outlive its identity");
    }
}
