//! Each test breaks one thing that the template would have to forget, and sees the linter turn red.

use std::time::Duration;

use ca_identity::testing::{self, TestCa};
use ca_identity::{CertificateDer, PrivateKey};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::*;

/// Lints a leaf of the test authority, which has our profile until `edit` changes it.
fn lint(edit: impl FnOnce(&mut CertificateParams)) -> Result<(), LintError> {
    let (ca, key) = (TestCa::new("example.org", testing::now()), PrivateKey::generate_p256().unwrap());
    let leaf = ca.leaf(&key, edit);
    lint_der(&ca, &key, &leaf)
}

fn lint_der(ca: &TestCa, key: &PrivateKey, leaf: &CertificateDer<'_>) -> Result<(), LintError> {
    super::leaf(
        leaf,
        &LeafProfile {
            id: &ca.id("/web"),
            dns_names: &[],
            spki: key.public_spki(),
            issuer_key: ca.signing_key_id(),
            issuer_der: ca.signing(),
            not_before: testing::now() - Duration::from_secs(60),
            not_after: testing::now() + Duration::from_secs(3600),
        },
    )
}

fn broken(edit: impl FnOnce(&mut CertificateParams)) -> &'static str {
    match lint(edit) {
        Err(LintError::Field(field)) => field,
        other => panic!("{other:?}"),
    }
}

fn extensions(edit: impl FnOnce(&mut CertificateParams)) -> String {
    match lint(edit) {
        Err(LintError::Extensions { found, .. }) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn is_06_a_leaf_of_our_profile_passes() {
    assert_eq!(lint(|_| {}), Ok(()));
}

#[test]
fn is_06_names_must_be_exactly_those_that_were_meant() {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    assert_eq!(broken(|p| p.subject_alt_names = vec![uri("spiffe://example.org/admin")]), "the URI name");
    assert_eq!(broken(|p| p.subject_alt_names.push(uri("spiffe://example.org/b"))), "the DNS names");
    let dns = SanType::DnsName("evil.test".try_into().unwrap());
    assert_eq!(broken(|p| p.subject_alt_names.push(dns)), "the DNS names");
    assert_eq!(broken(|p| p.distinguished_name.push(DnType::CommonName, "web")), "the subject");
}

#[test]
fn is_06_usages_and_constraints_must_be_exactly_those_of_a_leaf() {
    assert_eq!(broken(|p| p.key_usages.push(KeyUsagePurpose::KeyEncipherment)), "keyUsage");
    assert_eq!(broken(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)), "keyUsage");
    let eku = "extendedKeyUsage";
    assert_eq!(broken(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning)), eku);
    assert_eq!(broken(|p| p.extended_key_usages.truncate(1)), eku);
    assert_eq!(broken(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "basicConstraints");
}

#[test]
fn xt_01_to_05_forgotten_defaults_of_the_builder_are_found() {
    // XT-02: NoCa writes neither basicConstraints nor subject key identifier.
    assert_eq!(extensions(|p| p.is_ca = IsCa::NoCa), "aki san! ku! eku");
    // XT-04: no authority key identifier by default.
    assert_eq!(extensions(|p| p.use_authority_key_identifier_extension = false), "san! ku! eku ski bc!");
    assert_eq!(extensions(|p| p.extended_key_usages.clear()), "aki san! ku! ski bc!");
    assert_eq!(extensions(|p| p.key_usages.clear()), "aki san! eku ski bc!");
    let extra = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    assert_eq!(extensions(|p| p.custom_extensions.push(extra)), "aki san! ku! eku ski bc! other");
    // XT-07: the builder's own key identifier hashes something else.
    assert_eq!(broken(|p| p.key_identifier_method = KeyIdMethod::Sha256), "the subject key identifier");
    // XT-01, XT-03: serial number and validity.
    assert_eq!(broken(|p| p.serial_number = Some(SerialNumber::from_slice(&[1]))), "the serial number");
    assert_eq!(broken(|p| p.not_after += Duration::from_secs(1)), "notAfter");
    assert_eq!(broken(|p| p.not_before -= Duration::from_secs(1)), "notBefore");
}

#[test]
fn is_06_another_key_another_issuer_and_trailing_bytes_are_found() {
    let (ca, key) = (TestCa::new("example.org", testing::now()), PrivateKey::generate_p256().unwrap());
    let leaf = ca.leaf(&key, |_| {});
    let other = PrivateKey::generate_p256().unwrap();
    assert_eq!(lint_der(&ca, &other, &leaf), Err(LintError::Field("the public key")));
    let elsewhere = TestCa::new("example.org", testing::now());
    let wrong = lint_der(&elsewhere, &key, &leaf);
    assert_eq!(wrong, Err(LintError::Field("the authority key identifier")));
    let trailing = CertificateDer::from([leaf.as_ref(), &[0]].concat());
    assert_eq!(lint_der(&ca, &key, &trailing), Err(LintError::Structure));
}

#[test]
fn is_06_a_ca_must_be_a_ca_of_its_level() {
    let test = TestCa::new("example.org", testing::now());
    let id = test.trust_domain().id();
    let facts = ca_identity::inspect::certificate(test.signing()).unwrap();
    let (_, parsed) = X509Certificate::from_der(test.signing()).unwrap();
    let spki = parsed.tbs_certificate.subject_pki.raw;
    let profile = |path_len| CaProfile { id: &id, spki, issuer_key: facts.issuer_key_id.unwrap(), path_len };
    assert_eq!(ca(test.signing(), &profile(0)), Ok(()));
    assert_eq!(ca(test.signing(), &profile(1)), Err(LintError::Field("basicConstraints")));
    let other = test.id("/web");
    let named = CaProfile { id: &other, ..profile(0) };
    assert_eq!(ca(test.signing(), &named), Err(LintError::Field("the URI name")));
}
