//! Endpoints by name behind the shipped gateway, and a name server whose answers change, are wrong, and cease (HC-02,
//! OUT5).

use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::json;
use tests::peers::missing;
use tests::port::free_port;
use tests::script::Script;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("hc_02_calls_follow_a_name_and_outlive_its_server", missing("curl"), followed)]
}

/// What the name server says of `shop.test` from now on.
fn says(zone: &Path, addresses: &[&str]) -> Result {
    let entry = json!({ "shop.test": { "addresses": addresses, "ttl": 1 } });
    let next = zone.with_extension("next");
    std::fs::write(&next, entry.to_string())?;
    Ok(std::fs::rename(next, zone)?)
}

/// Calls until that is so; every call must be answered.
fn until(gateway: &Gateway, tls: &Path, what: &str, mut is_so: impl FnMut() -> bool) -> Result {
    let began = Instant::now();
    while !is_so() {
        let (status, body) = gateway.curl(tls, "/hello", &[])?;
        check!(status == 200, "{what}: {status} {body}\n{}", gateway.log());
        check!(began.elapsed() < Duration::from_secs(40), "not seen: {what}\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn followed() -> Result {
    let dir = tempfile::tempdir()?;
    let zone = dir.path().join("zone.json");
    let first = Upstream::echo_at(([127, 0, 0, 2], 0).into());
    let port = first.address.port();
    let second = Upstream::echo_at(([127, 0, 0, 3], port).into());
    let server = free_port();
    says(&zone, &["127.0.0.2"])?;
    let gateway = Gateway::build()
        .service("site", &[])
        .enforcer(&format!("resolver = \"dns://127.0.0.1:{server}\""))
        .section(&format!(
            "[[enforcer.cluster]]\nname = \"shop\"\nendpoints = [\"http://shop.test:{port}\"]\nresolve_to = [\"127.0.0.0/8\"]\n"
        ))
        .section("[[enforcer.route]]\nname = \"site\"\nservice = \"site\"\nmatch = { path = \"/\" }\ncluster = \"shop\"\n")
        .start()?;
    let tls = gateway.identity()?;

    // Nobody answers for the name: the gateway is there all the same, and says why calls are refused.
    let (status, body) = gateway.curl(&tls, "/hello", &[])?;
    check!(status == 503, "{status} {body}");
    check!(gateway.log().contains("name_not_resolved"), "no word of it:\n{}", gateway.log());
    let mut dns = Script::start("dns", &[&server.to_string(), &zone.display().to_string()])?;
    dns.next(Duration::from_secs(20))?;
    let began = Instant::now();
    while gateway.curl(&tls, "/hello", &[])?.0 != 200 {
        check!(began.elapsed() < Duration::from_secs(30), "never resolved:\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }

    // The record changes: the new endpoint gets calls at once, the old one none in the end, and no call is lost.
    says(&zone, &["127.0.0.3"])?;
    until(&gateway, &tls, "calls at the new endpoint", || second.calls() > 0)?;
    let mut last = (first.calls(), Instant::now());
    until(&gateway, &tls, "no calls at the old endpoint", || {
        if first.calls() != last.0 {
            last = (first.calls(), Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(3)
    })?;

    // A poisoned answer and a server that is gone change nothing.
    says(&zone, &["169.254.169.254"])?;
    until(&gateway, &tls, "a word about the metadata service", || {
        gateway.log().contains("it leads off limits (link-local) to 169.254.169.254")
    })?;
    drop(dns);
    let gone = Instant::now();
    until(&gateway, &tls, "calls without a name server", || gone.elapsed() > Duration::from_secs(8))?;
    check!(first.calls() == last.0, "the old endpoint got a call again");
    Ok(())
}
