//! TLS that goes through by its server name (LT-16): the origin ends it with a certificate of its own, and beside it the same
//! port serves calls under the gateway's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::certificates::{asked, make, section};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = || missing("openssl").or_else(|| missing("curl"));
    vec![
        trial("lt_16_tls_goes_through_by_its_server_name_and_ends_at_the_origin", needs(), through),
        trial("lt_16_a_name_that_goes_through_is_served_by_nobody_else", needs(), apart),
    ]
}

/// Lets anybody through to that name.
fn permits(name: &str) -> String {
    format!(
        "@id(\"through\")\npermit (principal is Anonymous, action == Action::\"tcp:connect\", resource == Service::\"legacy\")\nwhen {{ context.connection has sni && context.connection.sni == \"{name}\" }};\n\
         @id(\"site\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n"
    )
}

fn route(names: &str, port: u16) -> String {
    format!(
        "[[enforcer.service]]\nname = \"legacy\"\n[[enforcer.route]]\nname = \"legacy\"\nservice = \"legacy\"\n\
         listener = \"public\"\npass_through = [{names}]\nto = [\"tcp://127.0.0.1:{port}\"]\n"
    )
}

/// What the origin says to a caller that trusts only its certificate.
fn told(gateway: &Gateway, roots: &Path, name: &str, more: &[&str]) -> Result<(bool, Value)> {
    let port = gateway.address.port();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--cacert"])
        .arg(roots)
        .args(["--resolve", &format!("{name}:{port}:127.0.0.1"), &format!("https://{name}:{port}/x?y")])
        .args(more)
        .output()?;
    Ok((output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default()))
}

fn through() -> Result {
    let (site, home, port) = (Upstream::echo(), tempfile::tempdir()?, free_port());
    make(home.path(), "own", "DNS:legacy.test,DNS:closed.test")?;
    let (chain, key) = (home.path().join("own.pem"), home.path().join("own.key"));
    let (chain_text, key) = (chain.display().to_string(), key.display().to_string());
    let mut origin = Script::start("https_origin", &[&port.to_string(), &chain_text, &key])?;
    origin.next(Duration::from_secs(20))?;
    let gateway = Gateway::build()
        .enforcer("trail = \"calls.json\"")
        .policy(&permits("legacy.test"))
        .site(site.address)
        .section(&route("\"legacy.test\", \"closed.test\"", port))
        .start()?;
    // The gateway itself takes TLS 1.3 alone; what goes through is as its two ends agree.
    for (version, spoken) in [("1.3", "TLSv1.3"), ("1.2", "TLSv1.2")] {
        let (is_done, said) = told(&gateway, &chain, "legacy.test", &["--tls-max", version])?;
        check!(is_done && said["version"] == spoken && said["sni"] == "legacy.test", "{version}: {said}");
        check!(said["caller"] == serde_json::json!([]) && said["path"] == "/x?y", "{said}");
    }
    let (is_done, said) = told(&gateway, &chain, "closed.test", &[])?;
    check!(!is_done && said.is_null(), "a name that nobody permits: {said}");

    let tls = gateway.identity()?;
    let own = tls.join("bundle.pem");
    for (name, host, status) in [
        ("localhost", None, "200"),
        ("localhost", Some("legacy.test"), "421"),
        ("localhost", Some("other.test"), "200"),
    ] {
        let found = asked(&gateway, &tls, name, host, &own)?;
        check!(found == status, "{host:?} under a certificate of the gateway: {found}");
    }
    check!(
        asked(&gateway, &tls, "legacy.test", None, &own)? == "000",
        "the gateway shows no certificate for it"
    );

    let recorded = gateway.decisions(&["--action", "tcp:connect"])?;
    let effects: Vec<_> = recorded.iter().map(|one| one["effect"].as_str().unwrap_or_default()).collect();
    check!(effects.iter().filter(|effect| **effect == "deny").count() == 1, "{recorded:?}");
    let allowed = recorded.iter().find(|one| one["effect"] == "allow").ok_or("no allow")?;
    check!(
        allowed["determining"][0] == "through" && allowed.to_string().contains("legacy.test"),
        "{allowed}"
    );
    let trail = std::fs::read_to_string(gateway.dir().join("calls.json"))?;
    let lines = trail.lines().filter(|line| line.contains("\"protocol\":\"tcp\""));
    let lines: Vec<Value> = lines.map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let passed = lines.iter().find(|line| line["status"] == 200).ok_or_else(|| trail.clone())?;
    check!(
        passed["sni"] == "legacy.test" && passed["mtls"] == false && passed["route"] == "legacy",
        "{passed}"
    );
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_handshakes_total{result=\"passed\"} 4"), "{metrics}");
    let found = gateway.json(&["route", "test", "TCP", "legacy.test"])?;
    check!(found["found"]["route"] == "legacy", "{found}");
    Ok(())
}

fn apart() -> Result {
    let home = tempfile::tempdir()?;
    make(home.path(), "own", "DNS:legacy.test")?;
    let shown = format!("hosts = [\"localhost\"]\n{}", section(home.path(), "own"));
    for (listener, names, part) in [
        ("hosts = [\"a.legacy.test\"]", "\"*.legacy.test\"", "`hosts` of `public` has `a.legacy.test`"),
        (shown.as_str(), "\"legacy.test\"", "has a certificate for `legacy.test`"),
        ("", "\"legacy.test:443\"", "no server name"),
    ] {
        let gateway = Gateway::build().listener(listener).section(&route(names, 9)).start();
        let Err(error) = gateway else { return Err(format!("it started: {names}").into()) };
        let said = error.to_string();
        check!(said.contains("PC0104") && said.contains(part), "{names}: {said}");
    }
    Ok(())
}
