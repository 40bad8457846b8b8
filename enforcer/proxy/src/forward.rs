//! From the permit to the answer: an endpoint is picked, the judged call is told to it, its answer goes to the caller.
//!
//! What the upstream receives is printed from the judged call and from facts of the connection, nothing else (CC-09,
//! TL-11). Body up and answer down run in one task, so either side can hold the other back and both end together.

mod connect;
mod http1;
mod http2;
mod http3;
mod pick;
mod rewritten;
mod tcp;
mod tries;
mod websocket;
#[cfg(test)]
pub(crate) use websocket::accept_of;

use std::fmt::{self, Write as _};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use enforcer_codec::headers::{Extra, HOP};
use enforcer_codec::{Answer, Asked, Call, CallProtocol, NotCanonical, Upgrade};
use enforcer_traffic::{RetryBudget, RetrySettings, Trigger, UpstreamProtocol};
use policies_engine::DecisionId;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Reveal;
use crate::authorize::Permitted;
use crate::body::{Inlet, Outlet, RelayError};
use crate::clocks::Clocks;
use crate::fault::{Broken, Fault};
use crate::inbound::Connection;
use crate::injection::Injection;
use crate::mirror;
use crate::upstream::Upstream;
use pick::Pick;
use rewritten::rewritten;
use tries::{Chance, Tried, Wish};

/// The service by which gRPC asks for health.
const HEALTH: &str = "grpc.health.v1.Health";

/// An endpoint says again and again that its answer is to come.
const TOO_MANY_INTERIM: NotCanonical =
    NotCanonical { rule: "HR-03", status: 502, close: true, detail: "too many interim answers" };

/// The way of one call: who calls, what comes in, where the answer goes.
pub(crate) struct Way<'a, 'b, R, W> {
    pub(crate) conn: &'a Connection,
    pub(crate) clocks: &'a Clocks<'a>,
    pub(crate) body: &'a mut Inlet<'b, R>,
    pub(crate) out: &'a mut Outlet<'b, W>,
    /// Status of the answer, once it has one.
    pub(crate) status: &'a mut u16,
}

/// Carries the call to an endpoint and the answer back, and to another endpoint when that is safe and of use (RY-02).
///
/// # Errors
/// When no complete answer came about. Whether its head is out already, the outlet knows.
pub(crate) async fn forward<R, W>(
    permitted: &Permitted<Call>,
    way: &mut Way<'_, '_, R, W>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let upstreams = permitted.upstreams().ok_or(Fault::NoEndpoint)?;
    if !upstreams.route.connect.is_empty() {
        return Box::pin(connect::carry(permitted, &upstreams.route, way)).await;
    }
    let now = way.clocks.started();
    if let Some(injection) =
        way.conn.worker.fleets.injections.of(&upstreams.route.name, || way.conn.worker.rng.share(), now)
    {
        Box::pin(suffer(permitted, &injection, way.conn)).await?;
    }
    let upstream = upstreams.choose(permitted.call(), way.conn).ok_or(Fault::NoEndpoint)?;
    if !upstream.fleet.admits(|| way.conn.worker.rng.share(), way.clocks.started()) {
        return Err(Fault::Unadmitted);
    }
    // The permit precedes every effect, the wish for a body among them (PA-03).
    if way.body.awaits_continue() {
        Box::pin(way.out.proceed()).await.map_err(Fault::Caller)?;
    }
    let rewritten = rewritten(permitted, way.conn, upstream)?;
    let call = rewritten.as_ref().unwrap_or(permitted.call());
    if let Some(to) = upstreams.mirrors() {
        mirror::begin(permitted, to, way.conn, way.body);
    }
    let retry = (&upstreams.route.retry, &*upstreams.budget);
    let mut chance = Chance::new(retry, call, way.conn, way.clocks);
    if chance.is_open()
        && permitted.call().upgrade().is_none()
        && permitted.call().protocol() != CallProtocol::Tcp
        && let Some(is_spent) = way.body.keep()
    {
        chance.watch_body(is_spent);
    }
    match Pick::new(permitted, upstream, &chance, None, way.clocks.started()) {
        Ok(pick) => match carry(&pick, way).await {
            Err(fault) => Box::pin(again(fault, pick, way)).await,
            told => told,
        },
        Err(Fault::Busy) => Box::pin(later(permitted, upstream, &chance, way)).await,
        Err(fault) => Err(fault),
    }
}

/// Carries the copy of a call to its mirror: one try, at once or not at all.
///
/// # Errors
/// When no complete answer came about.
pub(crate) async fn mirrored<R, W>(
    permitted: &Permitted<Call>,
    to: &Upstream,
    way: &mut Way<'_, '_, R, W>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let rewritten = rewritten(permitted, way.conn, to)?;
    let call = rewritten.as_ref().unwrap_or(permitted.call());
    let retry = (&RetrySettings { attempts: 0, ..RetrySettings::default() }, &RetryBudget::default());
    let chance = Chance::new(retry, call, way.conn, way.clocks);
    let pick = Pick::new(permitted, to, &chance, None, way.clocks.started())?;
    let told = carry(&pick, way).await;
    told.inspect_err(|fault| pick.failed(fault))
}

/// What an operator has befall a call of that route; who asks for health is spared (RT-06).
async fn suffer(permitted: &Permitted<Call>, injection: &Injection, conn: &Connection) -> Result<(), Fault> {
    if permitted.call().grpc().is_some_and(|(service, _)| service == HEALTH) {
        return Ok(());
    }
    let told = |kind| conn.worker.meters.injected.with(&[&*injection.route, kind]).inc();
    if let Some(delay) = injection.delay {
        told("delay");
        tokio::time::sleep(delay).await;
    }
    if let Some(status) = injection.abort {
        told("abort");
        return Err(Fault::Injected { status });
    }
    Ok(())
}

/// The same once an endpoint has a place.
async fn later<R, W>(
    permitted: &Permitted<Call>,
    upstream: &Upstream,
    chance: &Chance<'_>,
    way: &mut Way<'_, '_, R, W>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let pick = Pick::wait(permitted, upstream, chance, None).await?;
    match carry(&pick, way).await {
        Err(fault) => again(fault, pick, way).await,
        told => told,
    }
}

/// What follows after a fault of the first try: others, as long as that is safe and of use.
async fn again<R, W>(mut fault: Fault, mut pick: Pick<'_>, way: &mut Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut tried = Tried::default();
    loop {
        pick.failed(&fault);
        let another = if way.out.is_begun() { None } else { pick.chance.after(&fault) };
        let Some((trigger, pause)) = another else { return Err(fault) };
        let (endpoint, decision) = (&pick.endpoint.address, pick.permitted.decision());
        tracing::info!(event = "tried_again", %decision, %endpoint, cause = trigger.as_str(), "a try failed and another one follows");
        tried.add(pick.place, &fault);
        pick = match pick.after(&tried, pause).await {
            Err(Fault::NoEndpoint | Fault::NoGrpc | Fault::NoUpgrade) => return Err(fault),
            another => another?,
        };
        way.body.rewind();
        match carry(&pick, way).await {
            Err(next) => fault = next,
            told => return told,
        }
    }
}

/// One try.
async fn carry<R, W>(pick: &Pick<'_>, way: &mut Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if let Some(notes) = way.clocks.notes() {
        notes.tried(pick.cluster(), &pick.endpoint.address);
    }
    let told = match (pick.endpoint.protocol, pick.chance.try_timeout()) {
        (UpstreamProtocol::Tcp, _) => Box::pin(tcp::carry(pick, way)).await,
        (UpstreamProtocol::Http1, None) => http1::carry(pick, way).await,
        (UpstreamProtocol::Http2, None) => http2::carry(pick, way).await,
        (UpstreamProtocol::Http3, None) => Box::pin(http3::carry(pick, way)).await,
        (UpstreamProtocol::Http1, Some(_)) => pick.within_try(Box::pin(http1::carry(pick, way))).await,
        (UpstreamProtocol::Http2, Some(_)) => pick.within_try(Box::pin(http2::carry(pick, way))).await,
        (UpstreamProtocol::Http3, Some(_)) => pick.within_try(Box::pin(http3::carry(pick, way))).await,
    };
    let meter = &pick.endpoint.meter;
    if told.is_ok() { &meter.answered } else { &meter.failed }.inc();
    told
}

/// Moves the body up and the answer down until the answer is complete; true when the whole body went up too.
///
/// An upstream may answer before it has read everything, so a body that it does not take is no fault by itself.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Fault>>>,
) -> Result<bool, Fault> {
    let mut sent = None;
    poll_fn(|context| {
        if sent.is_none()
            && let Poll::Ready(ended) = up.as_mut().poll(context)
        {
            match ended {
                Ok(()) => sent = Some(true),
                Err(RelayError::To(_)) => sent = Some(false),
                Err(RelayError::From(broken)) => return Poll::Ready(Err(Fault::of_caller(broken))),
            }
        }
        down.as_mut().poll(context).map(|ended| ended.map(|()| sent.unwrap_or(false)))
    })
    .await
}

/// Waits for the upstream, unless the caller gives the call up first.
async fn unless_gone<T, W: AsyncWrite + Unpin>(
    out: &mut Outlet<'_, W>,
    mut upstream: Pin<&mut impl Future<Output = Result<T, Fault>>>,
) -> Result<T, Fault> {
    poll_fn(|context| {
        if let Poll::Ready(gone) = out.poll_gone(context) {
            return Poll::Ready(Err(Fault::Caller(gone)));
        }
        upstream.as_mut().poll(context)
    })
    .await
}

/// A call that is being told to its endpoint.
struct Told<'a> {
    pick: &'a Pick<'a>,
    decision: DecisionText,
}

impl<'a> Told<'a> {
    /// Proven not to be processed, or harmless to tell again on a connection that had been kept (RY-02, RY-05).
    fn is_harmless(&self, source: &Broken, was_used: bool) -> bool {
        source.is_unprocessed() || (was_used && tries::is_idempotent(self.pick.call()) && source.is_lost())
    }

    fn of(pick: &'a Pick<'a>) -> Self {
        Self { pick, decision: DecisionText::of(pick.permitted.decision()) }
    }

    fn conn(&self) -> &'a Connection {
        self.pick.chance.conn
    }

    fn clocks(&self) -> &'a Clocks<'a> {
        self.pick.chance.clocks
    }

    /// Gives the fields for the upstream, made from facts of the TLS connection (TL-11).
    fn with_identity<T>(&self, then: impl FnOnce(&[Extra<'_>]) -> T) -> T {
        let secured = &self.conn().secured;
        // Who calls here is no business of strangers.
        let (peer, cert) = match self.pick.endpoint.is_external() {
            false => (secured.peer_header.as_bytes(), secured.cert_header.as_bytes()),
            true => (&[][..], &[][..]),
        };
        let told = [
            ("portcullis-peer", peer),
            ("x-forwarded-client-cert", cert),
            (HOP, self.conn().worker.mark().unwrap_or_default().as_bytes()),
            (MIRROR_HEADER, if self.conn().mirrors.is_some() { b"true" } else { b"" }),
        ];
        let mut extra: [Extra<'_>; 5] = [(DECISION_HEADER, self.decision.as_bytes()); 5];
        let mut count = 1_usize;
        for (slot, known) in
            extra.iter_mut().skip(1).zip(told.into_iter().filter(|(_, value)| !value.is_empty()))
        {
            *slot = known;
            count = count.saturating_add(1);
        }
        then(extra.get(..count).unwrap_or_default())
    }

    /// The answer of the upstream as the route declares it changed.
    fn edited(&self, answer: Answer) -> Answer {
        match self
            .pick
            .permitted
            .handling()
            .map(|handling| &handling.response)
            .filter(|edits| !edits.is_empty())
        {
            Some(edits) => answer.edited(edits),
            None => answer,
        }
    }

    /// Gives the fields for the caller.
    fn with_decision<T>(&self, then: impl FnOnce(&[Extra<'_>]) -> T) -> T {
        let decision = (DECISION_HEADER, self.decision.as_bytes());
        match (self.conn().worker.reveal == Reveal::Always, self.conn().alternative()) {
            (false, None) => then(&[]),
            (true, None) => then(&[decision]),
            (false, Some(other)) => then(&[other]),
            (true, Some(other)) => then(&[decision, other]),
        }
    }

    fn asked(&self) -> Asked {
        match self.pick.call().upgrade() {
            Some(Upgrade::WebSocket) => Asked::WebSocket,
            _ => Asked::by(self.pick.call().http_method()),
        }
    }

    /// The head of the answer is there: what it tells of the endpoint, and whether it is passed on.
    ///
    /// # Errors
    /// When the call is tried again instead.
    fn judge(&self, answer: &Answer, trigger: Trigger) -> Result<(), Fault> {
        if let (Trigger::Grpc(status), Some(notes)) = (trigger, self.clocks().notes()) {
            notes.grpc(status);
        }
        let is_trouble = !matches!(trigger, Trigger::Status(..429) | Trigger::Grpc(0));
        let wish = if is_trouble { Wish::of(answer) } else { Wish::None };
        self.pick.answered(trigger, wish);
        match self.pick.chance.take(trigger, wish) {
            Some(pause) => Err(Fault::Again { trigger, pause }),
            None => {
                self.pick.chance.settle();
                Ok(())
            }
        }
    }

    /// What it means that the body of the answer did not come through.
    fn ended(&self, error: RelayError) -> Fault {
        match error {
            RelayError::From(broken) => self.broke(broken),
            RelayError::To(broken) => Fault::Caller(broken),
        }
    }

    fn broke(&self, source: Broken) -> Fault {
        Fault::of_broken(&self.pick.endpoint.address, source)
    }
}

/// The header that names a decision.
pub(crate) const DECISION_HEADER: &str = "portcullis-decision-id";

/// The header that tells an endpoint of a mirror that nobody waits for its answer.
const MIRROR_HEADER: &str = "portcullis-mirror";

/// A printed decision id, without an allocation of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecisionText {
    bytes: [u8; 32],
    length: usize,
}

impl DecisionText {
    pub(crate) fn of(id: DecisionId) -> Self {
        let mut text = Self { bytes: [0; 32], length: 0 };
        // INVARIANT: an id has 26 characters, so it fits; what does not fit is cut.
        write!(text, "{id}").unwrap_or_default();
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Write for DecisionText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.iter_mut().skip(self.length);
        for (slot, byte) in room.zip(text.bytes()) {
            *slot = byte;
            self.length = self.length.saturating_add(1);
        }
        Ok(())
    }
}
