//! From specs to compiled routes: names that must exist, names that must differ, and routes that must not meet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bucket::End;
use super::host::Hosts;
use super::paths::Shape;
use super::plan::Plan;
use super::{Route, Routes, Target, TargetKind, registry};
use crate::{Cluster, ClusterSpec, Handling, RouteError, RouteSpec, ServiceSpec, UpstreamProtocol};

pub(super) fn build(
    services: &[ServiceSpec],
    clusters: &[ClusterSpec],
    routes: &[RouteSpec],
) -> Result<Routes, RouteError> {
    let by_name = unique(services, "service", |service| &service.name)?;
    unique(routes, "route", |route| &route.name)?;
    registry::check(services)?;

    let mut built = Routes { clusters: self::clusters(clusters)?, ..Routes::default() };
    let known: HashMap<&str, &Arc<Cluster>> =
        clusters.iter().map(|spec| spec.name.as_str()).zip(&built.clusters).collect();
    let mut owners = Vec::with_capacity(routes.len());
    for (index, spec) in routes.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        let service = *by_name.get(spec.service.as_str()).ok_or_else(|| RouteError::UnknownService {
            route: spec.name.clone(),
            service: spec.service.clone(),
        })?;
        let to = shares(spec, &known)?;
        let plan = Plan::of(spec)?;
        if spec.matches.grpc.is_some() {
            speaks_grpc(spec, &to)?;
        }
        let route = Arc::new(Route {
            index,
            name: spec.name.as_str().into(),
            service: service.name.as_str().into(),
            namespace: service.namespace.as_str().into(),
            to,
            handling: Handling::compile(spec)?,
            timeouts: spec.timeouts,
            template: match &plan.shape {
                Shape::Template(template) => Some(template.clone()),
                _ => None,
            },
            retry: spec.retry.clone(),
            observe: spec.observe,
            stale_after: spec.stale_after,
            deny_after: spec.deny_after,
        });
        built.targets.push(Target { route: route.clone(), kind: TargetKind::Route, index });
        built.routes.push(route);
        built.plans.push(plan);
        owners.push(service);
    }
    for ((route, plan), service) in built.routes.iter().zip(&built.plans).zip(owners) {
        let mut methods = HashMap::new();
        for method in
            service.methods.iter().filter(|method| route.handling.reply.is_none() && plan.offers(method))
        {
            let index = u32::try_from(built.targets.len()).map_err(|_too_many| RouteError::TooMany)?;
            let kind = TargetKind::Method(registry::method_id(service, method).into());
            built.targets.push(Target { route: route.clone(), kind, index });
            methods.insert(method.as_str().into(), index);
        }
        built.methods.push(methods);
    }
    let named: HashSet<&str> = routes.iter().filter_map(|route| route.listener.as_deref()).collect();
    built.general = hosts(routes, &built.plans, None)?;
    for listener in named {
        built.listeners.insert(listener.into(), hosts(routes, &built.plans, Some(listener))?);
    }
    Ok(built)
}

fn unique<'a, T>(
    items: &'a [T],
    kind: &'static str,
    name: impl Fn(&'a T) -> &'a String,
) -> Result<HashMap<&'a str, &'a T>, RouteError> {
    let mut seen = HashMap::with_capacity(items.len());
    for item in items {
        if seen.insert(name(item).as_str(), item).is_some() {
            return Err(RouteError::Duplicate { kind, name: name(item).clone() });
        }
    }
    Ok(seen)
}

fn clusters(specs: &[ClusterSpec]) -> Result<Vec<Arc<Cluster>>, RouteError> {
    unique(specs, "cluster", |cluster| &cluster.name)?;
    let built = specs.iter().enumerate().map(|(index, spec)| {
        if !spec.endpoints.iter().any(|endpoint| endpoint.weight > 0) {
            return Err(RouteError::NoEndpoint { cluster: spec.name.clone() });
        }
        let index = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        Ok(Arc::new(Cluster::new(index, spec)))
    });
    built.collect()
}

/// The clusters of a route that take calls.
fn shares(
    spec: &RouteSpec,
    clusters: &HashMap<&str, &Arc<Cluster>>,
) -> Result<Vec<(Arc<Cluster>, u32)>, RouteError> {
    let mut shares = Vec::with_capacity(spec.to.len());
    for share in &spec.to {
        let cluster = *clusters.get(share.cluster.as_str()).ok_or_else(|| RouteError::UnknownCluster {
            route: spec.name.clone(),
            cluster: share.cluster.clone(),
        })?;
        if share.weight > 0 {
            shares.push((Arc::clone(cluster), share.weight));
        }
    }
    if shares.is_empty() == spec.handling.reply.is_none() {
        return Err(RouteError::NoCluster { route: spec.name.clone() });
    }
    Ok(shares)
}

/// gRPC needs HTTP/2 on its whole way (RPC-03).
fn speaks_grpc(spec: &RouteSpec, to: &[(Arc<Cluster>, u32)]) -> Result<(), RouteError> {
    let mut endpoints = to.iter().flat_map(|(cluster, _)| &cluster.spec.endpoints);
    match endpoints.find(|endpoint| endpoint.protocol == UpstreamProtocol::Http1) {
        None => Ok(()),
        Some(odd) => {
            Err(RouteError::GrpcOverHttp1 { route: spec.name.clone(), endpoint: odd.addr.to_string() })
        }
    }
}

/// The structure of one listener: its own routes and those of all listeners.
fn hosts(routes: &[RouteSpec], plans: &[Plan], listener: Option<&str>) -> Result<Hosts, RouteError> {
    let mut hosts = Hosts::default();
    for (index, (spec, plan)) in routes.iter().zip(plans).enumerate() {
        if plan.listener.is_some() && plan.listener.as_deref() != listener {
            continue;
        }
        let route = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        for pattern in &plan.hosts {
            let end = End { route, matchers: Arc::clone(&plan.matchers) };
            hosts.paths(pattern).insert(&plan.shape, end).map_err(|other| {
                let first = routes.get(other as usize).map(|route| route.name.clone()).unwrap_or_default();
                RouteError::EqualRank { first, second: spec.name.clone() }
            })?;
        }
    }
    Ok(hosts)
}
