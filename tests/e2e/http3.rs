//! HTTP/3 over the shipped binary: the same policies, the same records, beside HTTP/1 and HTTP/2 on the same port.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use tests::envoy::Envoy;
use tests::gateway::Builder;
use tests::peers::{absent, missing};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::wire::{Caller, Heard, Wire};
use tests::{Gateway, Result, check, h3};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let envoy = absent("envoy").or_else(|| missing("curl"));
    vec![
        trial("lt_07_a_caller_over_http_3_is_known_judged_and_on_record", None, judged),
        trial("lt_05_answers_over_tcp_tell_of_http_3_on_the_same_port", missing("curl"), announced),
        trial("qu_01_a_caller_that_moves_goes_on_and_is_judged_by_where_it_is", None, moves),
        trial("qu_04_callers_of_a_killed_process_learn_it_from_the_next_at_once", None, reset),
        trial(
            "lt_06_an_envoy_calls_and_another_answers_over_http_3_with_certificates",
            envoy,
            between_envoys,
        ),
    ]
}

fn judged() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy("@id(\"hello\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource)\nwhen { context.request.path == \"/hello\" };\n")
        .site(upstream.address)
        .quic()
        .start()?;
    let tls = gateway.identity()?;
    let (status, body) = h3::get(gateway.address, &tls, true, "/hello")?;
    check!(status == 200, "{status} {body}");
    check!(body.starts_with("GET /hello HTTP/1.1\r\n"), "upstream received {body}");
    check!(body.contains("portcullis-peer: spiffe://example.org/web"), "upstream was not told: {body}");
    let (status, body) = h3::get(gateway.address, &tls, true, "/other")?;
    check!(status == 403 && body.contains("decision_id"), "{status} {body}");
    check!(upstream.calls() == 1, "the upstream saw a refused call");
    let recorded = gateway.decisions(&["--effect", "allow", "--action", "http:GET"])?;
    check!(recorded.len() == 1 && recorded[0]["determining"][0] == "hello", "records: {recorded:?}");
    let refused = h3::get(gateway.address, &tls, false, "/hello");
    check!(refused.is_err(), "answered without a certificate: {refused:?}");
    let told = gateway.json(&["status"])?.to_string();
    check!(told.contains(&format!("quic://{}", gateway.address)), "status: {told}");
    Ok(())
}

const ENVOY: &str = include_str!("../peers/envoy_h3.yaml");

/// Plain to an Envoy, HTTP/3 to the gateway, HTTP/3 to the same Envoy as origin: three stacks of QUIC agree.
fn between_envoys() -> Result {
    let (origin, port) = (free_port(), free_port());
    let cluster = |name: &str, expect: &str| {
        format!(
            "[[enforcer.cluster]]\nname = \"{name}\"\nendpoints = [\"https://127.0.0.1:{origin}\"]\nprotocol = \"h3\"\nrequire_h3 = true\nconnect_timeout = \"2s\"\nexpect = [\"spiffe://example.org/{expect}\"]\n\
             [[enforcer.route]]\nname = \"{name}\"\nservice = \"site\"\nmatch = {{ path = \"/{name}\" }}\ncluster = \"{name}\"\n"
        )
    };
    let gateway = Gateway::build()
        .quic()
        .service("site", &[])
        .section(&cluster("right", "web"))
        .section(&cluster("wrong", "other"))
        .start()?;
    let tls = gateway.identity()?;
    let configuration = ENVOY
        .replace("port_value: IN", &format!("port_value: {port}"))
        .replace("port_value: ORIGIN", &format!("port_value: {origin}"))
        .replace("port_value: GATEWAY", &format!("port_value: {}", gateway.address.port()))
        .replace("TLS/", &format!("{}/", tls.display()));
    let envoy = Envoy::start(gateway.dir(), port, &configuration)?;
    let ask = |path: &str| -> Result<String> {
        let url = format!("http://{}{path}", envoy.address);
        let output = Command::new("curl").args(["-sS", "-i", "--max-time", "10"]).arg(url).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let log = || fs::read_to_string(gateway.dir().join("envoy.log")).unwrap_or_default();
    for nth in 0..5 {
        let told = ask(&format!("/right/{nth}"))?;
        check!(
            told.starts_with("HTTP/1.1 200") && told.ends_with("from the origin"),
            "{told}\n{}\n{}",
            log(),
            gateway.log()
        );
        let seen =
            format!("x-told: spiffe://example.org/web /right/{nth} spiffe://example.org/gateway HTTP/3");
        check!(told.contains(&seen), "the origin saw {told}");
    }
    let told = ask("/wrong")?;
    check!(told.starts_with("HTTP/1.1 502"), "another identity than the cluster expects: {told}");
    let (_, metrics) = gateway.http("/metrics")?;
    for series in [
        "portcullis_requests_total{protocol=\"h3\",route=\"right\",code=\"200\"} 5",
        "portcullis_pool_dials_total{result=\"ok\"} 1",
        "portcullis_pool_dials_total{result=\"unexpected_id\"} 1",
    ] {
        check!(metrics.contains(series), "no {series}:\n{metrics}");
    }
    Ok(())
}

/// `Alt-Svc` where TCP and QUIC share a port.
fn announced() -> Result {
    let upstream = Upstream::echo();
    let to = format!("http://{}", upstream.address);
    let site = |gateway: Builder| gateway.service("site", &[]).route("site", "site", "{ path = \"/\" }", &to);
    let gateway = site(Gateway::build().quic()).start()?;
    let tls = gateway.identity()?;
    let told = format!("alt-svc: h3=\":{}\"; ma=3600", gateway.address.port());
    for version in ["--http1.1", "--http2"] {
        let (status, text) = gateway.curl(&tls, "/hello", &["-i", version])?;
        check!(status == 200 && text.to_lowercase().contains(&told), "{version}: {text}");
    }
    let caller = Caller::new(gateway.address, &tls, b"http/1.1")?;
    let mut wires = (0..8).map(|_| caller.dial()).collect::<Result<Vec<_>>>()?;
    let mut ask = |wire: &mut Wire| -> Option<String> {
        wire.send(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n");
        match wire.hear(false, Duration::from_secs(5)).ok()? {
            Heard::Reply(reply) => Some(reply.head),
            Heard::Closed | Heard::Silence => None,
        }
    };
    for wire in &mut wires {
        check!(ask(wire).is_some_and(|text| text.contains(&told)), "not told before the drain");
    }
    gateway.signal("TERM")?;
    std::thread::sleep(Duration::from_millis(200));
    // Some are asked to go already, one after another; the others are told that it is over.
    let last: Vec<_> = wires.iter_mut().filter_map(&mut ask).collect();
    check!(!last.is_empty() && last.iter().all(|text| text.contains("alt-svc: clear")), "{last:?}");
    let plain = site(Gateway::build()).start()?;
    let tls = plain.identity()?;
    let (status, text) = plain.curl(&tls, "/hello", &["-i"])?;
    check!(status == 200 && !text.to_lowercase().contains("alt-svc"), "{text}");
    Ok(())
}

/// Two workers, and a caller that changes its port in the middle of a body, again and again: nothing is lost. From another
/// address, policies that read the address judge it anew.
fn moves() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy("@id(\"home\")\npermit (principal == Workload::\"spiffe://example.org/web\", action in Action::\"call\", resource)\nwhen { context.connection.source_ip == ip(\"127.0.0.1\") };\n")
        .site(upstream.address)
        .quic()
        .start()?;
    let (tls, address) = (gateway.identity()?, gateway.address);
    let config = h3::client(&tls, true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(async {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let quic = endpoint.connect_with(config, address, "localhost")?.await?;
        let (mut connection, sender) = ::h3::client::new(h3_quinn::Connection::new(quic)).await?;
        let driven = async {
            std::future::poll_fn(|context| connection.poll_close(context)).await;
            std::future::pending().await
        };
        let called = async {
            let mut told = Vec::new();
            for to in ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1"] {
                let mut sender = sender.clone();
                let request =
                    http::Request::post(format!("https://localhost:{}/x", address.port())).body(())?;
                if to == "127.0.0.2" {
                    endpoint.rebind(UdpSocket::bind((to, 0))?)?;
                }
                let mut stream = sender.send_request(request).await?;
                let mut is_taken = true;
                for part in 0..20 {
                    // More often, and quinn-proto 0.11.19 meets an assertion of its debug builds.
                    if to == "127.0.0.1" && part % 7 == 0 {
                        endpoint.rebind(UdpSocket::bind((to, 0))?)?;
                    }
                    // An answer may come before the body was taken.
                    is_taken =
                        is_taken && stream.send_data(bytes::Bytes::from(vec![b'y'; 20_000])).await.is_ok();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if is_taken {
                    stream.finish().await?;
                }
                let status = stream.recv_response().await?.status().as_u16();
                let mut length = 0;
                while let Ok(Some(part)) = stream.recv_data().await {
                    length += bytes::Buf::remaining(&part);
                }
                told.push((status, length > 400_000));
            }
            Result::Ok(told)
        };
        tokio::select! { told = called => told, () = driven => Err("not driven".into()) }
    })?;
    let (ok, no) = ((200, true), (403, false));
    check!(told == [ok, ok, ok, no, ok], "{told:?}\n{}", gateway.log());
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_handshakes_total{result=\"ok\"} 1"), "one connection: {metrics}");
    let passed = "portcullis_quic_steered_total{result=\"passed\"} ";
    let passed = metrics.lines().find_map(|line| line.strip_prefix(passed)?.parse::<u64>().ok());
    check!(passed.is_some_and(|passed| passed > 0), "nothing came to the other worker: {metrics}");
    Ok(())
}

/// The key of stateless resets is a file of 0600, and a caller whose gateway was killed hears of the next one.
fn reset() -> Result {
    let upstream = Upstream::echo();
    let mut gateway = Gateway::build().site(upstream.address).quic().start()?;
    let tls = gateway.identity()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (config, address) = (h3::client(&tls, true)?, gateway.address);
    let (_endpoint, quic) = runtime.block_on(async {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let quic = endpoint.connect_with(config, address, "localhost")?.await?;
        Result::Ok((endpoint, quic))
    })?;
    gateway.kill()?;
    let mode = fs::metadata(gateway.dir().join("data/quic-reset.key"))?.permissions().mode() & 0o777;
    check!(mode == 0o600, "mode {mode:o}");
    gateway.restart()?;
    let ended = runtime.block_on(async {
        let (mut send, _receive) = quic.open_bi().await?;
        send.write_all(&[0; 600]).await?;
        Result::Ok(tokio::time::timeout(Duration::from_secs(5), quic.closed()).await?)
    })?;
    check!(ended == quinn::ConnectionError::Reset, "ended with {ended}");
    Ok(())
}
