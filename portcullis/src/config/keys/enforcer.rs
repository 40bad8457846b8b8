//! Keys of `[enforcer]`, its listeners and services.

use super::{Key, Kind, MODES, key, preset, required};

pub(super) static KEYS: &[Key] = &[
    key("enforcer", Kind::Table, "the enforcing proxy runs in this process", "[enforcer]"),
    required(
        "enforcer.id",
        Kind::SpiffeId,
        "identity of the gateway; issued to this process, needs no entry",
        "\"spiffe://example.org/gateway\"",
    ),
    preset(
        "enforcer.mode",
        MODES,
        "enforce",
        "observe records would-be denials and lets the call pass",
        "\"observe\"",
    ),
    preset(
        "enforcer.workers",
        Kind::Integer { min: 0, max: 256 },
        "0",
        "worker threads; 0 = one per usable core",
        "2",
    ),
    key(
        "enforcer.dns_names",
        Kind::List(&Kind::Text),
        "DNS names in the gateway's certificate, for clients that check names",
        "[\"localhost\"]",
    ),
    key("enforcer.listener", Kind::Tables, "a port that accepts calls", "[[enforcer.listener]]"),
    required("enforcer.listener.name", Kind::Text, "name in policies, records, metrics", "\"public\""),
    required(
        "enforcer.listener.bind",
        Kind::List(&Kind::Address(&["tcp"])),
        "addresses to bind",
        "[\"tcp://0.0.0.0:9443\"]",
    ),
    preset(
        "enforcer.listener.client_auth",
        Kind::Choice(&["required", "optional", "none"]),
        "required",
        "whether the caller must present an X.509-SVID",
        "\"required\"",
    ),
    key("enforcer.listener.mode", MODES, "overrides enforcer.mode for this listener", "\"observe\""),
    key(
        "enforcer.listener.hosts",
        Kind::List(&Kind::Text),
        "authorities this listener serves; absent = any",
        "[\"shop.example.org\"]",
    ),
    preset("enforcer.listener.handshake_timeout", Kind::Duration, "5s", "TLS handshake", "\"5s\""),
    preset("enforcer.listener.header_timeout", Kind::Duration, "10s", "whole request head", "\"10s\""),
    preset("enforcer.listener.idle_timeout", Kind::Duration, "60s", "connection without a call", "\"60s\""),
    preset(
        "enforcer.listener.max_age",
        Kind::Duration,
        "1h",
        "connection age; never beyond the peer's SVID",
        "\"1h\"",
    ),
    preset(
        "enforcer.listener.max_connections",
        Kind::Integer { min: 1, max: 1_000_000 },
        "10000",
        "open connections",
        "10000",
    ),
    preset(
        "enforcer.listener.max_connections_per_source",
        Kind::Integer { min: 1, max: 1_000_000 },
        "1000",
        "open connections of one source address; loopback is exempt",
        "1000",
    ),
    key("enforcer.service", Kind::Tables, "a service that can be called", "[[enforcer.service]]"),
    required("enforcer.service.name", Kind::Text, "name in policies: Service::\"orders\"", "\"orders\""),
    key("enforcer.service.namespace", Kind::Text, "namespace of the service", "\"shop\""),
    key(
        "enforcer.service.rpc_scope",
        Kind::Text,
        "prefix that tells equal interfaces of two services apart",
        "\"eu\"",
    ),
    key(
        "enforcer.service.methods",
        Kind::List(&Kind::Text),
        "registered RPC methods; others are never forwarded",
        "[\"shop.Orders/Get\"]",
    ),
];
