//! Keys of `[[enforcer.route]]`: which calls, where they go, what is done to them on the way.

use super::cluster::{BALANCERS, ENDPOINTS};
use super::{Key, Kind, MODES, key, preset, required};

const TEXTS: Kind = Kind::List(&Kind::Text);
const HOST: &str = "another host, with a port unless it is that of the scheme";
const TO_PREFIX: &str = "in place of match.path";
const TO_PATH: &str = "whole path; {names} are those of match.path_template";
const EDITED: &str = "lower-case name; never framing, hop-by-hop or reserved";
const SET: &str = "value in place of every field of that name";
const ADD: &str = "value of one more field of that name";
const VALUES: Kind = Kind::Choice(&["any", "all"]);
const EXACT: &str = "a value is this; with none of exact, prefix and regex it only has to be there";
const PREFIX: &str = "a value begins with this";
const REGEX: &str = "the whole value matches this pattern";
const WHICH: &str =
    "whether one value is enough, or all must be so; to be written with exact, prefix and regex";

pub(super) static KEYS: &[Key] = &[
    key("enforcer.route", Kind::Tables, "calls that go to one service", "[[enforcer.route]]"),
    required("enforcer.route.name", Kind::Text, "name in policies: Route::\"shop-web\"", "\"shop-web\""),
    required("enforcer.route.service", Kind::Text, "the service called", "\"orders\""),
    key("enforcer.route.listener", Kind::Text, "only on this listener", "\"public\""),
    key("enforcer.route.match", Kind::Table, "which calls", "{ grpc = \"shop.Orders/*\" }"),
    key("enforcer.route.match.host", Kind::Text, "exact authority or *.suffix", "\"*.example.org\""),
    key(
        "enforcer.route.match.hosts",
        TEXTS,
        "any of these, as host",
        "[\"a.example.org\", \"b.example.org\"]",
    ),
    key("enforcer.route.match.path", Kind::Text, "path prefix, by whole segments", "\"/api\""),
    key("enforcer.route.match.path_exact", Kind::Text, "exactly this path", "\"/health\""),
    key(
        "enforcer.route.match.path_template",
        Kind::Text,
        "path with named segments, which policies read as context.request.params",
        "\"/users/{id}\"",
    ),
    key(
        "enforcer.route.match.path_regex",
        Kind::Text,
        "pattern for the whole path, in linear time; needs priority",
        "\"/v[0-9]+/.*\"",
    ),
    key(
        "enforcer.route.match.priority",
        Kind::Integer { min: 0, max: 1_000_000 },
        "which path_regex is looked at first: the higher",
        "10",
    ),
    key("enforcer.route.match.method", TEXTS, "any of these methods", "[\"GET\", \"HEAD\"]"),
    key(
        "enforcer.route.match.header",
        Kind::Tables,
        "conditions on header fields, which must all hold",
        "[{ name = \"x-tenant\", exact = \"acme\", values = \"all\" }]",
    ),
    required("enforcer.route.match.header.name", Kind::Text, "lower-case name", "\"x-tenant\""),
    key("enforcer.route.match.header.exact", Kind::Text, EXACT, "\"acme\""),
    key("enforcer.route.match.header.prefix", Kind::Text, PREFIX, "\"acme-\""),
    key("enforcer.route.match.header.regex", Kind::Text, REGEX, "\"[a-z]+\""),
    key("enforcer.route.match.header.values", VALUES, WHICH, "\"all\""),
    key(
        "enforcer.route.match.query",
        Kind::Tables,
        "conditions on decoded parameters of the query, which must all hold",
        "[{ name = \"beta\" }]",
    ),
    required("enforcer.route.match.query.name", Kind::Text, "name", "\"beta\""),
    key("enforcer.route.match.query.exact", Kind::Text, EXACT, "\"1\""),
    key("enforcer.route.match.query.prefix", Kind::Text, PREFIX, "\"1\""),
    key("enforcer.route.match.query.regex", Kind::Text, REGEX, "\"[0-9]+\""),
    key("enforcer.route.match.query.values", VALUES, WHICH, "\"any\""),
    key(
        "enforcer.route.match.cookie",
        Kind::Tables,
        "conditions on cookies, which must all hold",
        "[{ name = \"session\" }]",
    ),
    required("enforcer.route.match.cookie.name", Kind::Text, "name", "\"session\""),
    key("enforcer.route.match.cookie.exact", Kind::Text, EXACT, "\"1\""),
    key("enforcer.route.match.cookie.prefix", Kind::Text, PREFIX, "\"1\""),
    key("enforcer.route.match.cookie.regex", Kind::Text, REGEX, "\"[0-9]+\""),
    key("enforcer.route.match.cookie.values", VALUES, WHICH, "\"any\""),
    key(
        "enforcer.route.match.source",
        TEXTS,
        "verified identity of the caller: a SPIFFE ID, spiffe://DOMAIN, or spiffe://DOMAIN/PATH/* by whole segments",
        "[\"spiffe://example.org/ns/shop/*\"]",
    ),
    key("enforcer.route.match.source_ip", TEXTS, "networks of the caller", "[\"10.0.0.0/8\"]"),
    key(
        "enforcer.route.match.sni",
        TEXTS,
        "server name that the caller asked for, as host",
        "[\"*.example.org\"]",
    ),
    key(
        "enforcer.route.match.port",
        Kind::List(&Kind::Integer { min: 1, max: 65_535 }),
        "local ports",
        "[9443]",
    ),
    key(
        "enforcer.route.match.grpc",
        Kind::Text,
        "package.Service/Method or package.Service/*",
        "\"shop.Orders/*\"",
    ),
    key(
        "enforcer.route.redirect",
        Kind::Table,
        "answered with the same call at another place, in place of forwarding",
        "{ status = 308, host = \"new.example.org\" }",
    ),
    required(
        "enforcer.route.redirect.status",
        Kind::Integer { min: 300, max: 399 },
        "301, 302, 303, 307 or 308",
        "308",
    ),
    key("enforcer.route.redirect.scheme", Kind::Choice(&["http", "https"]), "another scheme", "\"https\""),
    key("enforcer.route.redirect.host", Kind::Text, HOST, "\"new.example.org\""),
    key("enforcer.route.redirect.prefix", Kind::Text, TO_PREFIX, "\"/v2\""),
    key("enforcer.route.redirect.path", Kind::Text, TO_PATH, "\"/accounts/{id}\""),
    key(
        "enforcer.route.respond",
        Kind::Table,
        "answered by the gateway itself, in place of forwarding",
        "{ status = 503, body = \"back soon\" }",
    ),
    required(
        "enforcer.route.respond.status",
        Kind::Integer { min: 200, max: 599 },
        "status of the answer",
        "503",
    ),
    preset("enforcer.route.respond.body", Kind::Text, "", "body, 4 KiB at most", "\"back soon\""),
    preset(
        "enforcer.route.respond.content_type",
        Kind::Text,
        "text/plain",
        "type of the body",
        "\"text/plain\"",
    ),
    key(
        "enforcer.route.rewrite",
        Kind::Table,
        "the upstream receives another path or host than was judged",
        "{ prefix = \"/v2\" }",
    ),
    key("enforcer.route.rewrite.host", Kind::Text, HOST, "\"orders.internal\""),
    key("enforcer.route.rewrite.prefix", Kind::Text, TO_PREFIX, "\"/v2\""),
    key("enforcer.route.rewrite.path", Kind::Text, TO_PATH, "\"/accounts/{id}\""),
    key(
        "enforcer.route.request_header",
        Kind::Tables,
        "changes of the request's fields",
        "[{ name = \"x-env\", set = \"prod\" }]",
    ),
    required("enforcer.route.request_header.name", Kind::Text, EDITED, "\"x-env\""),
    key("enforcer.route.request_header.set", Kind::Text, SET, "\"prod\""),
    key("enforcer.route.request_header.add", Kind::Text, ADD, "\"prod\""),
    key(
        "enforcer.route.request_header_remove",
        TEXTS,
        "names of fields that the upstream does not receive",
        "[\"x-debug\"]",
    ),
    key(
        "enforcer.route.response_header",
        Kind::Tables,
        "changes of the answer's fields",
        "[{ name = \"cache-control\", set = \"no-store\" }]",
    ),
    required("enforcer.route.response_header.name", Kind::Text, EDITED, "\"cache-control\""),
    key("enforcer.route.response_header.set", Kind::Text, SET, "\"no-store\""),
    key("enforcer.route.response_header.add", Kind::Text, ADD, "\"no-store\""),
    key(
        "enforcer.route.response_header_remove",
        TEXTS,
        "names of fields that the caller does not receive",
        "[\"server\"]",
    ),
    key(
        "enforcer.route.max_body",
        Kind::Size,
        "longest body of a request; a longer one is 413, gRPC 8; absent = any",
        "\"10MiB\"",
    ),
    key(
        "enforcer.route.connect",
        TEXTS,
        "in place of `to`: targets that callers may open tunnels to with CONNECT over HTTP/1.1; a name never leads to loopback, link-local or metadata addresses, an address written here does",
        "[\"db.example.org:5432\", \"*.example.org:443\"]",
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
    key(
        "enforcer.route.retry",
        Kind::Table,
        "calls that fail at one endpoint and are tried at another, where that is safe",
        "[enforcer.route.retry]",
    ),
    preset(
        "enforcer.route.retry.attempts",
        Kind::Integer { min: 0, max: 10 },
        "2",
        "tries after the first; 0 = none",
        "1",
    ),
    key("enforcer.route.retry.try_timeout", Kind::Duration, "one try, until the answer's head", "\"500ms\""),
    preset(
        "enforcer.route.retry.grpc",
        Kind::Choice(&["unprocessed", "idempotent"]),
        "unprocessed",
        "idempotent: methods of this route may be executed twice, so UNAVAILABLE is tried again too",
        "\"idempotent\"",
    ),
    preset(
        "enforcer.route.retry.budget_percent",
        Kind::Integer { min: 0, max: 100 },
        "20",
        "retries of the route: this part of its calls within ten seconds",
        "10",
    ),
    preset(
        "enforcer.route.retry.budget_per_second",
        Kind::Integer { min: 0, max: 100_000 },
        "10",
        "and so many a second; one caller has at most half of both",
        "10",
    ),
    preset(
        "enforcer.route.priority",
        Kind::Choice(&["high", "normal", "low"]),
        "normal",
        "who waits less for a full endpoint; under overload low is refused first",
        "\"low\"",
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
