//! Why a set of routes cannot be built; shown to the operator beside the last good one.

/// A configuration of routes that has no meaning, or two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two services, two clusters or two routes have one name.
    #[error("{kind} `{name}` is defined twice")]
    Duplicate {
        /// `service`, `cluster` or `route`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A route names a service that is not defined.
    #[error("route `{route}` names the unknown service `{service}`")]
    UnknownService {
        /// The route.
        route: String,
        /// The service.
        service: String,
    },
    /// A route names a cluster that is not defined.
    #[error("route `{route}` names the unknown cluster `{cluster}`")]
    UnknownCluster {
        /// The route.
        route: String,
        /// The cluster.
        cluster: String,
    },
    /// A host is neither a name nor `*.suffix`.
    #[error("route `{route}`: `{host}` is neither a host name without port nor `*.suffix`")]
    Host {
        /// The route.
        route: String,
        /// The host.
        host: String,
    },
    /// A path is not canonical, or no template, or no pattern.
    #[error("route `{route}`: path `{path}`: {cause}")]
    Path {
        /// The route.
        route: String,
        /// The path.
        path: String,
        /// The rule, the canonical form, what is wrong with the pattern.
        cause: String,
    },
    /// Another condition has no meaning.
    #[error("route `{route}`: {cause}")]
    Match {
        /// The route.
        route: String,
        /// What is wrong.
        cause: String,
    },
    /// A gRPC match is malformed, or stands beside a path.
    #[error("route `{route}`: {cause}")]
    Grpc {
        /// The route.
        route: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// What the route does has no meaning.
    #[error("route `{route}`: {cause}")]
    Handling {
        /// The route.
        route: String,
        /// What is wrong.
        cause: String,
    },
    /// A method is not `pkg.Service/Method`.
    #[error("service `{service}`: `{method}` is not `pkg.Service/Method`")]
    Method {
        /// The service.
        service: String,
        /// The method.
        method: String,
    },
    /// Two services offer one interface under one id (MO3).
    #[error("services `{first}` and `{second}` both offer `{rpc}`: set a different `rpc_scope` in each")]
    AmbiguousRpc {
        /// The id of the RPC service.
        rpc: String,
        /// One service.
        first: String,
        /// The other.
        second: String,
    },
    /// Two routes of equal rank can match the same call (RT-02).
    #[error("routes `{first}` and `{second}` match the same calls with equal rank")]
    EqualRank {
        /// One route.
        first: String,
        /// The other.
        second: String,
    },
    /// A route that forwards has no cluster that takes calls, or one that answers itself or opens tunnels has one.
    #[error(
        "route `{route}` needs a cluster with a weight above 0, or an answer of its own, or tunnels, and only one of them"
    )]
    NoCluster {
        /// The route.
        route: String,
    },
    /// A route asks for a part of a cluster that no endpoint belongs to.
    #[error("route `{route}`: no endpoint of cluster `{cluster}` that takes calls has the labels {subset}")]
    NoSubset {
        /// The route.
        route: String,
        /// The cluster.
        cluster: String,
        /// The labels.
        subset: String,
    },
    /// A cluster has no endpoint that takes calls.
    #[error("cluster `{cluster}` has no endpoint with a weight above 0")]
    NoEndpoint {
        /// The cluster.
        cluster: String,
    },
    /// A route for gRPC leads to an HTTP/1 endpoint (RPC-03).
    #[error("route `{route}` is for grpc, but endpoint `{endpoint}` speaks http/1")]
    GrpcOverHttp1 {
        /// The route.
        route: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A route to `tcp://` endpoints asks for what only HTTP has, or meets HTTP on its way (TP-02).
    #[error("route `{route}` leads to tcp:// endpoints: {cause}")]
    Tcp {
        /// The route.
        route: String,
        /// What is wrong.
        cause: &'static str,
    },
    /// More targets than an index can hold.
    #[error("the routes have more than 4 294 967 295 targets")]
    TooMany,
}
