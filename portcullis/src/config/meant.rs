//! What the file means: typed settings with every default applied. `meaning` makes them, the rest of the binary
//! reads them; nothing here can be wrong any more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ca_authority::{NewEntry, NewRelationship};
use ca_identity::{SpiffeId, TrustDomain};
use enforcer_proxy::{Carries, IssuerSettings};
use enforcer_traffic::{ClusterSpec, Network, RateSettings, RouteSpec};
use policies_decisions::{DropList, Keep, People};
use policies_engine::{Patience, Role};
use policies_store::Verifier;
use serde_json::Value as Json;

/// Settings of one process.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) source: PathBuf,
    /// Every key with its value, as `config view` shows it.
    pub(crate) values: Arc<Json>,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) data_dir: PathBuf,
    pub(crate) ca: Option<Ca>,
    pub(crate) join: Option<Box<Join>>,
    /// Boxed: a configuration is held by futures whose size is bounded.
    pub(crate) agent: Option<Box<Agent>>,
    pub(crate) oidc: Option<Box<Oidc>>,
    pub(crate) policies: Option<Policies>,
    pub(crate) enforcer: Option<Enforcer>,
    /// Set when Envoys may ask.
    pub(crate) ext_authz: Option<policies_adapters::ext_authz::Options>,
    /// Set when the AuthZEN API is offered.
    pub(crate) authzen: Option<policies_adapters::authzen::Options>,
    pub(crate) decisions: Decisions,
    pub(crate) admin: Admin,
}

#[derive(Debug, Clone)]
pub(crate) struct Ca {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) svid_ttl: Duration,
    pub(crate) jwt_ttl: Duration,
    pub(crate) agent_ttl: Duration,
    pub(crate) entries: Vec<NewEntry>,
    /// Where others fetch the own bundle.
    pub(crate) bundle: Option<BundleEndpoints>,
    pub(crate) federation: Vec<Federation>,
    /// PEM; none = those of the machine.
    pub(crate) web_roots: Option<PathBuf>,
    pub(crate) fetch_from: Vec<Network>,
}

/// An authority on another host.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Name or address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Until something better is known: by what the authority is told from others.
    pub(crate) known_by: KnownBy,
    pub(crate) token_file: Option<PathBuf>,
}

impl Join {
    /// Where the authority listens, as URLs have it.
    pub(crate) fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The same as a URL.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.place())
    }
}

/// What tells an authority from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KnownBy {
    /// SHA-256 of its root certificate.
    Fingerprint([u8; 32]),
    /// PEM file with its roots.
    Bundle(PathBuf),
}

/// Where others fetch the own bundle.
#[derive(Debug, Clone)]
pub(crate) struct BundleEndpoints {
    /// For `https_spiffe`.
    pub(crate) spiffe: Option<SocketAddr>,
    /// For `https_web`, with the files of chain and key.
    pub(crate) web: Option<(SocketAddr, (PathBuf, PathBuf))>,
    /// How often they are to ask.
    pub(crate) hint: Duration,
}

/// Another trust domain.
#[derive(Debug, Clone)]
pub(crate) struct Federation {
    pub(crate) with: NewRelationship,
    /// File with the first bundle.
    pub(crate) bundle: Option<PathBuf>,
}

/// Discovery for verifiers without SPIFFE.
#[derive(Debug, Clone)]
pub(crate) struct Oidc {
    pub(crate) published: ca_authority::service::Oidc,
    pub(crate) bind: base_net::Bind,
    /// Chain and key, where it is served over TLS.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: u32,
    /// What is served on it.
    pub(crate) served: ca_agent::Settings,
}

#[derive(Debug, Clone)]
pub(crate) struct Policies {
    pub(crate) dir: PathBuf,
    /// Instead of the directory.
    pub(crate) follow: Option<Follow>,
}

/// Another process whose policies are in force here.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    /// Its admin socket.
    pub(crate) socket: PathBuf,
    /// The key that signs its policies.
    pub(crate) signer: Verifier,
    /// A signed snapshot file to begin with.
    pub(crate) bootstrap: Option<PathBuf>,
    /// How long it may be silent.
    pub(crate) patience: Patience,
}

#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    pub(crate) id: SpiffeId,
    /// Whose SVID comes from here, and not from this process.
    pub(crate) workload_api: Option<PathBuf>,
    pub(crate) observe: bool,
    pub(crate) workers: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) max_delay: Duration,
    /// Bytes.
    pub(crate) max_memory: Option<u64>,
    /// Where trails of calls are written.
    pub(crate) trail: Option<TrailTo>,
    /// Where spans of sampled calls go.
    pub(crate) spans: Option<Spans>,
    pub(crate) dns_names: Vec<String>,
    /// The name server; none = as the machine says.
    pub(crate) resolver: Option<SocketAddr>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) services: Vec<Service>,
    /// Those of the file, then those that routes have to themselves.
    pub(crate) clusters: Vec<ClusterSpec>,
    pub(crate) routes: Vec<RouteSpec>,
}

/// Where trails of calls are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrailTo {
    Stdout,
    File(PathBuf),
}

/// Spans of sampled calls, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) collector: Collector,
    /// Of calls without a trace so many in 10,000 are sampled.
    pub(crate) share: u32,
}

/// Metrics that are sent, beside being there to be scraped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) collector: Collector,
    pub(crate) interval: Duration,
}

/// Who takes spans or metrics by OTLP over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Collector {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    /// The file whose roots verify it; none = plain HTTP.
    pub(crate) roots: Option<PathBuf>,
    /// Of each request; they may be secrets, and are shown nowhere.
    pub(crate) headers: Vec<(String, String)>,
    /// A request takes no longer.
    pub(crate) limit: Duration,
    /// Attributes of this process.
    pub(crate) resource: Vec<(String, String)>,
}

impl Collector {
    /// Its URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.roots.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("url", &self.url()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) bind: Vec<SocketAddr>,
    pub(crate) quic: Vec<SocketAddr>,
    pub(crate) sockets: Vec<PathBuf>,
    /// Files of chain and key.
    pub(crate) certificates: Vec<(PathBuf, PathBuf)>,
    pub(crate) carries: Carries,
    /// Empty where callers connect themselves.
    pub(crate) forwarders: Vec<Network>,
    /// The users of the local application, whose connections come without TLS.
    pub(crate) callers: Option<Vec<u32>>,
    /// One of a pair of sidecars.
    pub(crate) is_sidecar: bool,
    pub(crate) client_auth: String,
    pub(crate) audience: Vec<String>,
    /// Names of issuers.
    pub(crate) issuers: Vec<String>,
    pub(crate) observe: Option<bool>,
    pub(crate) hosts: Vec<String>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_age: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_source: usize,
    pub(crate) max_connections_per_identity: usize,
    pub(crate) max_handshakes_per_source: usize,
    pub(crate) max_body: Option<u32>,
    /// Bytes.
    pub(crate) max_held: u64,
    pub(crate) tells_shed: bool,
    pub(crate) is_edge: bool,
    pub(crate) rate: Option<RateSettings>,
}

/// An issuer of OpenID Connect whose users may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issuer {
    pub(crate) believed: IssuerSettings,
    pub(crate) keys: Keys,
    /// That verify the server with its keys; none = those of this machine.
    pub(crate) roots: Option<PathBuf>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    File(PathBuf),
    Url(String),
    /// Where its own configuration says.
    Discovery,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) rpc_scope: Option<String>,
    pub(crate) methods: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    pub(crate) name: String,
    /// How long records are kept.
    pub(crate) keep: Keep,
    pub(crate) commit_interval: Duration,
    pub(crate) reveal_decision_id: String,
    /// What is not recorded of calls.
    pub(crate) dropped: DropList,
    pub(crate) people: People,
    /// How long clear values of commitments are kept; as long as records without.
    pub(crate) clear: Option<Duration>,
    /// Where decisions go as logs.
    pub(crate) collector: Option<Collector>,
    pub(crate) reads: policies_decisions::Options,
}

#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: u32,
    pub(crate) users: Vec<LocalUser>,
    /// The file comes into force when it was saved.
    pub(crate) is_reloaded: bool,
    /// Where metrics are sent.
    pub(crate) pushed: Option<Pushed>,
    pub(crate) log: String,
}

impl Admin {
    /// Whether somebody besides root and `owner`, who owns the data directory, may approve; from then on no single
    /// person publishes what opens something (ST10). Workloads with a role are no second person.
    pub(crate) fn is_two_person(&self, owner: u32) -> bool {
        let may_approve = |role: &Role| matches!(role, Role::Approver | Role::Operator);
        let others = self.users.iter().filter(|user| user.uid != 0 && user.uid != owner);
        others.flat_map(|user| &user.roles).any(may_approve)
    }
}

/// Somebody on this machine with roles over the installation.
#[derive(Debug, Clone)]
pub(crate) struct LocalUser {
    pub(crate) uid: u32,
    pub(crate) roles: Vec<Role>,
}

impl Config {
    /// The socket that commands of this machine talk to.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone()
    }

    /// Tells whether a running process and the file mean the same: SHA-256 over every setting, in hex.
    pub(crate) fn digest(&self) -> String {
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.values.to_string().as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
