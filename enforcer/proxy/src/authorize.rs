//! The authorization point (PA-01 to PA-07): a call goes in, a `Permitted` call or a denial comes out, on record.
//!
//! Nothing else makes a `Permitted`, and everything that forwards asks for one, so an unchecked path does not compile.
//! The record is accepted as strongly as its decision demands before anybody sees the outcome.

use std::fmt;
use std::sync::{Arc, OnceLock};

use base_ports::Now;
use ca_identity::{Refusal, TokenRefusal};
use enforcer_codec::{BodyLength, Call, CallProtocol, NotCanonical};
use enforcer_traffic::{Handling, Params, Route};
use policies_engine::{
    Action, ConnectionFacts, Decision, DecisionId, Declared, Facts, Mode, OwnedFacts, Phase, Reason, Receipt,
    RequestView, Snapshot, Token, Versions, observe,
};

use crate::fault::Fault;
use crate::inbound::{Connection, Stop};
use crate::issuer::Person;
use crate::judge::{InForce, Judged};
use crate::meter::RouteMeter;
use crate::secured::{reason_of, reason_of_token};
use crate::upstream::Upstreams;

/// Proof that `authorize` allowed exactly this call. Only this module builds one.
#[derive(Debug)]
pub(crate) struct Permitted<C> {
    call: C,
    in_force: Arc<InForce>,
    route: usize,
    decision: DecisionId,
    reads_time: bool,
}

/// A call that must not pass: why, and where that is on record.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) reason: Reason,
    pub(crate) decision: Option<DecisionId>,
    /// Version of the policies that denied it; 0 = none did.
    pub(crate) version: u64,
    /// The rule that a call without canonical form breaks; it names its own status.
    pub(crate) flaw: Option<NotCanonical>,
    /// Counters of its route, or of calls without one.
    pub(crate) meter: Arc<RouteMeter>,
}

/// Judges a call by the view in force.
///
/// # Errors
/// When it must not pass; a denial is on record then. A limit of the listener is none.
pub(crate) async fn authorize(conn: &Connection, call: Call, now: Now) -> Result<Permitted<Call>, Stop> {
    let facts = CallFacts::of(call, conn);
    let Judged { outcome, in_force, meter, decision, receipt, reads_time, flaw, facts } =
        conn.worker.judge.judge(conn, facts, now).map_err(Fault::Rate)?;
    let call = facts.call.clone();
    let kept = kept(receipt).await;
    match outcome {
        Ok(route) if kept => Ok(Permitted { call, in_force, route, decision, reads_time }),
        Ok(_) => Err(unrecorded(conn, facts, meter, now).into()),
        Err(reason) => {
            let version = in_force.version();
            Err(Denied { reason, decision: Some(decision), version, flaw, meter }.into())
        }
    }
}

/// Puts on record that a head made no call.
pub(crate) async fn not_canonical(conn: &Connection, flaw: NotCanonical, now: Now) -> Denied {
    let why = (Reason::NotCanonical, format!("{}: {}", flaw.rule, flaw.detail));
    let (facts, asked) = (of_connection(conn), (Phase::Request, Action::HttpOther));
    Denied { flaw: Some(flaw), ..refused(conn, asked, why, facts, now).await }
}

/// Puts on record that the token of a call is not good.
pub(crate) async fn not_proven(conn: &Connection, call: Call, refusal: &TokenRefusal, now: Now) -> Denied {
    let (why, action) = ((reason_of_token(refusal), refusal.code().to_owned()), action_of(&call));
    refused(conn, (Phase::Request, action), why, CallFacts::of(call, conn), now).await
}

/// Puts on record that a peer was refused in the handshake, before it could ask for anything.
pub(crate) async fn not_secured(conn: &Connection, refusal: &Refusal, now: Now) {
    let reason = match refusal {
        Refusal::NoCertificate => Reason::NoIdentity,
        other => reason_of(other.class()),
    };
    not_connected(conn, (reason, refusal.code().to_owned()), now).await;
}

/// Puts on record that a local caller was refused, and why (OUT4).
pub(crate) async fn not_attested(conn: &Connection, cause: String, now: Now) {
    not_connected(conn, (Reason::NoIdentity, cause), now).await;
}

async fn not_connected(conn: &Connection, why: (Reason, String), now: Now) {
    refused(conn, (Phase::Connect, Action::TcpConnect), why, of_connection(conn), now).await;
}

/// What is known before there is a call.
fn of_connection(conn: &Connection) -> Arc<dyn Facts> {
    Arc::new(OwnedFacts::new(ConnectionFacts::clone(&conn.secured.facts(false))))
}

/// Refused before any policy was asked, and on record.
async fn refused(
    conn: &Connection,
    (phase, action): (Phase, Action),
    (reason, detail): (Reason, String),
    facts: Arc<dyn Facts>,
    now: Now,
) -> Denied {
    let why = (reason, Some(detail));
    let (decision, receipt) = conn.worker.judge.refuse(conn, phase, why, action, facts, now);
    kept(receipt).await;
    let meter = Arc::clone(&conn.worker.nowhere);
    Denied { reason, decision: Some(decision), version: 0, flaw: None, meter }
}

/// Whether the record is kept as strongly as it must be.
async fn kept(receipt: Receipt) -> bool {
    match receipt {
        Receipt::Taken | Receipt::Lost => true,
        Receipt::Pending(accepted) => match accepted.await {
            Ok(()) => true,
            Err(cause) => {
                tracing::warn!(event = "audit_unavailable", %cause, "a call was refused because it could not be recorded");
                false
            }
        },
    }
}

/// The permit cannot be recorded as it must be, so it is none.
fn unrecorded(conn: &Connection, facts: Arc<CallFacts>, meter: Arc<RouteMeter>, now: Now) -> Denied {
    let action = action_of(&facts.call);
    let why = (Reason::AuditUnavailable, None);
    // The receipt of a refusal holds nothing back: it is best effort by definition (LS1).
    let (decision, _) = conn.worker.judge.refuse(conn, Phase::Request, why, action, facts, now);
    Denied { reason: Reason::AuditUnavailable, decision: Some(decision), version: 0, flaw: None, meter }
}

/// The action of a call in the words of the schema.
pub(crate) fn action_of(call: &Call) -> Action {
    match call.protocol() {
        CallProtocol::Grpc => Action::Grpc,
        CallProtocol::Tcp => Action::TcpConnect,
        _ if call.upgrade().is_some() => Action::HttpConnect,
        _ => Action::from_http_method(call.method()),
    }
}

/// What policies read of a call must be text: left out, or read otherwise, it would be as if it had not been sent (H1-11,
/// CC-11).
pub(crate) fn unread(versions: Option<&Versions>, call: &Call) -> Option<NotCanonical> {
    let Declared { headers, query, .. } = &*versions?.declared;
    if !headers.is_empty()
        && let Some(flaw) = call.unread(|name| headers.contains(name))
    {
        return Some(flaw);
    }
    let is_text = query.is_empty()
        || call.query().is_none()
        || request_of(call).query_is_text(|name| query.contains(name));
    (!is_text).then(|| call.unreadable())
}

/// The request of a call as policies see it.
#[must_use]
pub fn request_of(call: &Call) -> RequestView<'_> {
    RequestView {
        method: call.method(),
        host: call.authority(),
        path: call.path(),
        query: call.query(),
        media_type: call.media_type(),
        length: match call.body() {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Streamed => None,
        },
    }
}

/// Which policies say no, and how: `policies v3: forbid no-refunds`.
pub(crate) fn denies(versions: Option<&Versions>, verdict: Reason, decision: &Decision) -> String {
    let mut text = match versions {
        Some(versions) => format!("policies v{}: {verdict}", versions.numbers.policies),
        None => verdict.to_string(),
    };
    let errors = decision.errors.iter().map(|error| &error.policy);
    for id in decision.determining.iter().chain(errors) {
        text.push(' ');
        text.push_str(id);
    }
    text
}

/// Observe mode turns what it may into an allow that carries its denial (SH4).
pub(crate) fn soften(decision: Decision, mode: Mode, snapshot: &Snapshot) -> Decision {
    match mode {
        Mode::Enforce => decision,
        Mode::Observe => observe(decision, snapshot),
    }
}

impl<C> Permitted<C> {
    pub(crate) fn call(&self) -> &C {
        &self.call
    }

    /// Where the call is on record.
    pub(crate) fn decision(&self) -> DecisionId {
        self.decision
    }

    /// What permitted it.
    pub(crate) fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// The permit may end by the clock alone.
    pub(crate) fn reads_time(&self) -> bool {
        self.reads_time
    }

    /// What its route does with it.
    pub(crate) fn handling(&self) -> Option<&Handling> {
        self.upstreams().map(|upstreams| &upstreams.route.handling)
    }

    /// Where it may go.
    pub(crate) fn upstreams(&self) -> Option<&Upstreams> {
        self.in_force.route(self.route)
    }
}

impl Permitted<Call> {
    /// The call as policies see it once more.
    pub(crate) fn facts(&self, conn: &Connection) -> Arc<CallFacts> {
        CallFacts::of(self.call.clone(), conn)
    }
}

/// A call and its connection as policies and records see them: views, no copies.
pub(crate) struct CallFacts {
    call: Call,
    connection: Arc<ConnectionFacts>,
    person: Option<Arc<Person>>,
    /// Segments of the path that its route names; set once the route is found, where it names some.
    params: OnceLock<Params>,
}

impl CallFacts {
    pub(crate) fn of(call: Call, conn: &Connection) -> Arc<Self> {
        let grpc = call.protocol() == CallProtocol::Grpc;
        let connection = conn.secured.facts(grpc);
        let person = conn.secured.person().cloned();
        Arc::new(Self { call, connection, person, params: OnceLock::new() })
    }

    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    /// The call goes by that route.
    pub(crate) fn found(&self, route: Option<&Route>) {
        if let Some(template) = route.and_then(|route| route.template.as_ref()) {
            self.params.get_or_init(|| template.params(self.call.path()));
        }
    }
}

impl Facts for CallFacts {
    fn connection(&self) -> &ConnectionFacts {
        &self.connection
    }

    fn request(&self) -> Option<RequestView<'_>> {
        (self.call.protocol() != CallProtocol::Tcp).then(|| request_of(&self.call))
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        self.call.grpc()
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        // INVARIANT: a call with a value that is no text, in a field that policies read, was refused (CC-11).
        for value in self.call.header(name) {
            if let Ok(text) = str::from_utf8(value) {
                each(text);
            }
        }
    }

    fn param(&self, name: &str) -> Option<&str> {
        let params = self.params.get()?;
        params.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    fn token(&self) -> Option<&Arc<Token>> {
        self.person.as_ref().map(|person| &person.token)
    }
}

impl fmt::Debug for CallFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFacts").field("call", &self.call).finish_non_exhaustive()
    }
}
