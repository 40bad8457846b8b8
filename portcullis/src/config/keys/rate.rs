//! Keys of `rate`, of a listener and of a route: how many calls it takes.

use super::{Key, Kind, key, required};

const BURST: Kind = Kind::Integer { min: 1, max: 1_000_000 };

macro_rules! rate {
    ($of:literal, $text:literal) => {
        &[
            key($of, Kind::Table, $text, "{ per_identity = \"100/s\", burst = 200 }"),
            key(concat!($of, ".total"), Kind::Text, "calls of everybody together: a number per s, m or h", "\"5000/s\""),
            key(
                concat!($of, ".total_burst"),
                BURST,
                "of these, so many at once; absent = the number in `total`",
                "10000",
            ),
            key(
                concat!($of, ".per_identity"),
                Kind::Text,
                "calls of each verified identity; all callers without one count as one",
                "\"100/s\"",
            ),
            key(
                concat!($of, ".burst"),
                BURST,
                "of these, so many at once; absent = the number in `per_identity`",
                "200",
            ),
            key(
                concat!($of, ".override"),
                Kind::Tables,
                "other rates for some; the first whose `identity` has the caller counts",
                "[{ identity = \"spiffe://example.org/jobs/*\", rate = \"10/s\" }]",
            ),
            required(
                concat!($of, ".override.identity"),
                Kind::Text,
                "a SPIFFE ID, spiffe://DOMAIN, or spiffe://DOMAIN/PATH/* by whole segments; each has its own calls",
                "\"spiffe://example.org/jobs/*\"",
            ),
            required(concat!($of, ".override.rate"), Kind::Text, "calls of each", "\"10/s\""),
            key(
                concat!($of, ".override.burst"),
                BURST,
                "of these, so many at once; absent = the number in `rate`",
                "20",
            ),
        ]
    };
}

pub(super) static OF_LISTENER: &[Key] = rate!(
    "enforcer.listener.rate",
    "calls that the listener takes, permitted or not; beyond them 429, gRPC 8, and nothing is judged"
);

pub(super) static OF_ROUTE: &[Key] =
    rate!("enforcer.route.rate", "permitted calls that the route takes; beyond them 429, gRPC 8");
