//! One owner per named package: normal dependencies of product crates (SETTLED S11).

use libtest_mimic::Trial;

use crate::{
    breaks,
    workspace::{Crate, Workspace},
};

const SERVICES: &[&str] =
    &["ca-authority", "ca-agent", "policies-store", "policies-decisions", "policies-adapters", "portcullis"];
const PKI: &[&str] = &["ca-identity", "ca-authority"];
const WIRE: &[&str] = &["enforcer-proxy", "portcullis"];

/// A package and the only crates that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("sled", &["base-store"]),
    ("zstd", &["policies-decisions"]),
    ("cedar-policy", &["policies-engine", "policies-store"]),
    // Only the public API of Cedar (VA1).
    ("cedar-policy-core", &[]),
    ("cedar-policy-validator", &[]),
    ("rustls", &["ca-identity", "enforcer-proxy", "portcullis"]),
    ("tokio-rustls", WIRE),
    ("rustls-webpki", &["ca-identity"]),
    ("rcgen", PKI),
    ("x509-parser", PKI),
    ("jsonwebtoken", PKI),
    ("quinn", &["enforcer-proxy"]),
    ("h2", WIRE),
    ("h3", WIRE),
    ("hyper", WIRE),
    ("axum", SERVICES),
    ("tonic", SERVICES),
    ("tonic-reflection", SERVICES),
    ("tonic-health", SERVICES),
    ("prometheus-client", &["base-telemetry"]),
    ("clap", &["portcullis"]),
];

/// No other crate names an owned package.
pub fn owners(workspace: &Workspace) -> Vec<String> {
    let product = workspace.crates.iter().filter(|ours| ours.name != "tests");
    let strangers = |ours: &Crate| {
        let taken = OWNERS.iter().filter(|(package, owners)| {
            ours.needs.contains(*package) && !owners.contains(&ours.name.as_str())
        });
        let say = |(package, owners): &(&str, &[&str])| {
            format!("`{}` uses `{package}`, which belongs to {}", ours.name, owners.join(", "))
        };
        taken.map(say).collect::<Vec<_>>()
    };
    product.flat_map(strangers).collect()
}

pub fn broken() -> Vec<Trial> {
    vec![breaks(
        "broken_a_second_owner_is_found",
        || owners(&second()),
        &["`ca-agent` uses `sled`", "`base-net` uses `rustls`"],
    )]
}

fn second() -> Workspace {
    let made = |name: &str, needs: &[&str]| Crate {
        name: name.into(),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..Crate::default()
    };
    let crates = vec![
        made("base-store", &["sled"]),
        made("ca-agent", &["sled", "tonic"]),
        made("base-net", &["rustls"]),
        made("tests", &["rustls", "h2", "rcgen"]),
    ];
    Workspace { crates, ..Workspace::default() }
}
