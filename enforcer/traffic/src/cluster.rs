//! Clusters: endpoints that can take each other's calls, with what belongs to reaching them.
//!
//! `portcullis` fills the specs; routes name clusters and share calls between them. A route that names endpoints itself
//! has a cluster of its own name.

use std::sync::Arc;
use std::time::Duration;

use crate::{BalancerKind, EndpointSpec};

/// A cluster as the configuration means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Unique name.
    pub name: String,
    /// Where calls go.
    pub endpoints: Vec<EndpointSpec>,
    /// How an endpoint is chosen.
    pub balancer: BalancerKind,
    /// Connect and handshake with an endpoint (TO-01).
    pub connect_timeout: Duration,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoints: Vec::new(),
            balancer: BalancerKind::default(),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

/// The part of a route's calls that goes to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Name of the cluster.
    pub cluster: String,
    /// Relative to the other shares of the route; 0 takes none.
    pub weight: u32,
}

impl Share {
    /// All calls.
    pub fn all(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), weight: 1 }
    }
}

/// A cluster in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its place in [`Routes::clusters`](crate::Routes::clusters).
    pub index: u32,
    /// Unique name.
    pub name: Arc<str>,
    /// Where calls go.
    pub endpoints: Vec<EndpointSpec>,
    /// How an endpoint is chosen.
    pub balancer: BalancerKind,
    /// Connect and handshake with an endpoint.
    pub connect_timeout: Duration,
}
