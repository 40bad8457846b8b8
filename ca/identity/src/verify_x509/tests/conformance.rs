//! Rules of X509-SVID and of the trust bundle, one table for each: what a verifier must refuse, and what it must not.

use rcgen::{IsCa, KeyUsagePurpose, SanType};

use super::*;
use crate::IdError;
use crate::testing::{BadLeaf as Bad, uri};

/// Each kind of leaf or chain is refused for its own reason, whichever side shows it.
fn are_refused(kinds: &[Bad]) {
    let ca = ca();
    for kind in kinds {
        let (chain, _) = ca.bad(*kind);
        for usage in [Usage::Client, Usage::Server] {
            let answer = verify_svid(&chain, &ca.snapshot(None), usage, testing::now());
            assert_eq!(answer, Err(kind.refusal()), "{kind:?}");
        }
    }
}

/// What a leaf of the test authority earns after `edit`.
fn leaf(edit: impl FnOnce(&mut CertificateParams)) -> Result<VerifiedPeer, Refusal> {
    let (ca, key) = (ca(), PrivateKey::generate_p256().unwrap());
    judge(&[ca.leaf(&key, edit), ca.signing().clone()], &ca.snapshot(None))
}

/// What a leaf earns whose subject alternative names are exactly these tagged values.
fn named(names: &[(u8, &[u8])]) -> Result<VerifiedPeer, Refusal> {
    let names: Vec<u8> = names
        .iter()
        .flat_map(|(tag, name)| [&[*tag, u8::try_from(name.len()).unwrap()][..], *name].concat())
        .collect();
    let san = [&[0x30, u8::try_from(names.len()).unwrap()][..], names.as_slice()].concat();
    leaf(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], san));
    })
}

const URI: u8 = 0x86;
const DNS: u8 = 0x82;
const MAIL: u8 = 0x81;
const WEB: &[u8] = b"spiffe://example.org/web";

#[test]
fn x5_01_a_leaf_has_exactly_one_uri_name_and_may_have_dns_names() {
    are_refused(&[Bad::TwoUris, Bad::TwoUrisOneSpiffe, Bad::NoSan, Bad::DnsOnly, Bad::UnreadableName]);
    assert_eq!(named(&[(URI, WEB), (URI, WEB)]), Err(Refusal::ManyUris), "the same name twice");
    assert_eq!(named(&[]), Err(Refusal::NoUri));
    let peer = named(&[(DNS, b"a.example.org"), (URI, WEB), (DNS, b"b.example.org")]).unwrap();
    assert_eq!(peer.id.as_str().as_bytes(), WEB);
}

#[test]
fn x5_02_the_id_of_a_leaf_has_a_path() {
    are_refused(&[Bad::RootPath]);
    assert_eq!(named(&[(URI, b"spiffe://example.org/")]), Err(Refusal::SpiffeId(IdError::TrailingSlash)));
}

#[test]
fn x5_10_what_signs_certificates_authenticates_nobody() {
    are_refused(&[Bad::CaAsLeaf]);
    let ca = ca();
    // With a path in its name, too: cA alone is enough.
    for usage in [Usage::Client, Usage::Server] {
        for chain in [vec![ca.signing().clone()], vec![ca.root().clone()]] {
            let answer = verify_svid(&chain, &ca.snapshot(None), usage, testing::now());
            assert_eq!(answer, Err(Refusal::RootPath));
        }
    }
    let with_path = leaf(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
    assert_eq!(with_path, Err(Refusal::LeafIsCa));
}

#[test]
fn x5_14_each_rule_of_a_leaf_refuses_by_itself() {
    are_refused(&[Bad::CaAsLeaf, Bad::KeyCertSign, Bad::CrlSign, Bad::HttpUri, Bad::RootPath]);
    let uses = |usages: &[KeyUsagePurpose]| leaf(|params| params.key_usages = usages.to_vec()).map(drop);
    let digital = KeyUsagePurpose::DigitalSignature;
    assert_eq!(uses(&[digital]), Ok(()));
    assert_eq!(uses(&[digital, KeyUsagePurpose::KeyCertSign]), Err(Refusal::LeafMaySign));
    assert_eq!(uses(&[digital, KeyUsagePurpose::CrlSign]), Err(Refusal::LeafMaySign));
    // Without the extension that says so it is no CA either.
    assert_eq!(leaf(|params| params.is_ca = IsCa::NoCa).map(drop), Ok(()));
    for scheme in ["https", "spiffee", "SPIFFE", "urn"] {
        let name = format!("{scheme}://example.org/web");
        let answer = named(&[(URI, name.as_bytes())]);
        assert_eq!(answer, Err(Refusal::SpiffeId(IdError::Scheme)), "{scheme}");
    }
}

#[test]
fn vs_03_names_are_read_as_bytes_and_one_bad_name_refuses_all() {
    are_refused(&[
        Bad::TwoSanExtensions,
        Bad::NulInUri,
        Bad::NulInDns,
        Bad::UpperCaseDomain,
        Bad::UriWithQuery,
        Bad::TrailingSlash,
        Bad::UnreadableName,
        Bad::RootPath,
    ]);
    let with = |tag, name: &[u8]| named(&[(URI, WEB), (tag, name)]);
    for tag in [DNS, MAIL] {
        assert_eq!(with(tag, b"a\0b"), Err(Refusal::SanByte), "{tag:x}");
        assert_eq!(with(tag, "ä".as_bytes()), Err(Refusal::SanByte), "{tag:x}");
        assert_eq!(with(tag, &[0xff, 0xfe]), Err(Refusal::SanInvalid), "{tag:x}");
    }
    assert_eq!(named(&[(URI, "spiffe://example.org/wéb".as_bytes())]), Err(Refusal::SanByte));
    assert_eq!(named(&[(URI, &[0x80])]), Err(Refusal::SanInvalid));
    // A tag that no name has, and a name that is cut off.
    assert_eq!(with(0x8f, b"x"), Err(Refusal::SanInvalid));
    let cut = [0x30, 3, URI, 24, b's'];
    let answer = leaf(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], cut.to_vec()));
    });
    assert!(matches!(answer, Err(Refusal::Malformed | Refusal::SanInvalid)), "{answer:?}");
    // Kinds of names that say nothing of an identity are no reason.
    assert!(with(0x87, &[127, 0, 0, 1]).is_ok());
}

#[test]
fn vs_05_every_intermediate_is_a_ca_of_the_same_domain() {
    are_refused(&[
        Bad::IntermediateWithoutCa,
        Bad::IntermediateWithoutKeyUsage,
        Bad::IntermediateOfForeignDomain,
        Bad::IntermediateWithPath,
    ]);
    let ca = ca();
    let below = |edit: &dyn Fn(&mut CertificateParams)| {
        judge(&chain_below(ca.root_issuer(), edit), &ca.snapshot(None)).map(drop)
    };
    assert_eq!(below(&|_| {}), Ok(()));
    assert_eq!(below(&|params| params.subject_alt_names.clear()), Ok(()), "one without name");
    assert_eq!(below(&|params| params.is_ca = IsCa::NoCa), Err(Refusal::IntermediateNotCa));
    let crl_only = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(below(&crl_only), Err(Refusal::IntermediateKeyUsage));
    let two = |params: &mut CertificateParams| params.subject_alt_names.push(uri("spiffe://example.org"));
    assert_eq!(below(&two), Err(Refusal::IntermediateName));
    let web = |params: &mut CertificateParams| params.subject_alt_names = vec![uri("https://example.org")];
    assert_eq!(below(&web), Err(Refusal::IntermediateName));
    let nul = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::DnsName("a\0b".try_into().unwrap()));
    };
    assert_eq!(below(&nul), Err(Refusal::SanByte));
}

#[test]
fn vs_06_absent_empty_and_stale_bundles_refuse_each_in_its_own_words() {
    are_refused(&[Bad::WrongTrustDomain]);
    let ca = ca();
    let chain = ca.svid("/web").chain;
    let with = |bundle: Bundle| {
        let bundles = BundleMap::of(Arc::new(bundle));
        judge(&chain, &IdentitySnapshot { bundles, ..IdentitySnapshot::default() }).map(drop)
    };
    let domain = || ca.trust_domain().clone();
    let own = || Bundle::clone(&ca.bundle());
    let unknown = judge(&chain, &IdentitySnapshot::default());
    assert_eq!(unknown, Err(Refusal::UnknownTrustDomain(domain())));
    assert_eq!(with(Bundle::new(domain(), Vec::new(), 1).unwrap()), Err(Refusal::BundleEmpty));
    assert_eq!(with(own().with_stale_after(testing::now())), Ok(()));
    let past = testing::now() - Duration::from_nanos(1);
    assert_eq!(with(own().with_stale_after(past)), Err(Refusal::BundleStale));
}

#[test]
fn tb_01_bundles_stay_apart_by_domain_and_never_help_each_other() {
    // The root has no name of its own, so that nothing but the domain of its bundle says whom it vouches for.
    let (root, issuer) = nameless_root(1);
    let chain = chain_below(&issuer, |params| params.subject_alt_names.clear());
    assert!(judge(&chain, &trusting(root.clone())).is_ok());
    let of = |domain: &str, anchors| {
        Arc::new(Bundle::new(TrustDomain::parse(domain).unwrap(), anchors, 1).unwrap())
    };
    let theirs = of("partner.test", vec![root]);
    let answers = [
        (None, Refusal::UnknownTrustDomain(TrustDomain::parse(DOMAIN).unwrap())),
        (Some(of(DOMAIN, Vec::new())), Refusal::BundleEmpty),
        (Some(ca().bundle()), Refusal::NoPath),
    ];
    for (ours, refusal) in answers {
        let mut bundles = BundleMap::of(Arc::clone(&theirs));
        if let Some(ours) = ours {
            bundles.insert(ours).unwrap();
        }
        let snapshot = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
        assert_eq!(judge(&chain, &snapshot), Err(refusal));
    }
    // One pair for each domain: a second bundle of a domain takes the place of the first.
    let mut bundles = BundleMap::of(theirs);
    let (first, second) = (ca().bundle(), ca().bundle());
    bundles.insert(first).unwrap();
    bundles.insert(Arc::clone(&second)).unwrap();
    let domains: Vec<&str> = bundles.iter().map(|bundle| bundle.trust_domain.as_str()).collect();
    assert_eq!(domains, [DOMAIN, "partner.test"]);
    let kept = bundles.get(&TrustDomain::parse(DOMAIN).unwrap()).unwrap();
    assert!(kept.certificates().eq(second.certificates()));
}

#[test]
fn id_11_id_and_key_stand_in_the_signed_part() {
    let ca = ca();
    let (svid, other) = (ca.svid("/web"), PrivateKey::generate_p256().unwrap());
    let leaf = svid.leaf().unwrap();
    let answer = |leaf| judge(&[leaf, ca.signing().clone()], &ca.snapshot(None));
    assert!(answer(leaf.clone()).is_ok());
    let name = replaced(leaf, WEB, b"spiffe://example.org/wab", false);
    assert_eq!(answer(name), Err(Refusal::BadSignature));
    let key = replaced(leaf, svid.key.public_spki(), other.public_spki(), false);
    assert_eq!(answer(key), Err(Refusal::BadSignature));
}
