//! Decisions as logs of OpenTelemetry, sent by the shipped gateway to a collector that reads them by itself (RE4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("re4_every_decision_is_a_log_at_the_collector_with_the_names_of_both", missing("curl"), logs),
        trial("re4_a_collector_that_comes_late_has_every_decision_once", missing("curl"), late),
        trial("re4_what_a_collector_never_takes_is_counted_and_calls_do_not_notice", missing("curl"), never),
    ]
}

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A gateway whose decisions go to a collector of that kind.
fn telling(kind: &[&str]) -> Result<(Gateway, Script, Upstream)> {
    let upstream = Upstream::echo();
    let mut collector = Script::start("collector", kind)?;
    let port = collector.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let gateway = Gateway::build()
        .decisions(&format!("collector = \"http://127.0.0.1:{port}\"\ndrop = [\"connection.source_ip\"]"))
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n")
        .site(upstream.address)
        .start()?;
    Ok((gateway, collector, upstream))
}

/// The next log of a call; what the API was asked is a decision too.
fn of_a_call(collector: &mut Script) -> Result<Value> {
    loop {
        let log = collector.next(PATIENCE)?;
        if log["attributes"]["portcullis.phase"] == "request" {
            return Ok(log);
        }
    }
}

fn logs() -> Result {
    let (gateway, mut collector, _upstream) = telling(&[])?;
    let tls = gateway.identity()?;
    let traced = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01");
    check!(gateway.curl(&tls, "/hello?token=secret", &["-H", &traced])?.0 == 200, "a call");
    let secret = ["-H", "authorization: Bearer secret", "-H", "x-key: secret", "-d", "secret"];
    check!(gateway.curl(&tls, "/write", &secret)?.0 == 403, "a refused call");
    let mut told = BTreeMap::new();
    for _ in 0..2 {
        let log = of_a_call(&mut collector)?;
        check!(!log.to_string().contains("secret"), "a query, a header or a body is in {log}");
        told.insert(log["attributes"]["url.path"].as_str().unwrap_or_default().to_owned(), log);
    }
    let recorded = gateway.decisions(&[])?;
    let find = |path: &str| -> Result<(&Value, &Value)> {
        let log = told.get(path).ok_or_else(|| format!("no log of {path}: {told:?}"))?;
        let id = &log["attributes"]["portcullis.decision_id"];
        let record = recorded.iter().find(|record| record["id"] == *id);
        Ok((log, record.ok_or_else(|| format!("no record {id}"))?))
    };
    let (passed, record) = find("/hello")?;
    for (key, wanted) in [
        ("path", "/v1/logs"),
        ("type", "application/x-protobuf"),
        ("event", "portcullis.decision"),
        ("trace", TRACE),
    ] {
        check!(passed[key] == wanted, "{key} of {passed}");
    }
    check!(passed["severity"] == serde_json::json!([9, "INFO"]), "{passed}");
    check!(passed["span"] == record["trace"]["span_id"], "{passed} and {record}");
    check!(passed["resource"]["service.name"] == "portcullis", "{passed}");
    for (key, wanted) in [
        ("event.name", "portcullis.decision"),
        ("http.request.method", "GET"),
        ("portcullis.action", "http:GET"),
        ("portcullis.effect", "allow"),
        ("portcullis.principal", "spiffe://example.org/web"),
        ("portcullis.reason", "permit"),
    ] {
        check!(passed["attributes"][key] == wanted, "{key} of {passed}");
    }
    check!(passed["attributes"]["portcullis.policies"] == serde_json::json!(["read"]), "{passed}");
    check!(passed["attributes"]["portcullis.resource"] == record["resource"]["id"], "{passed} and {record}");
    let version = passed["attributes"]["portcullis.policies_version"].as_u64();
    check!(version.is_some() && version == record["versions"]["policies"].as_u64(), "{passed} and {record}");
    // The site leaves it out of records, so that no copy has it.
    check!(passed["attributes"].get("client.address").is_none(), "{passed}");
    let (refused, _) = find("/write")?;
    check!(refused["severity"] == serde_json::json!([13, "WARN"]), "{refused}");
    check!(refused["attributes"]["portcullis.reason"] == "no_permit", "{refused}");
    check!(refused["attributes"].get("portcullis.policies").is_none(), "{refused}");
    Ok(())
}

fn late() -> Result {
    let (gateway, mut collector, _upstream) = telling(&["late"])?;
    let tls = gateway.identity()?;
    for n in 0..5 {
        check!(gateway.curl(&tls, &format!("/{n}"), &[])?.0 == 200, "call {n}");
    }
    let mut paths = BTreeSet::new();
    for _ in 0..5 {
        let log = of_a_call(&mut collector)?;
        let path = log["attributes"]["url.path"].to_string();
        check!(paths.insert(path), "{log} comes twice");
    }
    let (end, is_told) = (Instant::now() + Duration::from_secs(5), || gateway.log().contains("export_works"));
    while !is_told() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    check!(gateway.log().contains("export_failed") && is_told(), "nobody is told:\n{}", gateway.log());
    Ok(())
}

fn never() -> Result {
    let (gateway, _collector, _upstream) = telling(&["never"])?;
    let tls = gateway.identity()?;
    let began = Instant::now();
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200 && began.elapsed() < Duration::from_secs(3), "a call");
    let (end, lost) = (Instant::now() + PATIENCE, "portcullis_decision_logs_sent_total{result=\"lost\"} ");
    loop {
        let (_, metrics) = gateway.http("/metrics")?;
        let count = metrics.lines().find_map(|line| line.strip_prefix(lost)?.parse::<u64>().ok());
        if count > Some(0) {
            return Ok(());
        }
        check!(Instant::now() < end, "{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
