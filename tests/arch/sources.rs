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

/// What reads a file, a socket or a clock, and what waits.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "SystemTime",
    "Instant",
    "SystemClock",
    "SystemRng",
    "SystemDisk",
    "async fn",
    ".await",
    "tokio",
];

/// `ca/identity` decides by what it is given: values and times in, answers out (its tests and test support aside).
pub fn identity_is_pure(workspace: &Workspace) -> Vec<String> {
    let ours = workspace.sources.iter().filter(|file| {
        let path = file.path.strip_prefix("ca/identity/src/");
        path.is_some_and(|path| !path.starts_with("testing") && !path.contains("tests"))
    });
    let mut found = Vec::new();
    for file in ours {
        let product = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = product.lines().map(|line| line.split("//").next().unwrap_or_default());
        let mut words = code.flat_map(|line| IMPURE.iter().filter(move |word| line.contains(**word)));
        found.extend(words.next().map(|word| format!("`{}` has `{word}`", file.path)));
    }
    found
}

/// Where time, chance and disks come from by themselves.
const UNGIVEN: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "SystemClock",
    "SystemRng",
    "SystemDisk",
    "rand::fill",
    "thread_rng",
];

/// Authority and agent are given clock, chance and disk, so that a test can repeat what happened.
pub fn ca_takes_ports(workspace: &Workspace) -> Vec<String> {
    let ours = workspace.sources.iter().filter(|file| {
        let is_test = ["/testing", "/tests"].iter().any(|part| file.path.contains(part));
        ["ca/authority/src/", "ca/agent/src/"].iter().any(|room| file.path.starts_with(room)) && !is_test
    });
    let mut found = Vec::new();
    for file in ours {
        let product = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        let word = UNGIVEN.iter().find(|word| product.contains(**word));
        found.extend(word.map(|word| format!("`{}` takes `{word}` by itself", file.path)));
    }
    found
}

/// What makes a certificate of a request.
const SIGNING: &[&str] = &[".signed_by(", ".self_signed("];

/// Certificates are signed in the authority alone, which no crate of the data plane reaches, so never on its workers.
pub fn signing_room(workspace: &Workspace) -> Vec<String> {
    let product = product(workspace).filter(|file| !file.path.starts_with("ca/authority/"));
    let signs = |file: &&Source| {
        let product = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        SIGNING.iter().any(|word| product.contains(word))
    };
    let mut found: Vec<String> =
        product.filter(signs).map(|file| format!("`{}` signs certificates", file.path)).collect();
    for plane in workspace.crates.iter().filter(|ours| ours.area() == "enforcer") {
        if reaches(workspace, &plane.name, "ca-authority") {
            found.push(format!("`{}` reaches `ca-authority`", plane.name));
        }
    }
    found
}

/// What makes a socket that others connect to.
const LISTENING: &[&str] = &["TcpListener", "UnixListener"];

/// Who may listen besides: the application of the demo is none of ours, its stage looks which ports are free, and one file is a
/// test.
const LISTENERS: &[&str] =
    &["portcullis/src/demo/samples.rs", "portcullis/src/demo/stage.rs", "ca/agent/src/attest/passed.rs"];

/// Whoever connects is taken in by the accept loop of `base/net`, which always sets timers.
pub fn listening_room(workspace: &Workspace) -> Vec<String> {
    let product = product(workspace)
        .filter(|file| !file.path.starts_with("base/net/") && !LISTENERS.contains(&file.path.as_str()));
    let listens = |file: &&Source| {
        let product = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        LISTENING.iter().any(|word| product.contains(word))
    };
    product.filter(listens).map(|file| format!("`{}` listens by itself", file.path)).collect()
}

/// Where a handshake ends, at either side of the proxy.
const HANDSHAKES: &[&str] =
    &["enforcer/proxy/src/inbound/handshake.rs", "enforcer/proxy/src/pool/originate.rs"];

/// Who a peer is, is read from its certificates once, where the handshake ends.
pub fn identity_is_made_once(workspace: &Workspace) -> Vec<String> {
    let later = product(workspace)
        .filter(|file| file.path.starts_with("enforcer/") && !HANDSHAKES.contains(&file.path.as_str()));
    let reads =
        |file: &&Source| ["peer_certificates(", "peer_identity("].iter().any(|word| file.text.contains(word));
    later.filter(reads).map(|file| format!("`{}` reads the certificates of a peer", file.path)).collect()
}

/// What ships, without tests.
fn product(workspace: &Workspace) -> impl Iterator<Item = &Source> {
    workspace.sources.iter().filter(|file| {
        is_src(file)
            && !file.path.starts_with("tests/")
            && !["/testing", "/tests"].iter().any(|part| file.path.contains(part))
    })
}

/// Whether one of our crates uses another, also through others of ours.
fn reaches(workspace: &Workspace, from: &str, to: &str) -> bool {
    let needs = workspace.crates.iter().find(|ours| ours.name == from).map(|ours| &ours.needs);
    needs.into_iter().flatten().any(|need| need == to || reaches(workspace, need, to))
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
        breaks(
            "broken_a_clock_in_ca_identity_is_found",
            || identity_is_pure(&impure()),
            &["`ca/identity/src/clocked.rs` has `Instant`"],
        ),
        breaks(
            "broken_a_clock_of_its_own_in_the_authority_is_found",
            || ca_takes_ports(&impure()),
            &["`ca/authority/src/late.rs` takes `Instant::now`"],
        ),
        breaks(
            "broken_signing_outside_the_authority_is_found",
            || signing_room(&impure()),
            &["`portcullis/src/mint.rs` signs", "`enforcer-proxy` reaches `ca-authority`"],
        ),
        breaks(
            "broken_a_second_accept_loop_is_found",
            || listening_room(&impure()),
            &["`portcullis/src/door.rs` listens by itself"],
        ),
        breaks(
            "broken_a_second_look_at_a_certificate_is_found",
            || identity_is_made_once(&impure()),
            &["`enforcer/proxy/src/late.rs` reads the certificates"],
        ),
    ]
}

fn impure() -> Workspace {
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let ours = |name: &str, folder: &str, needs: &[&str]| Crate {
        name: name.into(),
        folder: folder.into(),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..Crate::default()
    };
    let tested = "//! T.\n// Instant\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    Workspace {
        crates: vec![
            ours("enforcer-proxy", "enforcer/proxy", &["base-net"]),
            ours("base-net", "base/net", &["ca-authority"]),
            ours("ca-authority", "ca/authority", &[]),
            ours("portcullis", "portcullis", &["ca-authority"]),
        ],
        sources: vec![
            file("ca/identity/src/clocked.rs", "//! C.\nuse std::time::Instant;\n"),
            file("ca/identity/src/tested.rs", tested),
            file("ca/identity/src/testing.rs", "//! T.\nuse std::fs;\n"),
            file("ca/authority/src/late.rs", "//! L.\nfn f() { Instant::now() }\n"),
            file("ca/authority/src/issue.rs", "//! I.\nfn f() { params.signed_by(a, b) }\n"),
            file("portcullis/src/door.rs", "//! D.\nuse tokio::net::TcpListener;\n"),
            file("portcullis/src/door/tests.rs", "//! D.\nuse tokio::net::TcpListener;\n"),
            file("enforcer/proxy/src/late.rs", "//! L.\nfn f() { session.peer_certificates() }\n"),
            file("portcullis/src/mint.rs", "//! M.\nfn f() { params.signed_by(a, b) }\n"),
        ],
        ..Workspace::default()
    }
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
