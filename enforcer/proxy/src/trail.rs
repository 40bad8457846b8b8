//! What is known of a call at its end: counted, told to the log when something went wrong, and written as a trail where
//! trails are asked for (TA-01). Without them a call pays a branch.

mod line;
mod notes;
mod sink;
mod span;

pub use line::{CallTrail, TrailFormat};
pub(crate) use notes::Notes;
pub use sink::{Reader, Trails};
pub(crate) use span::trace_of;
pub use span::{Attribute, Span, SpanIds};

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Mono, Now};
use enforcer_codec::{Call, CallProtocol};
use enforcer_traffic::Timeouts;
use policies_engine::{DecisionId, Reason, Resource};

use crate::authorize::{Denied, Permitted};
use crate::fault::{Fault, Side};
use crate::inbound::Connection;
use crate::meter::RouteMeter;
use crate::shed::Shed;
use crate::worker::Worker;
use line::End;

/// The trail of one call, while it runs.
#[derive(Debug)]
pub(crate) struct Trail {
    protocol: CallProtocol,
    status: u16,
    meter: Option<Arc<RouteMeter>>,
    decision: Option<DecisionId>,
    /// What only a trail tells that is written.
    story: Option<Box<Story>>,
}

#[derive(Debug)]
struct Story {
    call: Option<Call>,
    version: u64,
    verdict: Option<Reason>,
    resource: Option<Resource>,
    authorized: Option<Mono>,
    end: End,
    cause: String,
    /// Of an answer of our own.
    grpc_status: Option<u8>,
    notes: Notes,
    /// Of a call that is sampled.
    span: Option<SpanIds>,
}

impl Trail {
    pub(crate) fn start(protocol: CallProtocol, worker: &Worker) -> Self {
        let is_told = worker.trails.as_ref().is_some_and(Trails::tells_all);
        let story = is_told.then(|| Box::new(Story::new(None)));
        Self { protocol, status: 0, meter: None, decision: None, story }
    }

    /// The head made a call. One that is sampled goes on as a part of its span, so that record and endpoint hear of it (OB4).
    pub(crate) fn call(&mut self, call: Call, worker: &Worker) -> Call {
        let Some(trails) = &worker.trails else { return call };
        let span = trails.share().and_then(|share| SpanIds::of(&call, share, &*worker.rng));
        let call = match &span {
            Some(span) => span.around(&call),
            None => call,
        };
        if span.is_some() {
            self.story = Some(Box::new(Story::new(span)));
        }
        if let Some(story) = &mut self.story {
            story.call = Some(call.clone());
        }
        call
    }

    /// The call may pass; answers the clocks of its route.
    pub(crate) fn permitted(
        &mut self,
        permitted: &Permitted<Call>,
        conn: &Connection,
    ) -> (Timeouts, Option<Duration>) {
        self.decision = Some(permitted.decision());
        if let Some(story) = &mut self.story {
            story.version = permitted.in_force().version();
            story.authorized = Some(conn.worker.clock.mono());
            story.resource = Some(permitted.in_force().resource(conn, permitted.call()).clone());
        }
        match permitted.upstreams() {
            Some(upstreams) => {
                self.meter = Some(Arc::clone(&upstreams.meter));
                let timeouts = upstreams.route.timeouts;
                (timeouts, timeouts.budget(permitted.call()))
            }
            None => (Timeouts::default(), None),
        }
    }

    pub(crate) fn denied(&mut self, denied: &Denied, conn: &Connection) {
        self.decision = denied.decision;
        self.meter = Some(Arc::clone(&denied.meter));
        if let Some(story) = &mut self.story {
            (story.version, story.verdict, story.end) = (denied.version, Some(denied.reason), End::Denied);
            let flaw = denied.flaw.map(|flaw| format!("{}: {}", flaw.rule, flaw.detail));
            story.cause = flaw.unwrap_or_default();
            let in_force = conn.worker.judge.in_force();
            let resource = story.call.as_ref().map(|call| in_force.resource(conn, call).clone());
            story.resource = story.resource.take().or(resource);
        }
    }

    pub(crate) fn fault(&mut self, fault: &Fault) {
        let decision = self.decision.map(|id| id.to_string()).unwrap_or_default();
        let cause = chain(fault);
        match fault.side() {
            // Counted as well, and there may be many: a line for each would be load of its own.
            Side::Limit => {
                let reason = fault.shed().map_or("", Shed::as_str);
                tracing::debug!(event = "shed", decision, reason, "a call was refused for load")
            }
            Side::Operator => {
                tracing::debug!(
                    event = "fault_injected",
                    decision,
                    cause,
                    "a call failed because an operator wants it so"
                )
            }
            Side::Upstream => {
                tracing::warn!(event = "upstream_failed", decision, cause, "a call got no proper answer")
            }
            Side::Downstream => {
                tracing::debug!(event = "caller_failed", decision, cause, "a caller broke its call off")
            }
        }
        if let Some(story) = &mut self.story {
            story.cause = cause;
            story.end = match (fault.shed(), fault.side()) {
                (Some(reason), _) => End::Shed(reason.as_str()),
                (None, Side::Downstream) => End::Caller,
                (None, Side::Operator) => End::Injected,
                (None, Side::Upstream | Side::Limit) => End::Upstream,
            };
        }
    }

    /// A gRPC caller was told that status by the gateway itself.
    pub(crate) fn told_grpc(&mut self, status: u8) {
        if let (Some(story), CallProtocol::Grpc) = (&mut self.story, self.protocol) {
            story.grpc_status = Some(status);
        }
    }

    /// Where the call is on record.
    pub(crate) fn decision(&self) -> Option<DecisionId> {
        self.decision
    }

    /// The status of the answer, and what is noted besides while the call runs.
    pub(crate) fn running(&mut self) -> (&mut u16, Option<&Notes>) {
        (&mut self.status, self.story.as_ref().map(|story| &story.notes))
    }

    /// The status of the answer.
    pub(crate) fn status(&mut self) -> &mut u16 {
        &mut self.status
    }

    /// Counts the call that came at `started`, and has its trail written: of its bodies so many bytes came and went.
    /// Answers when it ended.
    pub(crate) fn end(self, conn: &Connection, started: Now, (received, sent): (u64, u64)) -> Mono {
        let meter = self.meter.as_ref().unwrap_or(&conn.worker.nowhere);
        let now = conn.worker.clock.mono();
        let took = now.saturating_since(started.mono);
        meter.call(self.protocol, self.status, took);
        if let (Some(story), Some(trails)) = (self.story, &conn.worker.trails) {
            let since = |moment: Mono| moment.saturating_since(started.mono);
            let (up, down) = story.notes.tunnelled();
            let (route, service) = meter.names();
            trails.put(CallTrail {
                span: story.span,
                began: started.wall,
                took,
                handshake: conn.secured.shaken_in,
                authorized: story.authorized.map(since),
                queue: story.notes.queue(),
                connect: story.notes.connect(),
                first_byte: story.notes.first_byte().map(since),
                protocol: self.protocol,
                principal: conn.secured.principal.clone(),
                connection: conn.secured.facts(self.protocol == CallProtocol::Grpc),
                source: conn.secured.source(),
                via: conn.via,
                call: story.call,
                decision: self.decision,
                version: story.version,
                verdict: story.verdict,
                resource: story.resource,
                route: Arc::clone(route),
                service: Arc::clone(service),
                sent_to: story.notes.sent_to(),
                tries: story.notes.tries(),
                // What gRPC has to say stands in its own status; on the wire it is a success.
                status: if story.grpc_status.is_some() { 200 } else { self.status },
                grpc_status: story.grpc_status.or_else(|| story.notes.grpc_status()),
                received: received.max(up),
                sent: sent.max(down),
                end: story.end,
                cause: story.cause,
            });
        }
        now
    }
}

impl Story {
    fn new(span: Option<SpanIds>) -> Self {
        Self {
            call: None,
            version: 0,
            verdict: None,
            resource: None,
            authorized: None,
            end: End::Complete,
            cause: String::new(),
            grpc_status: None,
            notes: Notes::new(),
            span,
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
