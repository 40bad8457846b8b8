//! A real Envoy with the shipped example configuration asks us for every request (policy.md 13).

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use tests::envoy::Envoy;
use tests::gateway::ALLOW_WEB;
use tests::peers::{absent, missing};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

const EXAMPLE: &str = include_str!("../../deploy/examples/envoy/envoy.yaml");

pub(crate) fn trials() -> Vec<Trial> {
    let envoy = absent("envoy").or_else(|| missing("curl"));
    vec![trial("policy_xa1_an_envoy_asks_for_every_request_and_fails_closed", envoy, asks)]
}

/// The example, with free ports, in the directory of the gateway.
fn start(gateway: &Gateway, upstream: SocketAddr) -> Result<Envoy> {
    let port = free_port();
    let text = EXAMPLE
        .replace("port_value: 10000", &format!("port_value: {port}"))
        .replace("port_value: 8081", &format!("port_value: {}", upstream.port()));
    Envoy::start(gateway.dir(), port, &text)
}

/// Status, headers and body.
fn curl(envoy: &Envoy, tls: &Path, path: &str, arguments: &[&str]) -> Result<(u16, String)> {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--http1.1", "--path-as-is", "--max-time", "10", "--cacert"])
        .arg(tls.join("bundle.pem"))
        .args(arguments)
        .arg(format!("https://localhost:{}{path}", envoy.address.port()))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?, text))
}

fn asks() -> Result {
    let upstream = Upstream::echo();
    let policy = "@id(\"no-post\")\n@owner(\"web\")\n@advice(\"read only today\")\nforbid (principal, action == Action::\"http:POST\", resource == Route::\"site\")\nwhen { context.connection.mtls && context.connection.listener == \"envoy\" };\n";
    let mut gateway = Gateway::build()
        .site(upstream.address)
        .policy(&format!("{ALLOW_WEB}{policy}"))
        .section("[ext_authz]")
        .start()?;
    let tls = gateway.identity()?;
    let envoy = start(&gateway, upstream.address)?;
    let (cert, key) =
        (tls.join("svid.pem").display().to_string(), tls.join("svid.key").display().to_string());
    let own = ["--cert", cert.as_str(), "--key", key.as_str()];
    let with = |more: &[&'static str]| [&own[..], more].concat();

    let (status, text) = curl(&envoy, &tls, "/a?b=c", &with(&["-H", "portcullis-principal: me"]))?;
    check!(status == 200, "web may read: {text}");
    check!(!text.contains("portcullis-principal"), "a header that only we may set was forwarded: {text}");
    let calls = upstream.calls();

    let (status, text) = curl(&envoy, &tls, "/", &with(&["-X", "POST"]))?;
    check!(status == 403 && text.contains("denied: read only today"), "no-post forbids: {text}");
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("portcullis-decision-id: "))
        .unwrap_or_default()
        .trim();
    let explained = gateway.cli(&["explain", id])?;
    check!(explained.stdout.contains("forbid matched: no-post"), "{}{}", explained.stdout, explained.stderr);
    let record = gateway.json(&["decisions", "get", id])?;
    check!(record["phase"] == "ext_authz", "{record}");

    let (status, text) = curl(&envoy, &tls, "/", &[])?;
    check!(status == 403, "nobody permits callers without a certificate: {text}");
    let (status, _) = curl(&envoy, &tls, "/a%2Fb", &own)?;
    check!(status == 400, "Envoy rejects escaped slashes: {status}");
    check!(upstream.calls() == calls, "a denied request was forwarded");

    gateway.kill()?;
    let (status, text) = curl(&envoy, &tls, "/", &own)?;
    check!(status == 503 && upstream.calls() == calls, "nobody answers, so nothing passes: {text}");
    Ok(())
}
