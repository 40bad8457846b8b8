//! From the permit to the answer: an endpoint is picked, the judged call is told to it, its answer goes to the caller.
//!
//! What the upstream receives is printed from the judged call and from facts of the connection, nothing else (CC-09,
//! TL-11). Body up and answer down run in one task, so either side can hold the other back and both end together.

mod http1;
mod http2;
mod websocket;

use std::fmt::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use enforcer_codec::headers::Extra;
use enforcer_codec::{Answer, Asked, Call, CallProtocol, Rewriting, Upgrade};
use enforcer_traffic::{Handling, UpstreamProtocol};
use http::Method;
use policies_engine::DecisionId;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Reveal;
use crate::authorize::Permitted;
use crate::body::{Inlet, Outlet, RelayError};
use crate::clocks::Clocks;
use crate::fault::{Broken, Fault};
use crate::inbound::Connection;
use crate::pool::InFlight;
use crate::upstream::{Upstream, Upstreams};

/// A permitted call and the endpoint that gets it.
#[derive(Debug)]
pub(crate) struct Pick {
    permitted: Permitted<Call>,
    /// The call as its route declares it changed; none where it is told as it was judged.
    rewritten: Option<Call>,
    endpoint: InFlight,
    upstream: Arc<Upstream>,
}

/// Chooses an endpoint for a permitted call.
///
/// # Errors
/// When none can be used.
pub(crate) fn pick(permitted: Permitted<Call>) -> Result<Pick, Fault> {
    let upstream = permitted.upstreams().and_then(Upstreams::choose).ok_or(Fault::NoEndpoint)?;
    let grpc = permitted.call().protocol() == CallProtocol::Grpc;
    let needs = match permitted.call().upgrade() {
        _ if grpc => Some(UpstreamProtocol::H2c),
        Some(_) => Some(UpstreamProtocol::Http1),
        None => None,
    };
    let usable = |place: usize| {
        let endpoint = upstream.endpoints.get(place)?;
        needs.is_none_or(|needed| endpoint.protocol == needed).then(|| endpoint.load())
    };
    let place = upstream.balancer.lock().pick(usable);
    let endpoint = place.and_then(|place| upstream.endpoints.get(place));
    let endpoint = endpoint.ok_or(match needs {
        Some(UpstreamProtocol::H2c) => Fault::NoGrpc,
        Some(UpstreamProtocol::Http1) => Fault::NoUpgrade,
        None => Fault::NoEndpoint,
    });
    let endpoint = endpoint?.enter();
    let upstream = Arc::clone(upstream);
    let rewritten = match permitted.handling().filter(|handling| !handling.is_plain()) {
        Some(handling) => Some(rewrite(&permitted, handling)?),
        None => None,
    };
    Ok(Pick { permitted, rewritten, endpoint, upstream })
}

/// The call that the upstream receives instead of the judged one, made of canonical parts of that (CC-09).
#[cold]
fn rewrite(permitted: &Permitted<Call>, handling: &Handling) -> Result<Call, Fault> {
    let call = permitted.call();
    let path = handling.path(call.path());
    let fields = Some(&handling.request).filter(|edits| !edits.is_empty());
    let rewriting = Rewriting { authority: handling.host(), path: path.as_deref(), fields };
    let told = call.rewritten(&rewriting).map_err(Fault::Untold)?;
    tracing::debug!(
        event = "rewritten",
        decision = %permitted.decision(),
        host = told.authority(),
        path = told.path(),
        "the upstream receives another call than was judged, as its route says"
    );
    Ok(told)
}

/// The way of one call: who calls, what comes in, where the answer goes.
pub(crate) struct Way<'a, 'b, R, W> {
    pub(crate) conn: &'a Connection,
    pub(crate) clocks: &'a Clocks<'a>,
    pub(crate) body: &'a mut Inlet<'b, R>,
    pub(crate) out: &'a mut Outlet<'b, W>,
    /// Status of the answer, once it has one.
    pub(crate) status: &'a mut u16,
}

/// Carries the call to its endpoint and the answer back.
///
/// # Errors
/// When no complete answer came about. Whether its head is out already, the outlet knows.
pub(crate) async fn forward<R, W>(pick: &Pick, way: Way<'_, '_, R, W>) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // The permit precedes every effect, the wish for a body among them (PA-03).
    if way.body.awaits_continue() {
        Box::pin(way.out.proceed()).await.map_err(Fault::Caller)?;
    }
    let told = match pick.endpoint.protocol {
        UpstreamProtocol::Http1 => http1::carry(pick, way).await,
        UpstreamProtocol::H2c => http2::carry(pick, way).await,
    };
    let meter = &pick.endpoint.meter;
    if told.is_ok() { &meter.answered } else { &meter.failed }.inc();
    told
}

impl Pick {
    pub(crate) fn permitted(&self) -> &Permitted<Call> {
        &self.permitted
    }

    /// How long a dial may take.
    fn connect_timeout(&self) -> Duration {
        self.upstream.cluster.connect_timeout
    }

    /// What the upstream receives.
    fn call(&self) -> &Call {
        self.rewritten.as_ref().unwrap_or(self.permitted.call())
    }

    /// Telling the call twice does no more than telling it once (RFC 9110 9.2.2).
    fn is_idempotent(&self) -> bool {
        let method = self.call().http_method();
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
    }
}

/// Moves the body up and the answer down until the answer is complete; true when the whole body went up too.
///
/// An upstream may answer before it has read everything, so a body that it does not take is no fault by itself.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Fault>>>,
) -> Result<bool, Fault> {
    let mut sent = None;
    std::future::poll_fn(|context| {
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
    std::future::poll_fn(|context| {
        if let Poll::Ready(gone) = out.poll_gone(context) {
            return Poll::Ready(Err(Fault::Caller(gone)));
        }
        upstream.as_mut().poll(context)
    })
    .await
}

/// A call that is being told to its endpoint.
struct Told<'a> {
    pick: &'a Pick,
    conn: &'a Connection,
    clocks: &'a Clocks<'a>,
    decision: DecisionText,
}

impl<'a> Told<'a> {
    fn of(pick: &'a Pick, conn: &'a Connection, clocks: &'a Clocks<'a>) -> Self {
        Self { pick, conn, clocks, decision: DecisionText::of(pick.permitted.decision()) }
    }

    /// Gives the fields for the upstream, made from facts of the TLS connection (TL-11).
    fn with_identity<T>(&self, then: impl FnOnce(&[Extra<'_>]) -> T) -> T {
        let decision: Extra<'_> = (DECISION_HEADER, self.decision.as_bytes());
        let secured = &self.conn.secured;
        if secured.peer_header.is_empty() {
            return then(&[decision]);
        }
        then(&[
            ("portcullis-peer", secured.peer_header.as_bytes()),
            ("x-forwarded-client-cert", secured.cert_header.as_bytes()),
            decision,
        ])
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
        match self.conn.worker.reveal {
            Reveal::Always => then(&[(DECISION_HEADER, self.decision.as_bytes())]),
            Reveal::Denied | Reveal::Never => then(&[]),
        }
    }

    fn asked(&self) -> Asked {
        match self.pick.call().upgrade() {
            Some(Upgrade::WebSocket) => Asked::WebSocket,
            _ => Asked::by(self.pick.call().http_method()),
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
        Fault::Upstream { address: self.pick.endpoint.address, source }
    }
}

/// The header that names a decision.
pub(crate) const DECISION_HEADER: &str = "portcullis-decision-id";

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
