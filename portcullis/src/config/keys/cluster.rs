//! Keys of `[[enforcer.cluster]]`: endpoints that can take each other's calls.

use super::{Key, Kind, key, preset, required};

pub(super) const ENDPOINTS: Kind = Kind::List(&Kind::Address(&["http", "h2c"]));
pub(super) const BALANCERS: Kind = Kind::Choice(&["p2c", "round_robin"]);

pub(super) static KEYS: &[Key] = &[
    key(
        "enforcer.cluster",
        Kind::Tables,
        "endpoints that can take each other's calls",
        "[[enforcer.cluster]]",
    ),
    required("enforcer.cluster.name", Kind::Text, "name in routes and metrics", "\"orders\""),
    required("enforcer.cluster.endpoints", ENDPOINTS, "where they are", "[\"h2c://127.0.0.1:50051\"]"),
    preset("enforcer.cluster.balancer", BALANCERS, "p2c", "how an endpoint is picked", "\"p2c\""),
    preset("enforcer.cluster.connect_timeout", Kind::Duration, "3s", "connecting to an endpoint", "\"3s\""),
];
