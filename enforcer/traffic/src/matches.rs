//! Which calls a route takes, as the configuration means it (RT-01). [`Routes`](crate::Routes) checks and compiles it.
//!
//! All of it reads canonical parts of the call and facts of its connection, so a route cannot be reached by another
//! spelling, and an identity is the verified one of the peer.

use std::net::IpAddr;

use ca_identity::SpiffeId;

/// The conditions of a route; everything that is named must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchSpec {
    /// Exact hosts or `*.suffix`, without port; empty = any host.
    pub hosts: Vec<String>,
    /// The path.
    pub path: PathSpec,
    /// Only gRPC calls of this service or method; excludes `path`.
    pub grpc: Option<GrpcMatch>,
    /// One of these methods; empty = any.
    pub methods: Vec<String>,
    /// Header fields, by lower-case name.
    pub headers: Vec<ValuesSpec>,
    /// Decoded parameters of the query.
    pub query: Vec<ValuesSpec>,
    /// Cookies.
    pub cookies: Vec<ValuesSpec>,
    /// The verified identity of the caller is one of these: `spiffe://td/path` exactly, `spiffe://td/path/*` by
    /// segment, or `spiffe://td` for everybody in the trust domain. Empty = anybody.
    pub identities: Vec<String>,
    /// The address of the caller lies in one of these networks, `10.0.0.0/8`; empty = anywhere.
    pub sources: Vec<String>,
    /// The server name that the caller asked for, exact or `*.suffix`; empty = any or none.
    pub sni: Vec<String>,
    /// The local port is one of these; empty = any.
    pub ports: Vec<u16>,
}

/// A condition on the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PathSpec {
    /// Any path.
    #[default]
    Any,
    /// Exactly this one.
    Exact(String),
    /// This one and what is below it, by whole segments.
    Prefix(String),
    /// `/users/{id}`: a segment in braces takes any one segment and gives it a name.
    Template(String),
    /// The whole path matches.
    Regex {
        /// In the syntax of the crate `regex`, which needs linear time.
        pattern: String,
        /// Higher is looked at first.
        priority: u32,
    },
}

/// A match of gRPC calls by their exact names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcMatch {
    /// `pkg.Service`.
    pub service: String,
    /// One method of it; none = all registered ones.
    pub method: Option<String>,
}

/// A condition on the set of values that one name has. It never holds where there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesSpec {
    /// The name.
    pub name: String,
    /// What a value must be.
    pub test: ValueTest,
    /// Every value must be so; otherwise one is enough.
    pub all: bool,
}

/// A condition on one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueTest {
    /// It is there.
    Present,
    /// It is this.
    Exact(String),
    /// It begins with this.
    Prefix(String),
    /// All of it matches this pattern.
    Regex(String),
}

/// What the connection of a call says: taken from the socket and from the verified peer, never from bytes of the call.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The listener.
    pub listener: &'a str,
    /// Its port.
    pub port: u16,
    /// The address of the caller.
    pub source: IpAddr,
    /// The server name that was asked for.
    pub sni: Option<&'a str>,
    /// Its TLS ends at the endpoint and not here, so `sni` is all that is known of it (LT-16).
    pub passed: bool,
    /// The verified identity of the caller.
    pub identity: Option<&'a SpiffeId>,
}
