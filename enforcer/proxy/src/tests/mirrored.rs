//! Mirrored calls (RT-05): copies that are judged and recorded, and that hold nobody back.

use std::time::Duration;

use base_ports::Tasks;
use enforcer_traffic::{MatchSpec, MirrorSpec, RouteSpec, Share};
use policies_engine::{Effect, Phase, Reason};
use tokio::net::TcpListener;

use super::harness::{Gateway, Setup};
use super::origin::{Origin, pattern};

const POLICY: &str =
    r#"@id("web") permit (principal == Workload::"spiffe://example.org/web", action, resource);"#;

/// A gateway whose route `extra` hands calls to `to`, and that share of them to the cluster `h2` as well.
fn gateway(to: &Origin, mirror: std::net::SocketAddr, share: u16) -> Gateway {
    let route = RouteSpec {
        name: "extra".into(),
        service: "shop".into(),
        to: vec![Share::all("h1")],
        matches: MatchSpec { hosts: vec!["extra.test".into()], ..MatchSpec::default() },
        mirror: Some(MirrorSpec { to: Share::all("h2"), share }),
        ..RouteSpec::default()
    };
    let setup = Setup { policy: Some(POLICY.into()), routes: vec![route], ..Setup::default() };
    Setup { h1: vec![to.address], h2: vec![mirror], ..setup }.start()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: extra.test\r\n\r\n")
}

/// A place that takes connections and what comes over them as far as nobody reads it.
async fn silence() -> (std::net::SocketAddr, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new("silence");
    tasks.spawn("accept", async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn rt_05_a_copy_is_judged_recorded_and_heard_by_nobody() {
    let (origin, shadow) = (Origin::h1().await, Origin::h2().await);
    shadow.answer_all(500);
    let gateway = gateway(&origin, shadow.address, 10_000);
    let mut old = gateway.h1("/web").await;
    let posted =
        "POST /echo HTTP/1.1\r\nhost: extra.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (request, text) in [(get("/"), "hello"), (posted.to_owned(), "abc")] {
        let answer = old.ask(request).await;
        assert_eq!((answer.status, answer.text()), (200, text));
    }
    gateway.metric("portcullis_mirrored_total{route=\"extra\",result=\"answered\"}", 2).await;
    assert_eq!((origin.requests(), shadow.requests()), (2, 2));
    let records = gateway.records.all();
    let phases: Vec<_> = records.iter().map(|(_, record)| record.phase).collect();
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Mirror).count(), 2, "{phases:?}");
    let (id, call) = &records[0];
    let (of, copy) = records.iter().find(|(_, record)| record.phase == Phase::Mirror).unwrap();
    assert_ne!(id, of);
    assert_eq!(copy.detail, Some(format!("mirrors {id}")));
    assert_eq!(
        (copy.effect, &copy.principal, &copy.resource),
        (Effect::Allow, &call.principal, &call.resource)
    );
    let denied = gateway.h1("/other").await.ask(get("/")).await;
    assert_eq!((denied.status, shadow.requests()), (403, 2), "what is not permitted has no copy");
}

#[tokio::test]
async fn rt_05_a_mirror_sees_its_share_of_the_calls() {
    let (origin, shadow) = (Origin::h1().await, Origin::h2().await);
    let gateway = gateway(&origin, shadow.address, 2_500);
    let mut old = gateway.h1("/web").await;
    for _ in 0..200 {
        assert_eq!(old.ask(get("/")).await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!((48..=52).contains(&shadow.requests()), "{}", shadow.requests());
}

#[tokio::test]
async fn rt_05_a_mirror_that_is_silent_holds_no_call_back_and_no_more_than_64_copies_wait() {
    let origin = Origin::h1().await;
    let (address, _silence) = silence().await;
    let gateway = gateway(&origin, address, 10_000);
    let mut old = gateway.h1("/web").await;
    for _ in 0..70 {
        assert_eq!(old.ask(get("/")).await.status, 200);
    }
    gateway.metric("portcullis_mirrored_total{route=\"extra\",result=\"full\"}", 6).await;
    // Who loses the permit loses it for the copies as well.
    gateway.change(
        r#"@id("no") permit (principal == Workload::"spiffe://example.org/x", action, resource);"#,
        2,
    );
    gateway.metric("portcullis_mirrored_total{route=\"extra\",result=\"denied\"}", 64).await;
    let ended = gateway.records.all().into_iter().filter(|(_, record)| record.phase == Phase::Rejudge);
    assert_eq!(ended.filter(|(_, record)| record.reason == Reason::RevokedByChange).count(), 64);
}

#[tokio::test]
async fn rt_05_a_body_that_the_mirror_does_not_take_is_cut_there_alone() {
    let origin = Origin::h1().await;
    let (address, _silence) = silence().await;
    let gateway = gateway(&origin, address, 10_000);
    let body = pattern(4 << 20);
    let head = format!("POST /count HTTP/1.1\r\nhost: extra.test\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head.as_bytes(), &body].concat();
    let mut old = gateway.h1("/web").await;
    let answer = old.ask(request).await;
    assert_eq!((answer.status, answer.text().starts_with(&format!("{} ", body.len()))), (200, true));
    gateway.metric("portcullis_mirrored_total{route=\"extra\",result=\"cut\"}", 1).await;
    assert_eq!(old.ask(get("/")).await.status, 200, "the connection goes on");
}
