//! Listeners that come, go and move while others serve (RD-01).

use std::net::SocketAddr;
use std::time::Duration;

use base_net::Caps;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{H1, connect};
use super::client_h3::get;
use super::harness::{Gateway, Setup};
use super::origin::Origin;
use crate::{ListenerSpec, ProxyError};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

impl Gateway {
    async fn open<'a>(
        &self,
        listeners: impl IntoIterator<Item = &'a ListenerSpec>,
        grace: Duration,
    ) -> Vec<String> {
        let next = self.proxy.bind(listeners.into_iter().cloned().collect()).unwrap();
        self.proxy.renew(next, grace).await.iter().map(ToString::to_string).collect()
    }

    /// Another listener beside the one that there is.
    fn more(&self, number: usize, binds: Vec<SocketAddr>) -> ListenerSpec {
        let main = &self.listeners[0];
        ListenerSpec { name: "more".into(), number, binds, quic: Vec::new(), ..main.clone() }
    }

    fn address_of(&self, listener: &str) -> Option<SocketAddr> {
        let addresses = self.proxy.addresses().into_iter();
        addresses.rev().find(|(name, _)| **name == *listener).map(|(_, address)| address)
    }

    async fn h1_at(&self, address: SocketAddr) -> std::io::Result<H1> {
        let config = self.client_tls(Some(self.ca.svid("/web")), &[b"http/1.1"]);
        Ok(H1::over(connect(address, config).await?))
    }
}

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test]
async fn rd_01_a_listener_comes_moves_and_goes_and_nobody_at_another_notices() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
    let main = gateway.listeners[0].clone();
    let (mut old, mut streams) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let mut quic = gateway.h3("/web").await;
    for round in 0..4 {
        assert!(gateway.open([&main, &gateway.more(1, vec![any()])], LONG).await.is_empty());
        let first = gateway.address_of("more").unwrap();
        for _ in 0..8 {
            assert_eq!(gateway.h1_at(first).await.unwrap().get("/hello").await.status, 200);
        }
        // It moves: what is written differs, where port 0 twice would be the same.
        let to = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut idle = gateway.h1_at(first).await.unwrap();
        idle.get("/hello").await;
        gateway.open([&gateway.more(1, vec![to]), &main], Duration::from_secs(1)).await;
        assert!(timeout(LONG, idle.is_closed()).await.unwrap(), "it is asked to go");
        assert!(TcpStream::connect(first).await.is_err(), "nobody listens there any more");
        assert_eq!(gateway.h1_at(to).await.unwrap().get("/hello").await.status, 200);
        gateway.open([&main], LONG).await;
        assert!(TcpStream::connect(to).await.is_err(), "it is gone");
        assert_eq!(gateway.address_of("more"), None);
        assert_eq!(old.get("/hello").await.status, 200, "{round}");
        assert_eq!(streams.get("site.test", "/hello").await.status, 200, "{round}");
        assert_eq!(quic.get("/hello").await.status, 200, "{round}");
    }
}

#[tokio::test]
async fn rd_01_an_address_moves_to_another_listener_at_once_and_nobody_who_connects_is_lost() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
    let main = gateway.listeners[0].clone();
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = std::env::temp_dir().join(format!("portcullis-moves-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("more.sock");
    let named = |name: &str, number| ListenerSpec {
        name: name.into(),
        sockets: vec![path.clone()],
        ..gateway.more(number, vec![place])
    };
    gateway.open([&main, &named("more", 1)], LONG).await;
    let mut kept = gateway.h1_at(place).await.unwrap();
    for round in 0..4 {
        assert_eq!(kept.get("/hello").await.status, 200, "{round}");
        let (name, number) = if round % 2 == 0 { ("other", 2) } else { ("more", 1) };
        // Somebody connects while it moves.
        let before = TcpStream::connect(place).await.unwrap();
        gateway.open([&main, &named(name, number)], LONG).await;
        assert_eq!(gateway.address_of(name), Some(place));
        assert!(timeout(LONG, kept.is_closed()).await.unwrap(), "who was there is asked to go");
        drop(before);
        for _ in 0..8 {
            assert_eq!(gateway.h1_at(place).await.unwrap().get("/hello").await.status, 200, "{round}");
        }
        tokio::net::UnixStream::connect(&path).await.expect("its file is there");
        kept = gateway.h1_at(place).await.unwrap();
    }
    // Bound, and not wanted after all: nothing has changed.
    drop(gateway.proxy.bind(vec![main.clone(), named("third", 3)]).unwrap());
    assert_eq!(gateway.h1_at(place).await.unwrap().get("/hello").await.status, 200);
    gateway.open([&main], LONG).await;
    assert!(TcpStream::connect(place).await.is_err() && !path.exists(), "it is gone");
    std::fs::remove_dir(&dir).unwrap();
}

#[tokio::test]
async fn dr_02_a_call_of_a_listener_that_went_has_its_grace_and_no_more() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let main = gateway.listeners[0].clone();
    for (path, grace, ends_well) in [("/drip?10", LONG, true), ("/silent", SHORT, false)] {
        gateway.open([&main, &gateway.more(1, vec![any()])], LONG).await;
        let mut busy = gateway.h1_at(gateway.address_of("more").unwrap()).await.unwrap();
        let before = origin.requests();
        busy.send(format!("GET {path} HTTP/1.1\r\nhost: site.test\r\n\r\n")).await;
        while origin.requests() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.open([&main], grace).await;
        let answer = timeout(LONG, busy.answer()).await.expect("not longer than its grace");
        assert_eq!(answer.is_ok(), ends_well, "{path}");
        timeout(LONG, async {
            while gateway.proxy.open() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("nothing of it is left");
    }
}

#[tokio::test]
async fn rd_01_a_port_that_cannot_be_had_leaves_nothing_of_the_others() {
    let origin = Origin::h1().await;
    let gateway = Setup { workers: 2, ..Setup::with_h1(origin.address) }.start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let main = ListenerSpec { hosts: vec!["never.test".to_owned()], ..gateway.listeners[0].clone() };
    for _ in 0..3 {
        let asked = [main.clone(), gateway.more(1, vec![free, taken.local_addr().unwrap()])];
        let error = gateway.proxy.bind(asked.to_vec()).unwrap_err();
        assert!(matches!(&error, ProxyError::Bind { listener, .. } if &**listener == "more"), "{error}");
        drop(std::net::TcpListener::bind(free).expect("it was given up"));
        assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200, "served as before");
    }
    // So does one that is bound and not wanted after all.
    drop(gateway.proxy.bind(vec![main, gateway.more(1, vec![free])]).unwrap());
    std::net::TcpListener::bind(free).expect("it was given up");
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200);
}

#[tokio::test]
async fn rd_01_a_quic_port_can_be_had_again_while_its_connections_end() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let port = gateway.quic_address();
    let main = ListenerSpec { quic: vec![port], ..gateway.listeners[0].clone() };
    let none = ListenerSpec { quic: Vec::new(), ..main.clone() };
    // From here on its address is written.
    gateway.open([&none], SHORT).await;
    tokio::time::sleep(SHORT * 2).await;
    gateway.open([&main], SHORT).await;
    let mut old = gateway.h3("/web").await;
    let mut stream = old.start(get("/drip?60")).await;
    stream.finish().await.unwrap();
    stream.recv_response().await.unwrap();
    gateway.open([&none], LONG).await;
    tokio::time::sleep(SHORT).await;
    gateway.open([&main], LONG).await;
    for _ in 0..5 {
        assert_eq!(gateway.h3("/web").await.get("/echo").await.status, 200, "new callers");
    }
    let mut parts = 0;
    let rest = async {
        while stream.recv_data().await.unwrap().is_some() {
            parts += 1;
        }
    };
    timeout(LONG, rest).await.unwrap();
    assert!(parts > 1, "it was there already");
    drop(old);
    tokio::time::sleep(SHORT).await;
    assert_eq!(
        gateway.h3("/web").await.get("/echo").await.status,
        200,
        "the end of the old one took nothing"
    );
}

#[tokio::test]
async fn rd_01_caps_and_what_is_asked_of_callers_change_for_new_connections() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let main = gateway.listeners[0].clone();
    let mut old = gateway.h1("/web").await;
    let one = ListenerSpec { caps: Caps { connections: 1, ..main.caps }, ..main.clone() };
    assert_eq!(gateway.open([&one], LONG).await, ["main"]);
    assert!(gateway.h1_at(gateway.address).await.is_err(), "there is one already");
    assert_eq!(old.get("/hello").await.status, 200);
    assert_eq!(gateway.open([&main], LONG).await, ["main"]);
    assert!(gateway.open([&main], LONG).await.is_empty());
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200);
    let http2 = ListenerSpec { carries: crate::Carries::Http2, ..main };
    gateway.open([&http2], LONG).await;
    let refused = match gateway.h1_at(gateway.address).await {
        Ok(mut caller) => caller.ask_once("/hello").await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "HTTP/1 is not spoken any more");
    assert_eq!(gateway.h2("/web").await.get("site.test", "/hello").await.status, 200);
    assert_eq!(old.get("/hello").await.status, 200, "it goes on as it began");
}

#[tokio::test]
async fn rd_01_nothing_is_opened_once_everything_ends() {
    let gateway = Setup::default().start();
    let listeners = [gateway.listeners[0].clone(), gateway.more(1, vec![any()])];
    let late = gateway.proxy.bind(listeners.to_vec()).unwrap();
    gateway.proxy.drain(SHORT).await;
    gateway.proxy.renew(late, LONG).await;
    assert_eq!(gateway.address_of("more"), None);
    assert!(matches!(gateway.proxy.bind(listeners.to_vec()), Err(ProxyError::Ending)));
}
