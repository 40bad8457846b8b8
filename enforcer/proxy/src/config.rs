//! What the data plane is started with: settings as values, and the ports through which it reaches the rest.
//!
//! Built by `portcullis` from the configuration file. No text is parsed here but the word of `reveal_decision_id`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base_net::{Caps, Gate, Sockets, Timers};
use base_ports::{Clock, Net, Rng};
use base_telemetry::Metrics;
use ca_identity::SpiffeId;
use ca_identity::tls::{ClientAuth, NamedCertificate, Trust};
use enforcer_codec::Profile;
use enforcer_traffic::Network;
use policies_engine::{Lane, Samples};

use crate::{Gauges, Issuer, Names, ProxyError, Trails, ViewHandle};

/// Settings of the data plane of one process.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Number of workers, each one thread with its own sockets, pools and engine; at least 1.
    pub workers: usize,
    /// Handshakes that run at a time, of all listeners.
    pub handshakes: usize,
    /// A worker that makes its tasks wait for so long, and for a second, is at its limit (OV-01); not zero.
    pub longest_delay: Duration,
    /// The listeners.
    pub listeners: Vec<ListenerSpec>,
    /// What calls carry that are handed on where a listener is a sidecar's, so that one that comes back is known and
    /// refused (SC-05).
    pub mark: Arc<str>,
    /// Which answers carry `portcullis-decision-id`.
    pub reveal_decision_id: Reveal,
    /// By which callers over QUIC believe that their connection is gone (RFC 9000, 10.3), also of the process before; none =
    /// only of this one.
    pub quic_reset_key: Option<Box<[u8; 32]>>,
}

/// One listener: TLS 1.3, and what its connections carry.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerSpec {
    /// Its name, in records and metrics; no other has it.
    pub name: Arc<str>,
    /// By which a [`View`](crate::View) knows its mode and rate, as long as it is there.
    pub number: usize,
    /// It is one of a sidecar.
    pub is_sidecar: bool,
    /// Where it listens for TCP. Port 0 takes a free one, the same for every worker.
    pub binds: Vec<SocketAddr>,
    /// Unix sockets that it listens on; their files have mode 0660 (LT-13).
    pub sockets: Vec<PathBuf>,
    /// What connections over TCP carry.
    pub carries: Carries,
    /// Who may forward connections to it: each says first whose it is, by the PROXY protocol (PX-01). Empty = nobody
    /// does, and callers connect themselves.
    pub forwarders: Vec<Network>,
    /// Where it takes QUIC datagrams, for HTTP/3. Port 0 takes a free one.
    pub quic: Vec<SocketAddr>,
    /// The local application, whose connections come without TLS (SC-01); none = anybody may connect, under TLS.
    pub callers: Option<Arc<Callers>>,
    /// What it asks of its clients.
    pub client_auth: ClientAuth,
    /// A caller without certificate is whom the JWT-SVID of its call names, when that is for one of these (TL-06); empty = nobody
    /// is known by a token, and `authorization` is the endpoint's.
    pub audience: Vec<String>,
    /// Whose users may call; with any, a token that is of none of them and no such JWT-SVID is 401.
    pub issuers: Vec<Arc<Issuer>>,
    /// Certificates that it shows to callers that ask for one of their names, in place of the own SVID (TL-07).
    pub certificates: Vec<Arc<NamedCertificate>>,
    /// Host names it may serve with the own SVID; any when empty (S21). `*.example.org` stands for names below.
    pub hosts: Vec<String>,
    /// Deadlines of its connections.
    pub timers: Timers,
    /// Connection limits.
    pub caps: Caps,
    /// Handshakes of one source that run at a time; any number on this host.
    pub handshakes_per_source: usize,
    /// Longest body of a request that is no gRPC, bytes, where its route says nothing; none = any.
    pub max_body: Option<u32>,
    /// Most memory that the calls of one connection may hold together, bytes; the one that would need more ends.
    pub max_held: u64,
    /// Whether callers read in `portcullis-shed` why they were refused for load.
    pub tells_shed: bool,
    /// What becomes of names with `_` (H1-28).
    pub profile: Profile,
}

impl ListenerSpec {
    /// Whether new connections are served as by that one, wherever either listens.
    pub(crate) fn serves_as(&self, other: &Self) -> bool {
        let there = |spec: &Self| (spec.binds.clone(), spec.quic.clone(), spec.sockets.clone());
        let (binds, quic, sockets) = there(other);
        *other == Self { binds, quic, sockets, ..self.clone() }
            && self.alternatives().eq(other.alternatives())
    }

    /// Ports that take HTTP/3 beside what comes over TCP, as callers who connect themselves can reach them (LT-05).
    pub(crate) fn alternatives(&self) -> impl Iterator<Item = u16> {
        let is_shared = |bind: &&SocketAddr| {
            bind.port() != 0
                && self.forwarders.is_empty()
                && self.quic.iter().any(|quic| quic.port() == bind.port())
        };
        self.binds.iter().filter(is_shared).map(SocketAddr::port)
    }

    /// Counts its connections, on all workers together.
    pub(crate) fn gate(&self) -> Gate {
        if self.forwarders.is_empty() { Gate::new(self.caps) } else { Gate::behind_forwarders(self.caps) }
    }
}

/// The local application of a sidecar: who may call, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers {
    /// The identity of the workload, which is that of this process.
    pub id: SpiffeId,
    /// The users whose processes are the workload.
    pub uids: Vec<u32>,
}

/// What the connections of a listener carry under their TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carries {
    /// HTTP/1.1 or HTTP/2, as the caller chooses by ALPN.
    #[default]
    Http,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// HTTP/1.1, HTTP/2 or bytes: as the caller chooses by ALPN, else as its first bytes say (LT-14).
    Any,
    /// Bytes that are not looked at; the connection is judged as a whole (TP-02).
    Bytes,
}

/// Which answers carry `portcullis-decision-id` (SQ1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reveal {
    /// Refusals.
    #[default]
    Denied,
    /// Every answer.
    Always,
    /// None.
    Never,
}

impl FromStr for Reveal {
    type Err = ProxyError;

    fn from_str(word: &str) -> Result<Self, ProxyError> {
        match word {
            "denied" => Ok(Self::Denied),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            other => Err(ProxyError::Reveal { word: other.to_owned() }),
        }
    }
}

/// Makes the record lane of one worker.
pub type Lanes = Arc<dyn Fn(u16) -> Box<dyn Lane> + Send + Sync>;

/// What the data plane needs from the rest of the process.
#[derive(Clone)]
pub struct Ports {
    /// Policies and routes in force.
    pub view: Arc<ViewHandle>,
    /// Own SVID, bundles and deny set.
    pub trust: Arc<Trust>,
    /// A lane per worker; called once for each, on its thread.
    pub lane: Lanes,
    /// Takes decisions that are to be judged a second time.
    pub samples: Arc<dyn Samples>,
    /// Where metrics are counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for balancing.
    pub rng: Arc<dyn Rng>,
    /// Where upstreams are dialled.
    pub net: Arc<dyn Net>,
    /// Where the names of upstreams lead.
    pub names: Arc<Names>,
    /// Where it listens.
    pub sockets: Arc<Sockets>,
    /// How near the process is to its limits.
    pub gauges: Arc<dyn Gauges>,
    /// Where the trail of each call goes; none = nowhere.
    pub trails: Option<Trails>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("view", &self.view).field("trust", &self.trust).finish_non_exhaustive()
    }
}
