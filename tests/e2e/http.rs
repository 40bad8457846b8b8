//! HTTP through the gateway: curl and openssl as callers, an echoing upstream as judge of what arrived.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_module};
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("curl_is_allowed_over_h1_and_h2_and_the_upstream_learns_who_calls", missing("curl"), allowed),
        trial("curl_is_denied_with_problem_json_and_a_decision_id_that_explains", missing("curl"), denied),
        trial("in7_spoofed_identity_headers_never_reach_the_upstream", missing("curl"), spoofed),
        trial("in1_a_caller_without_certificate_gets_a_tls_alert", missing("openssl"), no_certificate),
        trial("pa_05_an_unknown_route_is_404_recorded_and_never_forwarded", missing("curl"), unknown_route),
        trial("in6_a_path_that_is_not_canonical_is_refused", missing("curl"), not_canonical),
        trial("sh4_observe_mode_passes_and_records_the_would_be_denial", missing("curl"), observe),
        trial("a_large_body_passes_both_ways", missing("curl"), large),
        trial("to_02_a_silent_upstream_is_504", missing("curl"), silent_upstream),
        trial("pa_08_a_dead_upstream_is_503", missing("curl"), dead_upstream),
        trial(
            "ws_01_and_ws_02_a_websocket_passes_and_ends_with_its_permit",
            missing_module("websockets").or_else(|| missing_module("h2")),
            websocket,
        ),
        trial("in3_resumption_is_never_offered", missing("openssl"), resumption),
    ]
}

fn allowed() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    for version in ["--http1.1", "--http2"] {
        let (status, body) = gateway.curl(&tls, "/hello?x=1", &[version])?;
        check!(status == 200, "{version}: {status} {body}");
        check!(body.starts_with("GET /hello?x=1 HTTP/1.1\r\n"), "{version}: upstream received {body}");
        check!(
            body.contains("portcullis-peer: spiffe://example.org/web"),
            "{version}: upstream was not told who calls: {body}"
        );
    }
    let recorded = gateway.decisions(&["--effect", "allow", "--action", "http:GET"])?;
    check!(recorded.len() == 2, "two calls, {} records", recorded.len());
    check!(recorded[0]["determining"][0] == "web-all", "record: {}", recorded[0]);
    check!(recorded[0]["request"]["path"] == "/hello", "record: {}", recorded[0]);
    Ok(())
}

fn denied() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy("@id(\"read\")\npermit (principal == Workload::\"spiffe://example.org/web\", action in Action::\"http:read\", resource);\n")
        .site(upstream.address)
        .start()?;
    let tls = gateway.identity()?;
    let (status, body) = gateway.curl(&tls, "/thing", &["-X", "DELETE"])?;
    check!(status == 403, "{status} {body}");
    let problem: Value = serde_json::from_str(&body)?;
    let id = problem["decision_id"].as_str().ok_or("no decision id")?.to_owned();
    check!(!body.contains("read\""), "policy names must not reach the caller: {body}");
    check!(upstream.calls() == 0, "the upstream saw a refused call");
    let explained = gateway.json(&["explain", &id])?;
    check!(
        explained["reason"] == "no_permit" && explained["nearest"][0]["policy"] == "read",
        "explanation: {explained}"
    );
    let suggested = gateway.json(&["policy", "suggest", &id])?;
    let policy = suggested["policy"].as_str().ok_or("no policy")?;
    gateway.publish("suggested.cedar", policy)?;
    let (status, body) = gateway.curl(&tls, "/thing", &["-X", "DELETE"])?;
    check!(status == 200, "the suggested policy does not allow it: {status} {body}\n{policy}");
    Ok(())
}

fn spoofed() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    for version in ["--http1.1", "--http2"] {
        let headers = [
            "-H",
            "portcullis-peer: spiffe://example.org/admin",
            "-H",
            "x-forwarded-client-cert: URI=spiffe://example.org/admin",
            "-H",
            "x-forwarded-for: 1.2.3.4",
        ];
        let (status, body) = gateway.curl(&tls, "/", &[&[version], headers.as_slice()].concat())?;
        check!(status == 200, "{status} {body}");
        check!(
            !body.contains("/admin") && !body.contains("1.2.3.4"),
            "{version}: a spoofed header passed: {body}"
        );
    }
    Ok(())
}

fn no_certificate() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let output = Command::new("sh")
        .args(["-c", &format!("printf 'GET / HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n' | timeout 5 openssl s_client -connect {} -quiet 2>&1", gateway.address)])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
    check!(said.contains("certificate required") || said.contains("alert"), "no alert: {said}");
    check!(!said.contains("http/1.1"), "an answer without a certificate: {said}");
    Ok(())
}

fn unknown_route() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .service("site", &[])
        .route("api", "site", "{ path = \"/api\" }", &format!("http://{}", upstream.address))
        .start()?;
    let tls = gateway.identity()?;
    let (status, _) = gateway.curl(&tls, "/elsewhere", &[])?;
    check!(status == 404, "{status}");
    check!(gateway.curl(&tls, "/apiary", &[])?.0 == 404, "a prefix matches whole segments only");
    check!(gateway.curl(&tls, "/api/x", &[])?.0 == 200, "the route itself works");
    check!(upstream.calls() == 1, "unknown routes are not forwarded");
    check!(gateway.decisions(&["--reason", "unknown_route"])?.len() == 2, "unknown routes are on record");
    Ok(())
}

fn not_canonical() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    for path in ["/a/%2e%2e/b", "/a//b", "/a%2fb", "/a/..;/b", "/%00"] {
        for version in ["--http1.1", "--http2"] {
            let (status, body) = gateway.curl(&tls, path, &[version, "--path-as-is"])?;
            check!(status == 400, "{path} {version}: {status} {body}");
        }
    }
    check!(upstream.calls() == 0, "a refused path reached the upstream");
    Ok(())
}

fn observe() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy("@id(\"nobody\")\npermit (principal == Workload::\"spiffe://example.org/nobody\", action in Action::\"call\", resource);\n")
        .enforcer("mode = \"observe\"")
        .site(upstream.address)
        .start()?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "observe mode refuses");
    let would = gateway.decisions(&["--would", "deny"])?;
    check!(
        would.len() == 1 && would[0]["effect"] == "allow" && would[0]["mode"] == "observe",
        "record: {would:?}"
    );
    let outcome = gateway.cli(&["check"])?;
    check!(outcome.stdout.contains("PC4030"), "check does not warn of observe mode: {}", outcome.stdout);
    let strict = gateway.cli(&["check", "--fail-on", "warning"])?;
    check!(strict.code == 1, "--fail-on warning ended with {}", strict.code);
    Ok(())
}

fn large() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    let file = gateway.dir().join("large");
    std::fs::write(&file, vec![b'x'; 3_000_000])?;
    for version in ["--http1.1", "--http2"] {
        let (status, body) =
            gateway.curl(&tls, "/", &[version, "--data-binary", &format!("@{}", file.display())])?;
        check!(status == 200, "{version}: {status}");
        check!(body.len() > 3_000_000 && body.ends_with("xxx"), "{version}: {} bytes came back", body.len());
    }
    Ok(())
}

fn silent_upstream() -> Result {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let gateway =
        Gateway::build().site(silent.local_addr()?).route_line("header_timeout = \"300ms\"").start()?;
    let tls = gateway.identity()?;
    let (status, body) = gateway.curl(&tls, "/", &[])?;
    check!(status == 504, "{status} {body}");
    Ok(())
}

fn dead_upstream() -> Result {
    let port = tests::port::free_port();
    let gateway = Gateway::build()
        .service("site", &[])
        .route("site", "site", "{ path = \"/\" }", &format!("http://127.0.0.1:{port}"))
        .start()?;
    let tls = gateway.identity()?;
    let (status, body) = gateway.curl(&tls, "/", &[])?;
    check!(status == 503, "{status} {body}");
    Ok(())
}

fn resumption() -> Result {
    let gateway = Gateway::before(Upstream::echo().address)?;
    let tls = gateway.identity()?;
    let chain = std::fs::read_to_string(tls.join("svid.pem"))?;
    let issuers = chain.split_inclusive("-----END CERTIFICATE-----\n").skip(1).collect::<String>();
    std::fs::write(tls.join("issuers.pem"), issuers)?;
    let output = Command::new("sh")
        .args(["-c", &format!(
            "printf 'GET / HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n' | timeout 5 openssl s_client -connect {} -cert {t}/svid.pem -cert_chain {t}/issuers.pem -key {t}/svid.key -CAfile {t}/bundle.pem -ign_eof 2>&1",
            gateway.address, t = tls.display()
        )])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    check!(said.contains("HTTP/1.1 200"), "the call itself failed: {said}");
    check!(!said.contains("New Session Ticket arrived"), "a session ticket was offered: {said}");
    check!(said.contains("TLSv1.3"), "not TLS 1.3: {said}");
    Ok(())
}

/// The same server, asked over HTTP/2 by hyper-h2.
fn over_http2(gateway: &Gateway, server: &mut Script, tls: &str) -> Result {
    let address = gateway.address.to_string();
    let asked = ["websocket", "/chat?over=2", "0", "1", "70000", "1000000"];
    let said = Script::run("h2_tunnel", &[&[address.as_str(), tls], &asked[..]].concat())?;
    check!(said[0] == serde_json::json!({"offered": 1, "status": 200, "accept": null}), "{said:?}");
    check!(said[1]["echoes"] == 4 && said[2]["ended"] == "end", "{said:?}");
    let opened = server.next(Duration::from_secs(20))?;
    check!(
        opened["peer"] == "spiffe://example.org/web" && opened["path"] == "/chat?over=2",
        "the origin saw {opened}"
    );
    let closed = server.next(Duration::from_secs(20))?;
    check!(closed["closed"] == 1006, "the end of the stream without a close frame: {closed}");
    Ok(())
}

fn websocket() -> Result {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut server = Script::start("ws_server", &[])?;
    let port = server.next(PATIENCE)?["port"].as_u64().ok_or("no port")?;
    let policy = |id: &str, action: &str| {
        format!(
            "@id(\"{id}\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"{action}\", resource);\n"
        )
    };
    let gateway = Gateway::build()
        .policy(&policy("read", "http:GET"))
        .service("site", &[])
        .route("site", "site", "{ path = \"/\" }", &format!("http://127.0.0.1:{port}"))
        .start()?;
    let tls = gateway.identity()?.display().to_string();
    let address = gateway.address.to_string();
    let refused = Script::run("ws_client", &[&address, &tls, "/chat", "leave"])?;
    check!(refused[0]["status"] == 403, "a permit to read is none to upgrade: {refused:?}");

    gateway.publish("sockets.cedar", &policy("sockets", "http:CONNECT"))?;
    let said =
        Script::run("ws_client", &[&address, &tls, "/chat?room=1", "leave", "0", "1", "70000", "1000000"])?;
    check!(said[0]["echoes"] == 4 && said[1]["ended"] == "clean", "{said:?}");
    let opened = server.next(PATIENCE)?;
    check!(opened["peer"] == "spiffe://example.org/web" && opened["path"] == "/chat?room=1", "{opened}");
    let closed = server.next(PATIENCE)?;
    check!(closed["closed"] == 1000, "the close handshake passes: {closed}");
    over_http2(&gateway, &mut server, &tls)?;

    let mut caller = Script::start("ws_client", &[&address, &tls, "/chat", "stay", "5"])?;
    check!(caller.next(PATIENCE)?["open"] == true, "not open");
    gateway.publish("sockets.cedar", &policy("sockets", "http:HEAD"))?;
    let in_force = Instant::now();
    let cut = caller.next(Duration::from_secs(5))?;
    check!(
        cut["ended"] == "cut" && in_force.elapsed() < Duration::from_secs(1),
        "{cut} after {:?}",
        in_force.elapsed()
    );
    let recorded = gateway.decisions(&["--reason", "revoked_by_change"])?;
    check!(recorded.len() == 1 && recorded[0]["action"] == "http:CONNECT", "{recorded:?}");
    Ok(())
}
