//! Directions: which of our crates may use which.

use libtest_mimic::Trial;

use crate::{
    breaks,
    workspace::{Crate, Workspace},
};

/// Edges inside one layer, each with a reason in DESIGN or SETTLED S10: `ports` is below all of `base`, and routing is
/// a function over the codec's call values.
const WITHIN_A_LAYER: &[(&str, &str)] = &[
    ("base-telemetry", "base-ports"),
    ("base-store", "base-ports"),
    ("base-net", "base-ports"),
    ("base-net", "base-telemetry"),
    ("enforcer-traffic", "enforcer-codec"),
];

/// Who never uses what, whatever the layers say. The left side is an area, the right side an area or a crate.
const NEVER: &[(&str, &[&str])] = &[
    ("base", &["ca", "policies", "enforcer", "control", "portcullis", "tests"]),
    ("ca", &["policies", "enforcer", "control"]),
    ("policies", &["enforcer", "control"]),
    ("enforcer", &["ca-authority", "policies-store"]),
];

/// A crate uses only crates of lower layers, and every crate says its layer.
pub fn directions(workspace: &Workspace) -> Vec<String> {
    let mut found = Vec::new();
    for ours in &workspace.crates {
        let Some(layer) = ours.layer else {
            found.push(format!("`{}` has no [package.metadata.portcullis] layer", ours.name));
            continue;
        };
        for need in ours.needs.iter().filter(|need| workspace.is_ours(need)) {
            let listed = WITHIN_A_LAYER.contains(&(ours.name.as_str(), need.as_str()));
            let below =
                workspace.layer(need).is_some_and(|other| other < layer || (other == layer && listed));
            if !below {
                found.push(format!("`{}` (layer {layer}) uses `{need}`, which is not below it", ours.name));
            }
        }
    }
    found
}

/// Edges that DESIGN forbids by name.
pub fn never_edges(workspace: &Workspace) -> Vec<String> {
    let area = |name: &str| workspace.crates.iter().find(|ours| ours.name == name).map(Crate::area);
    let mut found = Vec::new();
    for ours in &workspace.crates {
        let never = NEVER.iter().filter(|(from, _)| *from == ours.area()).flat_map(|(_, to)| *to);
        for never in never {
            let needs = ours.needs.iter().filter(|need| need == never || area(need) == Some(never));
            found
                .extend(needs.map(|need| {
                    format!("`{}` uses `{need}`: {} never uses {never}", ours.name, ours.area())
                }));
        }
    }
    found
}

pub fn broken() -> Vec<Trial> {
    vec![
        breaks(
            "broken_an_upward_edge_is_found",
            || directions(&upward()),
            &["`base-ports`", "`ca-agent` (layer 3)"],
        ),
        breaks(
            "broken_a_crate_without_layer_is_found",
            || directions(&without_layer()),
            &["`ca-agent` has no"],
        ),
        breaks(
            "broken_an_edge_within_a_layer_is_found",
            || directions(&sideways()),
            &["`ca-agent` (layer 3) uses `ca-authority`"],
        ),
        breaks(
            "broken_never_edges_are_found",
            || never_edges(&never()),
            &["uses `policies-engine`", "uses `ca-authority`"],
        ),
    ]
}

fn made(name: &str, folder: &str, layer: u64, needs: &[&str]) -> Crate {
    let needs = needs.iter().map(|need| (*need).to_owned()).collect();
    Crate { name: name.into(), folder: folder.into(), layer: Some(layer), needs, manifest: String::new() }
}

fn upward() -> Workspace {
    let crates = vec![
        made("base-ports", "base/ports", 0, &["ca-identity"]),
        made("base-store", "base/store", 0, &["base-ports"]),
        made("ca-identity", "ca/identity", 1, &["base-ports", "serde"]),
        made("ca-agent", "ca/agent", 3, &["portcullis", "ca-identity"]),
        made("portcullis", "portcullis", 4, &["ca-agent"]),
    ];
    Workspace { crates, ..Workspace::default() }
}

fn without_layer() -> Workspace {
    let ours = Crate { layer: None, ..made("ca-agent", "ca/agent", 3, &[]) };
    Workspace { crates: vec![ours], ..Workspace::default() }
}

fn sideways() -> Workspace {
    let crates = vec![
        made("ca-agent", "ca/agent", 3, &["ca-authority"]),
        made("ca-authority", "ca/authority", 3, &[]),
    ];
    Workspace { crates, ..Workspace::default() }
}

fn never() -> Workspace {
    let crates = vec![
        made("ca-agent", "ca/agent", 3, &["policies-engine", "base-ports"]),
        made("ca-authority", "ca/authority", 3, &[]),
        made("policies-engine", "policies/engine", 2, &[]),
        made("enforcer-proxy", "enforcer/proxy", 4, &["ca-authority", "policies-engine"]),
    ];
    Workspace { crates, ..Workspace::default() }
}
