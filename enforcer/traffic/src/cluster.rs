//! Clusters: endpoints that can take each other's calls, with what belongs to reaching them.
//!
//! `portcullis` fills the specs; routes name clusters and share calls between them. A route that names endpoints itself
//! has a cluster of its own name.

use std::sync::Arc;
use std::time::Duration;

use std::path::PathBuf;

use ca_identity::IdPattern;
use ca_identity::tls::WebRoots;

use crate::balance::{BalanceSettings, Layout, hash};
use crate::fleet::{CheckSettings, FleetSettings, OutlierSettings};
use crate::{BalancerKind, EndpointSpec, Fallback, HashBy, Labels, NamedSpec, Network};

/// A cluster as the configuration means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Unique name.
    pub name: String,
    /// Where calls go.
    pub endpoints: Vec<EndpointSpec>,
    /// Where they go besides, by name.
    pub named: Vec<NamedSpec>,
    /// Networks that names may lead to though they are off limits otherwise (OUT5).
    pub granted: Vec<Network>,
    /// How an endpoint is chosen.
    pub balancer: BalancerKind,
    /// Who takes the calls of a part that has no endpoint (LB-14).
    pub fallback: Fallback,
    /// What departs from the plain choice.
    pub balance: BalanceSettings,
    /// What keeps calls at one endpoint, for the balancers that go by a hash (LB-09).
    pub hash_by: Option<HashBy>,
    /// The zone of this process, so that endpoints of the same can be preferred (LB-13).
    pub zone: Option<String>,
    /// When endpoints are shut out, and what they take at most.
    pub fleet: FleetSettings,
    /// How endpoints are asked for their health; none = they are not.
    pub check: Option<CheckSettings>,
    /// TLS to every endpoint, and who must be there; none = plain.
    pub tls: Option<TlsSettings>,
    /// Endpoints that speak HTTP/3 are never asked over HTTP/2 instead (LT-06).
    pub requires_h3: bool,
    /// Endpoints hear first who calls, by the PROXY protocol, version 2 (PX-03); for those that get bytes as they are.
    pub tells_caller: bool,
    /// Connect and handshake with an endpoint (TO-01).
    pub connect_timeout: Duration,
    /// So often endpoints over HTTP/2 are asked whether they are there; one that does not answer for twice as long is not
    /// (PL-03).
    pub ping_interval: Duration,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoints: Vec::new(),
            named: Vec::new(),
            granted: Vec::new(),
            balancer: BalancerKind::default(),
            fallback: Fallback::default(),
            balance: BalanceSettings::default(),
            hash_by: None,
            zone: None,
            fleet: FleetSettings { outlier: Some(OutlierSettings::default()), ..FleetSettings::default() },
            check: None,
            requires_h3: false,
            tells_caller: false,
            tls: None,
            connect_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(10),
        }
    }
}

impl ClusterSpec {
    /// What each endpoint is said to be: those at an address and those by name.
    pub fn written(&self) -> impl Iterator<Item = &EndpointSpec> + Clone {
        self.endpoints.iter().chain(self.named.iter().map(|named| &named.each))
    }

    /// Where the endpoints are, as people write it.
    pub fn places(&self) -> impl Iterator<Item = String> {
        let endpoints = self.endpoints.iter().map(|endpoint| endpoint.addr.to_string());
        endpoints.chain(self.named.iter().map(ToString::to_string))
    }
}

/// TLS to the endpoints of a cluster, and who must be there: never anybody (TL-09).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSettings {
    /// Workloads. Both sides show an SVID.
    Workloads {
        /// Who may be at the other end: one of these.
        expect: Vec<IdPattern>,
        /// The server name that endpoints are told; none = the trust domain of the first that is expected.
        sni: Option<String>,
    },
    /// Servers outside all trust domains. They prove a name (RFC 9525); nothing of ours is shown.
    External {
        /// The name, which they are told as well.
        name: String,
        /// The name with the port where that is not 443: what calls are told to be for (RFC 9110 7.2).
        authority: String,
        /// What their certificates must lead to.
        roots: Roots,
    },
}

impl TlsSettings {
    /// The server name that endpoints are told.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Workloads { sni: Some(name), .. } | Self::External { name, .. } => Some(name),
            Self::Workloads { expect, sni: None } => {
                expect.first().map(|pattern| pattern.trust_domain().as_str())
            }
        }
    }

    /// The authority of calls, where they cannot keep the one they were made for.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        match self {
            Self::Workloads { .. } => None,
            Self::External { authority, .. } => Some(authority),
        }
    }

    /// Who must be there, as people write it.
    pub fn expected(&self) -> Vec<String> {
        match self {
            Self::Workloads { expect, .. } => expect.iter().map(ToString::to_string).collect(),
            Self::External { name, .. } => vec![format!("external {name}")],
        }
    }
}

/// Roots of servers that are no workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The PEM file; none = those of the machine.
    pub file: Option<PathBuf>,
    /// As they were read; none before.
    pub read: Option<WebRoots>,
}

/// The part of a route's calls that goes to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Name of the cluster.
    pub cluster: String,
    /// Relative to the other shares of the route; 0 takes none.
    pub weight: u32,
    /// Only endpoints with these labels (LB-14).
    pub subset: Labels,
}

impl Share {
    /// All calls.
    pub fn all(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), weight: 1, subset: Labels::default() }
    }
}

/// A cluster in force, or the part of one that routes ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its place in [`Routes::clusters`](crate::Routes::clusters).
    pub index: u32,
    /// Unique name.
    pub name: Arc<str>,
    /// What the configuration says.
    pub spec: ClusterSpec,
    /// The labels that make it a part; none = it is the whole.
    pub subset: Labels,
    /// The order in which its balancers go through the endpoints.
    pub layout: Arc<Layout>,
    /// The key of its hashes, the same at every enforcer.
    pub seed: u64,
}

impl Cluster {
    pub(crate) fn new(index: u32, spec: &ClusterSpec, subset: &Labels) -> Self {
        let places = spec.fallback.places(subset, &spec.endpoints);
        let zone = spec.zone.as_deref();
        Self {
            index,
            name: spec.name.as_str().into(),
            subset: subset.clone(),
            layout: Arc::new(Layout::over(spec.balancer, &spec.endpoints, places, zone)),
            seed: hash(0, spec.name.as_bytes()),
            spec: spec.clone(),
        }
    }

    /// The whole of it with the endpoints that its names lead to.
    #[must_use]
    pub fn resolved(&self, endpoints: Vec<EndpointSpec>) -> Self {
        Self::new(self.index, &ClusterSpec { endpoints, ..self.spec.clone() }, &Labels::default())
    }

    /// The part that has these labels.
    #[must_use]
    pub fn part(&self, subset: &Labels) -> Self {
        Self::new(self.index, &self.spec, subset)
    }
}
