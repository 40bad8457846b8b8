//! The compiled routes of one snapshot: from a canonical call to its target, or to nothing.
//!
//! Built once per snapshot by `portcullis`; read by every worker of the proxy before the decision. Rank is
//! host, then path, then further matchers (RT-02); equal rank is refused when the routes are built.

mod bucket;
mod build;
mod explain;
mod host;
mod matchers;
mod paths;
mod pattern;
mod plan;
mod registry;
mod target;
mod template;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enforcer_codec::canonical::Kept;
use enforcer_codec::{Call, CallProtocol, NotCanonical, Upgrade};

use crate::{
    Arrival, Cluster, ClusterSpec, Handling, HashBy, Mirror, Priority, RateSettings, RetrySettings,
    RouteError, RouteSpec, ServiceSpec, Timeouts,
};
pub use explain::{Standing, Verdict};
use host::Hosts;
pub use host::hosts_meet;
use plan::Plan;
pub use registry::{method_id, rpc_service_id};
pub use target::TunnelTarget;
pub(crate) use template::is_name as is_param;
pub use template::{Params, Template};

/// All routes of a snapshot.
#[derive(Debug, Default)]
pub struct Routes {
    clusters: Vec<Arc<Cluster>>,
    routes: Vec<Arc<Route>>,
    targets: Vec<Target>,
    /// Per route.
    plans: Vec<Plan>,
    /// For listeners that some route names: their routes and the general ones.
    listeners: HashMap<Box<str>, Hosts>,
    /// For every other listener.
    general: Hosts,
    /// For connections that carry no HTTP, by listener.
    carriers: HashMap<Box<str>, Hosts>,
    /// For connections whose TLS goes through, by listener.
    passing: HashMap<Box<str>, Hosts>,
    /// Routes that open tunnels, of all listeners.
    tunnels: Hosts,
    /// Per route: the registered methods, `pkg.Service/Method`, as indices of `targets`.
    methods: Vec<HashMap<Box<str>, u32>>,
}

/// A route in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// Its place in [`Routes::routes`].
    pub index: u32,
    /// Unique name.
    pub name: Arc<str>,
    /// The service that owns it.
    pub service: Arc<str>,
    /// The namespace of that service.
    pub namespace: Arc<str>,
    /// Where calls go: clusters that take some, each with its weight.
    pub to: Vec<(Arc<Cluster>, u32)>,
    /// What keeps callers at one of them; none = chance.
    pub split_by: Option<HashBy>,
    /// Targets that its callers may open tunnels to; empty for every other route.
    pub connect: Vec<TunnelTarget>,
    /// Names segments of the path.
    pub template: Option<Template>,
    /// What happens to the calls besides.
    pub handling: Handling,
    /// Clocks of a call.
    pub timeouts: Timeouts,
    /// Where some of the calls go besides (RT-05).
    pub mirror: Option<Mirror>,
    /// How calls that fail are tried again.
    pub retry: RetrySettings,
    /// How many calls it takes; none = any number.
    pub rate: Option<RateSettings>,
    /// What comes first when not everything can.
    pub priority: Priority,
    /// Observe (true) or enforce (false), when the route says so.
    pub observe: Option<bool>,
    /// Silence of the publisher of policies until decisions of this route are stale; zero = never, none = as elsewhere.
    pub stale_after: Option<Duration>,
    /// The same until its calls are denied.
    pub deny_after: Option<Duration>,
}

/// What a call is for: the resource of its decision, and the way on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The matched route.
    pub route: Arc<Route>,
    /// The resource.
    pub kind: TargetKind,
    /// Dense number of this target in its snapshot, for tables beside the routes.
    pub index: u32,
}

/// The resource of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetKind {
    /// The route itself, for HTTP calls.
    Route,
    /// The service that owns the route, for connections that carry no HTTP.
    Service,
    /// A registered RPC method, by the id of its entity (`shop.Orders/Get` or `scope:shop.Orders/Get`).
    Method(Arc<str>),
}

/// The answer of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// The call has a resource.
    Target(&'a Target),
    /// No route matches: 404.
    UnknownRoute,
    /// The gRPC method is not registered: UNIMPLEMENTED.
    UnknownMethod,
    /// The route reads a field of the call that is no text (CC-11), or takes no path that is spelled so (CC-08).
    Unreadable(NotCanonical),
}

impl Routes {
    /// Compiles the routes.
    ///
    /// # Errors
    /// The first thing that has no meaning or two.
    pub fn build(
        services: &[ServiceSpec],
        clusters: &[ClusterSpec],
        routes: &[RouteSpec],
    ) -> Result<Self, RouteError> {
        build::build(services, clusters, routes)
    }

    /// Looks at one route alone.
    ///
    /// # Errors
    /// The first condition of it that has no meaning.
    pub fn check(route: &RouteSpec) -> Result<(), RouteError> {
        Plan::of(route)?;
        Handling::compile(route).map(drop)
    }

    /// The target of a call that arrived so.
    pub fn find(&self, call: &Call, arrival: &Arrival<'_>) -> Found<'_> {
        let hosts = match self.listeners.get(arrival.listener) {
            // No stream of HTTP/3 becomes a tunnel.
            _ if call.upgrade() == Some(Upgrade::Connect) => match call.protocol() {
                CallProtocol::H1 | CallProtocol::H2 => &self.tunnels,
                _ => return Found::UnknownRoute,
            },
            _ if call.protocol() == CallProtocol::Tcp => {
                let carriers = if arrival.passed { &self.passing } else { &self.carriers };
                match carriers.get(arrival.listener) {
                    Some(hosts) => hosts,
                    None => return Found::UnknownRoute,
                }
            }
            Some(hosts) => hosts,
            None => &self.general,
        };
        let grpc = call.protocol() == CallProtocol::Grpc;
        let route = match hosts.find(call, arrival) {
            Ok(Some(route)) => route,
            // Whether its path may be spelled so, only a route could say.
            Ok(None) if let Some(flaw) = call.misspelled(Kept::default(), false) => {
                return Found::Unreadable(flaw);
            }
            Ok(None) => return if grpc { Found::UnknownMethod } else { Found::UnknownRoute },
            Err(flaw) => return Found::Unreadable(flaw),
        };
        let handling = self.routes.get(route as usize).map(|route| &route.handling);
        if let Some(flaw) = handling.and_then(|handling| handling.misread(call)) {
            return Found::Unreadable(flaw);
        }
        // A stream of HTTP/2 that asks for a WebSocket asks for nothing else.
        let is_barred = call.upgrade() == Some(Upgrade::WebSocket) && call.protocol() != CallProtocol::H1;
        if is_barred && handling.is_some_and(|handling| handling.bars_websocket) {
            return Found::UnknownRoute;
        }
        let target = if grpc { self.method(route, call) } else { self.route_target(route) };
        match target {
            Some(target) => Found::Target(target),
            None if grpc => Found::UnknownMethod,
            None => Found::UnknownRoute,
        }
    }

    /// Whether the TLS of some server name goes through that listener.
    pub fn is_passing(&self, listener: &str) -> bool {
        self.passing.contains_key(listener)
    }

    /// Whether the TLS of that lower-case server name goes through that listener (LT-16). No call that came under another
    /// TLS is for it.
    pub fn passes(&self, listener: &str, name: &str) -> bool {
        let is_one = |plan: &Plan| {
            plan.listener.as_deref() == Some(listener) && plan.passes.iter().any(|known| known.has(name))
        };
        self.is_passing(listener) && self.plans.iter().any(is_one)
    }

    /// All targets, in the order of their index.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// All routes, in the order of their index.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// All clusters, in the order of their index.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// The routes stand first among the targets, in their own order.
    fn route_target(&self, route: u32) -> Option<&Target> {
        self.targets.get(route as usize)
    }

    fn method(&self, route: u32, call: &Call) -> Option<&Target> {
        // A path that is not exactly two names has no method (RPC-01).
        call.grpc()?;
        let name = call.path().strip_prefix('/')?;
        let index = self.methods.get(route as usize)?.get(name)?;
        self.targets.get(*index as usize)
    }
}
