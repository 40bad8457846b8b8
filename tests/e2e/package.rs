//! The Debian package on a host: made from the list that `cargo-deb` reads, installed, run by its units, replaced, removed and
//! purged, in a copy of this host that is forgotten afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_room};
use tests::{Result, binary, check, script};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let lacking = || missing("dpkg-deb").or_else(|| missing("setpriv")).or_else(missing_room);
    vec![trial("the_package_is_installed_runs_is_replaced_removed_and_purged", lacking(), story)]
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(command: &mut Command) -> Result<String> {
    let outcome = command.output()?;
    let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
    check!(
        outcome.status.success(),
        "{command:?} ended with {}:\n{told}\n{}",
        outcome.status,
        String::from_utf8_lossy(&outcome.stderr)
    );
    Ok(told)
}

/// What the manifest of the binary says of its package.
fn list() -> Result<Value> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(workspace());
    let metadata: Value = serde_json::from_str(&run(&mut cargo)?)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let ours = packages.iter().find(|package| package["name"] == "portcullis").ok_or("no portcullis")?;
    Ok(ours["metadata"]["deb"].clone())
}

/// The files that a source of the list names.
fn named(source: &str, binary: &Path, made: &Path) -> Result<Vec<PathBuf>> {
    if source == "target/release/portcullis" {
        return Ok(vec![binary.to_owned()]);
    }
    let path = match source.strip_prefix("../target/package/") {
        Some(below) => made.join(below),
        None => workspace().join("portcullis").join(source),
    };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    let Some(kind) = name.strip_prefix('*') else { return Ok(vec![path]) };
    let mut found = Vec::new();
    for file in fs::read_dir(path.parent().ok_or("no folder")?)? {
        let file = file?.path();
        if file.to_string_lossy().ends_with(kind) {
            found.push(file);
        }
    }
    Ok(found)
}

fn place(from: &Path, to: &Path, mode: u32) -> Result {
    fs::create_dir_all(to.parent().ok_or("no folder")?)?;
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// The package with the binary under test, as `dir/portcullis.deb`.
fn build(dir: &Path) -> Result {
    let list = list()?;
    // Without what debuggers read it is a tenth to copy.
    let binary = dir.join("portcullis");
    if missing("strip").is_none() {
        run(Command::new("strip").arg("-o").arg(&binary).arg(binary::portcullis()))?;
    } else {
        fs::copy(binary::portcullis(), &binary)?;
    }
    let made = dir.join("made");
    run(Command::new(workspace().join("deploy/pages")).arg(&binary).arg(&made))?;
    let tree = dir.join("tree");
    for asset in list["assets"].as_array().ok_or("the package lists nothing")? {
        let [Some(source), Some(target), Some(mode)] = [0, 1, 2].map(|part| asset[part].as_str()) else {
            return Err(format!("an odd line: {asset}").into());
        };
        let files = named(source, &binary, &made)?;
        check!(!files.is_empty(), "the package ships `{source}`, which is not there");
        for file in files {
            let below = if target.ends_with('/') { file.file_name().ok_or("no name")? } else { "".as_ref() };
            let to = if below.is_empty() { tree.join(target) } else { tree.join(target).join(below) };
            place(&file, &to, u32::from_str_radix(mode, 8)?)?;
        }
    }
    let scripts = list["maintainer-scripts"].as_str().ok_or("no maintainer scripts")?;
    for script in ["postinst", "prerm", "postrm"] {
        let from = workspace().join("portcullis").join(scripts).join(script);
        place(&from, &tree.join("DEBIAN").join(script), 0o755)?;
    }
    let machine = run(Command::new("dpkg").arg("--print-architecture"))?;
    let control = format!(
        "Package: portcullis\nVersion: {}\nArchitecture: {}\nMaintainer: {}\nDescription: under test\n",
        env!("CARGO_PKG_VERSION"),
        machine.trim(),
        list["maintainer"].as_str().ok_or("no maintainer")?,
    );
    fs::write(tree.join("DEBIAN/control"), control)?;
    let package = dir.join("portcullis.deb");
    run(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "-b"]).arg(&tree).arg(package))?;
    Ok(())
}

fn story() -> Result {
    let dir = tempfile::tempdir()?;
    let key = Path::new("/var/lib/portcullis/seal.key");
    let was_there = key.exists();
    build(dir.path())?;
    fs::copy(script::file("package_story"), dir.path().join("story"))?;
    let told = run(Command::new(script::file("room")).arg(dir.path()).args(["sh", "/given/story"]))?;
    check!(told.ends_with("== the host is as before\n"), "{told}");
    check!(key.exists() == was_there, "the story left its room");
    Ok(())
}
