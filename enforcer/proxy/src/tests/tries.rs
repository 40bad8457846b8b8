//! Calls that are tried again, and those that are not (RY-01 to RY-06).

use std::time::Duration;

use enforcer_traffic::RetrySettings;

use super::harness::{Gateway, Setup};
use super::origin::{HANG_UP, LATE_STATUS, Origin};

/// A gateway before these origins that tries again.
fn gateway(origins: &[&Origin]) -> Gateway {
    let h1 = origins.iter().map(|origin| origin.address).collect();
    Setup { h1, retry: RetrySettings::default(), ..Setup::default() }.start()
}

fn asked(origins: &[&Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.requests()).collect()
}

#[tokio::test]
async fn ry_02_a_503_of_one_endpoint_is_an_answer_of_another() {
    let (sick, well) = (Origin::h1().await, Origin::h1().await);
    sick.answer_all(503);
    let gateway = gateway(&[&sick, &well]);
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    for _ in 0..10 {
        assert_eq!(old.get("/hello").await.text(), "hello");
        assert_eq!(new.get("site.test", "/hello").await.text(), "hello");
    }
    // RY-03: whoever asked the sick one asked the well one next.
    let asked = asked(&[&sick, &well]);
    assert!(asked[0] > 0 && asked[1] == 20, "{asked:?}");
    let sent = u32::try_from(asked[0]).unwrap();
    gateway.metric("portcullis_retries_total{result=\"sent\"}", sent).await;
    assert_eq!(gateway.records.all().len(), 20, "ry_06: one decision per call, however often it is tried");
}

#[tokio::test]
async fn ry_02_no_connection_is_tried_elsewhere_whatever_the_method() {
    let well = Origin::h1().await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let setup = Setup { h1: vec![nobody, well.address], retry: RetrySettings::default(), ..Setup::default() };
    let gateway = setup.start();
    let mut web = gateway.h1("/web").await;
    for nth in 0..10 {
        let ask = format!("POST /echo HTTP/1.1\r\nhost: site.test\r\ncontent-length: 2\r\n\r\n{nth:02}");
        let answer = web.ask(&ask).await;
        assert_eq!((answer.status, answer.text()), (200, format!("{nth:02}").as_str()));
    }
    assert_eq!(well.requests(), 10);
}

#[tokio::test]
async fn ry_02_what_may_have_been_done_is_not_told_again() {
    let (sick, other) = (Origin::h1().await, Origin::h1().await);
    for status in [503, HANG_UP] {
        sick.answer_all(status);
        other.answer_all(status);
        let gateway = gateway(&[&sick, &other]);
        let before = sick.requests() + other.requests();
        let mut web = gateway.h1("/web").await;
        let answer = web.ask("POST /echo HTTP/1.1\r\nhost: site.test\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(answer.status, if status == HANG_UP { 502 } else { 503 });
        assert_eq!(sick.requests() + other.requests(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn ry_02_an_answer_that_stays_bad_is_passed_on_after_three_tries() {
    let (one, other) = (Origin::h1().await, Origin::h1().await);
    one.answer_all(503);
    other.answer_all(503);
    let gateway = gateway(&[&one, &other]);
    let answer = gateway.h1("/web").await.get("/hello").await;
    assert_eq!((answer.status, answer.text()), (503, "sick"), "the answer of the last endpoint");
    assert_eq!(one.requests() + other.requests(), 3);
    let least = one.requests().min(other.requests());
    assert_eq!(least, 1, "both were asked");
}

#[tokio::test]
async fn ry_06_refusals_of_the_next_hop_are_passed_on_at_once() {
    let origin = Origin::h1().await;
    let gateway = gateway(&[&origin]);
    let mut web = gateway.h1("/web").await;
    for (nth, status) in [401, 403, 404, 429, 500].into_iter().enumerate() {
        origin.answer_all(status);
        assert_eq!(web.get("/hello").await.status, status);
        assert_eq!(origin.requests(), nth + 1, "{status}");
    }
}

#[tokio::test]
async fn ry_04_a_body_is_sent_again_up_to_64_kib() {
    for (length, status) in [(60 * 1024, 200), (80 * 1024, 503)] {
        let (sick, well) = (Origin::h1().await, Origin::h1().await);
        sick.answer_all(503);
        let gateway = gateway(&[&sick, &well]);
        let (mut old, mut worst) = (gateway.h1("/web").await, 200);
        for _ in 0..8 {
            let body = "x".repeat(length);
            let ask =
                format!("PUT /count HTTP/1.1\r\nhost: site.test\r\ncontent-length: {length}\r\n\r\n{body}");
            let answer = old.ask(&ask).await;
            if answer.status == 200 {
                assert!(answer.text().starts_with(&format!("{length} ")), "{}", answer.text());
            }
            worst = worst.max(answer.status);
        }
        assert_eq!(worst, status, "{length}");
        assert!(sick.requests() > 0);
    }
}

#[tokio::test]
async fn ry_01_an_outage_is_made_worse_only_by_the_budget() {
    let origin = Origin::h1().await;
    origin.answer_all(503);
    let retry = RetrySettings { budget_per_second: 1, ..RetrySettings::default() };
    let gateway = Setup { h1: vec![origin.address], retry, ..Setup::default() }.start();
    let mut web = gateway.h1("/web").await;
    for _ in 0..40 {
        assert_eq!(web.get("/hello").await.status, 503);
    }
    // A fifth of the calls and one a second, of which one caller has half: 9 of 18.
    let retries = origin.requests() - 40;
    assert!((5..=9).contains(&retries), "{retries}");
    let text = gateway.metrics.render("application/openmetrics-text").1;
    assert!(text.contains("portcullis_shed_total{reason=\"retry_budget\"}"), "{text}");
}

#[tokio::test]
async fn ry_02_a_refused_stream_and_a_grpc_status_are_tried_again() {
    let (sick, well) = (Origin::h2().await, Origin::h2().await);
    let h2 = vec![sick.address, well.address];
    for (mood, grpc_is_idempotent, bad) in
        [(HANG_UP, false, "0"), (14, true, "0"), (LATE_STATUS, true, "0"), (14, false, "14"), (7, true, "7")]
    {
        let retry = RetrySettings { grpc_is_idempotent, ..RetrySettings::default() };
        let gateway = Setup { h2: h2.clone(), retry, ..Setup::default() }.start();
        sick.answer_all(mood);
        let (before, mut web) = (sick.requests(), gateway.h2("/web").await);
        let mut seen = Vec::new();
        for _ in 0..12 {
            let answer = web.call("/shop.Orders/Get", b"x").await;
            let in_trailers = answer.trailers.iter().find(|(name, _)| name == "grpc-status");
            let status = answer.field("grpc-status").or(in_trailers.map(|(_, status)| status.as_str()));
            seen.push(status.unwrap_or_default().to_owned());
        }
        assert!(sick.requests() > before, "{mood}");
        assert!(seen.iter().all(|status| status == "0" || status == bad), "{mood}: {seen:?}");
        assert!(bad == "0" || seen.iter().any(|status| status == bad), "{mood}: {seen:?}");
    }
}

#[tokio::test]
async fn ry_03_a_try_that_takes_too_long_is_followed_by_another() {
    let (slow, well) = (Origin::h1().await, Origin::h1().await);
    let retry = RetrySettings { try_timeout: Some(Duration::from_millis(150)), ..RetrySettings::default() };
    let gateway = Setup { h1: vec![slow.address, well.address], retry, ..Setup::default() }.start();
    let mut web = gateway.h1("/web").await;
    // Both are silent on this path: three tries, and then the caller is told.
    assert_eq!(web.get("/silent").await.status, 504);
    assert_eq!(asked(&[&slow, &well]).iter().sum::<usize>(), 3);
    assert_eq!(gateway.h1("/web").await.get("/drip?20").await.status, 200, "a head in time is enough");
}

#[tokio::test]
async fn to_02_no_try_begins_after_the_deadline() {
    let origin = Origin::h1().await;
    origin.answer_all(503);
    let mut setup = Setup { h1: vec![origin.address], retry: RetrySettings::default(), ..Setup::default() };
    setup.timeouts.call = Duration::from_millis(1);
    setup.retry.attempts = 20;
    let gateway = setup.start();
    let status = gateway.h1("/web").await.get("/hello").await.status;
    assert!([503, 504].contains(&status) && origin.requests() <= 2, "{status} {}", origin.requests());
}

#[tokio::test]
async fn ry_06_a_permit_that_is_lost_between_tries_stops_them() {
    let origin = Origin::h1().await;
    origin.answer_all(503);
    let mut setup = Setup { h1: vec![origin.address], retry: RetrySettings::default(), ..Setup::default() };
    setup.retry.attempts = 1_000;
    setup.retry.budget_per_second = 10_000;
    setup.timeouts.call = Duration::from_secs(30);
    let gateway = setup.start();
    let mut web = gateway.h1("/web").await;
    let asking = web.get("/hello");
    let revoking = async {
        while origin.requests() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.change(r#"@id("none") permit (principal, action, resource == Route::"closed");"#, 2);
    };
    let (answer, ()) = tokio::join!(asking, revoking);
    assert_eq!(answer.status, 403);
    // What was on its way may still arrive.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = origin.requests();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(origin.requests(), asked, "nothing is tried after that");
}
