//! Routes and services as the configuration means them; `portcullis` fills these, [`Routes`](crate::Routes) checks them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base_ports::NetAddr;

use crate::{
    HandlingSpec, HashBy, Labels, MatchSpec, MirrorSpec, Priority, RateSettings, RetrySettings, Share,
    Timeouts,
};

/// A service: the owner of routes and RPC methods (SETTLED S20).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Unique name.
    pub name: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Prefix of the ids of its RPC services, needed when two services offer one interface (MO3).
    pub rpc_scope: Option<String>,
    /// RPC methods, `pkg.Service/Method`.
    pub methods: Vec<String>,
}

/// A route: which calls it takes and where they go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSpec {
    /// Unique name.
    pub name: String,
    /// The service whose route this is.
    pub service: String,
    /// Only calls of this listener; none = of all.
    pub listener: Option<String>,
    /// Which calls.
    pub matches: MatchSpec,
    /// Where calls go: each to one of these clusters, by weight.
    pub to: Vec<Share>,
    /// What keeps callers at one of these clusters, as far as weights do not change; none = chance.
    pub split_by: Option<HashBy>,
    /// Targets that callers may open tunnels to with CONNECT (CN-01): `host:port`, `*.suffix:port`. Excludes `to`.
    pub connect: Vec<String>,
    /// Server names, exact or `*.suffix`, whose TLS goes through to the endpoints as it is (LT-16): on `listener`, to
    /// `tcp` endpoints.
    pub passes: Vec<String>,
    /// What happens to them besides.
    pub handling: HandlingSpec,
    /// Clocks of a call.
    pub timeouts: Timeouts,
    /// Where some of the calls go besides, for nobody's answer.
    pub mirror: Option<MirrorSpec>,
    /// How calls that fail are tried again.
    pub retry: RetrySettings,
    /// How many calls it takes; none = any number.
    pub rate: Option<RateSettings>,
    /// What comes first when not everything can.
    pub priority: Priority,
    /// `Some(true)` = observe, `Some(false)` = enforce, none = as the listener says.
    pub observe: Option<bool>,
    /// Silence of the publisher of policies until decisions of this route are stale; zero = never, none = as elsewhere.
    pub stale_after: Option<Duration>,
    /// The same until its calls are denied.
    pub deny_after: Option<Duration>,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// Where it is.
    pub addr: NetAddr,
    /// Share of the calls, relative to the other endpoints of the cluster; 0 takes none.
    pub weight: u32,
    /// Endpoints of a later priority take calls only when too few of the earlier are healthy (LB-11); 0 is the first.
    pub priority: u8,
    /// Where it stands, so that callers of the same zone can prefer it (LB-13).
    pub zone: Option<Arc<str>>,
    /// What routes can ask for (LB-14).
    pub labels: Labels,
}

impl EndpointSpec {
    /// An endpoint of weight 1.
    pub fn new(protocol: UpstreamProtocol, addr: impl Into<NetAddr>) -> Self {
        Self { protocol, addr: addr.into(), weight: 1, priority: 0, zone: None, labels: Labels::default() }
    }
}

/// Endpoints of an upstream by name: every address that the name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSpec {
    /// The name.
    pub host: Arc<str>,
    /// The port, at every address.
    pub port: u16,
    /// What each of them is besides where it is.
    pub each: EndpointSpec,
}

impl NamedSpec {
    /// The endpoint at one of its addresses.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> EndpointSpec {
        EndpointSpec { addr: SocketAddr::new(address, self.port).into(), ..self.each.clone() }
    }
}

impl fmt::Display for NamedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1. Refused for gRPC (RPC-03).
    Http1,
    /// HTTP/2: by prior knowledge, or over TLS when ALPN says so.
    Http2,
    /// HTTP/3 over QUIC; over HTTP/2 where that is not reached, unless its cluster requires it (LT-06).
    Http3,
    /// Nothing that is known here: bytes are carried as they are.
    Tcp,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BalancerKind {
    /// The less loaded of two random ones (LB-01).
    #[default]
    P2c,
    /// The one of two random ones whose answers cost less time (LB-02, LB-03).
    PeakEwma,
    /// By turns, weighted (LB-04).
    RoundRobin,
    /// At random, weighted (LB-05).
    Random,
    /// By the hash of a key, from a table of 65,537 slots (LB-06).
    Maglev,
    /// By the hash of a key, to the next point on a ring (LB-07): fewer keys move when an endpoint goes.
    RingHash,
    /// By the hash of a key with each endpoint (LB-08), for fewer than a hundred of them.
    Rendezvous,
}

impl BalancerKind {
    /// The words of configurations, in the order of the kinds.
    pub const WORDS: &[&str] =
        &["p2c", "peak_ewma", "round_robin", "random", "maglev", "ring_hash", "rendezvous"];

    const ALL: [Self; 7] = [
        Self::P2c,
        Self::PeakEwma,
        Self::RoundRobin,
        Self::Random,
        Self::Maglev,
        Self::RingHash,
        Self::Rendezvous,
    ];

    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.get(self as usize).copied().unwrap_or_default()
    }

    /// The key of a call decides.
    #[must_use]
    pub fn is_hashed(self) -> bool {
        matches!(self, Self::Maglev | Self::RingHash | Self::Rendezvous)
    }
}
