//! Test authorities, SVIDs and hostile leaves, for tests of this crate, of others, and of the shipped binary.
//!
//! Feature `testing` only. Everything here panics on failure, and nothing here is fit for production.
#![expect(
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    reason = "test support: a failure ends the test"
)]

use std::sync::Arc;
use std::time::Duration;

use base_ports::{ManualClock, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::key_id::{KeyId, Serial};
use crate::tls::Trust;
use crate::{Bundle, BundleMap, IdentitySnapshot, PrivateKey, SpiffeId, TrustDomain, VerifiedPeer, X509Svid};

mod hostile;
mod tokens;

pub use hostile::BadLeaf;
pub use tokens::{BadToken, TokenForge};

/// A fixed moment: 2026-11-25 12:00:00 UTC.
pub fn now() -> UnixTime {
    UnixTime::from_secs(1_795_608_000)
}

/// A root and a signing CA of one trust domain.
pub struct TestCa {
    domain: TrustDomain,
    now: UnixTime,
    root: CertificateDer<'static>,
    root_issuer: Issuer<'static, KeyPair>,
    signing: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    /// A fresh authority, valid from a day before `now` to a year after.
    pub fn new(domain: &str, now: UnixTime) -> Self {
        let domain = TrustDomain::parse(domain).expect("trust domain");
        let root_key = KeyPair::generate().expect("key");
        let root_params = Self::ca_params(&domain, "root", 1, &root_key, now);
        let root = root_params.self_signed(&root_key).expect("root").into();
        let root_issuer = Issuer::new(root_params, root_key);
        let key = KeyPair::generate().expect("key");
        let params = Self::ca_params(&domain, "signing", 0, &key, now);
        let signing = params.signed_by(&key, &root_issuer).expect("signing CA").into();
        Self { domain, now, root, root_issuer, signing, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca_params(
        domain: &TrustDomain,
        name: &str,
        path_len: u8,
        key: &KeyPair,
        now: UnixTime,
    ) -> CertificateParams {
        let mut params = blank(key, now - DAY, now + DAY * 365);
        params.distinguished_name.push(DnType::OrganizationName, domain.as_str());
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(domain.id().as_str())];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The certificate of the signing CA.
    pub fn signing(&self) -> &CertificateDer<'static> {
        &self.signing
    }

    pub(crate) fn root_issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.root_issuer
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Identifier of the key that signs leaves.
    pub fn signing_key_id(&self) -> KeyId {
        KeyId::of_public_key(self.issuer.key().der_bytes())
    }

    /// A bundle with the root.
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::new(Bundle::new(self.domain.clone(), vec![self.root.clone()], 1).expect("bundle"))
    }

    /// The SPIFFE ID at `path`.
    pub fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::new(&self.domain, path).expect("path")
    }

    /// An SVID valid for an hour.
    pub fn svid(&self, path: &str) -> X509Svid {
        self.svid_with(path, &[], Duration::from_secs(3600))
    }

    /// An SVID with DNS names and a lifetime.
    pub fn svid_with(&self, path: &str, dns_names: &[&str], ttl: Duration) -> X509Svid {
        let key = PrivateKey::generate_p256().expect("key");
        let leaf = self.leaf(&key, |params| {
            params.subject_alt_names = vec![uri(self.id(path).as_str())];
            for name in dns_names {
                params.subject_alt_names.push(SanType::DnsName((*name).try_into().expect("dns name")));
            }
            params.not_after = date(self.now + ttl);
        });
        X509Svid::new(vec![leaf, self.signing.clone()], key).expect("SVID")
    }

    /// A leaf for `/web` as `edit` wants it, signed by the signing CA.
    pub fn leaf(
        &self,
        key: &PrivateKey,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let pair = key.to_pair().expect("key");
        let params = self.leaf_params(&pair, edit);
        params.signed_by(&pair, &self.issuer).expect("leaf").into()
    }

    pub(crate) fn leaf_params(
        &self,
        key: &impl PublicKeyData,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> CertificateParams {
        let mut params = blank(key, self.now - Duration::from_secs(60), self.now + Duration::from_secs(3600));
        params.subject_alt_names = vec![uri(self.id("/web").as_str())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        params
    }

    /// A chain with a hostile leaf of that kind, and the leaf's key.
    pub fn bad(&self, kind: BadLeaf) -> (Vec<CertificateDer<'static>>, PrivateKey) {
        hostile::mint(self, kind)
    }

    /// A snapshot that trusts this authority and shows `own`.
    pub fn snapshot(&self, own: Option<X509Svid>) -> IdentitySnapshot {
        let bundles = BundleMap::of(self.bundle());
        IdentitySnapshot { own: own.map(Arc::new), bundles, ..IdentitySnapshot::default() }
    }

    /// Published trust over a manual clock that stands at this authority's `now`.
    pub fn trust(&self, own: Option<X509Svid>) -> Arc<Trust> {
        let trust = Trust::new(Arc::new(ManualClock::new(self.now)));
        trust.publish(self.snapshot(own)).expect("publish");
        trust
    }
}

/// A verified peer that no certificate stands behind.
pub fn verified_peer(id: &str, expires: UnixTime) -> VerifiedPeer {
    let key = KeyId::from_bytes([7; 20]);
    let serial = Serial::from_bytes(&[1]);
    VerifiedPeer {
        id: SpiffeId::parse(id).expect("SPIFFE ID"),
        expires,
        issuer_key_id: key,
        serial: serial.clone(),
        generation: 1,
        path: vec![crate::PathLink { issuer: key, serial }],
        anchor_key_id: key,
        fingerprint: [7; 32],
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// A root without a name of its own, as an upstream PKI has them (X5-09): a bundle of any trust domain may hold it.
pub fn nameless_root(now: UnixTime) -> CertificateDer<'static> {
    let domain = TrustDomain::parse("upstream.test").expect("trust domain");
    let key = KeyPair::generate().expect("key");
    let mut params = TestCa::ca_params(&domain, "root", 1, &key, now);
    params.subject_alt_names.clear();
    params.self_signed(&key).expect("root").into()
}

fn blank(key: &impl PublicKeyData, not_before: UnixTime, not_after: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params.serial_number = Some(SerialNumber::from(random_serial()));
    params.use_authority_key_identifier_extension = true;
    let id = KeyId::of_public_key(key.der_bytes());
    params.key_identifier_method = KeyIdMethod::PreSpecified(id.as_bytes().to_vec());
    params
}

fn random_serial() -> Vec<u8> {
    let mut serial = vec![0; 20];
    aws_lc_rs::rand::fill(&mut serial).expect("random");
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    serial
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

pub(crate) fn date(time: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.as_secs()).expect("date")
}
