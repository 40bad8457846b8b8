//! JWT-SVIDs over a real Unix socket: fetched, their keys, judged, refused.

use std::time::Duration;

use ca_identity::{Revoked, SpiffeId, inspect};
use serde_json::{Value, json};

use super::{entry, next, soon};
use crate::{
    ClientError,
    generated::messages::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, ValidateJwtsvidRequest,
    },
    service::tests::host::{Host, with_header},
    testing::{FakeAuthority, noon},
    upstream::AgentEntry,
};
use ca_identity::Selector;
use tonic::{Code, Status};

fn asked(audience: &[&str], id: &str) -> JwtsvidRequest {
    let audience = audience.iter().map(|name| (*name).to_owned()).collect();
    JwtsvidRequest { audience, spiffe_id: id.to_owned() }
}

async fn fetch(host: &Host, request: JwtsvidRequest) -> Result<Vec<Jwtsvid>, Status> {
    let answer = soon(async { host.raw().await.fetch_jwtsvid(with_header(request)).await }).await;
    answer.map(|answer| answer.into_inner().svids)
}

async fn validate(host: &Host, audience: &str, svid: &str) -> Result<String, Status> {
    let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.to_owned() };
    let answer = soon(async { host.raw().await.validate_jwtsvid(with_header(request)).await }).await;
    answer.map(|answer| answer.into_inner().spiffe_id)
}

async fn bundles(host: &Host) -> Result<JwtBundlesResponse, Status> {
    let stream = host.raw().await.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.unwrap();
    next(&mut stream.into_inner()).await
}

fn nobody() -> AgentEntry {
    AgentEntry { selectors: vec![Selector::parse("unix:path:/no/such").unwrap()], ..entry("n", "/secret", 1) }
}

#[tokio::test]
async fn wa_10_each_identity_of_the_caller_gets_one_token_for_the_audience() {
    let hinted = AgentEntry { hint: "db".to_owned(), ..entry("a", "/old", 9) };
    let host = Host::start(vec![entry("b", "/young", 1), hinted, nobody()]).await;
    let svids = fetch(&host, asked(&["orders", "orders", "billing"], "")).await.unwrap();
    let said: Vec<_> = svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    assert_eq!(said, [("spiffe://example.org/old", "db"), ("spiffe://example.org/young", "")]);
    for svid in &svids {
        let facts = inspect::token(&svid.svid).unwrap();
        assert_eq!(facts.id.as_str(), svid.spiffe_id);
        assert_eq!(facts.audience, ["billing", "orders"]);
        assert_eq!(facts.expires, noon() + Duration::from_secs(300));
    }
    let one = fetch(&host, asked(&["orders"], "spiffe://example.org/young")).await.unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].spiffe_id, "spiffe://example.org/young");
}

#[tokio::test]
async fn wa_10_a_foreign_identity_is_denied_like_one_that_does_not_exist() {
    let host = Host::start(vec![entry("a", "/a", 1), nobody()]).await;
    for id in ["spiffe://example.org/secret", "spiffe://example.org/nothing", "spiffe://other.org/a"] {
        let status = fetch(&host, asked(&["orders"], id)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no identity issued"), "{id}");
    }
}

#[tokio::test]
async fn wa_05_an_empty_audience_and_a_malformed_id_are_invalid_arguments() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    for (request, code) in [
        (asked(&[], ""), Code::InvalidArgument),
        (asked(&[""], ""), Code::InvalidArgument),
        (asked(&["orders", ""], ""), Code::InvalidArgument),
        (asked(&["orders"], "web"), Code::InvalidArgument),
        (asked(&["orders"], "spiffe://EXAMPLE.org/a"), Code::InvalidArgument),
        (asked(&["orders"], "spiffe://example.org/a/"), Code::InvalidArgument),
        (asked(&["orders"; 9], ""), Code::ResourceExhausted),
        (asked(&["x".repeat(1025).as_str()], ""), Code::ResourceExhausted),
    ] {
        let said = format!("{:?} {}", request.audience.len(), request.spiffe_id);
        assert_eq!(fetch(&host, request).await.unwrap_err().code(), code, "{said}");
    }
    assert_eq!(validate(&host, "", "a.b.c").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn threat_wa6_a_caller_without_entry_gets_no_token_no_keys_and_no_judgement() {
    let host = Host::start(vec![nobody()]).await;
    let good = host.authority.web_token();
    for status in [
        fetch(&host, asked(&["orders"], "")).await.unwrap_err(),
        validate(&host, "orders", &good).await.unwrap_err(),
        bundles(&host).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no identity issued"));
    }
}

#[tokio::test]
async fn wa_09_bundles_of_tokens_hold_keys_for_tokens_and_those_of_certificates_roots() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let answer = bundles(&host).await.unwrap();
    let names: Vec<&str> = answer.bundles.keys().map(String::as_str).collect();
    assert_eq!(names, ["spiffe://example.org"], "DF-07: no slash behind it");
    let document: Value = serde_json::from_slice(&answer.bundles["spiffe://example.org"]).unwrap();
    let [key] = document["keys"].as_array().unwrap().as_slice() else { panic!("{document}") };
    let mut members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["crv", "kid", "kty", "x", "y"], "DF-02: a kid; DF-03: no use");
    let roots = next(&mut host.bundles().await).await.unwrap();
    assert_eq!(roots.bundles["spiffe://example.org"].first(), Some(&0x30), "DER and nothing else");
}

#[tokio::test]
async fn wa_02_a_change_of_the_keys_is_pushed() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let stream = host.raw().await.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.unwrap();
    let mut stream = stream.into_inner();
    let first = next(&mut stream).await.unwrap();
    host.authority.add_token_key();
    assert_ne!(next(&mut stream).await.unwrap(), first);
    host.authority.set_entries(Vec::new());
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied, "WA-08");
}

#[tokio::test]
async fn wa_11_a_token_is_judged_for_the_one_audience() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let good = host.authority.web_token();
    let judged = soon(host.client().await.validate_token("orders", &good)).await.unwrap();
    assert_eq!(judged.id.as_str(), "spiffe://example.org/web");
    let noon = noon().as_secs();
    let expected = json!({
        "sub": "spiffe://example.org/web", "aud": ["orders"], "exp": noon + 300, "iat": noon,
    });
    assert_eq!(Value::Object(judged.claims), expected);
}

#[tokio::test]
async fn threat_wa8_df_11_a_token_that_is_not_good_is_an_invalid_argument_with_its_reason() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let good = host.authority.web_token();
    let (message, _) = good.rsplit_once('.').unwrap();
    let stranger = FakeAuthority::start(Vec::new()).web_token();
    let tampered = format!("{message}.{}", "A".repeat(86));
    for (audience, token, reason) in [
        ("billing", good.as_str(), "another audience"),
        ("orders", &stranger, "no key of the trust domain"),
        ("orders", &tampered, "signature"),
        ("orders", "", "three segments"),
        ("orders", "{}", "three segments"),
    ] {
        let status = validate(&host, audience, token).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(reason), "{}", status.message());
    }
    host.authority.advance(310);
    let status = validate(&host, "orders", &good).await.unwrap_err();
    assert!(status.message().contains("expired"), "{}", status.message());
}

#[tokio::test]
async fn a_token_is_used_again_until_its_half_and_not_for_another_audience() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let client = host.client().await;
    soon(client.fetch_x509()).await.unwrap();
    let signed = || host.authority.signed();
    let before = signed();
    let get = |audience: &'static str| {
        let client = client.clone();
        async move {
            let id = SpiffeId::parse("spiffe://example.org/a").unwrap();
            let mut tokens = soon(client.fetch_tokens(vec![audience.to_owned()], Some(&id))).await.unwrap();
            tokens.remove(0).token
        }
    };
    let first = get("orders").await;
    assert_eq!((get("orders").await, signed() - before), (first.clone(), 1));
    assert_ne!(get("billing").await, first);
    host.authority.advance(149);
    assert_eq!((get("orders").await, signed() - before), (first.clone(), 2));
    host.authority.advance(1);
    assert_ne!(get("orders").await, first);
}

#[tokio::test]
async fn we_05_what_the_authority_cannot_do_now_is_unavailable_and_what_it_refuses_denied() {
    let host = Host::start(vec![entry("a", "/a", 1), entry("b", "/b", 2)]).await;
    let refused = fetch(&host, asked(&["forbidden"], "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    host.authority.fail(Some("down"));
    let down = fetch(&host, asked(&["orders"], "")).await.unwrap_err();
    assert_eq!((down.code(), down.message()), (Code::Unavailable, "no token can be had now"));
    host.authority.fail(None);
    host.authority.sign_as("/c");
    assert_eq!(fetch(&host, asked(&["orders"], "")).await.unwrap_err().code(), Code::Unavailable);
    let error = soon(host.client().await.fetch_tokens(vec!["orders".to_owned()], None)).await.unwrap_err();
    assert!(matches!(error, ClientError::Answer { code: Code::Unavailable, .. }), "{error}");
    host.agent.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(fetch(&host, asked(&["orders"], "")).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn threat_wa5_one_process_makes_so_many_calls_about_tokens_in_a_second() {
    let host = Host::start(vec![entry("a", "/a", 1)]).await;
    let mut raw = host.raw().await;
    let mut codes = Vec::new();
    for _ in 0..51 {
        let asked = raw.fetch_jwtsvid(with_header(asked(&["orders"], ""))).await;
        codes.push(asked.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    assert_eq!(codes[..50], [Code::Ok; 50]);
    assert_eq!(codes[50], Code::ResourceExhausted);
    let good = host.authority.web_token();
    assert_eq!(validate(&host, "orders", &good).await.unwrap_err().code(), Code::ResourceExhausted);
    host.authority.advance(1);
    assert!(validate(&host, "orders", &good).await.is_ok());
}

#[tokio::test]
async fn wa_01_without_tokens_their_calls_are_unimplemented_and_certificates_are_served() {
    let mut host = Host::start(vec![entry("a", "/a", 1)]).await;
    host.tokens = false;
    host.restart();
    let good = host.authority.web_token();
    let codes = [
        fetch(&host, asked(&["orders"], "")).await.unwrap_err().code(),
        validate(&host, "orders", &good).await.unwrap_err().code(),
        host.raw().await.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::Unimplemented; 3]);
    assert!(soon(host.client().await.fetch_x509()).await.is_ok());
}

#[tokio::test]
async fn rv_03_a_revoked_token_is_refused_and_not_handed_out_again() {
    let host = Host::start(vec![entry("a", "/web", 1)]).await;
    let svids = fetch(&host, asked(&["orders"], "")).await.unwrap();
    assert_eq!(validate(&host, "orders", &svids[0].svid).await.unwrap(), "spiffe://example.org/web");
    let facts = inspect::token(&svids[0].svid).unwrap();
    let (domain, kid) = (facts.id.trust_domain().clone(), facts.key.unwrap());
    host.authority.revoke(&Revoked::JwtKey(domain, kid));
    let refused = async {
        loop {
            match validate(&host, "orders", &svids[0].svid).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(status) => return status,
            }
        }
    };
    let status = soon(refused).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("revoked"), "{}", status.message());
    // Nor does the agent give out what the same key signs now.
    assert_eq!(fetch(&host, asked(&["orders"], "")).await.unwrap_err().code(), Code::Unavailable);
}
