//! What the rules look at: our crates, the packages they reach, and the source files. Read from `cargo metadata` and
//! the disk, or made up by a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::Failed;
use serde_json::Value;

/// One read of the repository.
#[derive(Debug, Default, Clone)]
pub struct Workspace {
    pub root: PathBuf,
    pub crates: Vec<Crate>,
    /// Every package that can be part of a build, ours included.
    pub packages: Vec<Package>,
    pub sources: Vec<Source>,
    /// The text of `docs/requirements.txt`.
    pub requirements: String,
}

/// One of our crates.
#[derive(Debug, Default, Clone)]
pub struct Crate {
    pub name: String,
    /// The folder below the root, such as `ca/agent`.
    pub folder: String,
    pub layer: Option<u64>,
    /// Normal and build dependencies, by package name.
    pub needs: BTreeSet<String>,
    /// The text of its manifest.
    pub manifest: String,
}

/// One package of the dependency graph.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub source: String,
    /// Reached from the shipped binary without dev-dependencies.
    pub shipped: bool,
}

/// One Rust file.
#[derive(Debug, Default, Clone)]
pub struct Source {
    /// Below the root.
    pub path: String,
    pub text: String,
}

/// The package that is built and published to users.
const BINARY: &str = "portcullis";

impl Workspace {
    pub fn read() -> Result<Self, Failed> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no folder above the manifest")?.to_owned();
        let metadata = metadata(&root)?;
        let mut workspace = Self::of(&metadata)?;
        for ours in &mut workspace.crates {
            let folder = Path::new(&ours.folder);
            ours.manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
            read_sources(folder, &root, &mut workspace.sources)?;
            ours.folder = relative(folder, &root);
        }
        workspace.sources.sort_by(|a, b| a.path.cmp(&b.path));
        workspace.requirements = fs::read_to_string(root.join("docs/requirements.txt"))?;
        workspace.root = root;
        Ok(workspace)
    }

    /// What the metadata says; folders are absolute and texts are missing.
    pub fn of(metadata: &Value) -> Result<Self, Failed> {
        let packages = list(metadata, "packages");
        let by_id: BTreeMap<&str, &Value> =
            packages.iter().map(|package| (text(package, "id"), package)).collect();
        let nodes: BTreeMap<&str, &Value> =
            list(&metadata["resolve"], "nodes").iter().map(|node| (text(node, "id"), node)).collect();
        let members: Vec<&str> =
            list(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
        let binary: Vec<&str> = members
            .iter()
            .copied()
            .filter(|id| by_id.get(id).is_some_and(|it| text(it, "name") == BINARY))
            .collect();

        let shipped = reach(&binary, &nodes, &by_id, false);
        let reached = reach(&members, &nodes, &by_id, true);
        let crates = members.iter().filter_map(|id| by_id.get(id)).map(|package| ours(package)).collect();
        let packages = reached.iter().filter_map(|id| by_id.get(id).map(|package| (id, package)));
        let packages = packages.map(|(id, package)| Package {
            name: text(package, "name").to_owned(),
            version: text(package, "version").to_owned(),
            source: text(package, "source").to_owned(),
            shipped: shipped.contains(id),
        });
        Ok(Self { crates, packages: packages.collect(), ..Self::default() })
    }

    pub fn layer(&self, name: &str) -> Option<u64> {
        self.crates.iter().find(|ours| ours.name == name).and_then(|ours| ours.layer)
    }

    pub fn is_ours(&self, name: &str) -> bool {
        self.crates.iter().any(|ours| ours.name == name)
    }
}

impl Crate {
    /// The first part of the folder: `ca` of `ca/agent`.
    pub fn area(&self) -> &str {
        self.folder.split('/').next().unwrap_or_default()
    }
}

fn metadata(root: &Path) -> Result<Value, Failed> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn ours(package: &Value) -> Crate {
    let manifest = Path::new(text(package, "manifest_path"));
    let needs = list(package, "dependencies").iter().filter(|need| need["kind"].as_str() != Some("dev"));
    Crate {
        name: text(package, "name").to_owned(),
        folder: manifest.parent().unwrap_or(manifest).display().to_string(),
        layer: package["metadata"]["portcullis"]["layer"].as_u64(),
        needs: needs.map(|need| text(need, "name").to_owned()).collect(),
        manifest: String::new(),
    }
}

/// Every package that `from` can make part of a build. The resolve graph also lists optional packages that only a weak
/// feature names (`ring?/alloc`); those are never built and are left out here.
fn reach<'a>(
    from: &[&'a str],
    nodes: &BTreeMap<&'a str, &'a Value>,
    packages: &BTreeMap<&'a str, &'a Value>,
    with_dev: bool,
) -> BTreeSet<&'a str> {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = from.to_vec();
    while let Some(id) = open.pop() {
        if !reached.insert(id) {
            continue;
        }
        let (Some(node), Some(package)) = (nodes.get(id), packages.get(id)) else { continue };
        for edge in list(node, "deps") {
            let target = text(edge, "pkg");
            let wanted = list(edge, "dep_kinds")
                .iter()
                .filter(|kind| !is_for_wasm(kind))
                .any(|kind| with_dev || kind["kind"].as_str() != Some("dev"));
            let name = packages.get(target).map_or("", |package| text(package, "name"));
            if wanted && is_active(node, package, name) {
                open.push(target);
            }
        }
    }
    reached
}

/// Whether a dependency is one of builds for WebAssembly alone, which nothing of ours is (`ring` of `quinn-proto`).
fn is_for_wasm(kind: &Value) -> bool {
    kind["target"].as_str().is_some_and(|target| target.starts_with("cfg(all(target_family = \"wasm\""))
}

/// Whether a node's features switch on its dependency `name`.
fn is_active(node: &Value, package: &Value, name: &str) -> bool {
    let mut needs = list(package, "dependencies").iter().filter(|need| text(need, "name") == name).peekable();
    needs.peek().is_none()
        || needs.any(|need| {
            let alias = need["rename"].as_str().unwrap_or(name);
            let optional = need["optional"].as_bool() == Some(true);
            !optional
                || list(node, "features").iter().filter_map(Value::as_str).any(|feature| {
                    list(&package["features"], feature).iter().filter_map(Value::as_str).any(|part| {
                        part == format!("dep:{alias}")
                            || part.split_once('/').is_some_and(|(left, _)| left == alias)
                    })
                })
        })
}

fn read_sources(folder: &Path, root: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // `tests/fuzz` and the like are workspaces of their own, with their own rules.
            if !path.join("Cargo.toml").exists() && path.file_name().is_some_and(|name| name != "target") {
                read_sources(&path, root, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(Source { path: relative(&path, root), text: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
