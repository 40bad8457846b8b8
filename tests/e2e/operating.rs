//! What operators see of a data plane that runs, and have it do (AE-01): who is connected, certificates, log level, drain.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::{missing, missing_users};
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ae_01_an_operator_sees_who_is_connected_and_with_which_certificates", missing("curl"), seen),
        trial(
            "ae_01_listeners_routes_and_clusters_are_shown_as_they_are_in_force",
            missing("curl"),
            declared,
        ),
        trial("rt_06_an_operator_has_calls_of_a_route_fail_or_wait_for_a_while", missing("curl"), faults),
        trial("ae_01_another_log_level_is_in_force_at_once_and_on_record", missing("curl"), log_level),
        trial("ae_01_a_drain_that_is_asked_for_lets_the_calls_that_run_end", missing("curl"), drain),
        trial("ae_01_a_viewer_looks_and_operates_nothing", missing_users(), rights),
    ]
}

const WEB: &str = "spiffe://example.org/web";

fn list(gateway: &Gateway, path: &str) -> Result<Vec<Value>> {
    let listed = gateway.ask("GET", path, &[], None)?;
    check!(listed.status == 200, "{path}: {listed:?}");
    Ok(listed.body["items"].as_array().cloned().unwrap_or_default())
}

/// An upload of about `seconds`, over HTTP/1.1.
fn upload(gateway: &Gateway, seconds: usize) -> Result<std::process::Child> {
    let (tls, body) = (gateway.identity()?, gateway.dir().join("body"));
    fs::write(&body, vec![b'x'; seconds * 20_000])?;
    let upload = format!("@{}", body.display());
    let slow = [
        "--http1.1",
        "--limit-rate",
        "20k",
        "-w",
        "\n%{http_code}",
        "-H",
        "expect:",
        "--data-binary",
        &upload,
    ];
    let mut curl = gateway.curl_command(&tls, "/slow");
    let running = curl.args(slow).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(700));
    Ok(running)
}

fn seen() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let mut running = upload(&gateway, 20)?;
    for path in ["/v1/proxy/streams".to_owned(), format!("/v1/proxy/streams?principal={WEB}")] {
        let streams = list(&gateway, &path)?;
        let [stream] = &streams[..] else { return Err(format!("one connection: {streams:?}").into()) };
        for (key, value) in [
            ("principal", json!(WEB)),
            ("listener", json!("public")),
            ("protocol", json!("h1")),
            ("calls", json!(1)),
            ("idle_seconds", Value::Null),
        ] {
            check!(stream[key] == value, "{key}: {stream}");
        }
        check!(stream["ends_in_seconds"].as_u64() > Some(60), "{stream}");
    }
    check!(list(&gateway, "/v1/proxy/streams?principal=spiffe://example.org/other")?.is_empty(), "of nobody");
    check!(
        gateway.ask("GET", "/v1/proxy/streams?pricipal=x", &[], None)?.status == 400,
        "a parameter that is none"
    );
    let shown = gateway.cli(&["proxy", "streams", "--principal", WEB])?.stdout;
    check!(shown.contains("PRINCIPAL") && shown.contains(WEB) && shown.contains("127.0.0.1:"), "{shown}");
    running.kill()?;
    running.wait()?;
    let end = Instant::now() + Duration::from_secs(10);
    while !list(&gateway, "/v1/proxy/streams")?.is_empty() {
        check!(Instant::now() < end, "a connection that ended is still shown");
        std::thread::sleep(Duration::from_millis(20));
    }
    let certificates = list(&gateway, "/v1/proxy/certificates")?;
    let kinds: Vec<_> = certificates.iter().filter_map(|found| found["kind"].as_str()).collect();
    check!(kinds == ["svid", "root"], "{certificates:?}");
    let own = &gateway.json(&["status"])?["identity"];
    check!(
        certificates[0]["serial"] == own["serial"] && certificates[0]["not_after"] == own["not_after"],
        "{certificates:?}"
    );
    let text = gateway.cli(&["proxy", "certificates"])?.stdout;
    check!(text.contains("spiffe://example.org/gateway") && !text.contains("PRIVATE"), "{text}");
    Ok(())
}

fn declared() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "no call goes through");
    let one = |path: &str| -> Result<Value> {
        let items = list(&gateway, path)?;
        let [item] = &items[..] else { return Err(format!("{path}: {items:?}").into()) };
        Ok(item.clone())
    };
    let listener = one("/v1/proxy/listeners")?;
    check!(listener["name"] == "public" && listener["mode"] == "enforce", "{listener}");
    check!(listener["addresses"] == json!([format!("tcp://{}", gateway.address)]), "{listener}");
    let cluster = one("/v1/proxy/clusters")?;
    for (key, value) in [("balancer", json!("p2c")), ("endpoints", json!(1)), ("in_use", json!(1))] {
        check!(cluster[key] == value, "{key}: {cluster}");
    }
    check!(cluster["expects"].is_null(), "it is plain: {cluster}");
    let route = one("/v1/proxy/routes")?;
    check!(route["to"][0]["cluster"] == cluster["name"] && route["goes"] == cluster["name"], "{route}");
    for (words, shown) in [
        (["proxy", "listeners"], "CLIENT AUTH"),
        (["proxy", "routes"], "/..."),
        (["proxy", "clusters"], "BALANCER"),
    ] {
        let text = gateway.cli(&words)?.stdout;
        check!(text.contains(shown), "{words:?}: {text}");
    }
    Ok(())
}

fn faults() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .service("shop", &["grpc.health.v1.Health/Check"])
        .route("site", "shop", "{ path = \"/\" }", &format!("http://{}", upstream.address))
        .user(61_001, &["viewer"])
        .start()?;
    let tls = gateway.identity()?;
    let status = || -> Result<u16> { Ok(gateway.curl(&tls, "/", &[])?.0) };
    check!(status()? == 200, "without a fault");
    let calls = upstream.calls();
    let told = gateway.cli(&["proxy", "fault", "inject", "site", "--abort", "418", "--for", "1m"])?;
    check!(told.code == 0 && told.stdout.contains("undo: portcullis proxy fault end site"), "{told:?}");
    check!(status()? == 418 && upstream.calls() == calls, "it reached the service");
    let listed = gateway.cli(&["proxy", "fault", "list"])?;
    check!(listed.stdout.contains("site") && listed.stdout.contains("418"), "{listed:?}");
    // In place of the other: calls wait, and then go on.
    let told = gateway.cli(&["proxy", "fault", "inject", "site", "--delay", "600ms", "--for", "1m"])?;
    check!(told.code == 0, "{told:?}");
    let started = Instant::now();
    check!(status()? == 200 && started.elapsed() >= Duration::from_millis(600), "{:?}", started.elapsed());
    check!(gateway.cli(&["proxy", "fault", "end"])?.stdout.contains("1 ended"), "not ended");
    let started = Instant::now();
    check!(status()? == 200 && started.elapsed() < Duration::from_millis(600), "{:?}", started.elapsed());
    for (words, said) in [
        (&["inject", "sites", "--abort", "503"][..], "did you mean `site`?"),
        (&["inject", "site"], "`delay`, `abort` or both"),
        (&["inject", "site", "--abort", "200"], "400 to 599"),
        (&["inject", "site", "--delay", "1h"], "at most 300 s"),
        (&["inject", "site", "--abort", "503", "--for", "48h"], "at most 86400 s"),
    ] {
        let refused = gateway.cli(&[&["proxy", "fault"][..], words].concat())?;
        check!(refused.code != 0 && refused.stderr.contains(said), "{words:?}: {refused:?}");
    }
    let records = gateway.records("kind=administration")?;
    let on_record = |word: &str| records.iter().filter(|record| record.to_string().contains(word)).count();
    check!(on_record("proxy.inject_fault") == 2 && on_record("proxy.end_faults") == 1, "{records:?}");
    let scrape = gateway.http("/metrics")?.1;
    for kind in ["abort", "delay"] {
        let line = format!("portcullis_faults_injected_total{{route=\"site\",kind=\"{kind}\"}} 1");
        check!(scrape.contains(&line), "{kind}: {scrape}");
    }
    if missing_users().is_none() {
        let refused = gateway.cli_as(61_001, &["proxy", "fault", "inject", "site", "--abort", "503"])?;
        check!(refused.code == 77, "a viewer: {refused:?}");
    }
    Ok(())
}

fn log_level() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    // Each reload is told at info.
    let reloads = || -> Result<usize> {
        check!(gateway.cli(&["config", "reload"])?.code == 0, "not reloaded");
        Ok(gateway.log().matches("config_reloaded").count())
    };
    let (first, second) = (reloads()?, reloads()?);
    check!(second > first, "it logs at info: {first}, {second}");
    let told = gateway.cli(&["proxy", "log-level", "error"])?;
    check!(
        told.code == 0 && told.stdout.contains("error until ") && told.stdout.contains("--reset"),
        "{told:?}"
    );
    check!(reloads()? == second, "it goes on logging as before");
    let told = gateway.cli(&["proxy", "log-level", "--reset"])?;
    check!(told.code == 0 && reloads()? > second, "{told:?}");
    let refused = gateway.cli(&["proxy", "log-level", "lou[d"])?;
    check!(refused.code != 0 && refused.stderr.contains("no such log level"), "{refused:?}");
    let records = gateway.records("kind=administration")?;
    let set = records.iter().filter(|record| record.to_string().contains("proxy.log_level")).count();
    check!(set == 2, "{set} on record: {records:?}");
    Ok(())
}

fn drain() -> Result {
    let upstream = Upstream::echo();
    let mut gateway = Gateway::before(upstream.address)?;
    let running = upload(&gateway, 3)?;
    let asked = gateway.cli(&["proxy", "drain"])?;
    check!(asked.code != 0 && asked.stderr.contains("--yes"), "{asked:?}");
    let told = gateway.cli(&["proxy", "drain", "--yes"])?;
    check!(told.code == 0 && told.stdout.contains("1 connections"), "{told:?}");
    let text = String::from_utf8_lossy(&running.wait_with_output()?.stdout).into_owned();
    check!(text.ends_with("\n200"), "the call that ran: {text}\n{}", gateway.log());
    let ended = gateway.wait()?;
    check!(ended.success(), "it ended with {ended}\n{}", gateway.log());
    check!(gateway.log().contains("\"signal\":\"drain\""), "{}", gateway.log());
    gateway.restart()?;
    let records = gateway.records("kind=administration")?;
    check!(records.iter().any(|record| record.to_string().contains("proxy.drain")), "{records:?}");
    Ok(())
}

fn rights() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .site(upstream.address)
        .user(61_001, &["viewer"])
        .user(61_002, &["author"])
        .start()?;
    for noun in ["listeners", "routes", "clusters", "streams", "certificates", "endpoints"] {
        let words = &["proxy", noun];
        let outcome = gateway.cli_as(61_001, words)?;
        check!(outcome.code == 0, "{words:?}: {outcome:?}");
    }
    for (user, words, needs) in [
        (61_002, &["proxy", "streams"][..], "enforcer:read"),
        (61_001, &["proxy", "drain", "--yes"], "enforcer:operate"),
        (61_001, &["proxy", "log-level", "trace"], "enforcer:operate"),
    ] {
        let outcome = gateway.cli_as(user, words)?;
        check!(outcome.code == 77 && outcome.stderr.contains(needs), "{words:?}: {outcome:?}");
    }
    check!(gateway.http("/readyz")?.0 == 200, "it drains all the same");
    let asked = gateway.decisions(&["--action", "enforcer:operate"])?;
    check!(asked.len() == 2 && asked.iter().all(|record| record["effect"] == "deny"), "on record: {asked:?}");
    Ok(())
}
