//! Keys of `[oidc]`.

use super::{Key, Kind, key, preset, required};

pub(super) static KEYS: &[Key] = &[
    key(
        "oidc",
        Kind::Table,
        "OpenID Connect discovery: verifiers without SPIFFE find the keys of JWT-SVIDs",
        "[oidc]",
    ),
    required(
        "oidc.issuer",
        Kind::Text,
        "URL of the issuer, byte for byte as it stands in `iss` of every JWT-SVID",
        "\"https://oidc.example.org\"",
    ),
    required(
        "oidc.listen",
        Kind::Address(&["https", "http", "unix"]),
        "where the document and the keys are served; http on loopback only, behind a proxy that does TLS",
        "\"https://0.0.0.0:8444\"",
    ),
    key("oidc.certificate", Kind::Table, "the certificate of an https listener", "[oidc.certificate]"),
    required("oidc.certificate.chain", Kind::Path, "PEM, leaf first", "\"./tls/oidc.pem\""),
    required("oidc.certificate.key", Kind::Path, "PEM; mode 0600", "\"./tls/oidc.key\""),
    key(
        "oidc.hosts",
        Kind::List(&Kind::Text),
        "hosts that requests may name besides the issuer's",
        "[\"oidc.internal\"]",
    ),
    preset(
        "oidc.key_use",
        Kind::Choice(&["sig", "none"]),
        "sig",
        "what keys say of their use; none for clients that take none",
        "\"sig\"",
    ),
];
