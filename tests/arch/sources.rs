//! What every file of ours looks like.

use libtest_mimic::Trial;

use crate::{
    breaks,
    workspace::{Crate, Source, Workspace},
};

/// The mark is 400; this is where a second noun is certainly in the file.
const LINES: usize = 450;

/// `[lints] workspace = true`, except in `tests`, whose free functions clippy does not count as tests.
pub fn lints(workspace: &Workspace) -> Vec<String> {
    let without = workspace.crates.iter().filter(|ours| ours.name != "tests" && !takes_lints(&ours.manifest));
    without.map(|ours| format!("`{}` does not take the lints of the workspace", ours.name)).collect()
}

fn takes_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

/// The first line of a file under `src` is a `//!`.
pub fn module_docs(workspace: &Workspace) -> Vec<String> {
    let silent = workspace.sources.iter().filter(|file| is_src(file) && !file.text.starts_with("//! "));
    silent.map(|file| format!("`{}` does not open with `//!`", file.path)).collect()
}

/// No long files, generated ones aside.
pub fn lengths(workspace: &Workspace) -> Vec<String> {
    let written = workspace.sources.iter().filter(|file| !file.path.contains("/generated/"));
    let long = written.map(|file| (file, file.text.lines().count())).filter(|(_, lines)| *lines > LINES);
    long.map(|(file, lines)| format!("`{}` has {lines} lines", file.path)).collect()
}

/// In `ca/identity`, rustls is used by the module `tls` alone (its tests and test support aside).
pub fn rustls_room(workspace: &Workspace) -> Vec<String> {
    let elsewhere = workspace.sources.iter().filter(|file| {
        file.path
            .strip_prefix("ca/identity/src/")
            .is_some_and(|path| !path.starts_with("tls") && !path.starts_with("testing"))
    });
    let users = elsewhere.filter(|file| file.text.lines().any(names_rustls));
    users.map(|file| format!("`{}` uses rustls outside the module `tls`", file.path)).collect()
}

/// `rustls::` as a path of its own, not `tokio_rustls::`, and not in a comment.
fn names_rustls(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let before = |at: usize| code.get(..at).and_then(|text| text.chars().next_back());
    code.match_indices("rustls::")
        .any(|(at, _)| !before(at).is_some_and(|last| last.is_alphanumeric() || last == '_'))
}

fn is_src(file: &Source) -> bool {
    file.path.contains("/src/")
}

pub fn broken() -> Vec<Trial> {
    vec![
        breaks("broken_missing_lints_are_found", || lints(&made()), &["`a`", "`b`"]),
        breaks("broken_a_silent_file_is_found", || module_docs(&made()), &["`a/src/silent.rs`"]),
        breaks("broken_a_long_file_is_found", || lengths(&made()), &["`a/src/long.rs` has 451 lines"]),
        breaks(
            "broken_rustls_outside_its_module_is_found",
            || rustls_room(&made()),
            &["`ca/identity/src/svid.rs`"],
        ),
    ]
}

fn made() -> Workspace {
    let ours = |name: &str, manifest: &str| Crate {
        name: name.into(),
        manifest: manifest.into(),
        ..Crate::default()
    };
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let long = format!("//! Long.\n{}", "\n".repeat(LINES));
    Workspace {
        crates: vec![
            ours("a", "[package]\nworkspace = true\n"),
            ours("b", "[lints]\n[dependencies]\nworkspace = true\n"),
            ours("c", "[package]\n\n[lints]\nworkspace = true\n"),
            ours("tests", ""),
        ],
        sources: vec![
            file("a/src/silent.rs", "use std::fmt;\n"),
            file("a/src/said.rs", "//! Said.\n"),
            file("a/tests/it.rs", "use std::fmt;\n"),
            file("a/src/long.rs", &long),
            file("a/src/generated/long.rs", &long),
            file("ca/identity/src/tls.rs", "//! Tls.\nuse rustls::ServerConfig;\n"),
            file("ca/identity/src/svid.rs", "//! Svid.\nfn f(_: &rustls::ServerConfig) {}\n"),
            file(
                "ca/identity/src/key.rs",
                "//! Key.\n// rustls::x\nuse tokio_rustls::x;\nuse rustls_pki_types::y;\n",
            ),
        ],
        ..Workspace::default()
    }
}
