//! Keys of `[[enforcer.cluster]]`: endpoints that can take each other's calls.

use super::{Key, Kind, key, preset, required};

pub(super) const ENDPOINTS: Kind = Kind::List(&Kind::Endpoint(&["http", "h2c", "https", "tcp"]));
pub(super) const BALANCERS: Kind =
    Kind::Choice(&["p2c", "peak_ewma", "round_robin", "random", "maglev", "ring_hash", "rendezvous"]);
const COUNT: Kind = Kind::Integer { min: 1, max: 1_000_000 };
const PERCENT: Kind = Kind::Integer { min: 0, max: 100 };

pub(super) static KEYS: &[Key] = &[
    key(
        "enforcer.cluster",
        Kind::Tables,
        "endpoints that can take each other's calls",
        "[[enforcer.cluster]]",
    ),
    required("enforcer.cluster.name", Kind::Text, "name in routes and metrics", "\"orders\""),
    key(
        "enforcer.cluster.endpoints",
        ENDPOINTS,
        "where they are, by address or by name",
        "[\"h2c://127.0.0.1:50051\"]",
    ),
    key(
        "enforcer.cluster.endpoint",
        Kind::Tables,
        "beside or instead of `endpoints`: one of which there is more to say",
        "[[enforcer.cluster.endpoint]]",
    ),
    required(
        "enforcer.cluster.endpoint.address",
        Kind::Endpoint(&["http", "h2c", "https", "tcp"]),
        "where it is; a name stands for every address that it has",
        "\"http://10.0.0.7:8000\"",
    ),
    preset(
        "enforcer.cluster.endpoint.weight",
        Kind::Integer { min: 0, max: 10_000 },
        "1",
        "its share, relative to the others; 0 takes no calls",
        "2",
    ),
    preset(
        "enforcer.cluster.endpoint.priority",
        Kind::Integer { min: 0, max: 255 },
        "0",
        "0 comes first; later ones get calls as the earlier are no longer healthy",
        "1",
    ),
    key("enforcer.cluster.endpoint.zone", Kind::Text, "where it stands; see enforcer.zone", "\"eu-1a\""),
    key(
        "enforcer.cluster.resolve_to",
        Kind::List(&Kind::Text),
        "networks that names may lead to though they are off limits: loopback, link-local, metadata",
        "[\"127.0.0.0/8\"]",
    ),
    preset("enforcer.cluster.balancer", BALANCERS, "p2c", "how an endpoint is picked", "\"p2c\""),
    key(
        "enforcer.cluster.hash_by",
        Kind::Text,
        "what keeps calls at one endpoint: header:NAME, cookie:NAME, source_id, source_ip",
        "\"header:x-user\"",
    ),
    key(
        "enforcer.cluster.bound_percent",
        Kind::Integer { min: 101, max: 1_000 },
        "beside `hash_by`: calls at one endpoint, at most this part of the mean",
        "125",
    ),
    preset(
        "enforcer.cluster.slow_start",
        Kind::Duration,
        "0s",
        "an endpoint that comes into use reaches its weight after so long",
        "\"30s\"",
    ),
    preset(
        "enforcer.cluster.panic",
        Kind::Choice(&["use_all", "fail"]),
        "use_all",
        "when fewer than half of the endpoints are healthy",
        "\"fail\"",
    ),
    preset("enforcer.cluster.max_in_flight", COUNT, "4096", "calls at all endpoints", "4096"),
    preset(
        "enforcer.cluster.max_in_flight_per_endpoint",
        COUNT,
        "1024",
        "calls at one endpoint, of all workers",
        "64",
    ),
    preset(
        "enforcer.cluster.max_queued",
        Kind::Integer { min: 0, max: 100_000 },
        "128",
        "calls that wait for a place at an endpoint, on each worker, for at most a second",
        "128",
    ),
    preset("enforcer.cluster.max_connections", COUNT, "1024", "connections to all endpoints", "1024"),
    key(
        "enforcer.cluster.check",
        Kind::Table,
        "endpoints are asked for their health; ill after three failures, well after two passes",
        "[enforcer.cluster.check]",
    ),
    required(
        "enforcer.cluster.check.probe",
        Kind::Choice(&["http", "grpc", "tcp"]),
        "http: GET of `path` is 2xx; grpc: grpc.health.v1 says SERVING; tcp: it connects",
        "\"http\"",
    ),
    preset("enforcer.cluster.check.path", Kind::Text, "/", "of an http probe", "\"/healthz\""),
    key(
        "enforcer.cluster.check.host",
        Kind::Text,
        "of an http probe; absent = the address",
        "\"shop.local\"",
    ),
    key(
        "enforcer.cluster.check.service",
        Kind::Text,
        "of a grpc probe; absent = the server as a whole",
        "\"shop.Orders\"",
    ),
    preset(
        "enforcer.cluster.check.interval",
        Kind::Duration,
        "10s",
        "less or more a tenth; 1s while ill or in doubt",
        "\"5s\"",
    ),
    preset(
        "enforcer.cluster.check.timeout",
        Kind::Duration,
        "1s",
        "an answer that takes longer is none",
        "\"1s\"",
    ),
    key(
        "enforcer.cluster.outlier",
        Kind::Table,
        "when an endpoint gets no calls for a while; one alone always gets them",
        "[enforcer.cluster.outlier]",
    ),
    preset(
        "enforcer.cluster.outlier.mode",
        Kind::Choice(&["on", "off"]),
        "on",
        "whether endpoints are shut out at all",
        "\"off\"",
    ),
    preset(
        "enforcer.cluster.outlier.failures_in_a_row",
        COUNT,
        "5",
        "failures until it is shut: 5xx, no connection, reset, timeout",
        "5",
    ),
    preset(
        "enforcer.cluster.outlier.min_success_percent",
        PERCENT,
        "50",
        "or below this part of success within ten seconds",
        "80",
    ),
    preset("enforcer.cluster.outlier.min_calls", COUNT, "20", "from so many calls within them", "20"),
    preset(
        "enforcer.cluster.outlier.back_off",
        Kind::Duration,
        "1s",
        "shut for about so long, then one call tries; doubles each time it fails",
        "\"1s\"",
    ),
    preset("enforcer.cluster.outlier.max_back_off", Kind::Duration, "60s", "never longer", "\"60s\""),
    preset("enforcer.cluster.outlier.max_percent", PERCENT, "50", "of the endpoints shut at a time", "50"),
    key(
        "enforcer.cluster.protocol",
        Kind::Choice(&["http1", "h2", "tcp"]),
        "what https endpoints speak, by ALPN; absent = http1. gRPC needs h2, a WebSocket http1; tcp = bytes as they are",
        "\"h2\"",
    ),
    preset(
        "enforcer.cluster.proxy_protocol",
        Kind::Choice(&["off", "v2"]),
        "off",
        "v2: tcp endpoints hear first who calls: address, server name, decision id, SPIFFE ID (type 0xE0)",
        "\"v2\"",
    ),
    key(
        "enforcer.cluster.expect",
        Kind::List(&Kind::Text),
        "who https endpoints must be: SPIFFE IDs, spiffe://DOMAIN, or spiffe://DOMAIN/PATH/*",
        "[\"spiffe://example.org/ns/shop/*\"]",
    ),
    key(
        "enforcer.cluster.sni",
        Kind::Text,
        "the server name told to https endpoints; absent = the trust domain of the first in `expect`",
        "\"shop.example.org\"",
    ),
    preset(
        "enforcer.cluster.connect_timeout",
        Kind::Duration,
        "3s",
        "connecting to an endpoint, TLS handshake included",
        "\"3s\"",
    ),
];
