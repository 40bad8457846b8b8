//! Connections that carry no HTTP: judged once as a whole, carried both ways, ended when the permit is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base_net::Timers;
use base_ports::Tasks;
use base_ports::net::Route;
use ca_identity::tls::ClientAuth;
use enforcer_traffic::RetrySettings;
use policies_engine::{Action, Effect, Phase, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::client::{connect, rest};
use super::harness::{Gateway, Setup};
use crate::Carries;

const SOON: Duration = Duration::from_secs(1);

const WEB_MAY: &str = r#"@id("web-db") permit (principal == Workload::"spiffe://example.org/web", action == Action::"tcp:connect", resource == Service::"shop");"#;

/// An origin that greets, echoes, and says `bye` once its caller has ended.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    _tasks: Arc<Tasks>,
}

impl Echo {
    pub(super) async fn start(greeting: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, tasks) = (Arc::<AtomicUsize>::default(), Arc::new(Tasks::new("echo")));
        let (counted, spawner) = (Arc::clone(&connections), Arc::downgrade(&tasks));
        tasks.spawn("accept", async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let Some(tasks) = spawner.upgrade() else { return };
                tasks.spawn("echo", async move { drop(echo(stream, greeting).await) });
            }
        });
        Self { address, connections, _tasks: tasks }
    }
}

async fn echo(mut stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    stream.write_all(greeting.as_bytes()).await?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
    stream.write_all(b"bye").await?;
    stream.shutdown().await
}

fn setup(origin: &Echo) -> Setup {
    Setup {
        carries: Carries::Bytes,
        tcp: vec![origin.address],
        policy: Some(WEB_MAY.to_owned()),
        ..Setup::default()
    }
}

async fn caller(gateway: &Gateway, path: &str) -> TlsStream<TcpStream> {
    let config = gateway.client_tls(Some(gateway.ca.svid(path)), &[]);
    connect(gateway.address, config).await.unwrap()
}

async fn hears(caller: &mut TlsStream<TcpStream>, wanted: &[u8]) {
    let mut heard = vec![0; wanted.len()];
    timeout(SOON * 5, caller.read_exact(&mut heard)).await.unwrap().unwrap();
    assert!(heard == wanted, "{} bytes", heard.len());
}

async fn says(caller: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    caller.write_all(bytes).await.unwrap();
    caller.flush().await.unwrap();
}

#[tokio::test]
async fn tp_02_a_connection_is_judged_once_and_carried_both_ways() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let mut web = caller(&gateway, "/web").await;
    let large = super::origin::pattern(700_000);
    for message in [&b"a"[..], b"bc", &large] {
        says(&mut web, message).await;
        hears(&mut web, message).await;
    }
    // One side ends; the other may still speak.
    web.shutdown().await.unwrap();
    assert_eq!(rest(&mut web, SOON).await, b"bye");
    assert_eq!(gateway.records.all().len(), 1, "judged once");
    let (_, record) = gateway.records.last();
    assert_eq!(
        (record.effect, record.action, record.phase),
        (Effect::Allow, Action::TcpConnect, Phase::Connect)
    );
    assert_eq!((record.resource.kind().as_str(), record.resource.id()), ("Service", "shop"));
    let facts = record.facts.unwrap();
    assert_eq!((facts.connection().sni.as_deref(), facts.request().is_none()), (Some("gateway.test"), true));
    gateway.metric("portcullis_requests_total{protocol=\"tcp\",route=\"db\",code=\"200\"}", 1).await;
}

#[tokio::test]
async fn tp_01_many_bytes_pass_both_ways_at_once() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let (mut read, mut write) = tokio::io::split(caller(&gateway, "/web").await);
    let sent = super::origin::pattern(12 << 20);
    let (count, mut heard) = (sent.len(), vec![0; sent.len()]);
    let up = async {
        write.write_all(&sent).await.unwrap();
        write.flush().await.unwrap();
    };
    let down = async { timeout(SOON * 30, read.read_exact(&mut heard)).await.unwrap().unwrap() };
    let ((), read) = tokio::join!(up, down);
    assert_eq!(read, count);
    assert!(heard == sent);
}

#[tokio::test]
async fn dt_02_an_origin_that_speaks_first_is_heard_at_once() {
    let origin = Echo::start("hello, who is there").await;
    let gateway = setup(&origin).start();
    let mut web = caller(&gateway, "/web").await;
    let greeting = timeout(Duration::from_millis(400), hears(&mut web, b"hello, who is there")).await;
    greeting.expect("within 400 ms");
}

#[tokio::test]
async fn pa_08_a_connection_that_is_denied_is_closed_without_a_byte() {
    let origin = Echo::start("hello").await;
    let gateway = setup(&origin).start();
    let mut other = caller(&gateway, "/other").await;
    assert!(rest(&mut other, SOON).await.is_empty());
    let (_, record) = gateway.records.last();
    assert_eq!(
        (record.effect, record.reason, record.phase),
        (Effect::Deny, Reason::NoPermit, Phase::Connect)
    );
    assert_eq!(origin.connections.load(Ordering::SeqCst), 0, "dialled for a caller that was denied");
    gateway.metric("portcullis_requests_total{protocol=\"tcp\",route=\"db\",code=\"403\"}", 1).await;
}

#[tokio::test]
async fn tl_07_a_connection_for_a_name_that_is_not_served_is_closed() {
    let origin = Echo::start("hello").await;
    let gateway = Setup { hosts: vec!["db.test".into()], ..setup(&origin) }.start();
    let mut web = caller(&gateway, "/web").await;
    assert!(rest(&mut web, SOON).await.is_empty());
    assert_eq!(gateway.records.last().1.reason, Reason::AuthorityMismatch);
}

#[tokio::test]
async fn ct_05_a_connection_ends_within_a_second_of_the_policy_that_forbids_it() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let mut web = caller(&gateway, "/web").await;
    says(&mut web, b"before").await;
    hears(&mut web, b"before").await;
    gateway.change(&format!("{WEB_MAY}// nothing new\n"), 2);
    says(&mut web, b"still").await;
    hears(&mut web, b"still").await;
    let forbid =
        r#"@id("quiet") @owner("net") forbid (principal, action == Action::"tcp:connect", resource);"#;
    gateway.change(&format!("{WEB_MAY}{forbid}"), 3);
    assert!(rest(&mut web, SOON).await.is_empty());
    let (_, record) = gateway.records.last();
    assert_eq!((record.reason, record.phase), (Reason::RevokedByChange, Phase::Rejudge));
}

#[tokio::test]
async fn ct_05_a_connection_ends_within_a_second_of_the_revocation_of_its_caller() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let mut web = caller(&gateway, "/web").await;
    says(&mut web, b"before").await;
    hears(&mut web, b"before").await;
    let id = gateway.ca.id("/web");
    gateway.trust.update(|snapshot| snapshot.revoked.deny(&ca_identity::Revoked::Id(id))).unwrap();
    assert!(rest(&mut web, SOON).await.is_empty());
    assert_eq!(gateway.records.last().1.reason, Reason::IdentityRevoked);
}

#[tokio::test]
async fn tp_01_a_connection_that_is_still_for_too_long_is_closed() {
    let origin = Echo::start("").await;
    let idle = Duration::from_millis(400);
    let timers = Timers { idle, ..Timers::default() };
    let gateway = Setup { timers, ..setup(&origin) }.start();
    let mut web = caller(&gateway, "/web").await;
    for _ in 0..4 {
        tokio::time::sleep(idle / 2).await;
        says(&mut web, b"x").await;
        hears(&mut web, b"x").await;
    }
    assert!(rest(&mut web, SOON).await.is_empty());
}

#[tokio::test]
async fn ry_02_a_dial_in_vain_is_followed_by_another_endpoint() {
    let (dead, origin) = (Echo::start("").await, Echo::start("hello").await);
    let retry = RetrySettings { attempts: 2, ..RetrySettings::default() };
    let gateway = Setup { tcp: vec![dead.address, origin.address], retry, ..setup(&origin) }.start();
    gateway.net.script(dead.address, Route::Refuse);
    for _ in 0..8 {
        hears(&mut caller(&gateway, "/web").await, b"hello").await;
    }
    gateway.net.script(origin.address, Route::Refuse);
    assert!(rest(&mut caller(&gateway, "/web").await, SOON).await.is_empty(), "closed without a byte");
    gateway.metric("portcullis_requests_total{protocol=\"tcp\",route=\"db\",code=\"503\"}", 1).await;
}

#[tokio::test]
async fn tl_06_a_caller_without_certificate_is_anonymous_and_judged_as_that() {
    let origin = Echo::start("hello").await;
    let anybody =
        r#"@id("anybody") permit (principal is Anonymous, action == Action::"tcp:connect", resource);"#;
    let policy = Some(anybody.to_owned());
    let gateway = Setup { client_auth: ClientAuth::Optional, policy, ..setup(&origin) }.start();
    let nobody = gateway.client_tls(None, &[]);
    let mut nobody = connect(gateway.address, nobody).await.unwrap();
    hears(&mut nobody, b"hello").await;
    assert!(
        rest(&mut caller(&gateway, "/web").await, SOON).await.is_empty(),
        "a known caller is not anybody"
    );
}

#[tokio::test]
async fn dr_01_a_drain_waits_for_connections_and_cuts_them_at_its_deadline() {
    let origin = Echo::start("").await;
    let gateway = setup(&origin).start();
    let mut web = caller(&gateway, "/web").await;
    says(&mut web, b"before").await;
    hears(&mut web, b"before").await;
    let talk = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        says(&mut web, b"during").await;
        hears(&mut web, b"during").await;
        rest(&mut web, SOON).await
    };
    let (left, ()) = tokio::join!(talk, gateway.proxy.drain(Duration::from_millis(800)));
    assert!(left.is_empty());
}

#[tokio::test]
async fn dt_03_plain_bytes_on_a_tls_listener_reach_nobody() {
    let origin = Echo::start("hello").await;
    let gateway = setup(&origin).start();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 300], b"\x16\x03\x01\xff\xff\x01"] {
        let mut raw = TcpStream::connect(gateway.address).await.unwrap();
        raw.write_all(bytes).await.unwrap();
        raw.shutdown().await.unwrap();
        let mut heard = Vec::new();
        timeout(SOON * 6, raw.read_to_end(&mut heard)).await.unwrap().ok();
        assert!(!heard.windows(5).any(|part| part == b"hello"), "{heard:?}");
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 0);
}
