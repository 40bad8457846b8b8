//! What policies may name: services, methods and routes of the configuration, workloads of the registration entries.

use std::collections::HashSet;

use ca_authority::{EntryRecord, NewEntry};
use enforcer_traffic::{Routes, ServiceSpec, method_id};
use policies_engine::{EntitySet, MethodEntity, RouteEntity, ServiceEntity, WorkloadEntity};

use super::web_roots;
use crate::config::{Config, Enforcer};
use crate::messages::Message;

/// The entities of one snapshot.
pub(crate) fn of(config: &Config, entries: &[std::sync::Arc<EntryRecord>]) -> EntitySet {
    let mut set =
        EntitySet { trust_domain: Some(config.trust_domain.as_str().to_owned()), ..EntitySet::default() };
    if let Some(enforcer) = &config.enforcer {
        let specs = services(enforcer);
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

/// Services, methods and routes that `old` names and `new` does not.
pub(crate) fn departed(old: &Config, new: &Config) -> EntitySet {
    let (mut gone, known) = (of(old, &[]), of(new, &[]));
    gone.trust_domain = None;
    without(&mut gone, &known);
    gone
}

/// Adds those that `set` lacks: calls that still run on them are judged by policies as before.
pub(crate) fn keep(set: &mut EntitySet, gone: &EntitySet) {
    let mut gone = gone.clone();
    without(&mut gone, set);
    set.services.append(&mut gone.services);
    set.methods.append(&mut gone.methods);
    set.routes.append(&mut gone.routes);
}

fn without(set: &mut EntitySet, known: &EntitySet) {
    let services: HashSet<&str> = known.services.iter().map(|service| service.name.as_str()).collect();
    let methods: HashSet<&str> = known.methods.iter().map(|method| method.id.as_str()).collect();
    let routes: HashSet<&str> = known.routes.iter().map(|route| route.name.as_str()).collect();
    set.services.retain(|service| !services.contains(service.name.as_str()));
    set.methods.retain(|method| !methods.contains(method.id.as_str()));
    set.routes.retain(|route| !routes.contains(route.name.as_str()));
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

/// The services of the configuration, as the data plane wants them.
pub(crate) fn services(enforcer: &Enforcer) -> Vec<ServiceSpec> {
    let services = enforcer.services.iter().map(|service| ServiceSpec {
        name: service.name.clone(),
        namespace: service.namespace.clone().unwrap_or_default(),
        rpc_scope: service.rpc_scope.clone(),
        methods: service.methods.clone(),
    });
    services.collect()
}

/// The compiled routes of the configuration.
pub(crate) fn routes(config: &Config) -> Result<Routes, Message> {
    let Some(enforcer) = &config.enforcer else { return Ok(Routes::default()) };
    let clusters = web_roots::filled_in(&enforcer.clusters)?;
    Routes::build(&services(enforcer), &clusters, &enforcer.routes).map_err(|error| {
        Message::error("PC0105", format!("routes: {error}")).next("portcullis config validate")
    })
}

/// SHA-256 of what a reload may change, so that another meaning of a call is a new snapshot (MO9).
pub(crate) fn digest(enforcer: Option<&Enforcer>) -> [u8; 32] {
    let mut digest = [0u8; 32];
    if let Some(enforcer) = enforcer {
        let listeners = enforcer.listeners.iter();
        let listeners: Vec<_> = listeners
            .map(|listener| (&listener.name, listener.observe.unwrap_or(enforcer.observe), &listener.rate))
            .collect();
        let text =
            format!("{:?}{:?}{:?}{listeners:?}", enforcer.services, enforcer.clusters, enforcer.routes);
        digest
            .copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
    }
    digest
}
