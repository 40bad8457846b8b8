//! Keys of `[join]`.

use super::{Key, Kind, key, required};

pub(super) static KEYS: &[Key] = &[
    key(
        "join",
        Kind::Table,
        "this process is an agent of an authority on another host, and follows its policies",
        "[join]",
    ),
    required(
        "join.authority",
        Kind::Endpoint(&["https"]),
        "where the authority enrols agents: its ca.listen",
        "\"https://ca.example.org:8443\"",
    ),
    key(
        "join.fingerprint",
        Kind::Text,
        "SHA-256 of the root certificate that the authority is known by at first; `portcullis agent token` prints it",
        "\"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
    ),
    key(
        "join.bundle",
        Kind::Path,
        "PEM file of the roots that the authority is known by at first, in place of a fingerprint",
        "\"./bundle.pem\"",
    ),
    key(
        "join.token_file",
        Kind::Path,
        "file with the join token, which is used once; PORTCULLIS_JOIN_TOKEN wins",
        "\"./join.token\"",
    ),
];
