//! Callers whom a token names (TL-06): a JWT-SVID for the audience of the listener, in place of a certificate, and the token
//! of a person, alone or beside a certificate (MO5).

use std::sync::Arc;
use std::time::Duration;

use ca_identity::testing::{BadToken, TokenForge};
use ca_identity::tls::ClientAuth;
use ca_identity::{Bundle, IssuerKeys, JwksReader, Revoked};
use http::Request;
use policies_engine::{CredentialKind, PrincipalKind, Reason};
use serde_json::{Value, json};

use super::client::{H1, H2, connect, framed, grpc};
use super::harness::{Gateway, Setup, WEB};
use super::origin::Origin;
use crate::{Issuer, IssuerSettings};

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

const CORP: &str = "https://id.corp.test";

/// A gateway where users of `corp` may call, its keys, and what its tokens say.
async fn of_people(client_auth: ClientAuth, passes_on: bool) -> (Gateway, TokenForge, Arc<Issuer>, Origin) {
    let h1 = Origin::h1().await;
    let issuer = Issuer::new(IssuerSettings {
        name: "corp".to_owned(),
        url: CORP.to_owned(),
        audience: vec!["shop".to_owned()],
        groups_claim: "groups".to_owned(),
        passes_on,
    });
    let issuers = vec![Arc::clone(&issuer)];
    let gateway = Setup { client_auth, issuers, ..Setup::with_h1(h1.address) }.start();
    let forge = TokenForge::new(gateway.trust.now());
    let staff = r#"
        @id("staff") permit (principal in UserGroup::"corp/staff", action, resource == Route::"site");
        @id("for-staff") permit (principal is Workload, action, resource == Route::"site")
            when { context has jwt && context.jwt.user in UserGroup::"corp/staff" && context.jwt.scopes.contains("read") };
        @id("not-mallory") forbid (principal, action, resource)
            when { context has jwt && context.jwt.user has email && context.jwt.user.email == "mallory@corp.test" };
    "#;
    gateway.publish(staff, 2);
    issuer.publish(keys(&forge));
    (gateway, forge, issuer, h1)
}

fn keys(forge: &TokenForge) -> IssuerKeys {
    IssuerKeys::from_jwks(forge.bundle().to_jwt_jwks(JwksReader::Oidc { names_use: true }).as_bytes())
        .unwrap()
}

/// A token of `corp` with those claims besides the usual ones.
fn of_corp(forge: &TokenForge, more: &Value) -> String {
    let now = forge.now().as_secs();
    let mut claims = json!({ "iss": CORP, "aud": "shop", "sub": "4711", "iat": now, "exp": now + 3_600,
        "groups": ["staff"], "scope": "read write" });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": forge.signer().public().kid() });
    format!("Bearer {}", forge.token(&header.to_string(), &claims.to_string()))
}

#[tokio::test]
async fn mo5_a_token_names_a_person_who_is_judged_by_its_groups() {
    let (gateway, forge, _issuer, _h1) = of_people(ClientAuth::Optional, true).await;
    let mut h1 = gateway.stranger_h1().await;
    let answer = h1.ask(get("/head", &of_corp(&forge, &json!({})))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("Bearer "), "the token is the endpoint's as well: {}", answer.text());
    let (_, record) = gateway.records.last();
    assert_eq!((record.principal.kind(), record.principal.id()), (PrincipalKind::User, "corp/4711"));
    let credential = record.credential.clone().unwrap();
    assert_eq!(
        (credential.kind, credential.issuer.as_deref()),
        (CredentialKind::Jwt, Some(forge.signer().public().kid()))
    );
    // The same person, by a token that tells of other groups, and by one that tells of whom a policy forbids.
    assert_eq!(h1.ask(get("/hello", &of_corp(&forge, &json!({ "groups": ["guests"] })))).await.status, 403);
    let email = |verified: bool| json!({ "email": "mallory@corp.test", "email_verified": verified });
    assert_eq!(h1.ask(get("/hello", &of_corp(&forge, &email(true)))).await.status, 403);
    assert_eq!(gateway.records.last().1.reason, Reason::Forbid);
    assert_eq!(
        h1.ask(get("/hello", &of_corp(&forge, &email(false)))).await.status,
        200,
        "nobody checked that address"
    );
    assert_eq!(h1.get("/hello").await.status, 403, "the next call without a token is nobody's");
}

#[tokio::test]
async fn mo5_beside_a_certificate_the_workload_calls_and_the_person_is_known() {
    let (gateway, forge, _issuer, _h1) = of_people(ClientAuth::Required, false).await;
    let mut web = gateway.h1("/web").await;
    let ask = |more: Value| get("/head", &of_corp(&forge, &more));
    let answer = web.ask(ask(json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains(&format!("portcullis-peer: {WEB}\r\n")), "{}", answer.text());
    assert!(!answer.text().to_lowercase().contains("authorization"), "it is kept here: {}", answer.text());
    let (_, record) = gateway.records.last();
    assert_eq!((record.principal.id(), record.credential.unwrap().kind), (WEB, CredentialKind::X509));
    assert!(record.facts.unwrap().connection().mtls);
    for more in [
        json!({ "groups": ["guests"] }),
        json!({ "scope": "write" }),
        json!({ "email": "mallory@corp.test", "email_verified": true }),
    ] {
        assert_eq!(web.ask(ask(more.clone())).await.status, 403, "{more}");
    }
    assert_eq!(web.get("/hello").await.status, 403, "nobody on whose behalf it calls");
}

#[tokio::test]
async fn mo5_a_token_of_nobody_known_is_401_whoever_brings_it() {
    let (gateway, forge, issuer, h1) = of_people(ClientAuth::Optional, true).await;
    let (mut stranger, mut web) = (gateway.stranger_h1().await, gateway.h1("/web").await);
    let others = TokenForge::new(forge.now());
    for bearer in [
        of_corp(&forge, &json!({ "iss": "https://id.other.test" })),
        of_corp(&forge, &json!({ "aud": "others" })),
        of_corp(&forge, &json!({ "exp": forge.now().as_secs() - 60 })),
        of_corp(&others, &json!({})),
        format!("Bearer {}", forge.composed(HOUR)),
        "Bearer of.an.application".to_owned(),
        "Bearer ".to_owned(),
    ] {
        for client in [&mut stranger, &mut web] {
            assert_eq!(client.ask(get("/hello", &bearer)).await.status, 401, "{bearer}");
            let reason = gateway.records.last().1.reason;
            assert!(reason.is_about_a_token(), "{bearer}: {reason:?}");
        }
    }
    assert_eq!(h1.requests(), 0);
    assert!(issuer.is_wanted(), "a key that is not known is asked for");
}

#[tokio::test]
async fn ct_02_a_person_is_known_until_the_token_ends_or_its_key_is_withdrawn() {
    let (gateway, forge, issuer, _h1) = of_people(ClientAuth::Optional, true).await;
    let mut h1 = gateway.stranger_h1().await;
    let bearer = of_corp(&forge, &json!({}));
    assert_eq!(h1.ask(get("/hello", &bearer)).await.status, 200);
    issuer.publish(keys(&TokenForge::new(forge.now())));
    assert_eq!(h1.ask(get("/hello", &bearer)).await.status, 401);
    assert_eq!(gateway.records.last().1.reason, Reason::TokenInvalid);
    issuer.publish(keys(&forge));
    let soon = of_corp(&forge, &json!({ "exp": gateway.trust.now().as_secs() + 3 }));
    let mut h1 = gateway.stranger_h1().await;
    assert_eq!(h1.ask(get("/hello", &soon)).await.status, 200);
    let started = tokio::time::Instant::now();
    let answer = h1.ask(get("/silent", &soon)).await;
    assert!(answer.status >= 500 && started.elapsed() < Duration::from_secs(10), "{}", answer.status);
}
