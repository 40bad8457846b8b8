//! Keys about other trust domains: the own bundle for them, and where theirs are fetched.

use super::{Key, Kind, key, preset, required};

pub(super) static KEYS: &[Key] = &[
    key(
        "ca.bundle",
        Kind::Table,
        "bundle endpoints: other trust domains fetch from here what verifies ours",
        "[ca.bundle]",
    ),
    key(
        "ca.bundle.spiffe_listen",
        Kind::Address(&["https"]),
        "endpoint of the profile https_spiffe: shows the SVID of this process",
        "\"https://0.0.0.0:8445\"",
    ),
    key(
        "ca.bundle.web_listen",
        Kind::Address(&["https"]),
        "endpoint of the profile https_web: shows ca.bundle.certificate",
        "\"https://0.0.0.0:8446\"",
    ),
    key(
        "ca.bundle.certificate",
        Kind::Table,
        "the certificate of the endpoint for https_web",
        "[ca.bundle.certificate]",
    ),
    required("ca.bundle.certificate.chain", Kind::Path, "PEM, leaf first", "\"./tls/bundle.pem\""),
    required("ca.bundle.certificate.key", Kind::Path, "PEM; mode 0600", "\"./tls/bundle.key\""),
    preset(
        "ca.bundle.refresh_hint",
        Kind::Duration,
        "5m",
        "how often others are to fetch it anew; 10s to 1h. A new root waits five times as long before it signs",
        "\"5m\"",
    ),
    key(
        "ca.federation",
        Kind::Tables,
        "another trust domain whose identities are verified here",
        "[[ca.federation]]",
    ),
    required("ca.federation.trust_domain", Kind::TrustDomain, "the other trust domain", "\"partner.org\""),
    required(
        "ca.federation.url",
        Kind::Text,
        "where its bundle is fetched; https",
        "\"https://bundle.partner.org:8445/\"",
    ),
    required(
        "ca.federation.profile",
        Kind::Choice(&["https_spiffe", "https_web"]),
        "how the server there proves itself: by an SVID, or by a certificate of its name under web roots",
        "\"https_spiffe\"",
    ),
    key(
        "ca.federation.endpoint_id",
        Kind::SpiffeId,
        "https_spiffe: the SPIFFE ID of the server",
        "\"spiffe://partner.org/gateway\"",
    ),
    key(
        "ca.federation.bundle",
        Kind::Path,
        "file with the first bundle, a JWK Set or PEM; needed when the server has an SVID of the domain itself",
        "\"./partner.json\"",
    ),
    key(
        "ca.web_roots",
        Kind::Path,
        "PEM with the roots for https_web; default: those of this machine",
        "\"./web-roots.pem\"",
    ),
    key(
        "ca.fetch_from",
        Kind::List(&Kind::Text),
        "networks with loopback, link-local or metadata addresses that bundles may be fetched from; without, from none of these",
        "[\"127.0.0.0/8\"]",
    ),
    key(
        "ca.entry.federates_with",
        Kind::List(&Kind::TrustDomain),
        "other trust domains whose bundles the workload gets",
        "[\"partner.org\"]",
    ),
];
