//! Certificates, requests for them, bundles and names.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use base_ports::UnixTime;
use ca_identity::{
    Bundle, BundleMap, CertificateDer, IdentitySnapshot, RevocationSet, SpiffeId, TrustDomain, Usage, csr,
    pem, verify_svid,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::Target;

const ID: &str = "spiffe://example.org/web";

/// An authority and a leaf of it, made once.
struct Made {
    root: Vec<u8>,
    leaf: Vec<u8>,
    request: Vec<u8>,
    snapshot: IdentitySnapshot,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| make().expect("certificates are made"))
}

fn make() -> tests::Result<Made> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    (ca.is_ca, ca.key_usages) = (
        IsCa::Ca(BasicConstraints::Unconstrained),
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
    );
    ca.subject_alt_names = vec![SanType::URI("spiffe://example.org".try_into()?)];
    ca.use_authority_key_identifier_extension = false;
    ca.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
    ca.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(30);
    let root = ca.self_signed(&ca_key)?.der().to_vec();
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(Vec::new())?;
    leaf.subject_alt_names = vec![SanType::URI(ID.try_into()?), SanType::DnsName("a".try_into()?)];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    leaf.not_before = time::OffsetDateTime::now_utc() - time::Duration::minutes(5);
    leaf.not_after = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let mut asked = CertificateParams::new(vec!["a".to_owned()])?;
    asked.distinguished_name = rcgen::DistinguishedName::new();
    let request = asked.serialize_request(&key)?.der().to_vec();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?.der().to_vec();
    let domain = TrustDomain::parse("example.org")?;
    let bundle = Bundle::new(domain, vec![CertificateDer::from(root.clone())], 1)?;
    let snapshot = IdentitySnapshot {
        own: None,
        bundles: BundleMap::of(Arc::new(bundle)),
        revoked: RevocationSet::default(),
        generation: 1,
    };
    Ok(Made { root, leaf, request, snapshot })
}

/// Certificates with their length in two bytes before each.
fn chain(certificates: &[&[u8]]) -> Vec<u8> {
    let with = |der: &&[u8]| [&u16::try_from(der.len()).unwrap_or(u16::MAX).to_be_bytes()[..], der].concat();
    certificates.iter().flat_map(with).collect()
}

const DER: &[&str] = &[
    "\u{30}\u{82}",
    "\u{30}\u{80}",
    "\u{30}\u{84}\u{ff}\u{ff}\u{ff}\u{ff}",
    "\u{2}\u{1}",
    "\u{6}\u{3}\u{55}\u{1d}\u{11}",
    "\u{6}\u{3}\u{55}\u{1d}\u{f}",
    "\u{6}\u{3}\u{55}\u{1d}\u{13}",
    "\u{1}\u{1}\u{ff}",
    "\u{86}\u{18}spiffe://example.org/web",
    "\u{86}\u{1}",
    "\u{82}",
    "\u{87}\u{4}",
    "spiffe://",
    "example.org",
    "\0",
    "/",
    "%",
    "\u{a0}\u{3}",
    "\u{a3}\u{82}",
    "\u{5}\0",
    "\u{17}\u{d}",
    "\u{18}\u{f}",
    "991231235959Z",
];

pub(super) const CHAIN: Target = Target {
    name: "certificate_chain",
    run: verify,
    seeds: || {
        let Made { root, leaf, .. } = made();
        vec![
            chain(&[leaf]),
            chain(&[leaf, root]),
            chain(&[root]),
            chain(&[leaf, leaf, root]),
            chain(&[]),
            leaf.clone(),
        ]
    },
    words: DER,
};

fn verify(input: &[u8]) -> String {
    let mut rest = input;
    let mut chain = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (der, tail) = tail.split_at(tail.len().min(usize::from(u16::from_be_bytes(*length))));
        chain.push(CertificateDer::from(der));
        rest = tail;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let Made { leaf, snapshot, .. } = made();
    match verify_svid(
        &chain,
        snapshot,
        Usage::Client,
        UnixTime::from_secs(i64::try_from(now).unwrap_or(i64::MAX)),
    ) {
        Ok(peer) => {
            // Nothing but the leaf that was signed is believed.
            assert_eq!(peer.id.as_str(), ID);
            assert_eq!(chain.first().map(|der| &**der), Some(&leaf[..]), "a changed leaf was believed");
            "believed".to_owned()
        }
        Err(refusal) => refusal.to_string(),
    }
}

pub(super) const REQUEST: Target = Target {
    name: "certificate_request",
    run: |input| {
        csr::parse(input).map_or_else(|error| error.to_string(), |key| format!("{:?}", key.algorithm()))
    },
    seeds: || vec![made().request.clone()],
    words: DER,
};

pub(super) const BUNDLE: Target = Target {
    name: "bundle",
    run: |input| {
        let domain = TrustDomain::parse("example.org").unwrap_or_else(|error| panic!("{error}"));
        let jwks = Bundle::from_jwks(domain, input).map_or_else(
            |error| error.to_string(),
            |bundle| {
                let printed = bundle.to_jwks();
                let again = Bundle::from_jwks(bundle.trust_domain.clone(), printed.as_bytes());
                let again = again.unwrap_or_else(|error| panic!("{error} in {printed}"));
                assert_eq!(bundle.to_der(), again.to_der());
                "read".to_owned()
            },
        );
        let pem =
            pem::read_certificates(input).map_or_else(|error| error.to_string(), |all| all.len().to_string());
        let key = pem::read_private_key(input).map_or_else(|error| error.to_string(), |_| "a key".to_owned());
        format!("{jwks} {pem} {key}")
    },
    seeds: || {
        let Made { root, snapshot, .. } = made();
        let jwks = snapshot.bundles.iter().map(|bundle| bundle.to_jwks().into_bytes());
        jwks.chain([
            tests::forge::pem("CERTIFICATE", root).into_bytes(),
            tests::forge::pem("PRIVATE KEY", b"abc").into_bytes(),
        ])
        .collect()
    },
    words: &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "null",
        "1e999",
        "-1",
        "\"keys\"",
        "\"kty\"",
        "\"x5c\"",
        "\"use\"",
        "\"spiffe_sequence\"",
        "\\u0000",
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
        "\n",
        "=",
    ],
};

pub(super) const NAME: Target = Target {
    name: "spiffe_id",
    run: |input| {
        let Ok(text) = str::from_utf8(input) else { return "bytes".to_owned() };
        match SpiffeId::parse(text) {
            Ok(id) => {
                assert_eq!(id.as_str(), text, "an id has one spelling");
                let again = SpiffeId::new(id.trust_domain(), id.path())
                    .unwrap_or_else(|error| panic!("{error}: {text}"));
                assert_eq!(again, id);
                format!("{}", id.path().is_empty())
            }
            Err(error) => format!("{error:?}")
                .split(|c: char| !c.is_alphanumeric())
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    },
    seeds: || {
        [ID, "spiffe://example.org", "spiffe://a-b.c_d/e/f"].map(|text| text.as_bytes().to_vec()).into()
    },
    words: &[
        "spiffe://",
        "SPIFFE://",
        "/",
        "//",
        ".",
        "..",
        "%",
        ":",
        "@",
        "?",
        "#",
        "_",
        "-",
        "A",
        "\u{ff}",
        "\0",
    ],
};
