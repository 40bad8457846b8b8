//! gRPC through the gateway: messages, trailers, deadlines, and endings that must not look like success.

use std::time::Duration;

use bytes::Bytes;
use policies_engine::{Action, Protocol};

use super::client::{framed, grpc, read};
use super::harness::Setup;
use super::origin::Origin;

#[tokio::test]
async fn lt_08_an_allowed_call_comes_back_with_its_trailers() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    for message in [&b""[..], b"some", &[9; 100_000]] {
        let answer = web.call("/shop.Orders/Get", message).await;
        assert_eq!((answer.status, answer.field("grpc-status")), (200, None));
        assert_eq!(answer.body, framed(message));
        assert!(answer.trailers.contains(&("grpc-status".into(), "0".into())), "{:?}", answer.trailers);
        assert!(answer.trailers.contains(&("x-origin".into(), "yes".into())));
    }
    let (_, record) = gateway.records.last();
    assert_eq!((record.action, record.resource.id()), (Action::Grpc, "shop.Orders/Get"));
    let facts = record.facts.unwrap();
    assert_eq!(facts.connection().protocol, Protocol::Grpc);
    assert_eq!(facts.rpc(), Some(("shop.Orders", "Get")));
    gateway.metric("portcullis_requests_total{protocol=\"grpc\",route=\"orders\",code=\"200\"}", 3).await;
}

#[tokio::test]
async fn a_stream_goes_both_ways_message_by_message() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let mut asked = web.start(grpc("/shop.Orders/Watch"), false).await;
    let mut answer = asked.response.await.unwrap();
    for round in 0..5_u8 {
        asked.body.send_data(framed(&[round]).into(), false).unwrap();
        let part = answer.body_mut().data().await.unwrap().unwrap();
        assert_eq!(part, Bytes::from(framed(&[round])), "before the next one is sent");
    }
    asked.body.send_data(Bytes::new(), true).unwrap();
    let answer = read(answer).await.unwrap();
    assert!(answer.trailers.contains(&("grpc-status".into(), "0".into())));
}

#[tokio::test]
async fn rpc_03_a_stream_without_status_never_looks_like_success() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    for (wish, code) in [("bare", "13"), ("reset", "14")] {
        let answer = web.call("/shop.Orders/Get", wish.as_bytes()).await;
        assert_eq!(answer.body, framed(wish.as_bytes()), "{wish}");
        let status = answer.trailers.iter().find(|(name, _)| name == "grpc-status");
        assert_eq!(status.map(|(_, code)| code.as_str()), Some(code), "{wish}");
    }
    let answer = web.call("/shop.Orders/Get", b"only").await;
    assert_eq!((answer.field("grpc-status"), answer.field("grpc-message")), (Some("5"), Some("none")));
}

#[tokio::test]
async fn rpc_02_an_upstream_that_speaks_no_grpc_is_mapped() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let answer = web.call("/shop.Orders/Get", b"html").await;
    assert_eq!((answer.status, answer.field("grpc-status")), (200, Some("14")));
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn rpc_04_the_deadline_is_shrunk_passed_on_and_kept() {
    let origin = Origin::h2().await;
    let gateway = Setup::with_h2(origin.address).start();
    let mut web = gateway.h2("/web").await;
    let with_timeout = |path: &str, timeout: &str| {
        let (mut parts, ()) = grpc(path).into_parts();
        parts.headers.insert("grpc-timeout", timeout.parse().unwrap());
        http::Request::from_parts(parts, ())
    };
    let answer = web.ask(with_timeout("/shop.Orders/Get", "2S"), &framed(b"x")).await;
    let told = enforcer_codec::grpc::parse_timeout(answer.field("x-timeout").unwrap().as_bytes()).unwrap();
    assert!(told < Duration::from_secs(2) && told > Duration::from_secs(1), "{told:?}");
    // Watch answers its head at once and its end never, because the request never ends.
    let mut asked = web.start(with_timeout("/shop.Orders/Watch", "100m"), false).await;
    asked.body.send_data(framed(b"x").into(), false).unwrap();
    let answer = read(asked.response.await.unwrap()).await.unwrap();
    assert!(answer.trailers.contains(&("grpc-status".into(), "4".into())), "{:?}", answer.trailers);
    let answer = web.ask(with_timeout("/shop.Orders/Get", "0n"), &framed(b"x")).await;
    assert_eq!(answer.field("grpc-status"), Some("4"), "a deadline that has passed starts no work");
    assert_eq!(origin.requests(), 2);
}
