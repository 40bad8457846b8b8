//! Leaves and chains that break one rule each, signed by the real test CA.

use std::time::Duration;

use base_ports::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;

use super::{TestCa, date, uri};
use crate::{IdError, PrivateKey, Refusal, TrustDomain};

/// One broken rule of the verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum BadLeaf {
    TwoUris,
    TwoUrisOneSpiffe,
    NoSan,
    DnsOnly,
    NulInUri,
    NulInDns,
    HttpUri,
    UpperCaseDomain,
    UriWithQuery,
    TrailingSlash,
    RootPath,
    TwoSanExtensions,
    UnreadableName,
    CaAsLeaf,
    NoKeyUsage,
    NoDigitalSignature,
    KeyCertSign,
    CrlSign,
    CodeSigningOnly,
    Expired,
    NotYetValid,
    UnknownCriticalExtension,
    WrongTrustDomain,
    OwnDomainForeignCa,
    SelfSigned,
    Rsa1024,
    IntermediateWithoutCa,
    IntermediateWithoutKeyUsage,
    IntermediateOfForeignDomain,
    IntermediateWithPath,
    IntermediateMissing,
    PathTooLong,
    SevenCertificates,
    TrailingBytes,
    BrokenSignature,
}

impl BadLeaf {
    /// Every kind.
    pub const ALL: [Self; 35] = [
        Self::TwoUris,
        Self::TwoUrisOneSpiffe,
        Self::NoSan,
        Self::DnsOnly,
        Self::NulInUri,
        Self::NulInDns,
        Self::HttpUri,
        Self::UpperCaseDomain,
        Self::UriWithQuery,
        Self::TrailingSlash,
        Self::RootPath,
        Self::TwoSanExtensions,
        Self::UnreadableName,
        Self::CaAsLeaf,
        Self::NoKeyUsage,
        Self::NoDigitalSignature,
        Self::KeyCertSign,
        Self::CrlSign,
        Self::CodeSigningOnly,
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownCriticalExtension,
        Self::WrongTrustDomain,
        Self::OwnDomainForeignCa,
        Self::SelfSigned,
        Self::Rsa1024,
        Self::IntermediateWithoutCa,
        Self::IntermediateWithoutKeyUsage,
        Self::IntermediateOfForeignDomain,
        Self::IntermediateWithPath,
        Self::IntermediateMissing,
        Self::PathTooLong,
        Self::SevenCertificates,
        Self::TrailingBytes,
        Self::BrokenSignature,
    ];

    /// The refusal that this kind must earn.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::TwoUris | Self::TwoUrisOneSpiffe => Refusal::ManyUris,
            Self::NoSan | Self::DnsOnly => Refusal::NoUri,
            Self::NulInUri | Self::NulInDns => Refusal::SanByte,
            Self::HttpUri => Refusal::SpiffeId(IdError::Scheme),
            Self::UpperCaseDomain => Refusal::SpiffeId(IdError::TrustDomainByte),
            Self::UriWithQuery => Refusal::SpiffeId(IdError::PathByte),
            Self::TrailingSlash => Refusal::SpiffeId(IdError::TrailingSlash),
            Self::RootPath => Refusal::RootPath,
            Self::TwoSanExtensions => Refusal::DuplicateExtension,
            Self::UnreadableName => Refusal::SanInvalid,
            Self::CaAsLeaf => Refusal::LeafIsCa,
            Self::NoKeyUsage => Refusal::KeyUsageMissing,
            Self::NoDigitalSignature => Refusal::NoDigitalSignature,
            Self::KeyCertSign | Self::CrlSign => Refusal::LeafMaySign,
            Self::CodeSigningOnly => Refusal::WrongPurpose,
            Self::Expired => Refusal::Expired,
            Self::NotYetValid => Refusal::NotYetValid,
            Self::UnknownCriticalExtension => Refusal::CriticalExtension,
            Self::WrongTrustDomain => Refusal::UnknownTrustDomain(foreign()),
            Self::OwnDomainForeignCa | Self::SelfSigned | Self::IntermediateMissing => Refusal::NoPath,
            Self::Rsa1024 => Refusal::KeySize,
            Self::IntermediateWithoutCa => Refusal::IntermediateNotCa,
            Self::IntermediateWithoutKeyUsage => Refusal::IntermediateKeyUsage,
            Self::IntermediateOfForeignDomain | Self::IntermediateWithPath => Refusal::IntermediateName,
            Self::PathTooLong => Refusal::PathLength,
            Self::SevenCertificates => Refusal::TooManyCertificates,
            Self::TrailingBytes => Refusal::TrailingBytes,
            Self::BrokenSignature => Refusal::BadSignature,
        }
    }
}

fn foreign() -> TrustDomain {
    TrustDomain::parse("foreign.example").expect("trust domain")
}

/// Mints the chain.
pub(super) fn mint(ca: &TestCa, kind: BadLeaf) -> (Vec<CertificateDer<'static>>, PrivateKey) {
    let key = PrivateKey::generate_p256().expect("key");
    let chain = match kind {
        BadLeaf::Rsa1024 => {
            let public = Rsa1024::new();
            let leaf = ca.leaf_params(&public, |_| {}).signed_by(&public, ca.issuer()).expect("leaf");
            vec![leaf.into(), ca.signing().clone()]
        }
        BadLeaf::WrongTrustDomain => {
            let other = TestCa::new(foreign().as_str(), ca.now);
            vec![other.leaf(&key, |_| {}), other.signing().clone()]
        }
        BadLeaf::OwnDomainForeignCa => {
            let other = TestCa::new(ca.trust_domain().as_str(), ca.now);
            // Another name, so that no path even starts: the same name would be a wrong signature.
            let pair = KeyPair::generate().expect("key");
            let params = TestCa::ca_params(ca.trust_domain(), "impostor", 1, &pair, ca.now);
            let issuer = Issuer::new(params, pair);
            let pair = key.to_pair().expect("key");
            let leaf = other.leaf_params(&pair, |_| {}).signed_by(&pair, &issuer).expect("leaf");
            vec![leaf.into()]
        }
        BadLeaf::SelfSigned => {
            let pair = key.to_pair().expect("key");
            vec![ca.leaf_params(&pair, |_| {}).self_signed(&pair).expect("leaf").into()]
        }
        BadLeaf::IntermediateWithoutCa => under(ca, &key, |params| params.is_ca = IsCa::ExplicitNoCa),
        BadLeaf::IntermediateWithoutKeyUsage => under(ca, &key, |params| params.key_usages.clear()),
        BadLeaf::IntermediateOfForeignDomain => under(ca, &key, |params| {
            params.subject_alt_names = vec![uri(foreign().id().as_str())];
        }),
        BadLeaf::IntermediateWithPath => under(ca, &key, |params| {
            params.subject_alt_names = vec![uri(ca.id("/ca").as_str())];
        }),
        BadLeaf::IntermediateMissing => vec![ca.leaf(&key, |_| {})],
        BadLeaf::PathTooLong => too_long(ca, &key),
        BadLeaf::SevenCertificates => {
            let mut chain = vec![ca.leaf(&key, |_| {})];
            chain.resize(7, ca.signing().clone());
            chain
        }
        BadLeaf::TrailingBytes => {
            let mut leaf = ca.leaf(&key, |_| {}).to_vec();
            leaf.push(0);
            vec![leaf.into(), ca.signing().clone()]
        }
        BadLeaf::BrokenSignature => {
            let mut leaf = ca.leaf(&key, |_| {}).to_vec();
            if let Some(last) = leaf.last_mut() {
                *last ^= 1;
            }
            vec![leaf.into(), ca.signing().clone()]
        }
        kind => vec![ca.leaf(&key, |params| edit(ca, kind, params)), ca.signing().clone()],
    };
    (chain, key)
}

/// The kinds that differ from a good leaf in its parameters only.
fn edit(ca: &TestCa, kind: BadLeaf, params: &mut CertificateParams) {
    let web = ca.id("/web");
    let hour = Duration::from_secs(3600);
    let names = &mut params.subject_alt_names;
    match kind {
        BadLeaf::TwoUris => names.push(uri(ca.id("/admin").as_str())),
        BadLeaf::TwoUrisOneSpiffe => names.push(uri("https://example.org/web")),
        BadLeaf::NoSan => names.clear(),
        BadLeaf::DnsOnly => *names = vec![dns("web.example.org")],
        BadLeaf::NulInUri => *names = vec![uri(&format!("{web}\0.evil"))],
        BadLeaf::NulInDns => names.push(dns("web.example.org\0.evil")),
        BadLeaf::HttpUri => *names = vec![uri("https://example.org/web")],
        BadLeaf::UpperCaseDomain => *names = vec![uri("spiffe://EXAMPLE.org/web")],
        BadLeaf::UriWithQuery => *names = vec![uri(&format!("{web}?admin"))],
        BadLeaf::TrailingSlash => *names = vec![uri(&format!("{web}/"))],
        BadLeaf::RootPath => *names = vec![uri(ca.trust_domain().id().as_str())],
        BadLeaf::TwoSanExtensions => {
            params.custom_extensions.push(san(&[0x86, web.as_str().len() as u8], &web))
        }
        BadLeaf::UnreadableName => {
            names.clear();
            params.custom_extensions.push(unreadable_san(web.as_str()));
        }
        BadLeaf::CaAsLeaf => {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        BadLeaf::NoKeyUsage => params.key_usages.clear(),
        BadLeaf::NoDigitalSignature => params.key_usages = vec![KeyUsagePurpose::KeyAgreement],
        BadLeaf::KeyCertSign => params.key_usages.push(KeyUsagePurpose::KeyCertSign),
        BadLeaf::CrlSign => params.key_usages.push(KeyUsagePurpose::CrlSign),
        BadLeaf::CodeSigningOnly => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
        BadLeaf::Expired => validity(params, ca.now - hour * 2, ca.now - hour),
        BadLeaf::NotYetValid => validity(params, ca.now + hour, ca.now + hour * 2),
        BadLeaf::UnknownCriticalExtension => {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }
        _ => {}
    }
}

fn validity(params: &mut CertificateParams, from: UnixTime, to: UnixTime) {
    params.not_before = date(from);
    params.not_after = date(to);
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

const SAN: [u64; 4] = [2, 5, 29, 17];

fn san(header: &[u8], name: &crate::SpiffeId) -> CustomExtension {
    let mut inner = header.to_vec();
    inner.extend(name.as_str().bytes());
    let mut content = vec![0x30, u8::try_from(inner.len()).expect("short")];
    content.extend(inner);
    CustomExtension::from_oid_content(&SAN, content)
}

/// A good URI beside a DNS name of bytes that are no text (XT-12).
fn unreadable_san(uri: &str) -> CustomExtension {
    let mut inner = vec![0x86, u8::try_from(uri.len()).expect("short")];
    inner.extend(uri.bytes());
    inner.extend([0x82, 2, 0xff, 0xfe]);
    let mut content = vec![0x30, u8::try_from(inner.len()).expect("short")];
    content.extend(inner);
    CustomExtension::from_oid_content(&SAN, content)
}

/// A leaf below an intermediate that differs from a good one as `edit` says.
fn under(
    ca: &TestCa,
    key: &PrivateKey,
    edit: impl FnOnce(&mut CertificateParams),
) -> Vec<CertificateDer<'static>> {
    let pair = KeyPair::generate().expect("key");
    let mut params = TestCa::ca_params(ca.trust_domain(), "intermediate", 0, &pair, ca.now);
    edit(&mut params);
    let intermediate = params.signed_by(&pair, ca.root_issuer()).expect("intermediate").into();
    let issuer = Issuer::new(params, pair);
    let pair = key.to_pair().expect("key");
    let leaf = ca.leaf_params(&pair, |_| {}).signed_by(&pair, &issuer).expect("leaf").into();
    vec![leaf, intermediate]
}

/// A CA below the signing CA, whose path length is 0.
fn too_long(ca: &TestCa, key: &PrivateKey) -> Vec<CertificateDer<'static>> {
    let pair = KeyPair::generate().expect("key");
    let params = TestCa::ca_params(ca.trust_domain(), "nested", 0, &pair, ca.now);
    let nested = params.signed_by(&pair, ca.issuer()).expect("nested").into();
    let issuer = Issuer::new(params, pair);
    let pair = key.to_pair().expect("key");
    let leaf = ca.leaf_params(&pair, |_| {}).signed_by(&pair, &issuer).expect("leaf").into();
    vec![leaf, nested, ca.signing().clone()]
}

/// The public half of an RSA key of 1024 bits: too small to sign with, large enough to write into a certificate.
struct Rsa1024(Vec<u8>);

impl Rsa1024 {
    /// SEQUENCE { INTEGER of 1024 bits, INTEGER 65537 }
    fn new() -> Self {
        let (head, tail) = ([0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00], [0x02, 0x03, 0x01, 0x00, 0x01]);
        Self([head.as_slice(), [0xa5; 128].as_slice(), tail.as_slice()].concat())
    }
}

impl PublicKeyData for Rsa1024 {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}
