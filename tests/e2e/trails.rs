//! One line for each call, written by the shipped gateway (TA-01): what operators see of their traffic.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ta_01_every_call_leaves_one_line_that_tells_the_same_as_its_record", missing("curl"), file),
        trial("ta_01_a_trail_that_was_moved_away_is_begun_anew", missing("curl"), moved),
        trial("ta_01_the_status_of_a_grpc_call_is_in_its_line", missing_module("grpc"), grpc),
        trial("ta_01_a_trail_that_cannot_be_opened_stops_the_start", None, closed),
    ]
}

/// Waits until the file has so many lines.
fn lines(path: &Path, count: usize) -> Result<Vec<Value>> {
    let since = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count || since.elapsed() > Duration::from_secs(10) {
            check!(text.lines().count() == count, "{count} lines are due: {text}");
            return Ok(text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn file() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .enforcer("trail = \"calls.json\"")
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n")
        .site(upstream.address)
        .start()?;
    let tls = gateway.identity()?;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
    check!(gateway.curl(&tls, "/hello?key=secret", &["-H", &parent])?.0 == 200, "not permitted");
    check!(gateway.curl(&tls, "/write", &["-d", "secret"])?.0 == 403, "not refused");
    check!(gateway.curl(&tls, "/a/../b", &["--path-as-is"])?.0 == 400, "not refused");
    let path = gateway.dir().join("calls.json");
    let lines = lines(&path, 3)?;
    let text = fs::read_to_string(&path)?;
    check!(!text.contains("secret"), "a query or a body is in {text}");
    let [passed, refused, odd] = &lines[..] else { return Err("three lines".into()) };
    for (key, wanted) in [
        ("effect", Value::from("allow")),
        ("end", "complete".into()),
        ("status", 200.into()),
        ("method", "GET".into()),
        ("path", "/hello".into()),
        ("principal", "spiffe://example.org/web".into()),
        ("route", "site".into()),
        ("endpoint", upstream.address.to_string().into()),
        ("tries", 1.into()),
        ("trace_id", trace.into()),
        ("resource", "Route::\"site\"".into()),
    ] {
        check!(passed[key] == wanted, "{key} of {passed}");
    }
    for time in ["handshake_us", "connect_us", "total_us"] {
        check!(passed[time].as_u64() > Some(0), "{time} of {passed}");
    }
    check!(passed["queue_us"] == 0 && passed["upstream_identity"].is_null(), "{passed}");
    check!(refused["resource"] == passed["resource"], "{refused}");
    check!(passed["sent_bytes"].as_u64() > Some(0) && passed["first_byte_us"].is_u64(), "{passed}");
    check!(refused["effect"] == "deny" && refused["end"] == "denied", "{refused}");
    check!(refused["reason"] == "no_permit" && refused["endpoint"].is_null(), "{refused}");
    check!(odd["reason"] == "not_canonical" && odd["status"] == 400, "{odd}");
    let recorded = gateway.decisions(&[])?;
    for line in [passed, refused] {
        let record = recorded.iter().find(|record| record["id"] == line["decision_id"]);
        let record = record.ok_or_else(|| format!("no record of {line}"))?;
        check!(record["effect"] == line["effect"], "{record} {line}");
    }
    Ok(())
}

fn moved() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build().enforcer("trail = \"calls.json\"").site(upstream.address).start()?;
    let tls = gateway.identity()?;
    gateway.curl(&tls, "/one", &[])?;
    let (path, old) = (gateway.dir().join("calls.json"), gateway.dir().join("calls.old"));
    lines(&path, 1)?;
    fs::rename(&path, &old)?;
    std::thread::sleep(Duration::from_millis(1_100));
    gateway.curl(&tls, "/two", &[])?;
    check!(lines(&path, 1)?[0]["path"] == "/two", "the new file");
    check!(lines(&old, 1)?[0]["path"] == "/one", "the old file");
    Ok(())
}

fn closed() -> Result {
    let gateway = Gateway::build().enforcer("trail = \"no/such/directory/calls.json\"").start();
    let Err(error) = gateway else { return Err("it started".into()) };
    let said = error.to_string();
    check!(said.contains("PC4001") && said.contains("calls.json"), "{said}");
    Ok(())
}

fn grpc() -> Result {
    let mut server = Script::start("grpc_server", &[])?;
    let port = server.next(Duration::from_secs(20))?["port"].as_u64().ok_or("no port")?;
    let gateway = Gateway::build()
        .enforcer("trail = \"calls.json\"")
        .policy("@id(\"orders\")\npermit (principal, action == Action::\"grpc\", resource == Method::\"shop.Orders/Get\");\n")
        .service("orders", &["shop.Orders/Get", "shop.Orders/Refund"])
        .route("orders", "orders", "{ grpc = \"shop.Orders/*\" }", &format!("h2c://127.0.0.1:{port}"))
        .start()?;
    let (address, tls) = (gateway.address.to_string(), gateway.identity()?.display().to_string());
    for method in ["Get", "Refund"] {
        Script::run(
            "grpc_client",
            &[&address, &tls, "unary", &format!("/shop.Orders/{method}"), "10", "hello"],
        )?;
    }
    let lines = lines(&gateway.dir().join("calls.json"), 2)?;
    for (line, effect, status, grpc_status) in [(&lines[0], "allow", 200, 0), (&lines[1], "deny", 200, 7)] {
        check!(
            line["resource"].as_str().is_some_and(|resource| resource.starts_with("Method::\"shop.Orders/")),
            "{line}"
        );
        let told = (&line["protocol"], &line["effect"], &line["status"], &line["grpc_status"]);
        check!(told == (&"grpc".into(), &effect.into(), &status.into(), &grpc_status.into()), "{line}");
    }
    Ok(())
}
