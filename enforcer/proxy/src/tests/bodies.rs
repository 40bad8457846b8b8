//! Bodies of every form and size, both ways, and back-pressure.

use std::time::Duration;

use bytes::Bytes;
use enforcer_traffic::Timeouts;
use http::{HeaderMap, HeaderValue, Request};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::client::{read, send_all};
use super::harness::{Gateway, Setup};
use super::origin::{Origin, checksum, pattern};

const LARGE: usize = 10 * 1024 * 1024;

async fn both() -> (Origin, Origin, Gateway) {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let gateway = Setup { h2: vec![h2.address], ..Setup::with_h1(h1.address) }.start();
    (h1, h2, gateway)
}

#[tokio::test]
async fn pb_11_ten_mebibytes_come_down_whole() {
    let (_h1, _h2, gateway) = both().await;
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let expected = pattern(LARGE);
    for host in ["site.test", "h2.test"] {
        let answer = old.ask(format!("GET /big?{LARGE} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert!(answer.body == expected, "h1 from {host}");
        let answer = new.get(host, &format!("/big?{LARGE}")).await;
        assert!(answer.body == expected, "h2 from {host}");
    }
    assert_eq!(old.get("/hello").await.text(), "hello", "the connection is in step");
}

#[tokio::test]
async fn pb_11_ten_mebibytes_go_up_whole() {
    let (_h1, _h2, gateway) = both().await;
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let body = pattern(LARGE);
    let expected = format!("{LARGE} {}", checksum(&body));
    for host in ["site.test", "h2.test"] {
        old.send(format!("POST /count HTTP/1.1\r\nhost: {host}\r\ncontent-length: {LARGE}\r\n\r\n")).await;
        assert_eq!(old.ask(&body).await.text(), expected, "h1 to {host}");
        old.send(format!("POST /count HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n")).await;
        for part in body.chunks(70_000) {
            old.send(format!("{:x}\r\n", part.len())).await;
            old.send(part).await;
            old.send("\r\n").await;
        }
        assert_eq!(old.ask("0\r\n\r\n").await.text(), expected, "h1 chunks to {host}");
        let request = Request::post(format!("https://{host}/count")).body(()).unwrap();
        assert_eq!(new.ask(request, &body).await.text(), expected, "h2 to {host}");
    }
}

#[tokio::test]
async fn chunks_and_trailers_come_down_in_the_form_of_the_caller() {
    let (_h1, _h2, gateway) = both().await;
    let (mut old, mut new) = (gateway.h1("/web").await, gateway.h2("/web").await);
    for length in [0, 1, 999, 50_000] {
        let answer = old.get(&format!("/chunked?{length}")).await;
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        assert!(answer.body == pattern(length));
        assert!(answer.trailers.is_empty(), "this caller takes no trailers");
        let ask = format!(
            "GET /chunked?{length} HTTP/1.1\r\nhost: site.test\r\nte: trailers\r\nconnection: te\r\n\r\n"
        );
        assert_eq!(old.ask(ask).await.trailers, [("x-sum".to_owned(), "1".to_owned())]);
        let answer = new.get("site.test", &format!("/chunked?{length}")).await;
        assert!(answer.body == pattern(length));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }
    let answer = old.get("/close").await;
    assert_eq!(answer.text(), "until the end");
    assert_eq!(new.get("site.test", "/close").await.text(), "until the end");
}

#[tokio::test]
async fn what_drips_is_passed_on_as_it_drips() {
    let (_h1, _h2, gateway) = both().await;
    let mut old = gateway.h1("/web").await;
    old.send("GET /drip HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
    let mut seen = String::new();
    while !seen.contains("drip") {
        let mut part = [0; 1024];
        let length = old.tls.read(&mut part).await.unwrap();
        seen.push_str(str::from_utf8(&part[..length]).unwrap());
    }
    assert_eq!(seen.matches("drip").count(), 1, "the first part before the last: {seen}");
    let mut new = gateway.h2("/web").await;
    let asked = new.start(Request::get("https://site.test/drip").body(()).unwrap(), true).await;
    let mut answer = asked.response.await.unwrap();
    assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "drip");
}

#[tokio::test]
async fn pl_03_a_reader_that_stops_holds_the_sender_back() {
    let (h1, h2, gateway) = both().await;
    let mut new = gateway.h2("/web").await;
    // The answer is larger than all windows and buffers on the way; nobody reads it.
    let length = 64 * 1024 * 1024;
    let asked =
        new.start(Request::get(format!("https://site.test/big?{length}")).body(()).unwrap(), true).await;
    let answer = asked.response.await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(h1.answered(), 0, "the origin is held back: its answer was not buffered on the way");
    // Others go on meanwhile.
    let mut new = gateway.h2("/web").await;
    assert_eq!(new.get("h2.test", "/hello").await.text(), "hello");
    drop(answer);
    // A sender that is held back by its upstream: Watch sends back what it gets, and nobody takes it.
    let mut asked = new.start(super::client::grpc("/shop.Orders/Watch"), false).await;
    let _answer = (&mut asked.response).await.unwrap();
    let sending = send_all(&mut asked.body, Bytes::from(vec![0; length]), false);
    assert!(tokio::time::timeout(Duration::from_millis(500), sending).await.is_err(), "held back");
    assert_eq!(h2.connections(), 1);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_is_passed_on() {
    let (h1, _h2, gateway) = both().await;
    let mut old = gateway.h1("/web").await;
    old.send("POST /early HTTP/1.1\r\nhost: site.test\r\ncontent-length: 100000\r\n\r\nbegin").await;
    let answer = old.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (413, "big"));
    assert_eq!(h1.requests(), 1);
    assert!(old.is_closed().await, "the rest of the body has no reader");
}

#[tokio::test]
async fn h1_16_a_body_that_breaks_its_framing_is_400_and_cuts_the_upstream() {
    let (_h1, _h2, gateway) = both().await;
    let mut old = gateway.h1("/web").await;
    let answer = old
        .ask("POST /echo HTTP/1.1\r\nhost: site.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX\r\n")
        .await;
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (400, Some("malformed")));
    assert!(old.is_closed().await);
}

#[tokio::test]
async fn hr_05_an_answer_that_ends_early_is_never_a_clean_one() {
    let (_h1, _h2, gateway) = both().await;
    let mut old = gateway.h1("/web").await;
    old.send("GET /half HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
    // One whose head has not left yet is 502.
    assert!(!old.answer().await.is_ok_and(|answer| answer.status != 502), "cut");
    let mut new = gateway.h2("/web").await;
    let asked = new.start(Request::get("https://site.test/half").body(()).unwrap(), true).await;
    // The reset may overtake the head.
    let ended = match asked.response.await {
        Ok(answer) => read(answer).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(ended.unwrap_err().is_reset());
}

#[tokio::test]
async fn to_01_a_caller_that_is_too_slow_in_either_direction_is_given_up() {
    let origin = Origin::h1().await;
    let timeouts = Timeouts { call: Duration::from_secs(60), ..Timeouts::default() };
    let gateway = Setup { timeouts, ..Setup::with_h1(origin.address) }.start();
    let (mut owes, mut reads_not) = (gateway.h1("/web").await, gateway.h1("/web").await);
    let began = Instant::now();
    let owing = async {
        owes.send("POST /echo HTTP/1.1\r\nhost: site.test\r\ncontent-length: 100000\r\n\r\n").await;
        loop {
            // Never still, and much too slow.
            tokio::select! {
                answer = owes.answer() => break (answer.unwrap().status, began.elapsed()),
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
            owes.send("x").await;
        }
    };
    let reading = async {
        reads_not.send("GET /chunked?30000000 HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(29)).await;
        let whole = reads_not.answer().await;
        !whole.is_ok_and(|answer| answer.body.len() == 30_000_000)
    };
    let ((status, after), is_cut) = tokio::join!(owing, reading);
    assert_eq!(status, 408);
    // The wheel counts in ticks of 10 ms.
    assert!((9_950..14_000).contains(&after.as_millis()), "{after:?}");
    assert!(is_cut, "an answer that was not taken came whole");
}

#[tokio::test]
async fn h1_18_trailers_over_http_2_have_the_limits_of_http_1() {
    let (_h1, _h2, gateway) = both().await;
    let mut new = gateway.h2("/web").await;
    let trailers = |count: usize, length: usize| -> HeaderMap {
        let value = HeaderValue::from_str(&"v".repeat(length)).unwrap();
        (0..count).map(|nth| (format!("x-{nth:02}").parse().unwrap(), value.clone())).collect()
    };
    let mut repeated = trailers(1, 1);
    for _ in 0..32 {
        repeated.append("x-00", HeaderValue::from_static("v"));
    }
    for (sent, status) in [
        (trailers(32, 1), 200),
        (trailers(33, 1), 431),
        (repeated, 431),
        (trailers(1, 8 * 1024 - 4), 200),
        (trailers(1, 8 * 1024 - 3), 431),
        (trailers(2, 4 * 1024), 431),
    ] {
        for host in ["site.test", "h2.test"] {
            let request = Request::post(format!("https://{host}/echo")).body(()).unwrap();
            let mut asked = new.start(request, false).await;
            send_all(&mut asked.body, Bytes::from_static(b"some"), false).await;
            asked.body.send_trailers(sent.clone()).unwrap();
            let answer = read(asked.response.await.unwrap()).await.unwrap();
            assert_eq!(answer.status, status, "{} fields to {host}", sent.len());
        }
    }
    assert_eq!(new.get("h2.test", "/hello").await.text(), "hello", "the connection lives on");
}
