//! What the standards ask of an issuer (X509-SVID, Trust Domain and Bundle), read from everything that one authority
//! makes: certificates of workloads, agents and own roles, signing CAs and roots, before and after a rotation.

use ca_identity::{CertificateDer, SpiffeId};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::entry::NewEntry;
use crate::keys::{KeyKind, KeyState};
use crate::ports::{GateAnswer, IssuanceGate, IssueRequest, Ports};
use crate::testing::{Bench, DAY, HOUR, entry, id, request};
use crate::{Authority, AuthorityError, Evidence, Requester};

const BY: &str = "local user 0";

/// Everything that carries a name: leaves, then signing CAs, then roots.
struct Made {
    leaves: Vec<CertificateDer<'static>>,
    signing: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Made {
    async fn all() -> Self {
        let bench = Bench::new();
        let authority = bench.open().await;
        let named = NewEntry { dns_names: vec!["web.example.org".to_owned()], ..entry("/web") };
        let entries = [
            authority.create_entry(named).await.unwrap().id.clone(),
            authority.create_entry(entry("/plain")).await.unwrap().id.clone(),
        ];
        let mut leaves = Vec::new();
        for round in 0..2 {
            for entry in &entries {
                let issued = authority.sign(Requester::Local, entry, &request().1).await.unwrap();
                leaves.push(issued.chain[0].clone());
            }
            let names = ["localhost".to_owned()];
            leaves
                .push(authority.issue_own(&id("/gw"), &names, &request().1).await.unwrap().chain[0].clone());
            let token = authority.create_join_token(HOUR).await.unwrap().token;
            let agent = authority.attest(Evidence::JoinToken(token), &request().1).await.unwrap();
            leaves.push(agent.chain[0].clone());
            if round == 0 {
                authority.rotate_key(KeyKind::Signing, true, BY).await.unwrap();
                authority.rotate_key(KeyKind::Root, true, BY).await.unwrap();
            }
        }
        let of = |kind| {
            let slots = authority.keys().into_iter().filter(move |slot| slot.kind == kind);
            slots.filter_map(|slot| slot.certificate().cloned()).collect::<Vec<_>>()
        };
        let made = Self { leaves, signing: of(KeyKind::Signing), roots: of(KeyKind::Root) };
        assert_eq!((made.leaves.len(), made.signing.len(), made.roots.len()), (8, 3, 2));
        made
    }

    fn authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.signing.iter().chain(&self.roots)
    }

    fn every(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.leaves.iter().chain(self.authorities())
    }
}

fn read<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

fn key_usage<'a>(read: &'a X509Certificate<'_>) -> (&'a KeyUsage, bool) {
    let found = read.key_usage().unwrap().expect("keyUsage");
    (found.value, found.critical)
}

fn constraints<'a>(read: &'a X509Certificate<'_>) -> (&'a BasicConstraints, bool) {
    let found = read.basic_constraints().unwrap().expect("basicConstraints");
    (found.value, found.critical)
}

/// URI and DNS names, and whether the extension is critical.
fn names<'a>(read: &'a X509Certificate<'_>) -> (Vec<&'a str>, usize, bool) {
    let found = read.subject_alternative_name().unwrap().expect("names");
    let uris = found.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uris: Vec<_> = uris.collect();
    let dns = found.value.general_names.len() - uris.len();
    (uris, dns, found.critical)
}

#[tokio::test]
async fn x5_01_x5_02_df_05_what_is_issued_names_one_id_with_a_path() {
    let made = Made::all().await;
    let mut with_dns = 0;
    for der in &made.leaves {
        let leaf = read(der);
        let (uris, dns, _) = names(&leaf);
        let [uri] = uris.as_slice() else { panic!("{uris:?}") };
        assert!(SpiffeId::parse(uri).unwrap().path().len() > 1, "{uri}");
        with_dns += usize::from(dns > 0);
    }
    assert_eq!(with_dns, 4);
    // Nobody gets one without path: neither by an entry nor as a role of this process.
    let bench = Bench::new();
    let authority = bench.open().await;
    let root = authority.config().trust_domain.id();
    let refused = authority.create_entry(NewEntry { spiffe_id: root.clone(), ..entry("/web") }).await;
    assert!(matches!(refused, Err(AuthorityError::Entry(_))), "{refused:?}");
    let refused = authority.issue_own(&root, &[], &request().1).await;
    assert!(matches!(refused, Err(AuthorityError::ForeignId(_))));
}

#[tokio::test]
async fn x5_03_the_names_are_critical_where_the_subject_is_empty() {
    let made = Made::all().await;
    for der in made.every() {
        let read = read(der);
        let is_empty = read.subject().iter().next().is_none();
        assert_eq!(names(&read).2, is_empty);
        assert_eq!(is_empty, made.leaves.contains(der));
    }
}

#[tokio::test]
async fn x5_04_df_04_basic_constraints_are_written_and_say_which_is_an_authority() {
    let made = Made::all().await;
    for der in made.every() {
        let read = read(der);
        let (found, is_critical) = constraints(&read);
        assert_eq!((found.ca, is_critical), (!made.leaves.contains(der), true));
    }
}

#[tokio::test]
async fn x5_05_x5_06_x5_07_key_usage_is_critical_and_says_no_more_than_each_needs() {
    let made = Made::all().await;
    for der in made.every() {
        let read = read(der);
        let (usage, is_critical) = key_usage(&read);
        assert!(is_critical);
        assert!(!usage.key_encipherment() && !usage.key_agreement());
        let is_leaf = made.leaves.contains(der);
        assert_eq!(usage.digital_signature(), is_leaf);
        assert_eq!((usage.key_cert_sign(), usage.crl_sign()), (!is_leaf, !is_leaf));
    }
}

#[tokio::test]
async fn x5_08_every_leaf_is_good_for_both_sides_of_tls_and_nothing_else() {
    for der in &Made::all().await.leaves {
        let read = read(der);
        let found = read.extended_key_usage().unwrap().expect("extendedKeyUsage").value;
        let both = ExtendedKeyUsage { server_auth: true, client_auth: true, ..nothing() };
        assert_eq!(*found, both);
    }
}

fn nothing() -> ExtendedKeyUsage<'static> {
    ExtendedKeyUsage {
        any: false,
        server_auth: false,
        client_auth: false,
        code_signing: false,
        email_protection: false,
        time_stamping: false,
        ocsp_signing: false,
        other: Vec::new(),
    }
}

#[tokio::test]
async fn x5_11_a_root_has_one_level_below_it_and_a_signing_ca_none() {
    let made = Made::all().await;
    let lengths = |of: &[CertificateDer<'static>]| -> Vec<Option<u32>> {
        of.iter().map(|der| constraints(&read(der)).0.path_len_constraint).collect()
    };
    assert_eq!(lengths(&made.roots), [Some(1); 2]);
    assert_eq!(lengths(&made.signing), [Some(0); 3]);
    assert_eq!(lengths(&made.leaves), [None; 8]);
}

#[tokio::test]
async fn x5_12_no_name_constraints_are_ever_issued() {
    for der in Made::all().await.every() {
        let read = read(der);
        let mut extensions = read.extensions().iter().map(|extension| extension.parsed_extension());
        assert!(!extensions.any(|found| matches!(found, ParsedExtension::NameConstraints(_))));
    }
}

#[tokio::test]
async fn tb_03_the_sequence_moves_with_the_content_and_never_back() {
    let bench = Bench::new();
    let mut authority = bench.open().await;
    let content = |authority: &Authority| {
        let bundle = authority.bundle();
        let keys: Vec<_> = bundle.jwt_keys().iter().map(|key| key.kid().to_owned()).collect();
        (bundle.certificates().cloned().collect::<Vec<_>>(), keys)
    };
    let (mut last, mut sequence) = (content(&authority), authority.bundle().sequence);
    let mut moved = 0;
    for step in 0..12_u32 {
        let kind = [KeyKind::Signing, KeyKind::Jwt, KeyKind::Root][step as usize % 3];
        match step / 3 {
            0 => drop(authority.prepare_key(kind, false, BY).await.unwrap()),
            1 => drop(authority.activate_key(kind, true, BY).await.unwrap()),
            2 => {
                let old = |slot: &crate::KeyInfo| slot.kind == kind && slot.state == KeyState::Old;
                let old = authority.keys().into_iter().find(old).unwrap().key_id;
                authority.revoke_key(kind, Some(old), true, (BY, "test")).await.unwrap();
            }
            _ => {
                bench.clock.advance(DAY * 4);
                authority.sweep_rotation().await.unwrap();
            }
        }
        // What has no content of its own moves nothing, however much else is written.
        authority.create_entry(entry(&format!("/e{step}"))).await.unwrap();
        let (now, number) = (content(&authority), authority.bundle().sequence);
        assert!(number >= sequence, "{step}: {number} after {sequence}");
        assert_eq!(number > sequence, now != last, "{step}: {number} after {sequence}");
        moved += usize::from(number > sequence);
        (last, sequence) = (now, number);

        // A change that is not durable did not happen, and the next start knows the number of the last that did.
        bench.store.fail(true);
        assert!(authority.prepare_key(kind, true, BY).await.is_err());
        bench.store.fail(false);
        assert_eq!(authority.bundle().sequence, sequence);
        authority = bench.open().await;
        assert_eq!((content(&authority), authority.bundle().sequence), (last.clone(), sequence));
    }
    assert!(moved >= 4, "{moved}");
    // 64 bits, also for those who read it.
    let text = format!("{{\"keys\":[],\"spiffe_sequence\":{}}}", u64::MAX);
    let domain = authority.config().trust_domain.clone();
    assert_eq!(ca_identity::Bundle::from_jwks(domain, text.as_bytes()).unwrap().sequence, u64::MAX);
}

/// Keeps what it was asked, word for word.
#[derive(Debug, Default)]
struct Listening(parking_lot::Mutex<Vec<String>>);

impl IssuanceGate for Listening {
    fn decide(&self, request: &IssueRequest<'_>) -> GateAnswer {
        self.0.lock().push(format!("{request:?}"));
        GateAnswer { allow: true, decision_id: "d".to_owned() }
    }
}

#[tokio::test]
async fn is_01_behind_the_verifier_nobody_sees_the_evidence() {
    let (bench, gate) = (Bench::new(), std::sync::Arc::new(Listening::default()));
    let ports = Ports { gate: std::sync::Arc::<Listening>::clone(&gate), ..bench.ports() };
    let authority = Authority::open(bench.config.clone(), ports).await.unwrap();
    let token = authority.create_join_token(HOUR).await.unwrap().token;
    let evidence = Evidence::JoinToken(token.clone());
    assert_eq!(format!("{evidence:?}"), "Evidence(join_token)");
    let issued = authority.attest(evidence, &request().1).await.unwrap();
    let asked = gate.0.lock().join("\n");
    assert!(asked.contains("attested_by: \"join_token\"") && asked.contains(issued.id.as_str()), "{asked}");
    assert!(!asked.contains(&token));
    assert_eq!(bench.events.count(|event| format!("{event:?}").contains(&token)), 0);
    let holds = |bytes: &[u8]| bytes.windows(token.len()).any(|window| window == token.as_bytes());
    assert!(bench.store.all().iter().all(|row| !holds(&row.key) && !holds(&row.value)));
}
