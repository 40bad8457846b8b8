//! One chain per rule, each signed by a real test CA, each with the exact refusal it must earn.

mod conformance;

use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{CertificateParams, CustomExtension, GeneralSubtree, Issuer, KeyPair, NameConstraints};

use super::*;
use crate::testing::{self, BadLeaf, TestCa};
use crate::{BundleError, BundleMap, PrivateKey, Revoked};

const DOMAIN: &str = "example.org";

fn ca() -> TestCa {
    TestCa::new(DOMAIN, testing::now())
}

fn judge(chain: &[CertificateDer<'_>], snapshot: &IdentitySnapshot) -> Result<VerifiedPeer, Refusal> {
    verify_svid(chain, snapshot, Usage::Client, testing::now())
}

fn is_refused(kind: BadLeaf) {
    let ca = ca();
    let (chain, _) = ca.bad(kind);
    assert_eq!(judge(&chain, &ca.snapshot(None)), Err(kind.refusal()));
}

macro_rules! refused {
    ($($name:ident: $kind:ident;)*) => { $(#[test] fn $name() { is_refused(BadLeaf::$kind); })* };
}

refused! {
    vs_01_a_chain_of_seven_is_refused: SevenCertificates;
    vs_01_a_byte_after_the_leaf_is_refused: TrailingBytes;
    vs_02_an_rsa_key_of_1024_bits_is_refused_before_any_cryptography: Rsa1024;
    rg_16_a_nul_in_the_uri_is_refused: NulInUri;
    hv_09_a_nul_in_a_dns_name_is_refused: NulInDns;
    vs_04_a_leaf_without_key_usage_is_refused: NoKeyUsage;
    vs_04_a_leaf_without_digital_signature_is_refused: NoDigitalSignature;
    vs_04_a_leaf_for_another_purpose_is_refused: CodeSigningOnly;
    x5_13_an_expired_leaf_is_refused: Expired;
    x5_13_a_leaf_of_the_future_is_refused: NotYetValid;
    x5_13_a_leaf_of_an_impostor_is_refused: OwnDomainForeignCa;
    x5_13_a_self_signed_leaf_is_refused: SelfSigned;
    x5_13_a_missing_intermediate_is_refused: IntermediateMissing;
    x5_13_a_broken_signature_is_refused: BrokenSignature;
    vs_09_a_ca_below_path_length_zero_is_refused: PathTooLong;
    vs_09_an_unknown_critical_extension_is_refused: UnknownCriticalExtension;
}

#[test]
fn a_server_earns_the_same_refusals_as_a_client() {
    let ca = ca();
    for kind in BadLeaf::ALL {
        let (chain, _) = ca.bad(kind);
        let answer = verify_svid(&chain, &ca.snapshot(None), Usage::Server, testing::now());
        assert_eq!(answer, Err(kind.refusal()), "{kind:?}");
    }
}

#[test]
fn vs_11_a_good_chain_yields_the_identity_and_the_earliest_end() {
    let ca = ca();
    let svid = ca.svid("/web");
    let peer = judge(&svid.chain, &ca.snapshot(None)).unwrap();
    assert_eq!(peer.id.as_str(), "spiffe://example.org/web");
    assert_eq!(peer.expires, svid.not_after);
    assert_eq!((peer.issuer_key_id, &peer.serial), (ca.signing_key_id(), &svid.serial));
    assert_eq!(peer.anchor_key_id, ca.bundle().anchors().first().unwrap().key_id());
    let issuers: Vec<KeyId> = peer.path.iter().map(|link| link.issuer).collect();
    assert_eq!(issuers, [peer.issuer_key_id, peer.anchor_key_id]);
    assert_eq!(verify_svid(&svid.chain, &ca.snapshot(None), Usage::Server, testing::now()).unwrap(), peer);

    let limit = testing::now() + Duration::from_secs(60);
    let bundle = Bundle::clone(&ca.bundle()).with_stale_after(limit);
    let snapshot = IdentitySnapshot { bundles: BundleMap::of(Arc::new(bundle)), ..ca.snapshot(None) };
    assert_eq!(judge(&svid.chain, &snapshot).unwrap().expires, limit);
    let late = limit + Duration::from_secs(1);
    assert_eq!(verify_svid(&svid.chain, &snapshot, Usage::Client, late), Err(Refusal::BundleStale));
}

#[test]
fn x5_13_the_order_of_intermediates_and_extra_ones_do_not_matter() {
    let ca = ca();
    let mut chain = ca.svid("/web").chain;
    chain.insert(1, ca.root().clone());
    assert_eq!(judge(&chain, &ca.snapshot(None)).unwrap().path.len(), 2);
}

#[test]
fn vs_08_ten_seconds_of_tolerance_ahead_and_none_behind() {
    let (ca, key) = (ca(), PrivateKey::generate_p256().unwrap());
    let leaf = ca.leaf(&key, |_| {});
    let (start, end) = (testing::now() - Duration::from_secs(60), testing::now() + Duration::from_secs(3600));
    let chain = [leaf, ca.signing().clone()];
    let at = |time| verify_svid(&chain, &ca.snapshot(None), Usage::Client, time).map(|peer| peer.expires);
    assert_eq!(at(start - Duration::from_secs(10)), Ok(end));
    assert_eq!(at(start - Duration::from_secs(11)), Err(Refusal::NotYetValid));
    assert_eq!(at(end), Ok(end));
    assert_eq!(at(end + Duration::from_nanos(1)), Err(Refusal::Expired));
}

#[test]
fn vs_04_the_purpose_counts_when_the_extension_is_there() {
    let (ca, key) = (ca(), PrivateKey::generate_p256().unwrap());
    let with = |purposes: &[rcgen::ExtendedKeyUsagePurpose], usage| {
        let leaf = ca.leaf(&key, |params| params.extended_key_usages = purposes.to_vec());
        verify_svid(&[leaf, ca.signing().clone()], &ca.snapshot(None), usage, testing::now()).map(drop)
    };
    let client = [rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(with(&client, Usage::Client), Ok(()));
    assert_eq!(with(&client, Usage::Server), Err(Refusal::WrongPurpose));
    assert_eq!(with(&[], Usage::Server), Ok(()));
}

#[test]
fn x5_15_only_the_bundle_of_the_own_trust_domain_counts() {
    let (ours, other) = (ca(), TestCa::new("other.example", testing::now()));
    let mut bundles = BundleMap::of(ours.bundle());
    bundles.insert(other.bundle()).unwrap();
    let snapshot = IdentitySnapshot { bundles, ..IdentitySnapshot::default() };
    let key = PrivateKey::generate_p256().unwrap();
    let web = |name: &str| {
        let name = testing::uri(name);
        other.leaf(&key, move |params| params.subject_alt_names = vec![name])
    };
    let own = [web("spiffe://other.example/web"), other.signing().clone()];
    assert!(judge(&own, &snapshot).is_ok());
    // The other domain's CA signs a name of ours: its own name already betrays it.
    let crossed = [web("spiffe://example.org/web"), other.signing().clone()];
    assert_eq!(judge(&crossed, &snapshot), Err(Refusal::IntermediateName));
}

#[test]
fn tb_10_a_root_key_of_another_trust_domain_is_refused() {
    let (nameless, _) = nameless_root(1);
    let bundle = |domain: &str| {
        let domain = TrustDomain::parse(domain).unwrap();
        Arc::new(Bundle::new(domain, vec![nameless.clone()], 1).unwrap())
    };
    let mut bundles = BundleMap::of(bundle("a.example"));
    assert!(matches!(bundles.insert(bundle("b.example")), Err(BundleError::SharedRoot { .. })));
    assert_eq!(bundles.len(), 1);
    bundles.insert(bundle("a.example")).unwrap();
    bundles.insert_allowing_shared_roots(bundle("b.example"));
    assert_eq!(bundles.len(), 2);
}

/// A root without URI name, as of an upstream PKI.
fn nameless_root(path_len: u8) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let pair = KeyPair::generate().unwrap();
    let domain = TrustDomain::parse(DOMAIN).unwrap();
    let mut params = TestCa::ca_params(&domain, "upstream", path_len, &pair, testing::now());
    params.subject_alt_names.clear();
    (params.self_signed(&pair).unwrap().into(), Issuer::new(params, pair))
}

/// A chain below an intermediate below `root`, as `edit` makes the intermediate.
fn chain_below(
    root: &Issuer<'static, KeyPair>,
    edit: impl FnOnce(&mut CertificateParams),
) -> Vec<CertificateDer<'static>> {
    let (ca, pair) = (ca(), KeyPair::generate().unwrap());
    let mut params = TestCa::ca_params(ca.trust_domain(), "below", 0, &pair, testing::now());
    edit(&mut params);
    let intermediate = params.signed_by(&pair, root).unwrap().into();
    let leaf_key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params, pair);
    vec![ca.leaf_params(&leaf_key, |_| {}).signed_by(&leaf_key, &issuer).unwrap().into(), intermediate]
}

fn trusting(root: CertificateDer<'static>) -> IdentitySnapshot {
    let bundle = Bundle::new(TrustDomain::parse(DOMAIN).unwrap(), vec![root], 1).unwrap();
    IdentitySnapshot { bundles: BundleMap::of(Arc::new(bundle)), ..IdentitySnapshot::default() }
}

#[test]
fn x5_09_an_anchor_of_an_upstream_pki_may_lack_the_uri() {
    let (root, issuer) = nameless_root(1);
    assert!(judge(&chain_below(&issuer, |_| {}), &trusting(root)).is_ok());
}

#[test]
fn vs_09_the_anchors_own_path_length_counts() {
    let (root, issuer) = nameless_root(0);
    assert_eq!(judge(&chain_below(&issuer, |_| {}), &trusting(root)), Err(Refusal::PathLength));
}

#[test]
fn x5_12_name_constraints_are_refused_in_chains_and_in_bundles() {
    let constraints = || {
        let dns = GeneralSubtree::DnsName("example.org".to_owned());
        Some(NameConstraints { permitted_subtrees: vec![dns], excluded_subtrees: Vec::new() })
    };
    let (root, issuer) = nameless_root(1);
    let chain = chain_below(&issuer, |params| params.name_constraints = constraints());
    assert_eq!(judge(&chain, &trusting(root)), Err(Refusal::NameConstraints));

    let pair = KeyPair::generate().unwrap();
    let domain = TrustDomain::parse(DOMAIN).unwrap();
    let mut params = TestCa::ca_params(&domain, "root", 1, &pair, testing::now());
    params.name_constraints = constraints();
    let root = params.self_signed(&pair).unwrap().into();
    assert!(matches!(Bundle::new(domain, vec![root], 1), Err(BundleError::NameConstraints { position: 1 })));
}

#[test]
fn vs_07_a_bundle_takes_certificates_of_authorities_only() {
    let (ca, domain) = (ca(), || TrustDomain::parse(DOMAIN).unwrap());
    let bundle = |der: CertificateDer<'static>| Bundle::new(domain(), vec![der], 1).map(drop);
    let reason = |answer| match answer {
        Err(BundleError::Anchor { position: 1, reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(bundle(ca.svid("/web").chain.remove(0))), Refusal::IntermediateNotCa);

    let pair = KeyPair::generate().unwrap();
    let mut params = TestCa::ca_params(&domain(), "root", 1, &pair, testing::now());
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let silent = params.self_signed(&pair).unwrap().into();
    assert_eq!(reason(bundle(silent)), Refusal::IntermediateKeyUsage);

    let mut broken = ca.root().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(reason(bundle(broken.into())), Refusal::BadSignature);

    let foreign = TestCa::new("foreign.example", testing::now());
    assert!(matches!(bundle(foreign.root().clone()), Err(BundleError::ForeignName { position: 1, .. })));
    let twice = Bundle::new(domain(), vec![ca.root().clone(), ca.root().clone()], 1);
    assert!(matches!(twice, Err(BundleError::Duplicate { position: 2 })));
}

#[test]
fn tb_05_an_empty_bundle_and_a_missing_one_refuse() {
    let (ca, domain) = (ca(), TrustDomain::parse(DOMAIN).unwrap());
    let chain = ca.svid("/web").chain;
    let unknown = Refusal::UnknownTrustDomain(domain.clone());
    assert_eq!(judge(&chain, &IdentitySnapshot::default()), Err(unknown));
    let empty = Arc::new(Bundle::new(domain, Vec::new(), 2).unwrap());
    let snapshot = IdentitySnapshot { bundles: BundleMap::of(empty), ..IdentitySnapshot::default() };
    assert_eq!(judge(&chain, &snapshot), Err(Refusal::BundleEmpty));
}

#[test]
fn xt_31_an_anchor_outside_its_own_validity_vouches_for_nothing() {
    let ca = ca();
    let svid = ca.svid_with("/web", &[], Duration::from_secs(400 * 86_400));
    let snapshot = ca.snapshot(None);
    let end = ca.bundle().anchors().first().unwrap().not_after();
    let at = |time| verify_svid(&svid.chain, &snapshot, Usage::Client, time);
    assert_eq!(at(end + Duration::from_secs(1)), Err(Refusal::AnchorExpired));
    assert_eq!(at(end).unwrap().expires, end);
}

#[test]
fn in2_a_peer_whose_root_is_gone_is_refused_again() {
    let (ca, other) = (ca(), ca());
    let peer = judge(&ca.svid("/web").chain, &ca.snapshot(None)).unwrap();
    assert_eq!(ca.snapshot(None).check(&peer), Ok(()));
    assert_eq!(other.snapshot(None).check(&peer), Err(Refusal::NoPath), "another root of the same domain");
    let mut nobody = ca.snapshot(None);
    nobody.bundles.remove(peer.id.trust_domain());
    let unknown = Refusal::UnknownTrustDomain(peer.id.trust_domain().clone());
    assert_eq!(nobody.check(&peer), Err(unknown));
}

#[test]
fn vs_10_revoked_leaves_issuers_and_identities_are_refused() {
    let ca = ca();
    let svid = ca.svid("/web");
    let good = judge(&svid.chain, &ca.snapshot(None)).unwrap();
    let revoking = |edit: &dyn Fn(&mut crate::RevocationSet)| {
        let mut snapshot = ca.snapshot(None);
        edit(&mut snapshot.revoked);
        // The look-up on an open connection says the same as a new handshake (S14).
        let again = snapshot.check(&good);
        let answer = judge(&svid.chain, &snapshot).map(drop);
        assert_eq!(answer, again);
        answer
    };
    let (issuer, anchor) = (ca.signing_key_id(), good.anchor_key_id);
    let ca_serial = good.path.get(1).unwrap().serial.clone();
    let leaf = revoking(&|set| set.deny(&Revoked::certificate(issuer, svid.serial.clone())));
    assert_eq!(leaf, Err(Refusal::RevokedCertificate));
    let intermediate = revoking(&|set| set.deny(&Revoked::certificate(anchor, ca_serial.clone())));
    assert_eq!(intermediate, Err(Refusal::RevokedCertificate));
    assert_eq!(revoking(&|set| set.deny(&Revoked::Issuer(issuer))), Err(Refusal::RevokedIssuer));
    assert_eq!(revoking(&|set| set.deny(&Revoked::Issuer(anchor))), Err(Refusal::RevokedIssuer));
    assert_eq!(revoking(&|set| set.deny(&Revoked::Id(svid.id.clone()))), Err(Refusal::RevokedId));
    assert_eq!(revoking(&|set| set.deny(&Revoked::Id(ca.id("/other")))), Ok(()));
    // The same serial of another issuer is another certificate.
    assert_eq!(revoking(&|set| set.deny(&Revoked::certificate(anchor, svid.serial.clone()))), Ok(()));
}

#[test]
fn rv_07_a_revoked_intermediate_is_refused_even_beside_the_path() {
    let ca = ca();
    let extra = chain_below(ca.root_issuer(), |_| {}).pop().unwrap();
    let mut chain = ca.svid("/web").chain;
    chain.push(extra.clone());
    let mut snapshot = ca.snapshot(None);
    assert!(judge(&chain, &snapshot).is_ok());
    snapshot.revoked.deny(&Revoked::Issuer(Certificate::parse(&extra).unwrap().key_id()));
    assert_eq!(judge(&chain, &snapshot), Err(Refusal::RevokedIssuer));
}

#[test]
fn vs_01_sizes_are_limited_and_an_empty_chain_is_refused() {
    let (ca, key) = (ca(), PrivateKey::generate_p256().unwrap());
    let snapshot = ca.snapshot(None);
    assert_eq!(judge(&[], &snapshot), Err(Refusal::NoCertificate));
    let padded = |bytes: usize| {
        ca.leaf(&key, |params| {
            let padding = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], vec![0; bytes]);
            params.custom_extensions.push(padding);
        })
    };
    let large = padded(15_000);
    assert!(judge(&[large.clone(), ca.signing().clone()], &snapshot).is_ok());
    assert_eq!(judge(&[padded(16_384), ca.signing().clone()], &snapshot), Err(Refusal::TooLarge));
    assert_eq!(judge(&vec![large; 5], &snapshot), Err(Refusal::TooLarge));
}

fn replaced(der: &CertificateDer<'_>, from: &[u8], to: &[u8], last_only: bool) -> CertificateDer<'static> {
    let mut bytes = der.to_vec();
    let found: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    for at in found.iter().rev().take(if last_only { 1 } else { found.len() }) {
        bytes.iter_mut().skip(*at).zip(to).for_each(|(byte, new)| *byte = *new);
    }
    bytes.into()
}

#[test]
fn vs_01_and_vs_02_versions_and_algorithms_are_checked_before_signatures() {
    let ca = ca();
    let svid = ca.svid("/web");
    let leaf = svid.leaf().unwrap();
    let refusal = |leaf| judge(&[leaf, ca.signing().clone()], &ca.snapshot(None)).unwrap_err();
    let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let sha224 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x01];
    assert_eq!(refusal(replaced(leaf, &sha256, &sha224, false)), Refusal::SignatureAlgorithm);
    assert_eq!(refusal(replaced(leaf, &sha256, &sha224, true)), Refusal::AlgorithmMismatch);
    let (v3, v2) = ([0xa0, 3, 2, 1, 2], [0xa0, 3, 2, 1, 1]);
    assert_eq!(refusal(replaced(leaf, &v3, &v2, false)), Refusal::NotVersion3);
}

#[test]
fn vs_02_every_kind_of_key_on_the_list_verifies() {
    let ca = ca();
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let params = TestCa::ca_params(ca.trust_domain(), "root", 1, &pair, testing::now());
        let root: CertificateDer<'static> = params.self_signed(&pair).unwrap().into();
        let issuer = Issuer::new(params, pair);
        let leaf_key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = ca.leaf_params(&leaf_key, |_| {}).signed_by(&leaf_key, &issuer).unwrap();
        assert!(judge(&[leaf.into()], &trusting(root)).is_ok(), "{algorithm:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn x5_13_a_leaf_with_any_byte_changed_is_refused(at in 0_usize..1 << 16, bit in 0_u32..8) {
        let ca = ca();
        let mut chain = ca.svid("/web").chain;
        let mut leaf = chain.remove(0).to_vec();
        let at = at.checked_rem(leaf.len()).unwrap();
        leaf.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        chain.insert(0, leaf.into());
        prop_assert!(judge(&chain, &ca.snapshot(None)).is_err());
    }

    #[test]
    fn vs_12_removing_an_anchor_never_turns_a_refusal_into_acceptance(
        kind in 0..BadLeaf::ALL.len(), kept in any::<bool>(),
    ) {
        let (ca, second) = (ca(), ca());
        let (chain, _) = ca.bad(BadLeaf::ALL[kind]);
        let both = vec![ca.root().clone(), second.root().clone()];
        let one = if kept { both[..1].to_vec() } else { both[1..].to_vec() };
        let snapshot = |anchors| {
            let bundle = Bundle::new(ca.trust_domain().clone(), anchors, 1).unwrap();
            IdentitySnapshot { bundles: BundleMap::of(Arc::new(bundle)), ..IdentitySnapshot::default() }
        };
        let full = judge(&chain, &snapshot(both.clone()));
        prop_assert!(full.is_err());
        prop_assert_eq!(&judge(&chain, &snapshot(both)), &full);
        prop_assert!(judge(&chain, &snapshot(one)).is_err());
    }
}
