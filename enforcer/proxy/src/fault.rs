//! What goes wrong after the permit: whose fault it is, and whether trying once more is safe.
//!
//! A refusal is not a fault: see `Denied`. Faults become a status in exactly one place, `respond`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base_ports::NetAddr;
use ca_identity::Refusal;
use ca_identity::tls::{alert_in, refusal_in};
use enforcer_codec::NotCanonical;
use enforcer_codec::h2::Reason;
use enforcer_traffic::balance::Nobody;
use enforcer_traffic::{Exceeded, NoWait, Trigger, UpstreamProtocol};
use h3::error::{Code, StreamError};

use crate::shed::Shed;

/// Why a call that was permitted did not come to its answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The listener or the route takes no more calls a second (RL-02).
    #[error("too many calls")]
    Rate(Box<Exceeded>),
    /// The process or the worker is near a limit (OV-01).
    #[error("the gateway is overloaded")]
    Overload(Shed),
    /// Every endpoint of the route is out of use.
    #[error("no endpoint can be used")]
    NoEndpoint,
    /// gRPC needs trailers, which the only endpoints cannot carry (RPC-03).
    #[error("no endpoint of the route speaks http/2, which grpc needs")]
    NoGrpc,
    /// A WebSocket begins in HTTP/1.1 (WS-01), which no endpoint speaks.
    #[error("no endpoint of the route speaks http/1.1, which a websocket needs")]
    NoUpgrade,
    /// Too few endpoints are healthy, and the cluster does not use the others then (LB-12).
    #[error("too few endpoints are healthy")]
    NoHealthy,
    /// An operator has the call fail (RT-06).
    #[error("an operator has it answered {status}")]
    Injected { status: u16 },
    /// The call was here before (SC-05).
    #[error("the call comes back to where it has been")]
    Loop,
    /// This process cannot originate calls yet (SC-04).
    #[error("identity or policies are not here yet")]
    NotReady,
    /// So many calls to the cluster fail that some are not sent (AM-01).
    #[error("too many calls to the cluster fail")]
    Unadmitted,
    /// Every endpoint, or the cluster, has as many calls or connections as it may (OD-04).
    #[error("the cluster is at its limit")]
    Full,
    /// Every endpoint has as many calls as it may; one that waits may get a place.
    #[error("every endpoint is full")]
    Busy,
    /// As many calls wait as may.
    #[error("too many calls wait for an endpoint")]
    QueueFull,
    /// The time to wait was over before there was a place, or would have been (EL-02).
    #[error("no endpoint had a place in time")]
    QueueDeadline,
    /// This try came to nothing, and another one follows.
    #[error("the endpoint answered `{trigger:?}`")]
    Again { trigger: Trigger, pause: Duration },
    /// No connection to the endpoint.
    #[error("connect to `{address}`")]
    Connect { address: NetAddr, source: io::Error },
    /// The endpoint is not who the cluster expects, or cannot prove it (OUT1).
    #[error("`{address}` is not who is expected there")]
    WrongPeer { address: NetAddr, source: Refusal },
    /// The endpoint did not accept our certificate, and said so in the handshake or after it (TL-10).
    #[error("`{address}` rejected the connection with the alert `{alert}`")]
    TlsRejected { address: NetAddr, alert: String },
    /// The connection to the endpoint ended or broke before the answer was complete.
    #[error("the connection to `{address}` broke")]
    Upstream { address: NetAddr, source: Broken },
    /// The endpoint answers a gRPC call in another protocol.
    #[error("a grpc call was answered {status} without grpc")]
    NotGrpc { status: u16 },
    /// The target of a tunnel has no address.
    #[error("the target `{host}` has no address")]
    NoAddress { host: String, source: io::Error },
    /// The target of a tunnel leads to a place that names must not lead to (OUT5).
    #[error("the target `{host}` leads to `{address}`, which only an address in `connect` could open")]
    Barred { host: String, address: IpAddr },
    /// The call cannot be told in the protocol of the endpoint.
    #[error("the call cannot be told to the endpoint")]
    Untold(#[source] NotCanonical),
    /// The answer took too long, or the call as a whole did.
    #[error("the deadline passed")]
    Deadline,
    /// The caller takes its answer more slowly than is waited for.
    #[error("the caller does not take its answer")]
    Unread,
    /// The identity that opened the connection came to its end (CT-02).
    #[error("the identity of the connection has ended")]
    Lapsed,
    /// The body of the request broke the rules of its framing.
    #[error("the body of the request")]
    Body(#[source] NotCanonical),
    /// The caller is gone.
    #[error("the caller is gone")]
    Caller(#[source] Broken),
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
    /// Nobody's: there is a limit, and it was met.
    Limit,
    /// An operator wants it so.
    Operator,
}

/// What happened to a connection or a stream while a message was on its way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The socket failed.
    #[error("socket")]
    Io(#[from] io::Error),
    /// The peer ended where it must not.
    #[error("it ended early")]
    Ended,
    /// The bytes break the rules.
    #[error("its bytes are malformed")]
    Gate(#[from] NotCanonical),
    /// The stream was reset, or is over; or the connection broke the rules of HTTP/2.
    #[error("its stream ended ({})", .0.0)]
    Stream(Reason),
    /// HTTP/3 failed.
    #[error("http/3")]
    H3(#[source] Box<StreamError>),
}

impl From<StreamError> for Broken {
    fn from(error: StreamError) -> Self {
        Self::H3(Box::new(error))
    }
}

impl Fault {
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Body(_) | Self::Caller(_) | Self::Lapsed | Self::Loop | Self::Unread => Side::Downstream,
            Self::Rate(_)
            | Self::Overload(_)
            | Self::Full
            | Self::Unadmitted
            | Self::Busy
            | Self::QueueFull
            | Self::QueueDeadline => Side::Limit,
            Self::Injected { .. } => Side::Operator,
            _ => Side::Upstream,
        }
    }

    /// Why there is no connection.
    pub(crate) fn of_dial(address: &NetAddr, source: io::Error) -> Self {
        Self::of_tls(address, &source).unwrap_or_else(|| Self::Connect { address: address.clone(), source })
    }

    /// The same for a dial that several calls wait for.
    pub(crate) fn of_shared_dial(address: &NetAddr, error: &Arc<io::Error>) -> Self {
        let source = || io::Error::new(error.kind(), Arc::clone(error));
        Self::of_tls(address, error)
            .unwrap_or_else(|| Self::Connect { address: address.clone(), source: source() })
    }

    /// What it means that an open connection broke.
    pub(crate) fn of_broken(address: &NetAddr, source: Broken) -> Self {
        let said = if let Broken::Io(error) = &source { Self::of_tls(address, error) } else { None };
        said.unwrap_or_else(|| Self::Upstream { address: address.clone(), source })
    }

    fn of_tls(address: &NetAddr, error: &io::Error) -> Option<Self> {
        match refusal_in(error) {
            Some(source) => Some(Self::WrongPeer { address: address.clone(), source }),
            None => alert_in(error).map(|alert| Self::TlsRejected { address: address.clone(), alert }),
        }
    }

    /// Why no endpoint was found for a call that needs one of that protocol.
    pub(crate) fn of_nobody(nobody: Nobody, needs: Option<UpstreamProtocol>) -> Self {
        match (nobody, needs) {
            (Nobody::Free, _) => Self::Busy,
            (Nobody::Within, _) => Self::Full,
            (Nobody::Healthy, _) => Self::NoHealthy,
            (Nobody::Usable, Some(UpstreamProtocol::Http2 | UpstreamProtocol::Http3)) => Self::NoGrpc,
            (Nobody::Usable, Some(UpstreamProtocol::Http1)) => Self::NoUpgrade,
            (Nobody::Usable, Some(UpstreamProtocol::Tcp) | None) => Self::NoEndpoint,
        }
    }

    /// Why a call does not wait for a place.
    pub(crate) fn of_no_wait(cause: NoWait) -> Self {
        match cause {
            NoWait::Full => Self::QueueFull,
            NoWait::Late => Self::QueueDeadline,
        }
    }

    /// Why it was refused, when that is for load or lack of endpoints (OV-03).
    pub(crate) fn shed(&self) -> Option<Shed> {
        match self {
            Self::Rate(_) => Some(Shed::Rate),
            Self::Overload(strain) => Some(*strain),
            Self::NoEndpoint | Self::NoHealthy => Some(Shed::NoEndpoint),
            Self::Full | Self::Busy | Self::Unadmitted => Some(Shed::Breaker),
            Self::QueueFull => Some(Shed::QueueFull),
            Self::QueueDeadline => Some(Shed::QueueDeadline),
            _ => None,
        }
    }

    /// The word for it in the records, where the place that the call leads to is refused (OUT1, OUT5).
    pub(crate) fn refused_place(&self) -> Option<policies_engine::Reason> {
        match self {
            Self::WrongPeer { .. } => Some(policies_engine::Reason::UpstreamIdentity),
            Self::Barred { .. } => Some(policies_engine::Reason::GateRefused),
            _ => None,
        }
    }

    /// What the downloading side reports when the body of the request broke.
    pub(crate) fn of_caller(broken: Broken) -> Self {
        match broken {
            Broken::Gate(flaw) => Self::Body(flaw),
            other => Self::Caller(other),
        }
    }
}

impl Broken {
    /// The endpoint says, or HTTP/2 or HTTP/3 guarantees, that it did nothing for this call (RY-02).
    pub(crate) fn is_unprocessed(&self) -> bool {
        match self {
            // Only an endpoint says that, by itself or with a GOAWAY that comes before the call (RFC 9113 6.8).
            Self::Stream(reason) => *reason == Reason::REFUSED_STREAM,
            Self::H3(error) => matches!(
                **error,
                StreamError::RemoteTerminate { code: Code::H3_REQUEST_REJECTED, .. }
                    | StreamError::RemoteClosing { .. }
            ),
            _ => false,
        }
    }

    /// The connection went away, which says nothing about what was done before.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Io(_) | Self::Ended => true,
            Self::H3(error) => matches!(**error, StreamError::ConnectionError { .. }),
            Self::Gate(_) | Self::Stream(_) => false,
        }
    }
}
