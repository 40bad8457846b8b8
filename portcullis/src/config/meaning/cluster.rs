//! `[[enforcer.cluster]]`, and the short form of one: endpoints that a route names itself.

use enforcer_traffic::{BalancerKind, ClusterSpec, EndpointSpec, UpstreamProtocol};

use super::super::read::{Table, Value};
use super::super::value::Address;
use super::{Meaning, address};

impl Meaning<'_> {
    /// The cluster that `table` tells, with its endpoints under `key`.
    pub(super) fn cluster(&mut self, table: &Table, key: &str) -> Option<ClusterSpec> {
        let endpoints: Vec<_> = table.list(key).iter().filter_map(endpoint).collect();
        if endpoints.is_empty() {
            self.wrong(table, key, format!("`{key}` names no endpoint"));
        }
        let default = ClusterSpec::default();
        Some(ClusterSpec {
            name: table.text("name")?.clone(),
            endpoints,
            balancer: match table.text("balancer").map(String::as_str) {
                Some("round_robin") => BalancerKind::RoundRobin,
                _ => BalancerKind::P2c,
            },
            connect_timeout: table.duration("connect_timeout").copied().unwrap_or(default.connect_timeout),
        })
    }
}

fn endpoint(value: &Value) -> Option<EndpointSpec> {
    match address(value)? {
        Address::Socket { scheme: "h2c", addr } => Some(EndpointSpec::new(UpstreamProtocol::H2c, addr)),
        Address::Socket { addr, .. } => Some(EndpointSpec::new(UpstreamProtocol::Http1, addr)),
        Address::Unix(_) => None,
    }
}
