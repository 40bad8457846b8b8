//! Issuance: what is signed, what is not, and what is on record first.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Clock;
use ca_identity::{
    BundleMap, IdentitySnapshot, PrivateKey, SpiffeId, Usage, X509Svid, csr, inspect, pem, verify_svid,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};

use crate::entry::NewEntry;
use crate::issue::{Requested, Subject};
use crate::ports::{IdentityEvent, IssueKind};
use crate::testing::{Bench, DAY, HOUR, StuckRng, entry, id, request, web};
use crate::{Authority, AuthorityError, Evidence, Issued, Requester};

fn verifies(authority: &Authority, issued: &Issued, bench: &Bench) {
    let bundles = BundleMap::of(authority.bundle());
    let trust = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
    for usage in [Usage::Client, Usage::Server] {
        let peer = verify_svid(&issued.chain, &trust, usage, bench.now()).unwrap();
        assert_eq!(peer.id, issued.id);
    }
}

#[tokio::test]
async fn is_07_the_record_says_everything_about_the_certificate_that_was_released() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let new = NewEntry { dns_names: vec!["web.example.org".to_owned()], ..entry("/web") };
    let entry = authority.create_entry(new).await.unwrap();
    let (key, csr) = request();
    let issued = authority.sign(Requester::Local, &entry.id, &csr).await.unwrap();
    verifies(&authority, &issued, &bench);
    let svid = X509Svid::new(issued.chain.clone(), key.clone()).unwrap();
    assert_eq!((svid.id, svid.serial), (id("/web"), issued.serial.clone()));
    let facts = inspect::certificate(&issued.chain[0]).unwrap();
    assert_eq!(facts.dns_names, ["web.example.org"]);
    assert_eq!(facts.subject, "");
    assert_eq!(issued.not_after, bench.now() + HOUR);
    assert_eq!(issued.not_before, bench.now() - Duration::from_secs(60));
    assert!(!issued.ttl_clamped);

    let [record] = <[_; 1]>::try_from(authority.issued(None, 10).unwrap()).unwrap();
    assert_eq!(record.serial, issued.serial);
    assert_eq!(record.issuer_key_id, authority.keys()[1].key_id);
    assert_eq!(Some(record.issuer_key_id), facts.issuer_key_id);
    assert_eq!(record.spiffe_id, id("/web"));
    assert_eq!(record.entry, Some((entry.id.clone(), entry.revision)));
    assert_eq!((record.kind, &record.agent), (IssueKind::Workload, authority.local_agent()));
    assert_eq!(record.spki_sha256, ca_identity::spki_sha256(key.public_spki()));
    assert_eq!((record.not_before, record.not_after), (issued.not_before, issued.not_after));
    assert_eq!(record.decision_id, "decision-1");
    assert_eq!(bench.events.issued(), [record]);
}

#[tokio::test]
async fn is_08_without_a_durable_record_there_is_no_certificate() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    bench.store.fail(true);
    let refused = authority.sign(Requester::Local, &entry.id, &request().1).await;
    assert!(matches!(refused, Err(AuthorityError::Store(_))));
    assert!(bench.events.issued().is_empty());
    bench.store.fail(false);
    assert!(authority.issued(None, 10).unwrap().is_empty());
    assert!(authority.sign(Requester::Local, &entry.id, &request().1).await.is_ok());
}

#[tokio::test]
async fn is_08_a_serial_number_is_never_released_twice() {
    let mut bench = Bench::new();
    let id = web(bench.open().await.as_ref()).await.id.clone();
    bench.rng = Arc::new(StuckRng);
    let authority = bench.open().await;
    assert!(authority.sign(Requester::Local, &id, &request().1).await.is_ok());
    let again = authority.sign(Requester::Local, &id, &request().1).await;
    assert!(matches!(again, Err(AuthorityError::Store(base_store::StoreError::Conflict { .. }))));
    assert_eq!(bench.events.issued().len(), 1);
}

#[tokio::test]
async fn is_04_a_closed_gate_refuses_everything_and_nothing_is_recorded() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    bench.gate.close(true);
    let token = authority.create_join_token(HOUR).await.unwrap();
    let csr = request().1;
    for refused in [
        authority.sign(Requester::Local, &entry.id, &csr).await,
        authority.issue_own(&id("/gateway"), &[], &csr).await,
        authority.attest(Evidence::JoinToken(token.token.clone()), &csr).await,
    ] {
        assert!(matches!(refused, Err(AuthorityError::GateRefused { .. })));
    }
    assert_eq!(bench.gate.asked(), 3);
    assert!(authority.issued(None, 10).unwrap().is_empty());
    let told =
        |event: &IdentityEvent| matches!(event, IdentityEvent::IssuanceRefused { decision_id: Some(_), .. });
    assert_eq!(bench.events.count(told), 3);
    // A refused attestation costs no token.
    bench.gate.close(false);
    assert!(authority.attest(Evidence::JoinToken(token.token), &csr).await.is_ok());
}

#[tokio::test]
async fn is_06_a_certificate_that_is_not_what_was_meant_does_not_pass_the_post_check() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let current = authority.current.load_full().unwrap();
    let check = |tamper: fn(&mut CertificateParams)| {
        let subject = Subject {
            requester: id("/portcullis/agent/local"),
            attested_by: "local".to_owned(),
            spiffe_id: id("/web"),
            dns_names: Vec::new(),
            ttl: None,
            kind: IssueKind::Own,
            entry: None,
        };
        let requested = Requested::new(subject, &request().1, &current, &bench.config, bench.now()).unwrap();
        let permitted = requested.pass(bench.gate.as_ref()).unwrap();
        let mut templated = permitted.template(bench.rng.as_ref()).unwrap();
        tamper(&mut templated.params);
        templated.sign(&current).unwrap().check(&current, bench.now()).map(drop)
    };
    assert!(check(|_| {}).is_ok());
    let tampers: [fn(&mut CertificateParams); 4] = [
        |p| p.key_usages.push(KeyUsagePurpose::KeyEncipherment),
        |p| p.subject_alt_names.push(SanType::DnsName("evil.test".try_into().unwrap())),
        |p| p.not_after += HOUR,
        |p| p.is_ca = IsCa::NoCa,
    ];
    for tamper in tampers {
        assert!(matches!(check(tamper), Err(AuthorityError::Lint(_))));
    }
}

#[tokio::test]
async fn bn_03_without_a_gate_nothing_is_issued() {
    let bench = Bench::new();
    let ports = crate::Ports { gate: Arc::new(crate::ClosedGate), ..bench.ports() };
    let authority = Authority::open(bench.config.clone(), ports).await.unwrap();
    let refused = authority.issue_own(&id("/gateway"), &[], &request().1).await;
    assert!(matches!(refused, Err(AuthorityError::GateRefused { .. })));
}

#[tokio::test]
async fn is_05_lifetimes_are_clamped_and_the_reply_says_so() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let cap = bench.config.svid_ttl_cap();
    for (n, (ttl, expires, wanted, clamped)) in [
        (Some(Duration::from_secs(600)), None, Duration::from_secs(600), false),
        (Some(DAY * 90), None, cap, true),
        (None, Some(HOUR / 2), HOUR / 2, true),
    ]
    .into_iter()
    .enumerate()
    {
        let expires_at = expires.map(|left| bench.now() + left);
        let new = NewEntry { x509_ttl: ttl, expires_at, ..entry(&format!("/web{n}")) };
        let entry = authority.create_entry(new).await.unwrap();
        let issued = authority.sign(Requester::Local, &entry.id, &request().1).await.unwrap();
        assert_eq!((issued.not_after, issued.ttl_clamped), (bench.now() + wanted, clamped), "{n}");
    }
    let gone = NewEntry { expires_at: Some(bench.now()), ..entry("/gone") };
    let gone = authority.create_entry(gone).await.unwrap();
    let refused = authority.sign(Requester::Local, &gone.id, &request().1).await;
    assert!(matches!(refused, Err(AuthorityError::EntryExpired(_))));
}

async fn agent(authority: &Authority) -> SpiffeId {
    let token = authority.create_join_token(HOUR).await.unwrap();
    authority.attest(Evidence::JoinToken(token.token), &request().1).await.unwrap().id
}

#[tokio::test]
async fn is_03_an_agent_signs_for_its_own_entries_only() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let (a, b) = (agent(&authority).await, agent(&authority).await);
    let everybody = web(&authority).await;
    let of_b = NewEntry { parent_id: Some(b.clone()), ..entry("/b") };
    let of_b = authority.create_entry(of_b).await.unwrap();
    let csr = request().1;
    let sign = |who: Requester, entry: &str| {
        let (authority, entry, csr) = (Arc::clone(&authority), entry.to_owned(), csr.clone());
        async move { authority.sign(who, &entry, &csr).await }
    };
    assert!(sign(Requester::Agent(a.clone()), &everybody.id).await.is_ok());
    assert!(sign(Requester::Agent(b), &of_b.id).await.is_ok());
    let foreign = sign(Requester::Agent(a.clone()), &of_b.id).await;
    assert!(matches!(foreign, Err(AuthorityError::ForeignEntry { .. })));
    assert!(matches!(sign(Requester::Local, &of_b.id).await, Err(AuthorityError::ForeignEntry { .. })));
    let stranger = sign(Requester::Agent(id("/portcullis/agent/join_token/none")), &everybody.id).await;
    assert!(matches!(stranger, Err(AuthorityError::NotAnAgent(_))));
    // A workload's SVID is no agent, whatever it names.
    let workload = sign(Requester::Agent(id("/web")), &everybody.id).await;
    assert!(matches!(workload, Err(AuthorityError::NotAnAgent(_))));
    assert!(matches!(sign(Requester::Agent(a), "none").await, Err(AuthorityError::UnknownEntry(_))));
    let told = |event: &IdentityEvent| matches!(event, IdentityEvent::IssuanceRefused { .. });
    assert_eq!(bench.events.count(told), 5);
}

#[tokio::test]
async fn rv_01_nothing_is_issued_for_a_deleted_entry() {
    let authority = Bench::new().open().await;
    let entry = web(&authority).await;
    authority.delete_entry(&entry.id, None).await.unwrap();
    let refused = authority.sign(Requester::Local, &entry.id, &request().1).await;
    assert!(matches!(refused, Err(AuthorityError::UnknownEntry(_))));
}

#[tokio::test]
async fn na_01_a_join_token_makes_one_agent_whose_name_says_nothing_of_it() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let token = authority.create_join_token(HOUR).await.unwrap();
    assert_eq!((token.token.len(), token.expires), (32, bench.now() + HOUR));
    let at_rest = |text: &str| {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        bench.store.all().iter().any(|row| holds(&row.key) || holds(&row.value))
    };
    assert!(!at_rest(&token.token), "the token itself is at rest");
    let issued = authority.attest(Evidence::JoinToken(token.token.clone()), &request().1).await.unwrap();
    assert!(issued.id.path().starts_with("/portcullis/agent/join_token/"));
    assert!(!issued.id.path().contains(&token.token));
    assert!(authority.is_agent(&issued.id).unwrap());
    assert_eq!(authority.issued(None, 10).unwrap()[0].kind, IssueKind::Agent);
    verifies(&authority, &issued, &bench);

    let again = authority.attest(Evidence::JoinToken(token.token), &request().1).await;
    assert!(matches!(again, Err(AuthorityError::TokenRefused)));
}

#[tokio::test]
async fn na_01_wrong_and_expired_tokens_and_odd_lifetimes_are_refused() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let token = authority.create_join_token(HOUR).await.unwrap();
    let attest = |token: &str, csr: Vec<u8>| {
        let (authority, evidence) = (Arc::clone(&authority), Evidence::JoinToken(token.to_owned()));
        async move { authority.attest(evidence, &csr).await }
    };
    for wrong in ["", "0", &token.token.to_uppercase(), token.token.get(1..).unwrap()] {
        assert!(matches!(attest(wrong, request().1).await, Err(AuthorityError::TokenRefused)), "{wrong}");
    }
    // A malformed request costs no token.
    assert!(matches!(attest(&token.token, vec![0x30]).await, Err(AuthorityError::Csr(_))));
    bench.clock.advance(HOUR + Duration::from_secs(1));
    assert!(matches!(attest(&token.token, request().1).await, Err(AuthorityError::TokenRefused)));
    for ttl in [Duration::ZERO, DAY + Duration::from_secs(1)] {
        assert!(matches!(authority.create_join_token(ttl).await, Err(AuthorityError::TokenTtl { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hv_16_of_a_hundred_parallel_redemptions_exactly_one_wins() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let token = authority.create_join_token(HOUR).await.unwrap().token;
    let csr = request().1;
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (authority, token, csr) = (Arc::clone(&authority), token.clone(), csr.clone());
        racing.spawn(async move { authority.attest(Evidence::JoinToken(token), &csr).await });
    }
    let (mut won, mut lost) = (0, 0);
    for answer in racing.join_all().await {
        match answer {
            Ok(_) => won += 1,
            Err(AuthorityError::TokenRefused) => lost += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((won, lost), (1, 99));
    assert_eq!(authority.issued(None, 200).unwrap().len(), 1);
    assert_eq!(bench.events.count(|event| matches!(event, IdentityEvent::Attested { .. })), 1);
}

#[tokio::test]
async fn s21_own_roles_need_no_entry_and_may_have_dns_names() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let names = ["localhost".to_owned()];
    let issued = authority.issue_own(&id("/gateway"), &names, &request().1).await.unwrap();
    assert_eq!(inspect::certificate(&issued.chain[0]).unwrap().dns_names, names);
    verifies(&authority, &issued, &bench);
    let local = authority.local_agent().clone();
    assert_eq!(local, id("/portcullis/agent/local"));
    assert!(authority.issue_own(&local, &[], &request().1).await.is_ok());
    assert_eq!(authority.issued(None, 10).unwrap()[0].kind, IssueKind::Own);
    let foreign = SpiffeId::parse("spiffe://other.example/gateway").unwrap();
    for bad in [foreign, authority.config().trust_domain.id()] {
        let refused = authority.issue_own(&bad, &[], &request().1).await;
        assert!(matches!(refused, Err(AuthorityError::ForeignId(_))));
    }
    let wildcard = authority.issue_own(&id("/gateway"), &["*.example.org".to_owned()], &request().1).await;
    assert!(matches!(wildcard, Err(AuthorityError::Entry(_))));
}

/// Everything that a request can ask for and must not get.
fn wishes() -> BTreeMap<&'static str, fn(&mut CertificateParams)> {
    fn uri(params: &mut CertificateParams, text: &str) {
        params.subject_alt_names.push(SanType::URI(text.try_into().unwrap()));
    }
    fn extension(params: &mut CertificateParams, oid: &[u64], content: &[u8], critical: bool) {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(critical);
        params.custom_extensions.push(extension);
    }
    BTreeMap::from([
        ("another id", (|p| uri(p, "spiffe://example.org/admin")) as fn(&mut CertificateParams)),
        ("a foreign id", |p| uri(p, "spiffe://other.example/web")),
        ("two ids", |p| {
            uri(p, "spiffe://example.org/a");
            uri(p, "spiffe://example.org/b");
        }),
        ("the authority's id", |p| uri(p, "spiffe://example.org")),
        ("a nul", |p| uri(p, "spiffe://example.org/web\0")),
        ("a dns name", |p| p.subject_alt_names.push(SanType::DnsName("evil.test".try_into().unwrap()))),
        ("an address", |p| p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()))),
        ("a mail address", |p| p.subject_alt_names.push(SanType::Rfc822Name("a@b".try_into().unwrap()))),
        ("cA", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("key cert sign", |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]),
        ("code signing", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
        ("any purpose", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        ("a subject", |p| p.distinguished_name.push(rcgen::DnType::CommonName, "admin")),
        ("an unknown extension", |p| extension(p, &[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0], true)),
        ("name constraints", |p| extension(p, &[2, 5, 29, 30], &[0x30, 0], true)),
    ])
}

#[tokio::test]
async fn ca1_nothing_of_a_hostile_request_but_its_key_reaches_the_certificate() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let new = NewEntry { dns_names: vec!["web.example.org".to_owned()], ..entry("/web") };
    let entry = authority.create_entry(new).await.unwrap();
    let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    let mut seen = 0;
    for (wish, edit) in wishes() {
        for kind in kinds {
            let pair = rcgen::KeyPair::generate_for(kind).unwrap();
            let mut params = CertificateParams::default();
            edit(&mut params);
            let request = params.serialize_request(&pair).unwrap();
            let issued = authority.sign(Requester::Local, &entry.id, request.der()).await.unwrap();
            verifies(&authority, &issued, &bench);
            let facts = inspect::certificate(&issued.chain[0]).unwrap();
            assert_eq!(facts.uris, ["spiffe://example.org/web"], "{wish}");
            assert_eq!(facts.dns_names, ["web.example.org"], "{wish}");
            assert_eq!((facts.subject.as_str(), facts.is_ca), ("", false), "{wish}");
            seen += 1;
        }
    }
    assert_eq!(seen, 45);
}

#[tokio::test]
async fn ca1_requests_that_prove_nothing_or_carry_a_wrong_key_are_refused() {
    let bench = Bench::new();
    let authority = bench.open().await;
    let entry = web(&authority).await;
    let sign = async |csr: &[u8]| authority.sign(Requester::Local, &entry.id, csr).await;
    let good = request().1;
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let trailing = [good.as_slice(), &[0]].concat();
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let p521 = CertificateParams::default().serialize_request(&p521).unwrap().der().to_vec();
    let names: Vec<_> = (0..400).map(|n| format!("host-{n}.example.org")).collect();
    let huge = csr::build(&PrivateKey::generate_p256().unwrap(), &names).unwrap();
    let certificate = authority.keys()[0].certificate().unwrap().to_vec();
    let half = good[..good.len() / 2].to_vec();
    for bad in [&forged, &trailing, &p521, &huge, &certificate, &half, &Vec::new(), &vec![0x30, 0x80]] {
        assert!(matches!(sign(bad).await, Err(AuthorityError::Csr(_))), "{bad:02x?}");
    }
    for slot in authority.keys() {
        let key = authority.vault.load(slot.kind, slot.key_id).unwrap();
        let own = csr::build(&key, &[]).unwrap();
        assert!(matches!(sign(&own).await, Err(AuthorityError::AuthorityKey)));
    }
    assert!(authority.issued(None, 10).unwrap().is_empty());
    assert!(sign(&good).await.is_ok());
}

#[tokio::test]
async fn ig3_openssl_verifies_every_certificate_in_strict_mode() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl on this machine");
        return;
    }
    let bench = Bench::new();
    bench.clock.set_wall(base_ports::SystemClock.now().wall);
    let authority = bench.open().await;
    let names = vec!["localhost".to_owned()];
    let issued = authority.issue_own(&id("/gateway"), &names, &request().1).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("leaf.pem"), pem::write_certificates(&issued.chain[..1])).unwrap();
    std::fs::write(path("signing.pem"), pem::write_certificates(&issued.chain[1..])).unwrap();
    std::fs::write(path("root.pem"), pem::write_certificates(authority.bundle().certificates())).unwrap();
    for purpose in ["sslserver", "sslclient"] {
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .args([path("root.pem"), "-untrusted".into(), path("signing.pem"), path("leaf.pem")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{purpose}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
