//! What the binary says that it is made of (`deploy/sbom`, SU-05), held against `cargo metadata` and `Cargo.lock`.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::workspace::Workspace;

/// The file is what its generator writes from `Cargo.lock`.
pub fn current(workspace: &Workspace) -> Vec<String> {
    let script = workspace.root.join("deploy/sbom/generate.py");
    match Command::new("python3").arg(script).arg("--check").output() {
        // Without Python, what `packages` finds has to do.
        Err(_) => Vec::new(),
        Ok(checked) if checked.status.success() => Vec::new(),
        Ok(checked) => vec![String::from_utf8_lossy(&checked.stderr).trim().to_owned()],
    }
}

/// Its packages are in `Cargo.lock` with these checksums, and are those that the binary needs: what it lacks, other platforms
/// and builds need.
pub fn packages(workspace: &Workspace) -> Vec<String> {
    let read = |below: &str| fs::read_to_string(workspace.root.join(below)).unwrap_or_default();
    let lock = read("Cargo.lock");
    let told: Value = serde_json::from_str(&read("deploy/sbom/portcullis.cdx.json")).unwrap_or_default();
    let shipped: BTreeSet<(&str, &str)> = workspace
        .packages
        .iter()
        .filter(|package| package.shipped)
        .map(|package| (package.name.as_str(), package.version.as_str()))
        .collect();
    let mut found = Vec::new();
    let mut listed = BTreeSet::new();
    for component in told["components"].as_array().into_iter().flatten() {
        let [name, version] = ["name", "version"].map(|key| component[key].as_str().unwrap_or_default());
        listed.insert((name, version));
        if !shipped.contains(&(name, version)) {
            found.push(format!("the SBOM lists `{name} {version}`, which the binary does not need"));
        }
        let head = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let entry = lock.split("[[package]]\n").find(|entry| entry.starts_with(&head)).unwrap_or_default();
        let checksum = component["hashes"][0]["content"].as_str().map(|sum| format!("checksum = \"{sum}\""));
        if entry.is_empty() || checksum.is_some_and(|checksum| !entry.contains(&checksum)) {
            found.push(format!("`{name} {version}` of the SBOM is not so in Cargo.lock"));
        }
    }
    // Everything that we name ourselves is linked in.
    for direct in
        workspace.crates.iter().filter(|member| member.name == "portcullis").flat_map(|ours| &ours.needs)
    {
        if !listed.iter().any(|(name, _)| name == direct) {
            found.push(format!("the SBOM lacks `{direct}`"));
        }
    }
    found
}
