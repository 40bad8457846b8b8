//! The packages of others: what must not be there, what must be there once, how many there may be.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    breaks,
    workspace::{Package, Workspace},
};

/// A second TLS stack or crypto provider.
const FORBIDDEN: &[&str] = &["openssl", "openssl-sys", "native-tls", "ring", "boring", "rustls-openssl"];

/// Two versions of one of these would not understand each other's values.
const SINGLE: &[&str] = &["tokio", "hyper", "rustls", "h2", "tonic", "axum", "http", "prost", "cedar-policy"];

/// SETTLED S5.
const BUDGET: usize = 420;

/// No forbidden package, no source other than the registry and this repository.
pub fn forbidden(workspace: &Workspace) -> Vec<String> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        if FORBIDDEN.contains(&package.name.as_str()) {
            found.push(format!("`{} {}` is a second TLS stack or provider", package.name, package.version));
        }
        if !package.source.is_empty() && !package.source.starts_with("registry+") {
            found.push(format!("`{}` comes from `{}`", package.name, package.source));
        }
    }
    found
}

/// Core packages exist once.
pub fn duplicates(workspace: &Workspace) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in workspace.packages.iter().filter(|package| SINGLE.contains(&package.name.as_str())) {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several.map(|(name, versions)| format!("`{name}` exists as {}", versions.join(" and "))).collect()
}

/// The shipped binary needs at most 420 packages, all platforms counted.
pub fn budget(workspace: &Workspace) -> Vec<String> {
    let shipped = workspace.packages.iter().filter(|package| package.shipped).count();
    match shipped {
        0 => vec!["the shipped binary was not found in the metadata".to_owned()],
        1..=BUDGET => Vec::new(),
        _ => vec![format!("the binary needs {shipped} packages, more than {BUDGET}")],
    }
}

pub fn broken() -> Vec<Trial> {
    vec![
        breaks(
            "broken_a_second_provider_and_a_git_source_are_found",
            || forbidden(&metadata_with_strangers()),
            &["`openssl 0.10.0`", "`patched` comes from `git+"],
        ),
        breaks(
            "broken_a_second_version_is_found",
            || duplicates(&metadata_with_strangers()),
            &["`tokio` exists as 0.3.0 and 1.54.0"],
        ),
        breaks("broken_a_spent_budget_is_found", || budget(&many(BUDGET + 1)), &["needs 421 packages"]),
        breaks("broken_a_missing_binary_is_found", || budget(&Workspace::default()), &["was not found"]),
        breaks(
            "an_optional_package_counts_only_when_a_feature_switches_it_on",
            || forbidden(&weak(false)),
            &[],
        ),
        breaks(
            "broken_an_optional_package_that_is_switched_on_is_found",
            || forbidden(&weak(true)),
            &["`ring 0.17.0`"],
        ),
        breaks("a_dev_dependency_is_not_shipped", dev_only, &[]),
    ]
}

fn made(name: &str, version: &str, source: &str) -> Package {
    Package { name: name.into(), version: version.into(), source: source.into(), shipped: true }
}

fn metadata_with_strangers() -> Workspace {
    let registry = "registry+https://example.org";
    let packages = vec![
        made("tokio", "0.3.0", registry),
        made("tokio", "1.54.0", registry),
        made("syn", "1.0.0", registry),
        made("syn", "2.0.0", registry),
        made("openssl", "0.10.0", registry),
        made("patched", "1.0.0", "git+https://example.org/patched"),
        made("portcullis", "0.1.0", ""),
    ];
    Workspace { packages, ..Workspace::default() }
}

fn many(count: usize) -> Workspace {
    let packages = (0..count).map(|n| made(&format!("package-{n}"), "1.0.0", "")).collect();
    Workspace { packages, ..Workspace::default() }
}

/// As `rustls-webpki` names `ring`: optional, and mentioned by a feature that does not switch it on.
fn weak(switched_on: bool) -> Workspace {
    let features = if switched_on { json!(["alloc", "ring"]) } else { json!(["alloc"]) };
    let needs = |name: &str, optional: bool, kind: Option<&str>| json!({"name": name, "optional": optional, "kind": kind});
    let edge = |id: &str| json!({"pkg": id, "dep_kinds": [{"kind": null}]});
    let metadata = json!({
        "workspace_members": ["p"],
        "packages": [
            {"id": "p", "name": "portcullis", "manifest_path": "/r/portcullis/Cargo.toml", "features": {}, "dependencies": [needs("webpki", false, None)]},
            {"id": "w", "name": "webpki", "version": "0.1.0", "features": {"alloc": ["ring?/alloc"], "ring": ["dep:ring"]}, "dependencies": [needs("ring", true, None)]},
            {"id": "r", "name": "ring", "version": "0.17.0", "features": {}, "dependencies": []},
        ],
        "resolve": {"nodes": [
            {"id": "p", "features": [], "deps": [edge("w")]},
            {"id": "w", "features": features, "deps": [edge("r")]},
            {"id": "r", "features": [], "deps": []},
        ]},
    });
    Workspace::of(&metadata).unwrap_or_default()
}

fn dev_only() -> Vec<String> {
    let metadata = json!({
        "workspace_members": ["p"],
        "packages": [
            {"id": "p", "name": "portcullis", "manifest_path": "/r/portcullis/Cargo.toml", "features": {}, "dependencies": [{"name": "judge", "kind": "dev", "optional": false}]},
            {"id": "j", "name": "judge", "features": {}, "dependencies": []},
        ],
        "resolve": {"nodes": [
            {"id": "p", "features": [], "deps": [{"pkg": "j", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "j", "features": [], "deps": []},
        ]},
    });
    let workspace = Workspace::of(&metadata).unwrap_or_default();
    let wrong = workspace.packages.iter().filter(|package| (package.name == "judge") == package.shipped);
    let mut found: Vec<String> = wrong.map(|package| format!("{package:?}")).collect();
    if workspace.packages.len() != 2 || workspace.crates.iter().any(|ours| ours.needs.contains("judge")) {
        found.push(format!("{workspace:?}"));
    }
    found
}
