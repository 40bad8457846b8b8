//! Certificates by the name that is asked for, and that a call is for the names of the certificate that its caller saw.

use ca_identity::inspect;
use enforcer_traffic::{MatchSpec, RouteSpec, Share};
use policies_engine::Reason;
use tokio::net::TcpStream;

use super::client::{H1, H2, connect_to};
use super::harness::{Gateway, Setup};
use super::origin::Origin;

const BOTH: &str =
    r#"@id("all") permit (principal == Workload::"spiffe://example.org/web", action, resource);"#;

/// `gateway.test` is the own name, with calls for `site.test`; another certificate is for `shop.test` and below `api.test`.
fn setup(origin: &Origin) -> Setup {
    let hosts = ["shop.test", "*.api.test"].map(str::to_owned).into();
    let route = RouteSpec {
        name: "extra".into(),
        service: "shop".into(),
        matches: MatchSpec { hosts, ..MatchSpec::default() },
        to: vec![Share::all("h1")],
        ..RouteSpec::default()
    };
    Setup {
        policy: Some(BOTH.to_owned()),
        hosts: vec!["site.test".into()],
        certificates: vec![&["shop.test", "*.api.test"]],
        routes: vec![route],
        ..Setup::with_h1(origin.address)
    }
}

/// The name that was asked for in the handshake, the host of the call, its status.
const MATRIX: [(&str, &str, u16); 8] = [
    ("gateway.test", "site.test", 200),
    ("gateway.test", "shop.test", 421),
    ("unknown.test", "site.test", 200),
    ("shop.test", "shop.test", 200),
    ("shop.test", "site.test", 421),
    ("shop.test", "a.api.test", 200),
    ("a.api.test", "shop.test", 200),
    ("a.b.api.test", "a.b.api.test", 421),
];

async fn tls(
    gateway: &Gateway,
    sni: &'static str,
    alpn: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = gateway.client_tls(Some(gateway.ca.svid("/web")), alpn);
    connect_to(sni, TcpStream::connect(gateway.address).await.unwrap(), config).await.unwrap()
}

#[tokio::test]
async fn in4_a_call_is_for_the_names_of_the_certificate_that_its_caller_saw() {
    let origin = Origin::h1().await;
    let gateway = setup(&origin).start();
    for (sni, host, status) in MATRIX {
        let mut one = H1::over(tls(&gateway, sni, &[b"http/1.1"]).await);
        let answer = one.ask(format!("GET /hello HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        let mut two = H2::over(tls(&gateway, sni, &[b"h2"]).await).await;
        let answers =
            [answer.status, two.get(host, "/hello").await.status, gateway.h3_status(sni, host).await];
        assert_eq!(answers, [status; 3], "{host} to {sni}");
        if status == 421 {
            let records = gateway.records.all();
            let last: Vec<_> = records.iter().rev().take(3).map(|(_, record)| record.reason).collect();
            assert_eq!(last, [Reason::AuthorityMismatch; 3], "{host} to {sni}");
        }
    }
}

#[tokio::test]
async fn tl_07_the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let origin = Origin::h1().await;
    let gateway = setup(&origin).start();
    for (sni, name) in
        [("shop.test", "shop.test"), ("a.api.test", "shop.test"), ("gateway.test", "gateway.test")]
    {
        let tls = tls(&gateway, sni, &[b"h2"]).await;
        let chain = tls.get_ref().1.peer_certificates().unwrap().to_vec();
        let shown = inspect::certificate(&chain[0]).unwrap().dns_names;
        assert_eq!(shown[0], name, "{sni}");
    }
}
