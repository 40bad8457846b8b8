//! What is known of a call at its end: counted, and told to the log when something went wrong.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Mono, Now};
use enforcer_codec::{Call, CallProtocol};
use enforcer_traffic::Timeouts;
use policies_engine::DecisionId;

use crate::authorize::{Denied, Permitted};
use crate::fault::{Fault, Side};
use crate::inbound::Connection;
use crate::meter::RouteMeter;
use crate::shed::Shed;

/// The trail of one call.
#[derive(Debug)]
pub(crate) struct Trail {
    protocol: CallProtocol,
    started: Now,
    status: u16,
    meter: Option<Arc<RouteMeter>>,
    decision: Option<DecisionId>,
}

impl Trail {
    pub(crate) fn start(protocol: CallProtocol, started: Now) -> Self {
        Self { protocol, started, status: 0, meter: None, decision: None }
    }

    /// The call may pass; answers the clocks of its route.
    pub(crate) fn permitted(&mut self, permitted: &Permitted<Call>) -> (Timeouts, Option<Duration>) {
        self.decision = Some(permitted.decision());
        match permitted.upstreams() {
            Some(upstreams) => {
                self.meter = Some(Arc::clone(&upstreams.meter));
                let timeouts = upstreams.route.timeouts;
                (timeouts, timeouts.budget(permitted.call()))
            }
            None => (Timeouts::default(), None),
        }
    }

    pub(crate) fn denied(&mut self, denied: &Denied) {
        self.decision = denied.decision;
        self.meter = Some(Arc::clone(&denied.meter));
    }

    pub(crate) fn fault(&self, fault: &Fault) {
        let decision = self.decision.map(|id| id.to_string()).unwrap_or_default();
        let cause = chain(fault);
        match fault.side() {
            // Counted as well, and there may be many: a line for each would be load of its own.
            Side::Limit => {
                let reason = fault.shed().map_or("", Shed::as_str);
                tracing::debug!(event = "shed", decision, reason, "a call was refused for load")
            }
            Side::Upstream => {
                tracing::warn!(event = "upstream_failed", decision, cause, "a call got no proper answer")
            }
            Side::Downstream => {
                tracing::debug!(event = "caller_failed", decision, cause, "a caller broke its call off")
            }
        }
    }

    /// Where the call is on record.
    pub(crate) fn decision(&self) -> Option<DecisionId> {
        self.decision
    }

    /// The status of the answer.
    pub(crate) fn status(&mut self) -> &mut u16 {
        &mut self.status
    }

    /// Counts the call; answers when it ended.
    pub(crate) fn end(self, conn: &Connection) -> Mono {
        let meter = self.meter.as_ref().unwrap_or(&conn.worker.nowhere);
        let now = conn.worker.clock.mono();
        meter.call(self.protocol, self.status, now.saturating_since(self.started.mono));
        now
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
