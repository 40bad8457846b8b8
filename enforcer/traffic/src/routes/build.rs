//! From specs to compiled routes: names that must exist, names that must differ, and routes that must not meet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bucket::End;
use super::host::Hosts;
use super::paths::Shape;
use super::plan::Plan;
use super::target::TunnelTarget;
use super::{Route, Routes, Target, TargetKind, registry};
use crate::timeouts::TUNNEL_IDLE;
use crate::{
    Cluster, ClusterSpec, EndpointSpec, Handling, HandlingSpec, Labels, MatchSpec, Mirror, MirrorSpec,
    RouteError, RouteSpec, ServiceSpec, Share, Timeouts, UpstreamProtocol,
};

pub(super) fn build<'a>(
    services: &[ServiceSpec],
    clusters: &[ClusterSpec],
    routes: &'a [RouteSpec],
) -> Result<Routes, RouteError> {
    let by_name = unique(services, "service", |service| &service.name)?;
    unique(routes, "route", |route| &route.name)?;
    registry::check(services)?;

    let mut built = Routes { clusters: self::clusters(clusters)?, ..Routes::default() };
    let known: HashMap<&str, Arc<Cluster>> =
        clusters.iter().map(|spec| spec.name.as_str()).zip(built.clusters.iter().cloned()).collect();
    let mut owners = Vec::with_capacity(routes.len());
    for (index, spec) in routes.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        let service = *by_name.get(spec.service.as_str()).ok_or_else(|| RouteError::UnknownService {
            route: spec.name.clone(),
            service: spec.service.clone(),
        })?;
        let to = shares(spec, &known, &mut built.clusters)?;
        let plan = Plan::of(spec)?;
        if spec.matches.grpc.is_some() {
            speaks_grpc(spec, &to)?;
        }
        let is_tcp = carries_bytes(spec, &to)?;
        opens_tunnels(spec)?;
        passes_tls(spec, is_tcp)?;
        let mirror = mirror(spec, is_tcp, &known, &mut built.clusters)?;
        let kind = if is_tcp { TargetKind::Service } else { TargetKind::Route };
        let route = Arc::new(Route {
            index,
            name: spec.name.as_str().into(),
            service: service.name.as_str().into(),
            namespace: service.namespace.as_str().into(),
            to,
            split_by: spec.split_by.clone(),
            connect: spec.connect.iter().filter_map(|target| TunnelTarget::parse(target)).collect(),
            handling: Handling::compile(spec)?,
            timeouts: match spec.connect.as_slice() {
                [] => spec.timeouts,
                [..] => Timeouts { idle: TUNNEL_IDLE, ..spec.timeouts },
            },
            template: match &plan.shape {
                Shape::Template(template) => Some(template.clone()),
                _ => None,
            },
            mirror,
            retry: spec.retry.clone(),
            rate: spec.rate.clone(),
            priority: spec.priority,
            observe: spec.observe,
            stale_after: spec.stale_after,
            deny_after: spec.deny_after,
        });
        built.targets.push(Target { route: route.clone(), kind, index });
        built.routes.push(route);
        built.plans.push(plan);
        owners.push(service);
    }
    let is_tcp: Vec<bool> = built.targets.iter().map(|target| target.kind == TargetKind::Service).collect();
    let owned = built.routes.iter().zip(&built.plans).zip(owners).zip(&is_tcp);
    for (((route, plan), service), is_tcp) in owned {
        let mut methods = HashMap::new();
        let is_http = !is_tcp && route.connect.is_empty() && route.handling.reply.is_none();
        let is_offered = |method: &&String| is_http && plan.offers(method);
        for method in service.methods.iter().filter(is_offered) {
            let index = u32::try_from(built.targets.len()).map_err(|_too_many| RouteError::TooMany)?;
            let kind = TargetKind::Method(registry::method_id(service, method).into());
            built.targets.push(Target { route: route.clone(), kind, index });
            methods.insert(method.as_str().into(), index);
        }
        built.methods.push(methods);
    }
    let named = |route: &'a RouteSpec| route.listener.as_deref();
    let hosts = |whose| hosts(routes, (&built.plans, &is_tcp), whose);
    let (general, tunnels) = (hosts(Whose::General)?, hosts(Whose::Tunnels)?);
    let (mut listeners, mut carriers, mut passing) = (HashMap::new(), HashMap::new(), HashMap::new());
    for listener in routes.iter().filter_map(named).collect::<HashSet<_>>() {
        listeners.insert(listener.into(), hosts(Whose::Listener(listener))?);
        carriers.insert(listener.into(), hosts(Whose::Carried(listener))?);
    }
    for listener in routes.iter().filter(|route| !route.passes.is_empty()).filter_map(named) {
        passing.insert(listener.into(), hosts(Whose::Passed(listener))?);
    }
    Ok(Routes { general, tunnels, listeners, carriers, passing, ..built })
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
        if !spec.written().any(|endpoint| endpoint.weight > 0) {
            return Err(RouteError::NoEndpoint { cluster: spec.name.clone() });
        }
        let index = u32::try_from(index).map_err(|_too_many| RouteError::TooMany)?;
        Ok(Arc::new(Cluster::new(index, spec, &Labels::default())))
    });
    built.collect()
}

/// The clusters of a route that take calls.
fn shares(
    spec: &RouteSpec,
    clusters: &HashMap<&str, Arc<Cluster>>,
    all: &mut Vec<Arc<Cluster>>,
) -> Result<Vec<(Arc<Cluster>, u32)>, RouteError> {
    let mut shares = Vec::with_capacity(spec.to.len());
    for share in &spec.to {
        let cluster = named(spec, share, clusters)?;
        if share.weight > 0 {
            shares.push((part(spec, share, cluster, all)?, share.weight));
        }
    }
    if shares.is_empty() == (spec.handling.reply.is_none() && spec.connect.is_empty()) {
        return Err(RouteError::NoCluster { route: spec.name.clone() });
    }
    Ok(shares)
}

fn named<'a>(
    route: &RouteSpec,
    share: &Share,
    clusters: &'a HashMap<&str, Arc<Cluster>>,
) -> Result<&'a Arc<Cluster>, RouteError> {
    clusters.get(share.cluster.as_str()).ok_or_else(|| {
        let (route, cluster) = (route.name.clone(), share.cluster.clone());
        RouteError::UnknownCluster { route, cluster }
    })
}

/// Where some of a route's calls go besides: a cluster as the one that is named, which no call goes to. Its endpoints are not
/// asked for their health a second time.
fn mirror(
    spec: &RouteSpec,
    is_tcp: bool,
    clusters: &HashMap<&str, Arc<Cluster>>,
    all: &mut Vec<Arc<Cluster>>,
) -> Result<Option<Mirror>, RouteError> {
    let Some(MirrorSpec { to: share, share: part_of }) = &spec.mirror else { return Ok(None) };
    let of = named(spec, share, clusters)?;
    let speaks_http = |endpoint: &EndpointSpec| endpoint.protocol != UpstreamProtocol::Tcp;
    if is_tcp || spec.to.is_empty() || !of.spec.written().all(speaks_http) {
        let cause = "a mirror is for calls over http that the route hands on, to endpoints that speak http";
        return Err(RouteError::Handling { route: spec.name.clone(), cause: cause.to_owned() });
    }
    let name = Mirror::cluster_name(&share.cluster);
    let whole = match all.iter().find(|known| *known.name == *name && known.subset.is_empty()) {
        Some(known) => Arc::clone(known),
        None => {
            let index = u32::try_from(all.len()).map_err(|_too_many| RouteError::TooMany)?;
            let own = ClusterSpec { name, check: None, ..of.spec.clone() };
            let own = Arc::new(Cluster::new(index, &own, &Labels::default()));
            all.push(Arc::clone(&own));
            own
        }
    };
    let to = part(spec, share, &whole, all)?;
    if spec.matches.grpc.is_some() {
        speaks_grpc(spec, &[(Arc::clone(&to), 1)])?;
    }
    Ok(Some(Mirror { to, share: *part_of }))
}

/// The part of a cluster that a route asks for; routes that ask for the same have the same.
fn part(
    route: &RouteSpec,
    share: &Share,
    whole: &Arc<Cluster>,
    all: &mut Vec<Arc<Cluster>>,
) -> Result<Arc<Cluster>, RouteError> {
    let is_it = |known: &&Arc<Cluster>| known.name == whole.name && known.subset == share.subset;
    if let Some(known) = all.iter().find(is_it) {
        return Ok(Arc::clone(known));
    }
    let written: Vec<_> = whole.spec.written().cloned().collect();
    let takes_calls = |place: &usize| written.get(*place).is_some_and(|endpoint| endpoint.weight > 0);
    if !whole.spec.fallback.places(&share.subset, &written).iter().any(takes_calls) {
        let (route, cluster) = (route.name.clone(), share.cluster.clone());
        return Err(RouteError::NoSubset { route, cluster, subset: share.subset.to_string() });
    }
    let index = u32::try_from(all.len()).map_err(|_too_many| RouteError::TooMany)?;
    let part = Arc::new(Cluster { index, ..whole.part(&share.subset) });
    all.push(Arc::clone(&part));
    Ok(part)
}

/// gRPC needs HTTP/2 on its whole way (RPC-03).
fn speaks_grpc(spec: &RouteSpec, to: &[(Arc<Cluster>, u32)]) -> Result<(), RouteError> {
    let endpoints = to.iter().flat_map(|(cluster, _)| cluster.spec.written().zip(cluster.spec.places()));
    match endpoints.into_iter().find(|(endpoint, _)| endpoint.protocol == UpstreamProtocol::Http1) {
        None => Ok(()),
        Some((_, endpoint)) => Err(RouteError::GrpcOverHttp1 { route: spec.name.clone(), endpoint }),
    }
}

/// Whether connections of the route carry no HTTP. What only HTTP has must not be asked for then.
fn carries_bytes(spec: &RouteSpec, to: &[(Arc<Cluster>, u32)]) -> Result<bool, RouteError> {
    let mut endpoints = to.iter().flat_map(|(cluster, _)| cluster.spec.written());
    let is_tcp = |endpoint: &EndpointSpec| endpoint.protocol == UpstreamProtocol::Tcp;
    if !endpoints.clone().any(is_tcp) {
        return Ok(false);
    }
    let cause = if !endpoints.all(is_tcp) {
        "endpoints that speak http cannot take their calls"
    } else if spec.listener.is_none() {
        "write the listener whose connections they take, as listener = \"NAME\""
    } else if spec.matches != of_connection(&spec.matches) {
        "its match may name source, source_ip, sni and port, nothing of http"
    } else if spec.handling != HandlingSpec::default() {
        "it can do nothing to calls, only carry them"
    } else {
        return Ok(true);
    };
    Err(RouteError::Tcp { route: spec.name.clone(), cause })
}

/// A route that opens tunnels can ask for what the connection says and for the target, nothing else.
fn opens_tunnels(spec: &RouteSpec) -> Result<(), RouteError> {
    let cause = if spec.connect.is_empty() {
        return Ok(());
    } else if spec.handling.reply.is_some() {
        "a route that opens tunnels gives no answer of its own"
    } else if spec.matches != of_connection(&spec.matches) {
        "a route that opens tunnels may match source, source_ip, sni and port"
    } else if spec.handling != HandlingSpec::default() {
        "nothing can be done to what goes through a tunnel"
    } else {
        return Ok(());
    };
    Err(RouteError::Match { route: spec.name.clone(), cause: cause.to_owned() })
}

/// Of a connection whose TLS goes through nothing is known but where it comes from and whom it asks for.
fn passes_tls(spec: &RouteSpec, is_tcp: bool) -> Result<(), RouteError> {
    let matches = &spec.matches;
    let cause = if spec.passes.is_empty() {
        return Ok(());
    } else if !is_tcp {
        "what passes through needs tcp:// endpoints, which end its TLS"
    } else if !matches.identities.is_empty() || !matches.sni.is_empty() {
        "a route whose TLS passes through may match source_ip and port: nobody is known by a certificate, and pass_through names the server"
    } else {
        return Ok(());
    };
    Err(RouteError::Match { route: spec.name.clone(), cause: cause.to_owned() })
}

/// The conditions that need no HTTP.
fn of_connection(matches: &MatchSpec) -> MatchSpec {
    MatchSpec {
        identities: matches.identities.clone(),
        sources: matches.sources.clone(),
        sni: matches.sni.clone(),
        ports: matches.ports.clone(),
        ..MatchSpec::default()
    }
}

/// Which routes stand together.
#[derive(Clone, Copy)]
enum Whose<'a> {
    /// Those that name no listener.
    General,
    /// Those of one listener and the general ones, for HTTP.
    Listener(&'a str),
    /// Those of one listener for connections that carry no HTTP.
    Carried(&'a str),
    /// Those of one listener for connections whose TLS goes through.
    Passed(&'a str),
    /// Those that open tunnels, of all listeners.
    Tunnels,
}

/// The structure of the routes that stand together.
fn hosts(
    routes: &[RouteSpec],
    (plans, is_tcp): (&[Plan], &[bool]),
    whose: Whose<'_>,
) -> Result<Hosts, RouteError> {
    let mut hosts = Hosts::default();
    for (index, ((spec, plan), is_tcp)) in routes.iter().zip(plans).zip(is_tcp).enumerate() {
        let is_its_own = match (whose, plan.listener.as_deref()) {
            (Whose::Tunnels, _) => !spec.connect.is_empty(),
            _ if !spec.connect.is_empty() => false,
            (Whose::Passed(name), own) => !spec.passes.is_empty() && own == Some(name),
            _ if !spec.passes.is_empty() => false,
            (Whose::Carried(name), own) => *is_tcp && own == Some(name),
            _ if *is_tcp => false,
            (Whose::General, own) => own.is_none(),
            (Whose::Listener(name), own) => own.is_none_or(|own| own == name),
        };
        if !is_its_own {
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
