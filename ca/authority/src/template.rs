//! Our own templates: the only source of what stands in a certificate (IS-05, identity.md 3).
//!
//! rcgen is the DER builder and nothing else: every default of it that bites (XT-01 to XT-07) is overwritten here,
//! and the linter, which shares no code with this file, says so if one was forgotten.

use base_ports::{Rng, UnixTime};
use ca_identity::csr::{KeyAlgorithm, SubjectPublicKey};
use ca_identity::{KeyId, SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use time::OffsetDateTime;

use crate::error::AuthorityError;
use crate::keys::KeyKind;

/// What differs from leaf to leaf.
#[derive(Debug, Clone)]
pub(crate) struct Leaf<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) dns_names: &'a [String],
    pub(crate) serial: [u8; 20],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) key_id: KeyId,
}

/// An SVID: empty subject, one URI, digitalSignature, both TLS purposes.
pub(crate) fn leaf(leaf: &Leaf<'_>) -> Result<CertificateParams, AuthorityError> {
    let mut params = blank(&leaf.serial, leaf.not_before, leaf.not_after, leaf.key_id)?;
    params.subject_alt_names.push(SanType::URI(leaf.id.as_str().try_into()?));
    for name in leaf.dns_names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// What differs from authority to authority.
#[derive(Debug, Clone)]
pub(crate) struct Ca<'a> {
    pub(crate) kind: KeyKind,
    pub(crate) domain: &'a TrustDomain,
    pub(crate) serial: [u8; 20],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) key_id: KeyId,
}

/// A root (path length 1) or a signing CA (path length 0).
pub(crate) fn ca(ca: &Ca<'_>) -> Result<CertificateParams, AuthorityError> {
    let mut params = blank(&ca.serial, ca.not_before, ca.not_after, ca.key_id)?;
    params.distinguished_name = ca_subject(ca.kind, ca.domain, ca.key_id);
    params.subject_alt_names.push(SanType::URI(ca.domain.id().as_str().try_into()?));
    let path_length = if ca.kind == KeyKind::Root { 1 } else { 0 };
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The subject of an authority follows from its kind, domain and key, so that it can be written again as issuer.
fn ca_subject(kind: KeyKind, domain: &TrustDomain, key_id: KeyId) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let short: String = key_id.to_string().chars().take(12).collect();
    name.push(DnType::OrganizationName, domain.as_str());
    name.push(DnType::CommonName, format!("portcullis {} {short}", kind.as_str()));
    name
}

/// Name and key identifier of an authority as an issuer.
pub(crate) fn issuer(kind: KeyKind, domain: &TrustDomain, key_id: KeyId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = ca_subject(kind, domain, key_id);
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.as_bytes().to_vec());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn blank(
    serial: &[u8; 20],
    not_before: UnixTime,
    not_after: UnixTime,
    key_id: KeyId,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = OffsetDateTime::from_unix_timestamp(not_before.as_secs())?;
    params.not_after = OffsetDateTime::from_unix_timestamp(not_after.as_secs())?;
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.as_bytes().to_vec());
    Ok(params)
}

/// 159 bits, positive, never with a leading zero byte.
pub(crate) fn serial(rng: &dyn Rng) -> [u8; 20] {
    let mut serial = [0_u8; 20];
    rng.fill(&mut serial);
    let [first, ..] = &mut serial;
    *first = *first & 0x7f | 0x40;
    serial
}

/// The key of a request, as the builder takes it.
pub(crate) struct Certified<'a>(pub(crate) &'a SubjectPublicKey);

impl PublicKeyData for Certified<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.bits()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.algorithm() {
            KeyAlgorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            KeyAlgorithm::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }
}
