//! Calls above a rate: what their caller is told, what is judged and recorded of them, and what a reload forgets.

use std::sync::Arc;
use std::time::Duration;

use ca_identity::IdPattern;
use ca_identity::tls::ClientAuth;
use enforcer_traffic::{Rate, RateSettings};
use policies_engine::Effect;

use super::harness::{Gateway, POLICY, Setup, snapshot};
use super::origin::Origin;
use crate::View;

/// Everybody may do everything.
const OPEN: &str = "@id(\"open\") permit (principal, action, resource);";

fn rate(text: &str) -> Option<Rate> {
    Some(Rate::parse(text, None).unwrap())
}

fn each(text: &str) -> Option<RateSettings> {
    Some(RateSettings { per_identity: rate(text), ..RateSettings::default() })
}

fn publish(gateway: &Gateway, listener: Option<RateSettings>, number: u64) {
    let view = View::new(Some(snapshot(POLICY, number)), Arc::clone(&gateway.routes));
    gateway.view.publish(view.at_rates(Arc::from([listener])));
}

#[tokio::test]
async fn rl_02_a_call_above_the_rate_of_its_route_is_429_and_says_when_to_come_again() {
    let origin = Origin::h1().await;
    let setup =
        Setup { policy: Some(OPEN.into()), route_rate: each("2/h"), ..Setup::with_h1(origin.address) };
    let gateway = setup.start();
    let mut web = gateway.h1("/web").await;
    for _ in 0..2 {
        assert_eq!(web.get("/hello").await.status, 200);
    }
    let answer = web.get("/hello").await;
    assert_eq!((answer.status, answer.field("portcullis-shed")), (429, Some("rate")));
    let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1_790..=1_800).contains(&seconds), "{seconds}");
    assert_eq!(answer.field("ratelimit-policy"), Some("\"identity\";q=2;w=3600"));
    assert_eq!(answer.field("ratelimit"), Some(format!("\"identity\";r=0;t={seconds}").as_str()));
    assert_eq!(answer.json()["title"], "Too many calls");
    // It was permitted, which is on record, and nobody was asked.
    let (id, record) = gateway.records.last();
    assert_eq!(
        (record.effect, answer.field("portcullis-decision-id")),
        (Effect::Allow, Some(id.to_string().as_str()))
    );
    assert_eq!((gateway.records.all().len(), origin.requests()), (3, 2));
    // Neither another connection nor another protocol has more; another identity and another route have.
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 429);
    let mut streams = gateway.h2("/web").await;
    let answer = streams.get("site.test", "/hello").await;
    assert_eq!((answer.status, answer.field("portcullis-shed")), (429, Some("rate")));
    assert_eq!(gateway.h1("/other").await.get("/hello").await.status, 200);
    assert_eq!(streams.get("closed.test", "/hello").await.status, 200);
    gateway.metric("portcullis_shed_total{reason=\"rate\"}", 3).await;
    gateway.metric("portcullis_requests_total{protocol=\"h1\",route=\"site\",code=\"429\"}", 2).await;
}

#[tokio::test]
async fn rl_02_over_grpc_it_is_resource_exhausted_with_a_retry_info() {
    let origin = Origin::h2().await;
    let gateway = Setup { route_rate: each("1/h"), ..Setup::with_h2(origin.address) }.start();
    let mut web = gateway.h2("/web").await;
    let answer = web.call("/shop.Orders/Get", b"one").await;
    assert!(answer.trailers.contains(&("grpc-status".into(), "0".into())), "{answer:?}");
    let answer = web.call("/shop.Orders/Get", b"two").await;
    assert_eq!((answer.status, answer.field("grpc-status")), (200, Some("8")));
    assert_eq!(answer.field("portcullis-shed"), Some("rate"));
    let details = answer.field("grpc-status-details-bin").unwrap();
    let details = base64::Engine::decode(&base64::engine::general_purpose::STANDARD_NO_PAD, details).unwrap();
    let details = String::from_utf8_lossy(&details);
    assert!(
        details.contains("google.rpc.RetryInfo") && details.contains("google.rpc.ErrorInfo"),
        "{details}"
    );
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn rl_02_what_a_listener_does_not_take_is_neither_judged_nor_recorded() {
    let origin = Origin::h1().await;
    let setup = Setup {
        policy: Some(OPEN.into()),
        client_auth: ClientAuth::Optional,
        rate: each("1/h"),
        ..Setup::with_h1(origin.address)
    };
    let gateway = setup.start();
    let anonymous = || async {
        let config = gateway.client_tls(None, &[b"h2"]);
        let tls = super::client::connect(gateway.address, config).await.unwrap();
        super::client::H2::over(tls).await
    };
    assert_eq!(anonymous().await.get("site.test", "/hello").await.status, 200);
    // Whoever shows no identity is the same caller.
    let answer = anonymous().await.get("site.test", "/hello").await;
    assert_eq!((answer.status, answer.field("portcullis-decision-id")), (429, None));
    assert_eq!(answer.field("portcullis-shed"), Some("rate"));
    let mut web = gateway.h1("/web").await;
    assert_eq!([web.get("/hello").await.status, web.get("/hello").await.status], [200, 429]);
    assert_eq!((gateway.records.all().len(), origin.requests()), (2, 2));
    gateway.metric("portcullis_requests_total{protocol=\"h1\",route=\"\",code=\"429\"}", 1).await;
}

#[tokio::test]
async fn rl_01_denied_calls_count_at_the_listener_and_an_override_is_another_rate() {
    let origin = Origin::h1().await;
    let jobs = IdPattern::parse("spiffe://example.org/jobs/*").unwrap();
    let settings = RateSettings {
        total: rate("6/h"),
        per_identity: rate("2/h"),
        overrides: vec![(jobs, rate("3/h").unwrap())],
    };
    let gateway = Setup { rate: Some(settings), ..Setup::with_h1(origin.address) }.start();
    for (path, statuses) in [
        ("/web", [200, 200, 429, 429]),
        ("/jobs/night", [403, 403, 403, 429]),
        // One is left for everybody.
        ("/jobs/day", [403, 429, 429, 429]),
    ] {
        let mut caller = gateway.h1(path).await;
        for (nth, status) in statuses.into_iter().enumerate() {
            let answer = caller.get("/hello").await;
            assert_eq!(answer.status, status, "{path} {nth}");
            let policy = answer.field("ratelimit-policy");
            let of_all = path == "/jobs/day" && status == 429;
            assert_eq!(
                policy.is_some_and(|policy| policy.starts_with("\"total\";q=6;")),
                of_all,
                "{policy:?}"
            );
        }
    }
}

#[tokio::test]
async fn rl_01_a_reload_keeps_what_was_taken_where_the_rate_is_the_same() {
    let origin = Origin::h1().await;
    let gateway = Setup { rate: each("2/h"), workers: 2, ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    assert_eq!(
        [web.get("/").await.status, web.get("/").await.status, web.get("/").await.status],
        [200, 200, 429]
    );
    publish(&gateway, each("2/h"), 2);
    assert_eq!(web.get("/").await.status, 429);
    assert_eq!(gateway.h1("/web").await.get("/").await.status, 429);
    publish(&gateway, each("3/h"), 3);
    assert_eq!(web.get("/").await.status, 200, "another rate begins anew");
    publish(&gateway, None, 4);
    for _ in 0..5 {
        assert_eq!(web.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn rl_01_a_rate_earns_calls_again() {
    let origin = Origin::h1().await;
    let gateway = Setup { rate: each("20/s"), ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    let mut refused = 0;
    for _ in 0..40 {
        refused += usize::from(web.get("/hello").await.status == 429);
    }
    assert!(refused > 0, "forty at once are more than twenty");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(web.get("/hello").await.status, 200);
}
