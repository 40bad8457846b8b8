//! Keys of `[decisions]`: what of calls is recorded, how long it is kept, who may ask how often.

use super::{Key, Kind, key, preset};

pub(super) static KEYS: &[Key] = &[
    preset("decisions", Kind::Table, "", "the decision ledger; always there", "[decisions]"),
    preset("decisions.name", Kind::Text, "main", "name of the ledger", "\"main\""),
    preset(
        "decisions.keep",
        Kind::Table,
        "",
        "how long records are kept; the oldest go first, what is held stays",
        "{ days = 30, size = \"10GiB\" }",
    ),
    preset(
        "decisions.keep.days",
        Kind::Integer { min: 1, max: 36_500 },
        "30",
        "files whose last record is older are removed",
        "90",
    ),
    preset(
        "decisions.keep.size",
        Kind::Size,
        "10GiB",
        "the oldest files are removed while all together are larger; 512MiB at least",
        "\"100GiB\"",
    ),
    preset(
        "decisions.commit_interval",
        Kind::Duration,
        "50ms",
        "how often records are synced to disk",
        "\"50ms\"",
    ),
    preset(
        "decisions.reveal_decision_id",
        Kind::Choice(&["denied", "always", "never"]),
        "denied",
        "on which answers callers see the decision id",
        "\"denied\"",
    ),
    preset(
        "decisions.people",
        Kind::Choice(&["committed", "hashed", "clear"]),
        "committed",
        "how ids of people (User) are on record: a commitment that can be opened until it is erased, a hash for good, or as they are",
        "\"committed\"",
    ),
    key(
        "decisions.clear_days",
        Kind::Integer { min: 1, max: 36_500 },
        "how long it can be told who a committed id is; absent = as long as records are kept",
        "30",
    ),
    key(
        "decisions.drop",
        Kind::List(&Kind::Text),
        "fields of calls that are not recorded, only how long they were: request.path, request.query.NAME, ..",
        "[\"request.query.token\", \"connection.source_ip\"]",
    ),
    key(
        "decisions.collector",
        Kind::Endpoint(&["http", "https"]),
        "a collector that takes decisions as logs by OTLP over HTTP, at /v1/logs; OTEL_* variables win; absent = none",
        "\"http://127.0.0.1:4318\"",
    ),
    key(
        "decisions.collector_roots",
        Kind::Path,
        "PEM file of the roots that verify that collector at an https address; OTEL_EXPORTER_OTLP_CERTIFICATE wins",
        "\"/etc/portcullis/otel.pem\"",
    ),
    preset("decisions.require_purpose", Kind::Flag, "false", "exports must say what they are for", "true"),
    preset(
        "decisions.questions_per_minute",
        Kind::Integer { min: 1, max: 100_000 },
        "30",
        "queries, aggregates and exports that one reader may begin per minute",
        "30",
    ),
];
