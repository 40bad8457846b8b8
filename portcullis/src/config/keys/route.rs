//! Keys of `[[enforcer.route]]`: which calls, where they go, what is done to them on the way.

use super::cluster::{BALANCERS, ENDPOINTS};
use super::{Key, Kind, MODES, key, preset, required};

pub(super) static KEYS: &[Key] = &[
    key("enforcer.route", Kind::Tables, "calls that go to one service", "[[enforcer.route]]"),
    required("enforcer.route.name", Kind::Text, "name in policies: Route::\"shop-web\"", "\"shop-web\""),
    required("enforcer.route.service", Kind::Text, "the service called", "\"orders\""),
    key("enforcer.route.listener", Kind::Text, "only on this listener", "\"public\""),
    key("enforcer.route.match", Kind::Table, "which calls", "{ grpc = \"shop.Orders/*\" }"),
    key("enforcer.route.match.host", Kind::Text, "exact authority or *.suffix", "\"*.example.org\""),
    key("enforcer.route.match.path", Kind::Text, "path prefix, by whole segments", "\"/api\""),
    key(
        "enforcer.route.match.grpc",
        Kind::Text,
        "package.Service/Method or package.Service/*",
        "\"shop.Orders/*\"",
    ),
    key(
        "enforcer.route.to",
        ENDPOINTS,
        "endpoints, when they serve this route only: short for a cluster of the route's name",
        "[\"h2c://127.0.0.1:50051\"]",
    ),
    key("enforcer.route.balancer", BALANCERS, "beside `to`: as enforcer.cluster.balancer", "\"p2c\""),
    key(
        "enforcer.route.connect_timeout",
        Kind::Duration,
        "beside `to`: as enforcer.cluster.connect_timeout",
        "\"3s\"",
    ),
    key("enforcer.route.cluster", Kind::Text, "the cluster that takes the calls", "\"orders\""),
    key("enforcer.route.split", Kind::Tables, "clusters that share the calls", "[[enforcer.route.split]]"),
    required("enforcer.route.split.cluster", Kind::Text, "a cluster that takes some", "\"orders-next\""),
    required(
        "enforcer.route.split.weight",
        Kind::Integer { min: 0, max: 1_000_000 },
        "its share, relative to the others; 0 takes none",
        "5",
    ),
    preset("enforcer.route.header_timeout", Kind::Duration, "15s", "until the answer's head", "\"15s\""),
    preset(
        "enforcer.route.timeout",
        Kind::Duration,
        "15s",
        "the whole call; gRPC streams are exempt",
        "\"2s\"",
    ),
    key("enforcer.route.mode", MODES, "overrides the listener's mode for this route", "\"observe\""),
    key(
        "enforcer.route.stale_after",
        Kind::Duration,
        "overrides policies.stale_after for this route; 0s = never",
        "\"1m\"",
    ),
    key(
        "enforcer.route.deny_after",
        Kind::Duration,
        "overrides policies.deny_after for this route; 0s = never",
        "\"0s\"",
    ),
];
