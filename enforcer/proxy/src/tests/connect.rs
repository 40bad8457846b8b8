//! Tunnels by CONNECT: to what the configuration lists, after the permit, told open only once they are.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base_ports::net::Route;
use enforcer_traffic::RouteSpec;
use policies_engine::{Action, Effect, Phase, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::client::{H1, rest, send_all};
use super::harness::{Gateway, Setup};
use super::tcp::Echo;

const SOON: Duration = Duration::from_secs(1);

const OUT: &str = r#"@id("out") permit (principal == Workload::"spiffe://example.org/web", action == Action::"http:CONNECT", resource == Route::"extra")
  when { context.request.host != "never.test:1" };"#;

/// A gateway whose callers may open tunnels to these.
fn opening(targets: &[&str]) -> Gateway {
    let route = RouteSpec {
        name: "extra".into(),
        service: "shop".into(),
        connect: targets.iter().map(|target| (*target).to_owned()).collect(),
        ..RouteSpec::default()
    };
    Setup { policy: Some(OUT.to_owned()), routes: vec![route], ..Setup::default() }.start()
}

fn wish(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")
}

/// Asks for a tunnel; the head of the answer.
async fn asked(web: &mut H1, target: &str, early: &str) -> String {
    web.send(format!("{}{early}", wish(target))).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON * 5, web.tls.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn hears(web: &mut H1, wanted: &[u8]) {
    let mut heard = vec![0; wanted.len()];
    timeout(SOON * 5, web.tls.read_exact(&mut heard)).await.unwrap().unwrap();
    assert!(heard == wanted, "{} bytes", heard.len());
}

#[tokio::test]
async fn cn_01_a_tunnel_opens_to_a_listed_target_and_carries_bytes_both_ways() {
    let origin = Echo::start("hello").await;
    let gateway = opening(&["db.test:5432"]);
    let outside: IpAddr = "203.0.113.7".parse().unwrap();
    gateway.resolver.script("db.test", &[outside], Duration::from_secs(60));
    gateway.net.script((outside, 5432).into(), Route::Lead(origin.address));
    let mut web = gateway.h1("/web").await;
    assert_eq!(asked(&mut web, "db.test:5432", "early").await, "HTTP/1.1 200 OK\r\n\r\n");
    hears(&mut web, b"helloearly").await;
    let large = super::origin::pattern(300_000);
    web.send(&large).await;
    hears(&mut web, &large).await;
    web.tls.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, web.tls.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"bye");
    let (_, record) = gateway.records.last();
    assert_eq!(
        (record.effect, record.action, record.resource.id()),
        (Effect::Allow, Action::HttpConnect, "extra")
    );
    let facts = record.facts.unwrap();
    assert_eq!(facts.request().unwrap().host, "db.test:5432");
    gateway.metric("portcullis_requests_total{protocol=\"h1\",route=\"extra\",code=\"200\"}", 1).await;
}

#[tokio::test]
async fn cn_01_a_target_that_is_not_listed_or_not_permitted_is_never_dialled() {
    let gateway = opening(&["db.test:5432", "never.test:1"]);
    for (path, target, status, reason) in [
        ("/web", "db.test:5433", 404, Reason::UnknownRoute),
        ("/web", "other.test:5432", 404, Reason::UnknownRoute),
        ("/web", "never.test:1", 403, Reason::NoPermit),
        ("/other", "db.test:5432", 403, Reason::NoPermit),
        ("/web", "db.test", 400, Reason::NotCanonical),
    ] {
        let mut web = gateway.h1(path).await;
        let head = asked(&mut web, target, "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}");
        assert_eq!(gateway.records.last().1.reason, reason, "{target}");
    }
    assert!(gateway.net.dials().is_empty());
}

#[tokio::test]
async fn cn_01_a_stream_of_http_2_becomes_a_tunnel() {
    let origin = Echo::start("hello").await;
    let target = origin.address.to_string();
    let gateway = opening(&[&target]);
    let mut web = gateway.h2("/web").await;
    let mut ask = async |target: &str| {
        let mut asked = web.start(http::Request::connect(target).body(()).unwrap(), false).await;
        let answer = timeout(SOON * 5, &mut asked.response).await.unwrap().unwrap();
        (answer.status().as_u16(), asked, answer.into_body())
    };
    assert_eq!(ask("127.0.0.1:1").await.0, 404);
    let (status, mut asked, mut body) = ask(&target).await;
    assert_eq!(status, 200);
    send_all(&mut asked.body, "a".into(), true).await;
    let mut heard = Vec::new();
    while let Some(part) = timeout(SOON, body.data()).await.unwrap() {
        heard.extend_from_slice(&part.unwrap());
    }
    assert_eq!(heard, b"helloabye");
    gateway.metric("portcullis_requests_total{protocol=\"h2\",route=\"extra\",code=\"200\"}", 1).await;
}

#[tokio::test]
async fn out5_a_name_that_leads_to_this_machine_or_a_metadata_service_opens_nothing() {
    let gateway = opening(&["*.test:80", "169.254.169.254:80"]);
    for (target, addresses) in [
        ("rebound.test", &["127.0.0.1"][..]),
        ("metadata.test", &["169.254.169.254", "::1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
    ] {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        gateway.resolver.script(target, &addresses, Duration::from_secs(60));
        let head = asked(&mut gateway.h1("/web").await, &format!("{target}:80"), "").await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{target}: {head}");
        // Record and answer agree: the permit is withdrawn by a denial of its own, which the answer names.
        let (id, record) = gateway.records.last();
        assert_eq!(
            (record.effect, record.reason, record.phase),
            (Effect::Deny, Reason::GateRefused, Phase::Rejudge)
        );
        assert!(record.detail.is_some_and(|detail| detail.contains(target)), "{target}");
        assert!(head.contains(&format!("portcullis-decision-id: {id}\r\n")), "{head}");
        assert_eq!(record.facts.unwrap().request().unwrap().host, format!("{target}:80"));
    }
    assert!(gateway.net.dials().is_empty());
}

#[tokio::test]
async fn out5_an_address_that_the_configuration_writes_out_is_its_own_grant() {
    let origin = Echo::start("hello").await;
    let target = origin.address.to_string();
    let gateway = opening(&[&target]);
    let mut web = gateway.h1("/web").await;
    assert!(asked(&mut web, &target, "").await.starts_with("HTTP/1.1 200 "));
    hears(&mut web, b"hello").await;
}

#[tokio::test]
async fn cn_01_200_is_said_only_after_the_target_was_reached() {
    let gateway = opening(&["db.test:5432", "nowhere.invalid:1"]);
    let outside: IpAddr = "203.0.113.7".parse().unwrap();
    gateway.resolver.script("db.test", &[outside], Duration::from_secs(60));
    gateway.net.script((outside, 5432).into(), Route::Refuse);
    let head = asked(&mut gateway.h1("/web").await, "db.test:5432", "early").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    gateway.resolver.script("nowhere.invalid", &[], Duration::from_secs(60));
    let head = asked(&mut gateway.h1("/web").await, "nowhere.invalid:1", "").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    gateway.net.script((outside, 5432).into(), Route::Silence);
    let head = asked(&mut gateway.h1("/web").await, "db.test:5432", "").await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
}

#[tokio::test]
async fn ct_05_a_tunnel_ends_within_a_second_of_the_policy_that_forbids_it() {
    let origin = Echo::start("").await;
    let target = origin.address.to_string();
    let gateway = opening(&[&target]);
    let mut web = gateway.h1("/web").await;
    assert!(asked(&mut web, &target, "x").await.starts_with("HTTP/1.1 200 "));
    hears(&mut web, b"x").await;
    gateway.change(&format!(r#"{OUT} @id("quiet") @owner("net") forbid (principal, action == Action::"http:CONNECT", resource);"#), 2);
    assert!(rest(&mut web.tls, SOON).await.is_empty());
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.phase), (Reason::RevokedByChange, Phase::Rejudge));
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
}
