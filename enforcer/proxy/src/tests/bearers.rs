//! Callers without a certificate whom a token names (TL-06): a JWT-SVID for the audience of the listener.

use std::time::Duration;

use ca_identity::testing::{BadToken, TokenForge};
use ca_identity::tls::ClientAuth;
use ca_identity::{Bundle, Revoked};
use http::Request;
use policies_engine::{CredentialKind, PrincipalKind, Reason};

use super::client::{H1, H2, connect, framed, grpc};
use super::harness::{Gateway, Setup, WEB};
use super::origin::Origin;

const HOUR: Duration = Duration::from_secs(3_600);

/// A gateway that takes tokens of the forge, and the forge.
fn gateway(h1: &Origin, h2: &Origin, client_auth: ClientAuth, audience: &[&str]) -> (Gateway, TokenForge) {
    let audience = audience.iter().map(|name| (*name).to_owned()).collect();
    let setup = Setup { client_auth, audience, h2: vec![h2.address], ..Setup::with_h1(h1.address) };
    let gateway = setup.start();
    let forge = TokenForge::new(gateway.trust.now());
    let own =
        Bundle::clone(&gateway.ca.bundle()).with_jwt_keys(vec![forge.signer().public().clone()]).unwrap();
    gateway.trust.update(|snapshot| drop(snapshot.bundles.insert(own.into()))).unwrap();
    (gateway, forge)
}

impl Gateway {
    async fn stranger_h1(&self) -> H1 {
        H1::over(connect(self.address, self.client_tls(None, &[b"http/1.1"])).await.unwrap())
    }

    async fn stranger_h2(&self) -> H2 {
        H2::over(connect(self.address, self.client_tls(None, &[b"h2"])).await.unwrap()).await
    }
}

fn get(path: &str, authorization: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: site.test\r\nauthorization: {authorization}\r\n\r\n")
}

#[tokio::test]
async fn tl_06_a_token_names_its_caller_over_every_protocol_and_is_not_passed_on() {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let (gateway, forge) = gateway(&h1, &h2, ClientAuth::Optional, &["others", "orders"]);
    let bearer = format!("Bearer {}", forge.composed(HOUR));
    let mut old = gateway.stranger_h1().await;
    for _ in 0..2 {
        let answer = old.ask(get("/head", &bearer)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains(&format!("portcullis-peer: {WEB}\r\n")), "{}", answer.text());
        assert!(!answer.text().to_lowercase().contains("authorization"), "{}", answer.text());
        let (_, record) = gateway.records.last();
        let credential = record.credential.clone().unwrap();
        assert_eq!((record.principal.kind(), record.reason), (PrincipalKind::Workload, Reason::Permit));
        let kid = forge.signer().public().kid();
        assert_eq!((credential.kind, credential.serial.as_deref()), (CredentialKind::Jwt, Some("one")));
        assert_eq!(credential.issuer.as_deref(), Some(kid));
        assert!(!record.facts.unwrap().connection().mtls);
    }
    assert_eq!(old.get("/hello").await.status, 403, "the next call without a token is nobody's");
    let mut new = gateway.stranger_h2().await;
    let request = Request::get("https://h2.test/hello").header("authorization", &bearer).body(()).unwrap();
    assert_eq!(new.ask(request, &[]).await.status, 200);
    let mut call = grpc("/shop.Orders/Get");
    call.headers_mut().insert("authorization", bearer.parse().unwrap());
    let answer = new.ask(call, &framed(b"x")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.records.last().1.reason, Reason::Permit);
}

#[tokio::test]
async fn tl_06_a_token_that_is_not_good_is_401_and_never_nobody() {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let (gateway, forge) = gateway(&h1, &h2, ClientAuth::Optional, &["orders"]);
    let anyone = r#"@id("anyone") permit (principal, action, resource == Route::"site");"#;
    gateway.publish(anyone, 2);
    let mut old = gateway.stranger_h1().await;
    assert_eq!(old.get("/hello").await.status, 200, "nobody may");
    let refused = |token: &str| get("/hello", &format!("Bearer {token}"));
    let mut count = 0;
    // What begins later begins while this runs.
    let is_sent =
        |bad: &BadToken| bad.code != "not_yet_valid" && bad.token.bytes().all(|byte| byte.is_ascii_graphic());
    for bad in forge.bad().into_iter().filter(is_sent) {
        let answer = old.ask(refused(&bad.token)).await;
        let challenge = answer.field("www-authenticate");
        assert_eq!((answer.status, challenge), (401, Some("Bearer error=\"invalid_token\"")), "{}", bad.name);
        let (_, record) = gateway.records.last();
        assert!(
            matches!(record.reason, Reason::TokenInvalid | Reason::TokenExpired),
            "{}: {}",
            bad.name,
            record.reason
        );
        assert_eq!(record.principal.kind(), PrincipalKind::Anonymous, "{}", bad.name);
        count += 1;
    }
    assert!(count > 50, "{count}");
    assert_eq!(old.get("/hello").await.status, 200, "the connection is not to blame");
    assert_eq!(old.ask(get("/hello", "Basic YTpi")).await.status, 200, "no token at all");
    assert_eq!(h1.requests(), 3);
}

#[tokio::test]
async fn tl_06_a_certificate_comes_before_a_token_and_without_an_audience_none_is_looked_at() {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let (gateway, _) = gateway(&h1, &h2, ClientAuth::Optional, &["orders"]);
    let answer = gateway.h1("/web").await.ask(get("/head", "Bearer of.an.application")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Bearer of.an.application"), "it is the endpoint's: {}", answer.text());
    let (gateway, forge) = self::gateway(&h1, &h2, ClientAuth::Optional, &[]);
    let bearer = format!("Bearer {}", forge.composed(HOUR));
    assert_eq!(gateway.stranger_h1().await.ask(get("/hello", &bearer)).await.status, 403);
    assert_eq!(gateway.records.last().1.principal.kind(), PrincipalKind::Anonymous);
}

#[tokio::test]
async fn ct_02_a_call_ends_with_its_token_and_with_what_takes_the_token_back() {
    let (h1, h2) = (Origin::h1().await, Origin::h2().await);
    let (gateway, forge) = gateway(&h1, &h2, ClientAuth::Optional, &["orders"]);
    let mut old = gateway.stranger_h1().await;
    let age = gateway.trust.now().saturating_since(forge.now());
    let soon = format!("Bearer {}", forge.composed(age + Duration::from_secs(5)));
    assert_eq!(old.ask(get("/hello", &soon)).await.status, 200);
    let started = tokio::time::Instant::now();
    let answer = old.ask(get("/silent", &soon)).await;
    assert!(answer.status >= 500 && started.elapsed() < Duration::from_secs(10), "{}", answer.status);
    // Within the leeway of clocks it could be taken once more; what was taken before is not.
    let mut old = gateway.stranger_h1().await;
    let bearer = format!("Bearer {}", forge.composed(HOUR));
    assert_eq!(old.ask(get("/hello", &bearer)).await.status, 200);
    let id = gateway.ca.id("/web");
    gateway.trust.update(|snapshot| snapshot.revoked.deny(&Revoked::Id(id))).unwrap();
    assert_eq!(old.ask(get("/hello", &bearer)).await.status, 401);
    assert_eq!(gateway.records.last().1.reason, Reason::IdentityRevoked);
}
