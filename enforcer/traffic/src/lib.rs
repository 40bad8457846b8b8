//! Pure traffic decisions: routes, balancers and timeouts as functions of state, input and now.
//!
//! `portcullis` turns the configuration into specs and builds [`Routes`]; the proxy asks it for the [`Target`]
//! of a [`Call`](enforcer_codec::Call) before the decision, and a [`Balancer`](balance::Balancer) for an
//! endpoint after it. No sockets, no timers, no clock, no policy: a configuration with two readings is a
//! [`RouteError`], never an order.

mod admission;
pub mod balance;
mod cluster;
mod cookie;
mod error;
pub mod fleet;
mod handling;
mod handshakes;
mod hash_by;
mod held;
mod labels;
mod limit;
mod matches;
mod mirror;
mod network;
mod off_limits;
mod overload;
mod placement;
mod priority;
mod queue;
mod resolved;
mod retry;
mod routes;
mod spec;
mod split;
mod timeouts;
mod window;

pub use admission::AdmissionSettings;
pub use cluster::{Cluster, ClusterSpec, Roots, Share, TlsSettings};
pub use error::RouteError;
pub use handling::{Handling, HandlingSpec, LONGEST_REPLY, PathMode, ReplySpec, RewriteSpec};
pub use handshakes::{Begun, Handshakes};
pub use hash_by::HashBy;
pub use held::{Held, to_end};
pub use labels::{Fallback, Labels};
pub use limit::{Account, Exceeded, Limited, Rate, RateLimit, RateSettings};
pub use matches::{Arrival, GrpcMatch, MatchSpec, PathSpec, ValueTest, ValuesSpec};
pub use mirror::{Mirror, MirrorSpec};
pub use network::Network;
pub use off_limits::off_limits;
pub use overload::{Delay, Ladder, Step};
pub use placement::lighter;
pub use priority::Priority;
pub use queue::{NoWait, Queue, Ticket};
pub use resolved::Resolved;
pub use retry::{RetryBudget, RetrySettings, Trigger, pause};
pub use routes::{
    Found, Params, Route, Routes, Standing, Target, TargetKind, Template, TunnelTarget, Verdict, hosts_meet,
    method_id, rpc_service_id,
};
pub use spec::{BalancerKind, EndpointSpec, NamedSpec, RouteSpec, ServiceSpec, UpstreamProtocol};
pub use split::Split;
pub use timeouts::Timeouts;
