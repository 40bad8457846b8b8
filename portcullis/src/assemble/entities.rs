//! What policies may name: services, methods and routes of the configuration, workloads of the registration entries.

use ca_authority::{EntryRecord, NewEntry};
use enforcer_traffic::{
    BalancerKind, EndpointSpec, GrpcMatch, RouteSpec, ServiceSpec, Timeouts, UpstreamProtocol, method_id,
};
use policies_engine::{EntitySet, MethodEntity, RouteEntity, ServiceEntity, WorkloadEntity};

use crate::config::{Address, Config, Enforcer};

/// The entities of one snapshot.
pub(crate) fn of(config: &Config, entries: &[std::sync::Arc<EntryRecord>]) -> EntitySet {
    let mut set =
        EntitySet { trust_domain: Some(config.trust_domain.as_str().to_owned()), ..EntitySet::default() };
    if let Some(enforcer) = &config.enforcer {
        let (specs, _) = traffic(enforcer);
        for (service, spec) in enforcer.services.iter().zip(&specs) {
            set.services.push(ServiceEntity {
                name: service.name.clone(),
                namespace: service.namespace.clone(),
                ..ServiceEntity::default()
            });
            for method in &service.methods {
                let id = method_id(spec, method);
                set.methods.push(MethodEntity {
                    id,
                    service: service.name.clone(),
                    ..MethodEntity::default()
                });
            }
        }
        for route in &enforcer.routes {
            set.routes.push(RouteEntity {
                name: route.name.clone(),
                service: route.service.clone(),
                sensitivity: None,
            });
        }
    }
    entries.iter().for_each(|entry| add(&mut set, &entry.to_new()));
    set
}

/// The entities that a configuration alone tells, for who asks no process: without entries made through the API.
pub(crate) fn configured(config: &Config) -> EntitySet {
    let mut set = of(config, &[]);
    config.ca.iter().flat_map(|ca| &ca.entries).for_each(|entry| add(&mut set, entry));
    set
}

fn add(set: &mut EntitySet, entry: &NewEntry) {
    let known = WorkloadEntity {
        id: entry.spiffe_id.as_str().to_owned(),
        namespace: entry.namespace.clone(),
        labels: entry.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        ..WorkloadEntity::default()
    };
    let says_something = known.namespace.is_some() || !known.labels.is_empty();
    if says_something && !set.workloads.iter().any(|workload| workload.id == known.id) {
        set.workloads.push(known);
    }
}

/// The services and routes of the configuration, as the data plane wants them.
pub(crate) fn traffic(enforcer: &Enforcer) -> (Vec<ServiceSpec>, Vec<RouteSpec>) {
    let services = enforcer
        .services
        .iter()
        .map(|service| ServiceSpec {
            name: service.name.clone(),
            namespace: service.namespace.clone().unwrap_or_default(),
            rpc_scope: service.rpc_scope.clone(),
            methods: service.methods.clone(),
        })
        .collect();
    let routes = enforcer
        .routes
        .iter()
        .map(|route| RouteSpec {
            name: route.name.clone(),
            service: route.service.clone(),
            listener: route.listener.clone(),
            hosts: route.host.clone().into_iter().collect(),
            path_prefix: route.path.clone(),
            grpc: route.grpc.clone().map(|(service, method)| GrpcMatch { service, method }),
            endpoints: route.to.iter().filter_map(endpoint).collect(),
            balancer: if route.round_robin { BalancerKind::RoundRobin } else { BalancerKind::P2c },
            timeouts: Timeouts {
                connect: route.connect_timeout,
                header: route.header_timeout,
                call: route.timeout,
                ..Timeouts::default()
            },
            observe: route.observe,
        })
        .collect();
    (services, routes)
}

/// SHA-256 of what `traffic` gives, so that a change of routes is a new snapshot.
pub(crate) fn digest(enforcer: Option<&Enforcer>) -> [u8; 32] {
    let mut digest = [0u8; 32];
    if let Some(enforcer) = enforcer {
        let text = format!("{:?}{:?}", enforcer.services, enforcer.routes);
        digest
            .copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
    }
    digest
}

fn endpoint(address: &Address) -> Option<EndpointSpec> {
    match address {
        Address::Socket { scheme: "h2c", addr } => Some(EndpointSpec::new(UpstreamProtocol::H2c, *addr)),
        Address::Socket { addr, .. } => Some(EndpointSpec::new(UpstreamProtocol::Http1, *addr)),
        Address::Unix(_) => None,
    }
}
