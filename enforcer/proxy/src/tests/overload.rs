//! A gateway near its limits: what it gives up, in which order, and that it takes it up again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base_net::{Caps, Timers};
use ca_identity::tls::ClientAuth;
use enforcer_traffic::{MatchSpec, Priority, RouteSpec, Share};
use h2::{Reason, RecvStream};
use http::Request;
use policies_engine::Effect;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::client::{H2, connect};
use super::harness::{Gateway, Setup};
use super::origin::Origin;

/// Everybody may do everything.
const OPEN: &str = "@id(\"open\") permit (principal, action, resource);";

impl Gateway {
    /// From now on so much of the memory is taken, in percent; returns once the worker knows.
    async fn press(&self, percent: u64, step: u32) {
        self.pressure.memory.store(percent, Ordering::Relaxed);
        self.metric("portcullis_overload_step{worker=\"0\"}", step).await;
    }
}

fn open(origin: &Origin) -> Setup {
    let low = RouteSpec {
        name: "extra".into(),
        service: "shop".into(),
        matches: MatchSpec { hosts: vec!["low.test".into()], ..MatchSpec::default() },
        to: vec![Share::all("h1")],
        priority: Priority::Low,
        ..RouteSpec::default()
    };
    Setup {
        policy: Some(OPEN.into()),
        client_auth: ClientAuth::Optional,
        routes: vec![low],
        ..Setup::with_h1(origin.address)
    }
}

#[tokio::test]
async fn ov_01_each_step_gives_up_more_and_all_of_it_comes_back() {
    let origin = Origin::h1().await;
    let gateway = open(&origin).start();
    let mut used = gateway.h1("/web").await;
    assert_eq!(used.get("/hello").await.status, 200);
    let mut streams = gateway.h2("/web").await;
    // 0.90: idle connections go, a new one gets its call.
    gateway.press(90, 2).await;
    assert!(used.is_closed().await, "a connection without a call is closed");
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
    assert!(web.is_closed().await, "and after its first call so is a new one");
    assert_eq!(streams.get("site.test", "/hello").await.status, 200, "one that was not used yet is as new");
    let mut before = gateway.h2("/web").await;
    let config = gateway.client_tls(None, &[b"h2"]);
    let mut stranger = H2::over(connect(gateway.address, config).await.unwrap()).await;
    // 0.95: no new connections, no strangers, no routes of low priority.
    gateway.press(95, 3).await;
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), &[b"http/1.1"]);
    assert!(connect(gateway.address, config).await.is_err(), "a new connection is refused");
    let answer = stranger.get("site.test", "/hello").await;
    assert_eq!((answer.status, answer.field("portcullis-shed")), (503, Some("memory")));
    assert_eq!(answer.field("retry-after"), Some("1"));
    // 0.98: no calls.
    gateway.press(98, 4).await;
    let (recorded, asked) = (gateway.records.all().len(), origin.requests());
    let answer = before.get("site.test", "/hello").await;
    assert_eq!((answer.status, answer.field("portcullis-shed")), (503, Some("memory")));
    assert_eq!(
        (gateway.records.all().len(), origin.requests()),
        (recorded, asked),
        "neither judged nor forwarded"
    );
    // Each step is left 0.05 below.
    gateway.press(94, 4).await;
    gateway.press(85, 2).await;
    assert_eq!(gateway.h1("/web").await.get("/hello").await.status, 200);
    gateway.press(10, 0).await;
    let mut web = gateway.h1("/web").await;
    for _ in 0..3 {
        assert_eq!(web.get("/hello").await.status, 200);
    }
    let shed = gateway.metrics.render("application/openmetrics-text").1;
    let counted = shed.lines().find(|line| line.starts_with("portcullis_shed_total{reason=\"memory\"}"));
    assert_eq!(counted.and_then(|line| line.rsplit_once(' ')).map(|(_, count)| count), Some("3"), "{shed}");
}

/// Asks for much and reads nothing of it; once the answer has begun.
async fn hoard(caller: &mut H2, host: &str) -> RecvStream {
    let request = Request::get(format!("https://{host}/big?{}", 2 << 20)).body(()).unwrap();
    let answer = caller.start(request, true).await.response.await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

/// Whether the answer was cut within that time. Its window stays shut.
async fn has_ended(answer: &mut RecvStream, within: Duration) -> bool {
    let cut = async {
        while let Some(part) = answer.data().await {
            if part.is_err() {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(within, cut).await.unwrap_or(false)
}

const LONG: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(200);

impl Gateway {
    /// A caller that takes 256 KiB of each answer before it stops.
    async fn hoarder(&self, path: &str) -> H2 {
        let config = self.client_tls(Some(self.ca.svid(path)), &[b"h2"]);
        H2::wide(connect(self.address, config).await.unwrap(), 256 << 10, 64 << 20).await
    }
}

#[tokio::test]
async fn ov_01_when_memory_is_short_the_calls_that_hold_most_end_and_small_ones_do_not() {
    let origin = Origin::h1().await;
    let gateway = open(&origin).start();
    let (mut one, mut other) = (gateway.hoarder("/web").await, gateway.hoarder("/other").await);
    let mut large = [hoard(&mut one, "site.test").await, hoard(&mut one, "site.test").await];
    let mut alone = hoard(&mut other, "site.test").await;
    let mut low = hoard(&mut other, "low.test").await;
    let mut small = gateway.h1("/small").await;
    small.send("GET /drip?100 HTTP/1.1\r\nhost: site.test\r\n\r\n").await;
    gateway.press(94, 2).await;
    assert!(!has_ended(&mut low, SOON).await, "nothing ends before 0.95");
    let hold = || gateway.proxy.connections(None).iter().filter(|caller| caller.held > 64 << 10).count();
    while hold() < 2 {
        tokio::time::sleep(SOON / 10).await;
    }
    gateway.press(95, 3).await;
    assert!(has_ended(&mut low, LONG).await, "low priority ends first");
    // All of them in the end, for memory stays short.
    for answer in large.iter_mut().chain([&mut alone]) {
        assert!(has_ended(answer, LONG).await);
    }
    assert_eq!(small.answer().await.unwrap().status, 200, "what holds little goes on");
    gateway.metric("portcullis_shed_total{reason=\"memory\"}", 4).await;
    assert!(
        gateway.proxy.connections(None).iter().all(|caller| caller.held == 0),
        "nothing stays on account"
    );
    gateway.press(10, 0).await;
    assert_eq!(gateway.h2("/web").await.get("site.test", "/hello").await.status, 200);
}

#[tokio::test]
async fn ov_01_a_connection_holds_no_more_than_it_may() {
    let origin = Origin::h1().await;
    let gateway = Setup { max_held: 400 << 10, ..open(&origin) }.start();
    let mut caller = gateway.hoarder("/web").await;
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(hoard(&mut caller, "site.test").await);
    }
    let mut ended = 0;
    while ended < 2 {
        ended = 0;
        for answer in &mut answers {
            ended += u32::from(has_ended(answer, SOON / 10).await);
        }
    }
    assert!(ended < 12, "{ended}");
    let held = gateway.proxy.connections(None).first().unwrap().held;
    assert!((100 << 10..=400 << 10).contains(&held), "{held}");
    assert_eq!(caller.get("site.test", "/hello").await.status, 200, "small calls have their place");
    assert_eq!(gateway.h2("/web").await.get("site.test", "/hello").await.status, 200, "so have others");
}

#[tokio::test]
async fn ov_02_a_route_of_low_priority_is_refused_first_and_a_permit_stays_a_permit_on_record() {
    let origin = Origin::h1().await;
    let gateway = open(&origin).start();
    let (mut one, mut other) = (gateway.h2("/web").await, gateway.h2("/web").await);
    gateway.pressure.descriptors.store(96, Ordering::Relaxed);
    gateway.metric("portcullis_overload_step{worker=\"0\"}", 3).await;
    let answer = one.get("low.test", "/hello").await;
    assert_eq!((answer.status, answer.field("portcullis-shed")), (503, Some("fds")));
    let (id, record) = gateway.records.last();
    assert_eq!(
        (record.effect, answer.field("portcullis-decision-id")),
        (Effect::Allow, Some(id.to_string().as_str()))
    );
    assert_eq!(other.get("site.test", "/hello").await.status, 200, "the others are served");
    assert_eq!(origin.requests(), 1);
    gateway.metric("portcullis_overload_pressure{of=\"fds\"}", 96).await;
    gateway.metric("portcullis_shed_total{reason=\"fds\"}", 1).await;
}

#[tokio::test]
async fn ov_02_no_pressure_permits_what_is_denied() {
    let origin = Origin::h1().await;
    let gateway = Setup::with_h1(origin.address).start();
    let mut callers = Vec::new();
    for _ in 0..5 {
        callers.push(gateway.h2("/other").await);
    }
    for ((percent, step), caller) in
        [(0, 0), (85, 1), (90, 2), (95, 3), (98, 4)].into_iter().zip(&mut callers)
    {
        gateway.press(percent, step).await;
        let status = caller.get("site.test", "/hello").await.status;
        assert_eq!(status, if step == 4 { 503 } else { 403 }, "at {percent}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn ov_01_under_pressure_heads_have_half_of_their_time() {
    let origin = Origin::h1().await;
    let timers = Timers { header: Duration::from_secs(4), ..Timers::default() };
    let gateway = Setup { timers, ..Setup::with_h1(origin.address) }.start();
    gateway.press(86, 1).await;
    let mut slow = gateway.h1("/web").await;
    let began = tokio::time::Instant::now();
    slow.send("GET / HTTP/1.1\r\n").await;
    assert_eq!(slow.answer().await.unwrap().status, 408);
    assert!((1_800..3_500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn al_05_an_identity_has_its_share_of_the_connections_and_is_told_so() {
    let origin = Origin::h1().await;
    let caps = Caps { per_identity: 2, ..Caps::default() };
    let gateway =
        Setup { policy: Some(OPEN.into()), caps, workers: 2, ..Setup::with_h1(origin.address) }.start();
    let (mut one, mut other) = (gateway.h1("/web").await, gateway.h2("/web").await);
    let answer = gateway.h1("/web").await.answer().await.unwrap();
    assert_eq!((answer.status, answer.field("portcullis-shed")), (503, Some("id_share")));
    // Over HTTP/2 it is a GOAWAY that no stream came before.
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), &[b"h2"]);
    let (_sender, connection) =
        h2::client::handshake(connect(gateway.address, config).await.unwrap()).await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), connection).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    // Who has its places keeps them, and others have theirs.
    assert_eq!(one.get("/hello").await.status, 200);
    assert_eq!(other.get("site.test", "/hello").await.status, 200);
    assert_eq!(gateway.h1("/another").await.get("/hello").await.status, 200);
    gateway.metric("portcullis_shed_total{reason=\"id_share\"}", 2).await;
    drop(one);
    for _ in 0..100 {
        if let Ok(answer) = gateway.h1("/web").await.ask_once("/hello").await
            && answer.status == 200
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a place that is free again is not given");
}

#[tokio::test]
async fn al_05_a_listener_that_is_full_closes_what_comes_and_counts_it() {
    let origin = Origin::h1().await;
    let caps = Caps { connections: 1, ..Caps::default() };
    let gateway = Setup { caps, ..Setup::with_h1(origin.address) }.start();
    let mut web = gateway.h1("/web").await;
    let mut second = TcpStream::connect(gateway.address).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed without a byte");
    assert_eq!(web.get("/hello").await.status, 200);
    gateway.metric("portcullis_shed_total{reason=\"conn_limit\"}", 1).await;
}

#[tokio::test]
async fn al_05_handshakes_that_run_are_bounded_and_the_next_gets_in_when_one_ends() {
    let origin = Origin::h1().await;
    let gateway = Setup { handshakes: 2, ..Setup::with_h1(origin.address) }.start();
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    // Both are waited for before a third comes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut third = TcpStream::connect(gateway.address).await.unwrap();
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
    gateway.metric("portcullis_shed_total{reason=\"handshake_budget\"}", 1).await;
    silent.clear();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut web = gateway.h1("/web").await;
    assert_eq!(web.get("/hello").await.status, 200);
}
