//! Two data planes on the same sockets: the one that is relieved, and the one that takes its place (UP-02, UP-03).

use std::sync::Arc;
use std::time::Duration;

use base_net::Sockets;
use futures_util::future::join_all;
use http::Request;
use tokio::time::timeout;

use super::client_h3::get;
use super::harness::{Gateway, Setup};
use super::origin::Origin;
use crate::{Ports, Proxy, ProxyConfig, Reveal};

const LONG: Duration = Duration::from_secs(10);

/// Another data plane on copies of the sockets, which accepts nothing yet.
fn next(gateway: &Gateway, workers: usize) -> Proxy {
    let sockets = Sockets::given(gateway.sockets.copies().unwrap()).unwrap();
    let config = ProxyConfig {
        workers,
        handshakes: 1_024,
        longest_delay: Duration::from_millis(50),
        listeners: gateway.listeners.clone(),
        mark: "mark".into(),
        reveal_decision_id: Reveal::Denied,
        quic_reset_key: Some(Box::new([7; 32])),
    };
    Proxy::prepare(config, Ports { sockets, ..gateway.ports() }).unwrap()
}

#[tokio::test]
async fn up_03_quic_connections_go_on_where_they_began_while_another_reads_their_port() {
    for (workers, afterwards) in [(1, 1), (3, 2)] {
        goes_on(workers, afterwards).await;
    }
}

async fn goes_on(workers: usize, afterwards: usize) {
    let origin = Origin::h1().await;
    let gateway = Setup { workers, ..Setup::with_h1(origin.address) }.start();
    let mut old = gateway.h3("/web").await;
    let mut stream = old.start(get("/drip?100")).await;
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    let next = next(&gateway, afterwards);
    gateway.proxy.relieve(LONG).await;
    next.accept();
    for _ in 0..5 {
        assert_eq!(gateway.h3("/web").await.get("/echo").await.status, 200);
    }
    assert_eq!(gateway.proxy.open(), 1, "new callers are the other's");
    let mut parts = 0;
    let rest = timeout(LONG, async {
        while stream.recv_data().await.unwrap().is_some() {
            parts += 1;
        }
    });
    let (rest, ended) = tokio::join!(rest, timeout(LONG, gateway.proxy.end(LONG)));
    rest.unwrap();
    ended.expect("it ends with its last connection");
    assert!(parts > 1, "it was there already");
    assert_eq!(gateway.h3("/web").await.get("/echo").await.status, 200);
    drop(next);
}

#[tokio::test]
async fn up_03_quic_connections_that_send_all_the_time_are_never_reset_by_the_other() {
    let origin = Origin::h1().await;
    for round in 0..4 {
        let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
        let mut calls = Vec::new();
        for _ in 0..6 {
            calls.push(gateway.h3("/web").await);
        }
        let sending = calls.iter_mut().map(|caller| async move {
            let request = Request::post("https://site.test/count").body(()).unwrap();
            let mut stream = caller.start(request).await;
            for _ in 0..300 {
                stream.send_data(vec![7; 5_000].into()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stream.finish().await.unwrap();
            let status = stream.recv_response().await.unwrap().status();
            while stream.recv_data().await.unwrap().is_some() {}
            status
        });
        let takes_over = async {
            tokio::time::sleep(Duration::from_millis(60 + 7 * round)).await;
            let next = next(&gateway, 2);
            gateway.proxy.relieve(LONG).await;
            next.accept();
            next
        };
        let both = async { tokio::join!(join_all(sending), takes_over) };
        let (statuses, _next) = timeout(LONG, both).await.unwrap();
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
}

#[tokio::test]
async fn up_02_no_connection_is_refused_while_another_takes_over() {
    let origin = Origin::h1().await;
    let gateway = Arc::new(Setup { workers: 3, ..Setup::with_h1(origin.address) }.start());
    let caller = Arc::clone(&gateway);
    let calls = async move {
        for _ in 0..60 {
            assert_eq!(caller.h1("/web").await.get("/hello").await.status, 200);
        }
    };
    let takes_over = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let next = next(&gateway, 2);
        gateway.proxy.relieve(Duration::from_secs(20)).await;
        // What arrives waits.
        tokio::time::sleep(Duration::from_millis(100)).await;
        next.accept();
        next
    };
    let (next, ()) = tokio::join!(takes_over, calls);
    assert!(next.open() < 60);
}
