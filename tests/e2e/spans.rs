//! Sampled calls as spans, sent by the shipped gateway to a collector that reads them by itself (TA-02, OB4, OB5).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "ob4_a_sampled_call_is_a_span_that_shares_its_ids_with_record_trail_and_endpoint",
            missing("curl"),
            spans,
        ),
        trial("ta_02_calls_do_not_notice_a_collector_that_takes_nothing", missing("curl"), deaf),
    ]
}

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn gateway(collector: u64, share: u32, upstream: &Upstream) -> Result<Gateway> {
    Gateway::build()
        .enforcer(&format!(
            "trail = \"calls.json\"\nspans = \"http://127.0.0.1:{collector}\"\nspan_share = {share}"
        ))
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n")
        .site(upstream.address)
        .start()
}

fn spans() -> Result {
    let upstream = Upstream::echo();
    let mut collector = Script::start("collector", &[])?;
    let port = collector.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let gateway = gateway(port, 0, &upstream)?;
    let tls = gateway.identity()?;
    let parent = |flags: &str| format!("traceparent: 00-{TRACE}-{PARENT}-{flags}");
    let secret = ["-H", "authorization: Bearer secret", "-H", "x-key: secret", "-d", "secret"];
    let (status, heard) = gateway.curl(&tls, "/hello?token=secret", &["-H", &parent("01")])?;
    check!(status == 200, "{status}");
    let refused = gateway.curl(&tls, "/write", &[secret.as_slice(), &["-H", &parent("01")]].concat())?;
    check!(refused.0 == 403, "{refused:?}");
    for quiet in [parent("00"), "x-nothing: 1".to_owned(), "traceparent: 00-odd".to_owned()] {
        check!(gateway.curl(&tls, "/quiet", &["-H", &quiet])?.0 == 200, "{quiet}");
    }
    check!(
        gateway.curl(&tls, "/odd//path", &["--path-as-is", "-H", &parent("01")])?.0 == 400,
        "a sampled odd path"
    );
    let mut told = BTreeMap::new();
    for _ in 0..3 {
        let span = collector.next(PATIENCE)?;
        check!(!span.to_string().contains("secret"), "a query, a header or a body is in {span}");
        let path = span["attributes"]["url.path"].as_str().unwrap_or_default().to_owned();
        told.insert(path, span);
    }
    let passed = told.get("/hello").ok_or_else(|| format!("{told:?}"))?;
    for (key, wanted) in [
        ("trace", TRACE),
        ("parent", PARENT),
        ("name", "GET site"),
        ("path", "/v1/traces"),
        ("type", "application/x-protobuf"),
    ] {
        check!(passed[key] == wanted, "{key} of {passed}");
    }
    check!(passed["kind"] == 2 && passed["took"].as_u64() > Some(0) && passed["failed"] == false, "{passed}");
    check!(passed["resource"]["service.name"] == "portcullis", "{passed}");
    for (key, wanted) in [
        ("http.request.method", Value::from("GET")),
        ("http.response.status_code", 200.into()),
        ("portcullis.principal", "spiffe://example.org/web".into()),
        ("portcullis.effect", "allow".into()),
        ("portcullis.endpoint", upstream.address.to_string().into()),
    ] {
        check!(passed["attributes"][key] == wanted, "{key} of {passed}");
    }
    let span = passed["span"].as_str().unwrap_or_default();
    check!(heard.contains(&format!("traceparent: 00-{TRACE}-{span}-01")), "the endpoint heard {heard}");
    let refused = told.get("/write").ok_or_else(|| format!("{told:?}"))?;
    check!(
        refused["attributes"]["portcullis.reason"] == "no_permit" && refused["failed"] == false,
        "{refused}"
    );

    let trail = std::fs::read_to_string(gateway.dir().join("calls.json"))?;
    let recorded = gateway.decisions(&[])?;
    for span in [passed, refused] {
        let id = &span["attributes"]["portcullis.decision_id"];
        let line = trail.lines().find(|line| line.contains(id.as_str().unwrap_or("none")));
        check!(line.is_some_and(|line| line.contains(TRACE)), "no line of {id} with its trace: {trail}");
        let record =
            recorded.iter().find(|record| record["id"] == *id).ok_or_else(|| format!("no record {id}"))?;
        check!(
            record["trace"]["trace_id"] == TRACE && record["trace"]["span_id"] == span["span"],
            "{record}"
        );
    }
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_spans_sent_total{result=\"ok\"} 3"), "{metrics}");
    check!(metrics.contains("portcullis_spans_dropped_total 0"), "{metrics}");
    Ok(())
}

fn deaf() -> Result {
    let upstream = Upstream::echo();
    let mut collector = Script::start("collector", &["refuse"])?;
    let port = collector.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let gateway = gateway(port, 10_000, &upstream)?;
    let tls = gateway.identity()?;
    let began = Instant::now();
    let (status, heard) = gateway.curl(&tls, "/hello", &[])?;
    check!(status == 200 && heard.contains("traceparent: 00-"), "a call without a trace begins one: {heard}");
    check!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = gateway.http("/metrics")?;
        if metrics.contains("portcullis_spans_sent_total{result=\"failed\"} 1") {
            break;
        }
        check!(Instant::now() < end, "{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
    check!(gateway.log().contains("export_failed"), "nobody is told");
    Ok(())
}
