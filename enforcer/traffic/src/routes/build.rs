//! From specs to compiled routes: names, hosts, prefixes and methods are checked here and nowhere else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use enforcer_codec::canonical::{self, Path};

use super::host::{Hosts, Pattern};
use super::tree::End;
use super::{Route, Routes, Target, TargetKind, registry};
use crate::{Cluster, ClusterSpec, RouteError, RouteSpec, ServiceSpec, UpstreamProtocol};

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
    let mut plans = Vec::with_capacity(routes.len());
    for (index, spec) in routes.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        let service = *by_name.get(spec.service.as_str()).ok_or_else(|| RouteError::UnknownService {
            route: spec.name.clone(),
            service: spec.service.clone(),
        })?;
        let to = shares(spec, &known)?;
        let plan = Plan::of(spec, &to)?;
        let route = Arc::new(Route {
            index,
            name: spec.name.as_str().into(),
            service: service.name.as_str().into(),
            namespace: service.namespace.as_str().into(),
            to,
            timeouts: spec.timeouts,
            observe: spec.observe,
            stale_after: spec.stale_after,
            deny_after: spec.deny_after,
        });
        built.targets.push(Target { route: route.clone(), kind: TargetKind::Route, index });
        built.routes.push(route);
        plans.push((plan, service));
    }
    for (route, (plan, service)) in built.routes.iter().zip(&plans) {
        let mut methods = HashMap::new();
        for method in service.methods.iter().filter(|method| plan.offers(method)) {
            let index = u32::try_from(built.targets.len()).map_err(|_too_many| RouteError::TooMany)?;
            let kind = TargetKind::Method(registry::method_id(service, method).into());
            built.targets.push(Target { route: route.clone(), kind, index });
            methods.insert(method.as_str().into(), index);
        }
        built.methods.push(methods);
    }
    let named: HashSet<&str> = routes.iter().filter_map(|route| route.listener.as_deref()).collect();
    built.general = hosts(routes, &plans, None)?;
    for listener in named {
        built.listeners.insert(listener.into(), hosts(routes, &plans, Some(listener))?);
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
        Ok(Arc::new(Cluster {
            index: u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?,
            name: spec.name.as_str().into(),
            endpoints: spec.endpoints.clone(),
            balancer: spec.balancer,
            connect_timeout: spec.connect_timeout,
        }))
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
    if shares.is_empty() {
        return Err(RouteError::NoCluster { route: spec.name.clone() });
    }
    Ok(shares)
}

/// The matchers of one route, checked.
struct Plan<'a> {
    hosts: Vec<Pattern>,
    segments: Vec<&'a str>,
    grpc: bool,
}

impl<'a> Plan<'a> {
    fn of(spec: &'a RouteSpec, to: &[(Arc<Cluster>, u32)]) -> Result<Self, RouteError> {
        let route = || spec.name.clone();
        let mut hosts = Vec::with_capacity(spec.hosts.len().max(1));
        for host in &spec.hosts {
            let pattern = Pattern::parse(host)
                .ok_or_else(|| RouteError::Host { route: route(), host: host.clone() })?;
            if !hosts.contains(&pattern) {
                hosts.push(pattern);
            }
        }
        if hosts.is_empty() {
            hosts.push(Pattern::Any);
        }
        let segments = match (&spec.path_prefix, &spec.grpc) {
            (Some(_), Some(_)) => {
                return Err(RouteError::Grpc {
                    route: route(),
                    cause: "grpc and path_prefix exclude each other",
                });
            }
            (Some(prefix), None) => prefix_segments(spec, prefix)?,
            (None, Some(grpc)) => {
                let method = grpc.method.as_deref();
                let path = format!("/{}/{}", grpc.service, method.unwrap_or("Any"));
                if enforcer_codec::grpc::service_and_method(&path).is_none() {
                    return Err(RouteError::Grpc { route: route(), cause: "the grpc names are malformed" });
                }
                let mut endpoints = to.iter().flat_map(|(cluster, _)| &cluster.endpoints);
                if let Some(odd) = endpoints.find(|e| e.protocol == UpstreamProtocol::Http1) {
                    return Err(RouteError::GrpcOverHttp1 { route: route(), endpoint: odd.addr.to_string() });
                }
                std::iter::once(grpc.service.as_str()).chain(method).collect()
            }
            (None, None) => Vec::new(),
        };
        Ok(Self { hosts, segments, grpc: spec.grpc.is_some() })
    }

    /// True when calls of this registered method can match the route.
    fn offers(&self, method: &str) -> bool {
        let mut names = method.split('/');
        self.segments.iter().all(|segment| names.next() == Some(segment))
    }
}

fn prefix_segments<'a>(spec: &RouteSpec, prefix: &'a str) -> Result<Vec<&'a str>, RouteError> {
    let error =
        |cause: String| RouteError::Prefix { route: spec.name.clone(), prefix: prefix.to_owned(), cause };
    match canonical::path(prefix.as_bytes()) {
        Ok(Path::Canonical(_)) => {}
        Ok(Path::Other { canonical, .. }) => return Err(error(format!("write `{canonical}`"))),
        Err(flaw) => return Err(error(flaw.to_string())),
    }
    Ok(prefix.split('/').filter(|segment| !segment.is_empty()).collect())
}

/// The structure of one listener: its own routes and those of all listeners.
fn hosts(
    routes: &[RouteSpec],
    plans: &[(Plan<'_>, &ServiceSpec)],
    listener: Option<&str>,
) -> Result<Hosts, RouteError> {
    let mut hosts = Hosts::default();
    for (index, (spec, (plan, _))) in routes.iter().zip(plans).enumerate() {
        if spec.listener.is_some() && spec.listener.as_deref() != listener {
            continue;
        }
        let route = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        let end = End { route, grpc: plan.grpc, listener: spec.listener.is_some() };
        for pattern in &plan.hosts {
            hosts.tree(pattern).insert(plan.segments.iter().copied(), end).map_err(|other| {
                let first = routes.get(other as usize).map(|route| route.name.clone()).unwrap_or_default();
                RouteError::EqualRank { first, second: spec.name.clone() }
            })?;
        }
    }
    Ok(hosts)
}
