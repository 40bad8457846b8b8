//! What a route does with a permitted call: answers of its own, other paths, hosts and fields, the longest body (RT-04).

use enforcer_codec::{FieldEdit, FieldEdits};
use enforcer_traffic::{HandlingSpec, MatchSpec, PathSpec, ReplySpec, RewriteSpec, RouteSpec, Share};
use policies_engine::{Effect, Reason};

use super::harness::{Gateway, Setup};
use super::origin::Origin;

const POLICY: &str =
    r#"@id("web") permit (principal == Workload::"spiffe://example.org/web", action, resource);"#;

/// A gateway whose route `extra` takes `/api` and below, and handles it so.
fn gateway(handling: HandlingSpec, to: &str, origin: &Origin) -> Gateway {
    let matches = MatchSpec {
        hosts: vec!["site.test".into()],
        path: PathSpec::Prefix("/api".into()),
        ..MatchSpec::default()
    };
    let to = if handling.reply.is_some() { Vec::new() } else { vec![Share::all(to)] };
    let route = RouteSpec {
        name: "extra".into(),
        service: "shop".into(),
        to,
        matches,
        handling,
        ..RouteSpec::default()
    };
    let setup = Setup { policy: Some(POLICY.into()), routes: vec![route], ..Setup::default() };
    let (h1, h2) = (vec![origin.address], vec![origin.address]);
    Setup { h1, h2, ..setup }.start()
}

fn edits(list: &[(&str, FieldEdit)]) -> FieldEdits {
    let mut edits = FieldEdits::default();
    list.iter().for_each(|(name, edit)| edits.push(name, edit).unwrap());
    edits
}

#[tokio::test]
async fn rt_04_a_redirect_is_judged_recorded_and_reaches_no_upstream() {
    let origin = Origin::h1().await;
    let reply = Some(ReplySpec::Redirect { status: 308, scheme: None });
    let handling = HandlingSpec {
        reply,
        path: Some(RewriteSpec::Prefix("/v2".into())),
        host: Some("new.test".into()),
        ..HandlingSpec::default()
    };
    let gateway = gateway(handling, "h1", &origin);
    let mut old = gateway.h1("/web").await;
    let answer = old.get("/api/x%20y?a=%2F").await;
    assert_eq!((answer.status, answer.field("location")), (308, Some("https://new.test/v2/x%20y?a=%2F")));
    assert_eq!(
        old.get("/api").await.field("location"),
        Some("https://new.test/v2"),
        "the connection goes on"
    );
    let posted = old.ask("POST /api HTTP/1.1\r\nhost: site.test\r\ncontent-length: 3\r\n\r\n").await;
    assert_eq!(posted.status, 308);
    assert!(old.is_closed().await, "a body that nobody takes ends the connection");
    let mut new = gateway.h2("/web").await;
    assert_eq!(new.get("site.test", "/api").await.field("location"), Some("https://new.test/v2"));
    let denied = gateway.h1("/other").await.get("/api").await;
    assert_eq!((denied.status, denied.field("location")), (403, None));
    assert_eq!((origin.connections(), origin.requests()), (0, 0));
    let effects: Vec<_> =
        gateway.records.all().iter().map(|(_, record)| (record.effect, record.reason)).collect();
    let permit = (Effect::Allow, Reason::Permit);
    assert_eq!(effects, [permit, permit, permit, permit, (Effect::Deny, Reason::NoPermit)]);
}

#[tokio::test]
async fn rt_04_a_route_answers_itself() {
    let origin = Origin::h1().await;
    let reply =
        ReplySpec::Direct { status: 503, content_type: "text/plain".into(), body: "back soon".into() };
    let response = edits(&[("retry-after", FieldEdit::Set("30".into()))]);
    let gateway =
        gateway(HandlingSpec { reply: Some(reply), response, ..HandlingSpec::default() }, "h1", &origin);
    let mut old = gateway.h1("/web").await;
    let answer = old.get("/api").await;
    assert_eq!((answer.status, answer.text(), answer.field("retry-after")), (503, "back soon", Some("30")));
    let head = gateway.h2("/web").await.get("site.test", "/api").await;
    assert_eq!((head.status, head.text()), (503, "back soon"));
    assert_eq!(origin.connections(), 0);
}

/// The head that an origin of either kind received.
async fn told(handling: &HandlingSpec, request: &str) -> (String, String) {
    let origin = Origin::h1().await;
    let gateway = gateway(handling.clone(), "h1", &origin);
    let answer = gateway.h1("/web").await.ask(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let by_h2 = gateway.h2("/web").await.get("site.test", "/api/head?q=%2F").await;
    assert_eq!(by_h2.status, 200);
    (answer.text().to_owned(), by_h2.text().to_owned())
}

#[tokio::test]
async fn cc_09_the_upstream_receives_the_judged_call_as_the_route_changes_it() {
    let handling = HandlingSpec {
        path: Some(RewriteSpec::Prefix("/".into())),
        host: Some("Inner.test:8080".into()),
        request: edits(&[
            ("x-env", FieldEdit::Set("prod".into())),
            ("x-via", FieldEdit::Add("gateway".into())),
            ("x-debug", FieldEdit::Remove),
        ]),
        ..HandlingSpec::default()
    };
    let request = "GET /api/head?q=%2F HTTP/1.1\r\nhost: site.test\r\nx-env: dev\r\nx-via: web\r\nX-Debug: 1\r\nx-kept: 1\r\n\r\n";
    let (by_h1, by_h2) = told(&handling, request).await;
    for head in [&by_h1, &by_h2] {
        assert!(head.starts_with("GET /head?q=%2F HTTP/1.1\r\nhost: inner.test:8080\r\n"), "{head}");
        assert!(head.contains("x-env: prod\r\n") && head.contains("x-via: gateway\r\n"), "{head}");
        assert!(head.contains("portcullis-peer: spiffe://example.org/web\r\n"), "{head}");
    }
    assert!(by_h1.contains("x-via: web\r\n") && by_h1.contains("x-kept: 1\r\n"), "{by_h1}");
    assert!(!by_h1.contains("dev") && !by_h1.contains("debug"), "{by_h1}");
}

#[tokio::test]
async fn cc_09_a_rewritten_call_is_judged_and_recorded_as_it_came() {
    let origin = Origin::h1().await;
    let handling = HandlingSpec { path: Some(RewriteSpec::Prefix("/".into())), ..HandlingSpec::default() };
    let gateway = gateway(handling, "h1", &origin);
    assert_eq!(gateway.h1("/web").await.get("/api/head").await.status, 200);
    let (_, record) = gateway.records.last();
    assert_eq!(record.facts.unwrap().request().unwrap().path, "/api/head");
}

#[tokio::test]
async fn cc_09_a_call_over_http2_is_rewritten_for_an_http2_upstream() {
    let origin = Origin::h2().await;
    let handling = HandlingSpec {
        path: Some(RewriteSpec::Prefix("/".into())),
        host: Some("inner.test".into()),
        request: edits(&[("x-env", FieldEdit::Set("prod".into()))]),
        response: edits(&[("x-gone", FieldEdit::Remove), ("x-told", FieldEdit::Set("1".into()))]),
        ..HandlingSpec::default()
    };
    let gateway = gateway(handling, "h2", &origin);
    let answer = gateway.h2("/web").await.get("site.test", "/api/head").await;
    assert_eq!((answer.status, answer.field("x-told")), (200, Some("1")));
    assert!(answer.text().contains("x-env: prod"), "{}", answer.text());
}

#[tokio::test]
async fn rt_04_a_body_that_is_longer_than_the_route_takes_is_413() {
    let origin = Origin::h1().await;
    let handling = HandlingSpec {
        max_body: Some(8),
        path: Some(RewriteSpec::Prefix("/".into())),
        ..HandlingSpec::default()
    };
    let gateway = gateway(handling, "h1", &origin);
    let ask = async |request: &str| gateway.h1("/web").await.ask(request).await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: site.test\r\n";
    let fits = ask(&format!("{head}content-length: 8\r\n\r\n12345678")).await;
    assert_eq!((fits.status, fits.text()), (200, "12345678"));
    let fits =
        ask(&format!("{head}transfer-encoding: chunked\r\n\r\n4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n")).await;
    assert_eq!((fits.status, fits.text()), (200, "12345678"));
    let requests = origin.requests();
    let long = ask(&format!("{head}content-length: 9\r\n\r\n123456789")).await;
    assert_eq!(
        (long.status, long.json()["title"].as_str()),
        (413, Some("The body is larger than is taken here"))
    );
    assert_eq!(origin.requests(), requests, "its length was told before");
    let long = ask(&format!("{head}transfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n")).await;
    assert_eq!(long.status, 413);
}
