//! Health, metrics, documents and manners of the API.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::feed::key;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ra11_readiness_names_every_condition", None, readiness),
        trial("gc1_grpcio_finds_the_services_and_watches_them_become_ready", missing_module("grpc"), probed),
        trial("ob1_metrics_count_calls_and_decisions", missing("curl"), metrics),
        trial("ra10_the_api_documents_itself_offline", None, documents),
        trial("ra8_loopback_without_credentials_gets_health_only", None, anonymous),
        trial("ad2_a_foreign_host_is_misdirected", None, foreign_host),
        trial("ra2_errors_are_problem_documents", missing("curl"), problems),
    ]
}

fn readiness() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let (status, body) = gateway.http("/readyz?verbose")?;
    check!(status == 200, "{status} {body}");
    for condition in [
        "identity: ok spiffe://example.org/gateway",
        "policy: ok policies v1",
        "listeners: ok 1 bound",
        "ledger: ok",
    ] {
        check!(body.contains(condition), "`{condition}` is not in {body}");
    }
    check!(gateway.http("/livez")?.0 == 200, "livez");
    let waited = gateway.cli(&["wait", "--timeout", "5s"])?;
    check!(waited.code == 0, "wait: {waited:?}");
    Ok(())
}

/// The interfaces are told by reflection alone; a service is ready when the process is.
fn probed() -> Result {
    let mut publisher = Gateway::before(Upstream::echo().address)?;
    let (there, signer) = (publisher.admin_socket(), key(&publisher)?);
    publisher.kill()?;
    let gateway = Gateway::build()
        .policies(&format!("follow = \"unix://{}\"\nsigner = \"{signer}\"", there.display()))
        .service("site", &[])
        .route("site", "site", "{ path = \"/\" }", "http://127.0.0.1:9")
        .start_unready()?;
    let socket = format!("unix:{}", gateway.admin_socket().display());
    let mut client = Script::start("health_client", &[&socket])?;
    let patience = Duration::from_secs(20);
    let listed = client.next(patience)?;
    let services = listed["services"].as_array().ok_or("no list")?;
    for expected in
        ["grpc.health.v1.Health", "portcullis.policies.v1.Changes", "grpc.reflection.v1.ServerReflection"]
    {
        check!(services.iter().any(|service| service == expected), "no {expected}: {listed}");
    }
    check!(client.next(patience)?["checks"] == json!(["NOT_SERVING", "NOT_SERVING", "NOT_FOUND"]), "ready");
    check!(client.next(patience)?["watch"] == "NOT_SERVING", "ready");
    publisher.restart()?;
    check!(client.next(patience)?["watch"] == "SERVING", "not ready");
    // What reflection told is enough to make a call.
    let called = client.next(patience)?;
    check!(called["policies"].as_array().is_some_and(|ids| ids.contains(&json!("system-probe"))), "{called}");
    let loopback = gateway.admin.to_string();
    let there = Script::run("health_client", &[&loopback, "check"])?;
    check!(there[1]["checks"] == json!(["SERVING", "SERVING", "NOT_FOUND"]), "{there:?}");
    Ok(())
}

fn metrics() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    for _ in 0..3 {
        gateway.curl(&tls, "/", &[])?;
    }
    let (_, text) = gateway.http("/metrics")?;
    let value = |start: &str| {
        text.lines()
            .filter(|line| line.starts_with(start))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    check!(value("portcullis_requests_total{") == 3.0, "requests: {text}");
    check!(value("portcullis_decisions_total{") == 3.0, "decisions: {text}");
    check!(!text.contains("spiffe://"), "a SPIFFE id is a label (OB1): {text}");
    Ok(())
}

fn documents() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let (status, body) = gateway.http("/openapi.json")?;
    check!(status == 200, "{status}");
    let document: Value = serde_json::from_str(body.trim())?;
    for path in [
        "/v1/status",
        "/v1/entries",
        "/v1/decisions",
        "/v1/agents:attest",
        "/v1/svids:sign",
        "/v1/policies:can",
    ] {
        check!(document["paths"].get(path).is_some(), "{path} is not documented");
    }
    let (status, page) = gateway.http("/docs/")?;
    check!(status == 200 && page.contains("swagger"), "{status} {page}");
    check!(!page.contains("https://"), "the page loads from elsewhere: {page}");
    Ok(())
}

fn anonymous() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    for path in ["/v1/status", "/v1/decisions", "/v1/entries", "/nonsense"] {
        let (status, body) = gateway.http(path)?;
        check!(status == 401, "{path}: {status} {body}");
    }
    Ok(())
}

fn foreign_host() -> Result {
    use std::io::{Read, Write};
    let gateway = Gateway::before(Upstream::echo().address)?;
    let mut stream = std::net::TcpStream::connect(gateway.admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    check!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    Ok(())
}

fn problems() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let socket = gateway.dir().join("data/admin.sock").display().to_string();
    let ask = |arguments: &[&str]| -> Result<(u16, Value)> {
        let output = std::process::Command::new("curl")
            .args(["-sS", "--unix-socket", &socket, "-w", "\n%{http_code}"])
            .args(arguments)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').ok_or("nothing")?;
        Ok((status.parse()?, serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?))
    };
    for (arguments, expected) in [
        (vec!["http://localhost/v1/nothing"], 404),
        (vec!["-X", "DELETE", "http://localhost/v1/status"], 405),
        (vec!["http://localhost/v1/decisions?efect=deny"], 400),
        (vec!["http://localhost/v1/decisions?limit=1001"], 400),
        (vec!["http://localhost/v1/decisions/01JD8Z6N4T0B7K3Q5XW2M9E47Q"], 404),
        (
            vec![
                "-X",
                "POST",
                "-H",
                "content-type: application/json",
                "-d",
                "{\"nonsense\":1}",
                "http://localhost/v1/entries",
            ],
            400,
        ),
        (
            vec![
                "-X",
                "POST",
                "-H",
                "content-type: application/json",
                "-d",
                "{",
                "http://localhost/v1/policies:can",
            ],
            400,
        ),
    ] {
        let (status, problem) = ask(&arguments)?;
        check!(status == expected, "{arguments:?}: {status} {problem}");
        check!(problem["status"] == expected && problem["title"].is_string(), "{arguments:?}: {problem}");
    }
    Ok(())
}
