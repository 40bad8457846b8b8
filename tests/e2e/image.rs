//! The image and the composed services, without Docker: the file system that the image has, run as the Dockerfile and
//! `deploy/compose` say by a stand-in that refuses what it does not know.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_module, missing_room, python};
use tests::{Result, binary, check, script};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let lacking = || missing("curl").or_else(|| missing("setpriv")).or_else(|| missing("ldd"));
    vec![
        trial("the_image_holds_what_it_needs_and_no_more", missing("ldd"), root),
        trial(
            "the_composed_services_run_in_the_image_as_they_are_written",
            lacking().or_else(|| missing_module("yaml")).or_else(missing_room),
            composed,
        ),
    ]
}

fn deploy(below: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(below)
}

/// The file system of the image, with the binary under test.
fn image(root: &Path) -> Result {
    let made = Command::new(deploy("image/root")).arg(binary::portcullis()).arg(root).output()?;
    check!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) -> Result {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn root() -> Result {
    let dir = tempfile::tempdir()?;
    image(dir.path())?;
    let mut found = Vec::new();
    files(dir.path(), &mut found)?;
    for file in &found {
        let mode = fs::metadata(file)?.permissions().mode();
        check!(mode & 0o6022 == 0, "{} has mode {mode:o}", file.display());
        let below = file.strip_prefix(dir.path())?.display().to_string();
        let is_known = below.starts_with("lib")
            || ["usr/bin/portcullis", "etc/passwd", "etc/group", "usr/share/doc/portcullis/LICENSE"]
                .contains(&below.as_str());
        check!(is_known, "the image has {below}");
    }
    // The binary, its loader, the C library and what of it is apart.
    check!((6..12).contains(&found.len()), "{found:?}");
    Ok(())
}

fn composed() -> Result {
    let dir = tempfile::tempdir()?;
    image(&dir.path().join("root"))?;
    let mut child = Command::new(script::file("room"))
        .arg(dir.path())
        .arg(python())
        .arg(script::file("compose.py"))
        .arg(fs::canonicalize(deploy("compose/compose.yaml"))?)
        .arg("/given/root")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // What README.md runs inside.
    let commands =
        "gateway portcullis decisions query\ngateway portcullis config reload\nclient portcullis version\n";
    child.stdin.take().ok_or("no stdin")?.write_all(commands.as_bytes())?;
    let outcome = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
    check!(outcome.status.success(), "{told}\n{}", String::from_utf8_lossy(&outcome.stderr));
    let steps = told.lines().map(serde_json::from_str).collect::<std::result::Result<Vec<Value>, _>>()?;
    for (what, service) in [("healthy", "gateway"), ("healthy", "site"), ("healthy", "client")] {
        check!(steps.iter().any(|step| step[what] == service), "{service} is not {what}: {told}");
    }
    let page = fs::read_to_string(deploy("compose/site/index.html"))?;
    let called = steps.iter().find(|step| step["ran"] == "call").ok_or("nothing called")?;
    check!(called["code"] == 0 && called["told"] == page, "{called}");
    let inside: Vec<_> = steps.iter().filter(|step| step["inside"].is_string()).collect();
    check!(inside.len() == 3 && inside.iter().all(|step| step["code"] == 0), "{inside:?}");
    let asked = inside[0]["told"].as_str().unwrap_or_default();
    check!(asked.contains("spiffe://example.org/web") && asked.contains("http:GET"), "{asked}");
    // The gateway is the first process of its space, drains on SIGTERM, and says that all went well.
    check!(steps.iter().any(|step| step["ended"] == "gateway" && step["code"] == 0), "{told}");

    let readme = fs::read_to_string(deploy("compose/README.md"))?;
    for line in readme.lines().filter(|line| line.starts_with("docker compose ")) {
        for service in line.split(' ').filter(|word| ["gateway", "site", "client", "call"].contains(word)) {
            let is_part = steps.iter().any(|step| step["started"] == service || step["ran"] == service);
            check!(is_part, "{line}: nothing ran as {service}");
        }
    }
    Ok(())
}
