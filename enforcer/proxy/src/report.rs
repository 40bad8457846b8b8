//! What operators see of the clusters in use: each endpoint as all workers know it together (AE-01).

use std::sync::Arc;

use base_ports::NetAddr;
use enforcer_traffic::UpstreamProtocol;
use enforcer_traffic::fleet::Health;

/// An endpoint of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointReport {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// Where it is.
    pub address: NetAddr,
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// Its share, relative to the others.
    pub weight: u32,
    /// 0 comes first.
    pub priority: u8,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// It takes calls: it was not shut out for its failures (OD-01).
    pub is_open: bool,
    /// What active checks found.
    pub health: Health,
    /// Calls that are there now.
    pub in_flight: u32,
}
