//! Metrics that the shipped gateway sends to a collector, which reads them by itself: the ones that a scrape tells (OB5). And
//! collectors at https.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tests::forge::pem;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ob5_metrics_are_pushed_as_a_scrape_tells_them", missing("curl"), pushed),
        trial("ob5_a_collector_at_https_is_verified_by_its_file_of_roots", missing("curl"), verified),
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

/// The first metric of that name whose points satisfy `wanted`.
fn metric(collector: &mut Script, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    collector.until(PATIENCE, |told| {
        told["name"] == name && told["points"].as_array().is_some_and(|points| points.iter().any(&wanted))
    })
}

fn pushed() -> Result {
    let upstream = Upstream::echo();
    let mut collector = Script::start("collector", &[])?;
    let port = collector.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let gateway = Gateway::build()
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource);\n")
        .site(upstream.address)
        .section(&format!("push = \"http://127.0.0.1:{port}\"\npush_interval = \"1s\""))
        .env("OTEL_SERVICE_NAME", "edge")
        .env("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-key=a%20b")
        .start()?;
    let tls = gateway.identity()?;
    for _ in 0..3 {
        check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the site does not answer");
    }
    let calls = metric(&mut collector, "portcullis_decisions", |point| {
        point["value"] == 3 && point["labels"]["effect"] == "allow" && point["labels"]["service"] == "site"
    })?;
    for (key, wanted) in [
        ("path", Value::from("/v1/metrics")),
        ("type", "application/x-protobuf".into()),
        ("key", "a b".into()),
        ("kind", "sum".into()),
        ("grows", true.into()),
        ("temporality", 2.into()),
        ("unit", "1".into()),
    ] {
        check!(calls[key] == wanted, "{key} of {calls}");
    }
    check!(calls["resource"]["service.name"] == "edge", "{calls}");
    let point = &calls["points"][0];
    check!(point["from"].as_u64() > Some(0) && point["at"].as_u64() > point["from"].as_u64(), "{point}");
    let ready = metric(&mut collector, "portcullis_ready", |point| point["value"] == 1)?;
    check!(ready["kind"] == "gauge" && ready["points"][0]["from"] == 0, "{ready}");
    agree(&gateway, &mut collector)
}

/// What comes with one push is what a scrape tells: each family, with each of its series.
fn agree(gateway: &Gateway, collector: &mut Script) -> Result {
    let mut told: BTreeMap<String, Value> = BTreeMap::new();
    let first = collector.next(PATIENCE)?;
    let at = |metric: &Value| metric["points"][0]["at"].clone();
    let after = collector.until(PATIENCE, |next| at(next) != at(&first))?;
    let moment = at(&after);
    told.insert(after["name"].to_string(), after);
    loop {
        let next = collector.next(PATIENCE)?;
        if at(&next) != moment {
            break;
        }
        told.insert(next["name"].to_string(), next);
    }
    let (_, scraped) = gateway.http("/metrics")?;
    let kinds = scraped.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut histograms = 0;
    for (name, kind) in kinds {
        let bare = name.trim_end_matches("_total");
        let found =
            told.get(&Value::from(bare).to_string()).ok_or_else(|| format!("{bare} was not pushed"))?;
        let points = found["points"].as_array().ok_or("no points")?;
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let series = |line: &&str| {
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(suffix))
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let of_scrape = scraped.lines().filter(series).count();
        // A series may have come between the push and the scrape.
        check!(
            (1..=of_scrape).contains(&points.len()),
            "{name}: {of_scrape} scraped, {} pushed",
            points.len()
        );
        if kind == "histogram" {
            histograms += 1;
            for point in points {
                let (counts, bounds) = (point["counts"].as_array(), point["bounds"].as_array());
                let sum: u64 = counts.into_iter().flatten().filter_map(Value::as_u64).sum();
                check!(point["count"] == sum && found["unit"] == "s", "{found}");
                check!(counts.map(Vec::len) == bounds.map(|bounds| bounds.len() + 1), "{found}");
            }
        }
    }
    check!(told.len() > 20 && histograms > 2, "{} families, {histograms} histograms", told.len());
    Ok(())
}

/// A certificate for this host, by itself its root.
fn own(dir: &Path, name: &str) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?.self_signed(&key)?;
    let (chain, file) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&chain, pem("CERTIFICATE", certificate.der()))?;
    std::fs::write(&file, pem("PRIVATE KEY", &key.serialize_der()))?;
    Ok((chain.display().to_string(), file.display().to_string()))
}

fn verified() -> Result {
    let upstream = Upstream::echo();
    let dir = tempfile::tempdir()?;
    let (root, key) = own(dir.path(), "known")?;
    let (_, other) = (own(dir.path(), "other")?, dir.path().join("other.pem"));
    let mut collector = Script::start("collector", &[&root, &key])?;
    let port = collector.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let to = |roots: &str| {
        format!("push = \"https://localhost:{port}\"\npush_roots = \"{roots}\"\npush_interval = \"1s\"")
    };
    let gateway = Gateway::build()
        .enforcer(&format!(
            "spans = \"https://localhost:{port}\"\nspans_roots = \"{root}\"\nspan_share = 10000"
        ))
        .site(upstream.address)
        .section(&to(&root))
        .start()?;
    metric(&mut collector, "portcullis_ready", |point| point["value"] == 1)?;
    let tls = gateway.identity()?;
    gateway.curl(&tls, "/seen", &[])?;
    collector.until(PATIENCE, |told| told["attributes"]["url.path"] == "/seen")?;
    drop(gateway);

    // Somebody else's root: nothing is told to who shows this certificate, and the log says why.
    drop(collector.said());
    let gateway =
        Gateway::build().site(upstream.address).section(&to(&other.display().to_string())).start()?;
    let end = Instant::now() + PATIENCE;
    let failed = |line: &str| {
        let count = line.strip_prefix("portcullis_metrics_pushed_total{result=\"failed\"} ");
        count.is_some_and(|count| count != "0")
    };
    while !gateway.http("/metrics")?.1.lines().any(failed) {
        check!(Instant::now() < end, "no push failed");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = gateway.log();
    check!(log.contains("export_failed") && log.contains("invalid peer certificate"), "{log}");
    check!(collector.said().is_empty(), "a collector that is not verified was told");

    let refused = Gateway::build().site(upstream.address).section(&to("/nowhere.pem")).start();
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    check!(refused.contains("PC0107") && refused.contains("/nowhere.pem"), "{refused}");
    Ok(())
}
