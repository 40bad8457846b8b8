//! What a route reads, and what policies see of it.

use enforcer_traffic::{MatchSpec, PathSpec, RouteSpec, Share, ValueTest, ValuesSpec};
use policies_engine::{Reason, RequestView};
use proptest::prelude::*;

use super::harness::Setup;
use super::origin::Origin;

/// A route to the HTTP/1 origin.
fn route(name: &str, matches: MatchSpec) -> RouteSpec {
    let matches = MatchSpec { hosts: vec!["site.test".into()], ..matches };
    RouteSpec {
        name: name.into(),
        service: "shop".into(),
        to: vec![Share::all("h1")],
        matches,
        ..RouteSpec::default()
    }
}

#[tokio::test]
async fn rt_01_policies_read_the_segments_that_a_route_names() {
    let policy = r#"
        @id("own-page") permit (principal == Workload::"spiffe://example.org/web", action, resource == Route::"extra")
          when { context.request.params has id && context.request.params.id == "é 7" };
    "#;
    let user = MatchSpec { path: PathSpec::Template("/users/{id}".into()), ..MatchSpec::default() };
    let origin = Origin::h1().await;
    let setup = Setup {
        policy: Some(policy.into()),
        routes: vec![route("extra", user)],
        ..Setup::with_h1(origin.address)
    };
    let gateway = setup.start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/users/%C3%A9%207").await.status, 200);
    assert_eq!(web.get("/users/8").await.status, 403);
    assert_eq!(web.get("/users/8/x").await.status, 403, "another route, which nobody may call");
    assert_eq!(gateway.records.all().len(), 3);
}

#[tokio::test]
async fn rt_01_a_route_for_one_identity_is_not_found_by_another() {
    let policy = r#"@id("all") permit (principal, action, resource == Route::"extra");"#;
    let mine = MatchSpec { identities: vec!["spiffe://example.org/web".into()], ..MatchSpec::default() };
    let origin = Origin::h1().await;
    let setup = Setup {
        policy: Some(policy.into()),
        routes: vec![route("extra", mine)],
        ..Setup::with_h1(origin.address)
    };
    let gateway = setup.start();
    assert_eq!(gateway.h1("/web").await.get("/").await.status, 200);
    assert_eq!(gateway.h1("/webx").await.get("/").await.status, 403, "that is route `site`");
}

#[tokio::test]
async fn cc_11_a_field_that_a_route_reads_must_be_text() {
    let headers = vec![ValuesSpec { name: "x-beta".into(), test: ValueTest::Present, all: false }];
    let origin = Origin::h1().await;
    let beta = route("beta", MatchSpec { headers, ..MatchSpec::default() });
    let gateway = Setup { routes: vec![beta], ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
    let answer = web.ask(b"GET /hello HTTP/1.1\r\nhost: site.test\r\nx-beta: \xff\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    let (_, record) = gateway.records.last();
    assert_eq!(record.reason, Reason::NotCanonical);
    assert!(record.detail.unwrap().starts_with("H1-11"), "the rule is on record");
    assert_eq!(origin.requests(), 1);
}

proptest! {
    /// A route and a policy must never read one query in two ways.
    #[test]
    fn mo7_routes_and_policies_read_the_same_parameters(query in "([ab=&+;.]|%[0-9a-fA-F]{2}|%[g%]){0,24}") {
        let view = RequestView { method: "GET", host: "h", path: "/", query: Some(&query), media_type: None, length: None };
        let ours: Vec<_> = view.query_pairs().collect();
        let theirs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        prop_assert_eq!(ours, theirs);
    }
}
