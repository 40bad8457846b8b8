//! JWT-SVIDs: what is signed, what is not, what is on record first, and keys for tokens over time.

use std::time::Duration;

use ca_identity::{BundleMap, IdentitySnapshot, PrivateKey, VerifiedToken, verify_jwt_svid};
use serde_json::json;

use crate::entry::NewEntry;
use crate::issue::Subject;
use crate::keys::{KeyInfo, KeyKind, KeyState};
use crate::ports::{IdentityEvent, IssueKind};
use crate::testing::{Bench, DAY, HOUR, entry, id, web};
use crate::token::{Requested, TokenKey};
use crate::{Authority, AuthorityError, Fault, IssuedToken, Requester};

const MINUTE: Duration = Duration::from_secs(60);

fn orders() -> Vec<String> {
    vec!["orders".to_owned()]
}

async fn token(authority: &Authority, entry: &str) -> Result<IssuedToken, AuthorityError> {
    authority.sign_token(Requester::Local, entry, orders()).await
}

fn read(authority: &Authority, bench: &Bench, token: &str) -> VerifiedToken {
    let trust =
        IdentitySnapshot { bundles: BundleMap::of(authority.bundle()), ..IdentitySnapshot::default() };
    verify_jwt_svid(token, "orders", &trust, bench.now()).unwrap()
}

fn keys(authority: &Authority, state: KeyState) -> Vec<KeyInfo> {
    let of = |key: &KeyInfo| key.kind == KeyKind::Jwt && key.state == state;
    authority.keys().into_iter().filter(of).collect()
}

fn kids(authority: &Authority) -> Vec<String> {
    authority.bundle().jwt_keys().iter().map(|key| key.kid().to_owned()).collect()
}

#[tokio::test]
async fn is_07_the_record_of_a_token_is_durable_and_says_everything_but_the_token() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let issued = token(&authority, &entry.id).await.unwrap();
    let seconds = bench.now().as_secs();
    assert_eq!((issued.id.clone(), issued.ttl_clamped), (id("/web"), false));
    assert_eq!((issued.issued.as_secs(), issued.expires.as_secs()), (seconds, seconds + 300));
    let read = read(&authority, &bench, &issued.token);
    let expected =
        json!({ "sub": id("/web").as_str(), "aud": ["orders"], "exp": seconds + 300, "iat": seconds });
    assert_eq!(serde_json::Value::Object(read.claims), expected);

    let [record] = <[_; 1]>::try_from(authority.issued_tokens(10).unwrap()).unwrap();
    let [active] = <[_; 1]>::try_from(keys(&authority, KeyState::Active)).unwrap();
    assert_eq!((&record.kid, record.kid.clone()), (&read.key, active.key_id.to_string()));
    assert_eq!(record.spiffe_id, id("/web"));
    assert_eq!(record.audience_sha256, ca_identity::spki_sha256(b"orders"));
    assert_eq!(record.entry, Some((entry.id.clone(), entry.revision)));
    assert_eq!(&record.agent, authority.local_agent());
    assert_eq!((record.issued, record.expires), (issued.issued, issued.expires));
    assert_eq!((record.decision_id.as_str(), record.jti.len()), ("decision-1", 32));
    let told = |event: &IdentityEvent| matches!(event, IdentityEvent::TokenIssued(told) if *told == record);
    assert_eq!(bench.events.count(told), 1);
    for row in bench.store.all() {
        let text = String::from_utf8_lossy(&row.value).into_owned();
        assert!(!text.contains(&issued.token), "the token is in the store");
    }
    assert!(!format!("{issued:?}").contains(&issued.token));
}

#[tokio::test]
async fn is_08_without_a_durable_record_there_is_no_token() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    bench.store.fail(true);
    assert!(matches!(token(&authority, &entry.id).await, Err(AuthorityError::Store(_))));
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::TokenIssued(_))), 0);
    bench.store.fail(false);
    assert!(authority.issued_tokens(10).unwrap().is_empty());
    assert!(token(&authority, &entry.id).await.is_ok());
}

#[tokio::test]
async fn is_04_the_gate_is_asked_for_tokens_too() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    bench.gate.close(true);
    assert!(matches!(token(&authority, &entry.id).await, Err(AuthorityError::GateRefused { .. })));
    let told =
        |event: &IdentityEvent| matches!(event, IdentityEvent::IssuanceRefused { decision_id: Some(_), .. });
    assert_eq!((bench.gate.asked(), bench.events.count(told)), (1, 1));
}

#[tokio::test]
async fn is_03_a_token_is_for_an_entry_of_the_agent_that_asks() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let foreign = NewEntry { parent_id: Some(id("/portcullis/agent/n1")), ..entry("/web") };
    let foreign = authority.create_entry(foreign).await.unwrap();
    assert!(matches!(token(&authority, &foreign.id).await, Err(AuthorityError::ForeignEntry { .. })));
    assert!(matches!(token(&authority, "nothing").await, Err(AuthorityError::UnknownEntry(_))));
    let stranger = Requester::Agent(id("/portcullis/agent/n2"));
    let refused = authority.sign_token(stranger, &foreign.id, orders()).await;
    assert!(matches!(refused, Err(AuthorityError::NotAnAgent(_))));
    let brief = NewEntry { expires_at: Some(bench.now() + MINUTE), ..entry("/brief") };
    let brief = authority.create_entry(brief).await.unwrap();
    let issued = token(&authority, &brief.id).await.unwrap();
    assert_eq!((issued.expires, issued.ttl_clamped), (bench.now() + MINUTE, true));
    bench.clock.advance(MINUTE);
    assert!(matches!(token(&authority, &brief.id).await, Err(AuthorityError::EntryExpired(_))));
}

#[tokio::test]
async fn jw_08_a_token_is_for_somebody_and_for_few() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let long = || "x".repeat(1024);
    for audience in [
        vec![],
        vec![String::new()],
        vec!["orders".to_owned(), String::new()],
        vec![long() + "x"],
        vec!["orders".to_owned(); 9],
        // Each fits, the token does not.
        (0..8).map(|_| long()).collect(),
    ] {
        let refused = authority.sign_token(Requester::Local, &entry.id, audience).await.unwrap_err();
        assert!(matches!(refused, AuthorityError::Audience), "{refused}");
        assert_eq!(refused.fault(), Fault::Request);
    }
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::Alarm { .. })), 0);
    let several = vec!["billing".to_owned(), "orders".to_owned()];
    let issued = authority.sign_token(Requester::Local, &entry.id, several.clone()).await.unwrap();
    assert_eq!(read(&authority, &bench, &issued.token).audience, several);
}

#[tokio::test]
async fn df_09_df_10_jti_and_iss_stand_in_tokens_that_want_them() {
    let mut bench = Bench::new();
    bench.config.jwt_issuer = Some("https://oidc.example.org".to_owned());
    let authority = bench.open().await;
    let new = NewEntry { jwt_jti: true, jwt_ttl: Some(HOUR), ..entry("/web") };
    let entry = authority.create_entry(new).await.unwrap();
    let issued = token(&authority, &entry.id).await.unwrap();
    assert_eq!(issued.expires, bench.now() + HOUR);
    let read = read(&authority, &bench, &issued.token);
    assert_eq!(read.claims["iss"], "https://oidc.example.org");
    assert_eq!(read.jti, Some(authority.issued_tokens(10).unwrap()[0].jti.clone()));
    let long = NewEntry { jwt_ttl: Some(DAY * 3), ..crate::testing::entry("/long") };
    let long = authority.create_entry(long).await.unwrap();
    let issued = token(&authority, &long.id).await.unwrap();
    assert_eq!((issued.expires, issued.ttl_clamped), (bench.now() + DAY * 7 / 6, true));
}

#[tokio::test]
async fn is_06_a_token_that_is_not_what_was_meant_does_not_pass_the_post_check() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let key = authority.tokens.load_full().unwrap();
    let signed = || {
        let subject = Subject {
            requester: authority.local_agent().clone(),
            attested_by: "local".to_owned(),
            spiffe_id: id("/web"),
            dns_names: Vec::new(),
            ttl: None,
            kind: IssueKind::Workload,
            entry: None,
        };
        let requested = Requested::new(subject, orders(), &key, &bench.config, bench.now()).unwrap();
        requested.pass(bench.gate.as_ref()).unwrap().sign(&key, bench.rng.as_ref()).unwrap()
    };
    assert!(signed().check(&key, bench.now()).is_ok());
    let entry = authority.create_entry(entry("/other")).await.unwrap();
    let mut tampered = signed();
    tampered.token = token(&authority, &entry.id).await.unwrap().token;
    assert!(matches!(tampered.check(&key, bench.now()), Err(AuthorityError::TokenDiffers)));
    let mut tampered = signed();
    tampered.token.pop();
    assert!(matches!(tampered.check(&key, bench.now()), Err(AuthorityError::TokenUnverified(_))));
    // A key that the bundle does not hold is not used at all.
    let stranger = PrivateKey::generate_p256().unwrap();
    let ready = TokenKey::ready(&stranger, bench.now() + DAY, authority.bundle(), &bench.config, bench.now());
    assert!(matches!(ready, Err(AuthorityError::TokenUnverified(_))));
}

#[tokio::test]
async fn threat_ca6_an_agent_that_asks_too_often_is_told_to_slow_down() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    bench.gate.close(true);
    let mut refused = 0;
    for _ in 0..502 {
        let answer = token(&authority, &entry.id).await;
        refused += usize::from(matches!(answer, Err(AuthorityError::TooManyTokens(_))));
    }
    assert_eq!(refused, 2);
    let told = |event: &IdentityEvent| matches!(event, IdentityEvent::IssuanceRefused { .. });
    assert_eq!(bench.events.count(told), 500, "a flood is not to fill the ledger as well");
    bench.gate.close(false);
    assert_eq!(token(&authority, &entry.id).await.unwrap_err().fault(), Fault::Limited);
    bench.clock.advance(Duration::from_secs(1));
    assert!(token(&authority, &entry.id).await.is_ok());
}

#[tokio::test]
async fn fe_08_a_key_for_tokens_is_published_before_it_signs_and_stays_until_its_last_token_has_ended() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let first = token(&authority, &entry.id).await.unwrap();
    let first_kid = read(&authority, &bench, &first.token).key;
    let sequence = authority.bundle().sequence;
    assert_eq!(kids(&authority), std::slice::from_ref(&first_kid));

    bench.clock.advance(DAY * 4);
    authority.sweep_rotation().await.unwrap();
    assert!(authority.bundle().sequence > sequence, "TB-03: new content, new sequence");
    let [_, next] = <[_; 2]>::try_from(kids(&authority)).unwrap();
    assert_eq!(keys(&authority, KeyState::Prepared)[0].key_id.to_string(), next);
    let before = token(&authority, &entry.id).await.unwrap();
    assert_eq!(read(&authority, &bench, &before.token).key, first_kid);

    bench.clock.advance(DAY * 2);
    let before = token(&authority, &entry.id).await.unwrap();
    let sequence = authority.bundle().sequence;
    authority.sweep_rotation().await.unwrap();
    let after = token(&authority, &entry.id).await.unwrap();
    assert_eq!(read(&authority, &bench, &after.token).key, next);
    assert_eq!(read(&authority, &bench, &before.token).key, first_kid);
    assert_eq!(authority.bundle().sequence, sequence, "activation publishes nothing");

    bench.clock.advance(DAY * 3);
    authority.sweep_rotation().await.unwrap();
    assert!(!kids(&authority).contains(&first_kid) && authority.bundle().sequence > sequence);
    assert!(!bench.key_files().iter().any(|path| path.to_string_lossy().contains(&first_kid)));
    let again = bench.open().await;
    assert_eq!((kids(&again), again.bundle().sequence), (kids(&authority), authority.bundle().sequence));
}

#[tokio::test]
async fn au_03_a_lost_key_for_tokens_is_replaced_and_what_it_signed_still_verifies() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let before = token(&authority, &entry.id).await.unwrap();
    let lost = keys(&authority, KeyState::Active)[0].key_id;
    let file = bench.key_files().into_iter().find(|path| path.to_string_lossy().contains(&lost.to_string()));
    base_ports::Disk::remove(&bench.disk, &file.unwrap()).unwrap();
    let again = bench.open().await;
    let alarmed = |event: &IdentityEvent| matches!(event, IdentityEvent::Alarm { code: "jwt_key_lost", .. });
    assert_eq!(bench.events.count(alarmed), 1);
    assert_eq!(keys(&again, KeyState::Old)[0].key_id, lost);
    let after = token(&again, &entry.id).await.unwrap();
    assert_ne!(read(&again, &bench, &after.token).key, lost.to_string());
    assert_eq!(read(&again, &bench, &before.token).key, lost.to_string());
}

#[tokio::test]
async fn an_expired_root_ends_certificates_and_not_tokens() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    bench.clock.advance(DAY * 366);
    let again = bench.open().await;
    assert!(token(&again, &entry.id).await.is_ok());
}

#[tokio::test]
async fn s17_records_of_tokens_that_ended_leave_the_store() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    token(&authority, &entry.id).await.unwrap();
    bench.clock.advance(MINUTE * 4);
    token(&authority, &entry.id).await.unwrap();
    bench.clock.advance(MINUTE * 2);
    assert_eq!(authority.sweep_rotation().await.unwrap().pruned, 1);
    assert_eq!(authority.issued_tokens(10).unwrap().len(), 1);
}

#[tokio::test]
async fn two_at_once_are_two_tokens_with_two_records() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let (one, other) = tokio::join!(token(&authority, &entry.id), token(&authority, &entry.id));
    assert_ne!(one.unwrap().token, other.unwrap().token);
    assert_eq!(authority.issued_tokens(10).unwrap().len(), 2);
}

#[tokio::test]
async fn an_authority_of_an_earlier_version_gets_its_key_for_tokens_at_start() {
    let bench = Bench::new();
    let before = bench.open().await;
    let entry = web(&before).await;
    let sequence = before.bundle().sequence;
    let row = base_store::Store::get(bench.store.as_ref(), crate::row::KEYS).unwrap().unwrap();
    let mut table: serde_json::Value = serde_json::from_slice(&row.value).unwrap();
    table["slots"].as_array_mut().unwrap().retain(|slot| slot["kind"] != "jwt");
    for slot in table["slots"].as_array().unwrap() {
        let members: Vec<&String> = slot.as_object().unwrap().keys().collect();
        assert_eq!(members.len(), 3, "slots of certificates are written as they were: {members:?}");
    }
    let earlier = base_store::Transaction::new()
        .put(crate::row::KEYS.to_vec(), serde_json::to_vec(&table).unwrap())
        .put(crate::row::BUNDLE.to_vec(), b"[\"a root\"]".to_vec());
    base_store::Store::commit(bench.store.as_ref(), earlier).await.unwrap();
    let after = bench.open().await;
    assert_eq!((keys(&after, KeyState::Active).len(), kids(&after).len()), (1, 1));
    assert!(after.bundle().sequence > sequence);
    assert!(token(&after, &entry.id).await.is_ok());
}
