//! The one verifier of X509-SVIDs: authority, agent, enforcer and command line all ask this function.
//!
//! Pure: the same chain, snapshot and time always give the same answer (VS-12). The steps stand in the order of
//! identity.md 5, and the first that fails is the answer. Paths and signatures are built by webpki; everything that
//! webpki leaves open (leaf and CA profile, SPIFFE names, the anchor's own limits, the deny set) is checked here.

use std::time::Duration;

use base_ports::UnixTime;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::algorithm::ALLOWED;
use crate::bundle::{Anchor, Bundle};
use crate::certificate::Certificate;
use crate::key_id::{KeyId, Serial, sha256};
use crate::refusal::Refusal;
use crate::{IdentitySnapshot, SpiffeId, TrustDomain};

const CHAIN_LIMIT: usize = 6;
const CHAIN_SIZE_LIMIT: usize = 64 * 1024;
/// How far ahead a leaf's notBefore may lie (identity.md 3); notAfter has no tolerance.
const NOT_BEFORE_TOLERANCE: Duration = Duration::from_secs(10);

/// What the leaf is used for in this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// The peer is a TLS client.
    Client,
    /// The peer is a TLS server.
    Server,
}

/// One certificate of a verified path, named by what the deny set knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathLink {
    /// The key that issued it.
    pub issuer: KeyId,
    /// Its serial number.
    pub serial: Serial,
}

/// Who the peer is. Only [`verify_svid`] makes one, and nobody reads the certificate again (VS-11).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedPeer {
    /// The identity.
    pub id: SpiffeId,
    /// The earliest end of validity over the path, the anchor and the bundle: the connection's maximum age.
    pub expires: UnixTime,
    /// The key that issued the leaf.
    pub issuer_key_id: KeyId,
    /// Serial number of the leaf.
    pub serial: Serial,
    /// Generation of the snapshot that judged.
    pub generation: u64,
    /// Leaf first, then the intermediates of the verified path, for re-judging (S14).
    pub path: Vec<PathLink>,
    /// Key of the anchor at the end of the path.
    pub anchor_key_id: KeyId,
    /// SHA-256 of the leaf certificate.
    pub fingerprint: [u8; 32],
}

/// Judges a peer's chain (leaf first) at `now` against the bundle of its own trust domain.
///
/// # Errors
/// The first rule that the chain breaks.
pub fn verify_svid(
    chain: &[CertificateDer<'_>],
    snapshot: &IdentitySnapshot,
    usage: Usage,
    now: UnixTime,
) -> Result<VerifiedPeer, Refusal> {
    let parsed = parse_chain(chain)?;
    let (leaf, intermediates) = parsed.split_first().ok_or(Refusal::NoCertificate)?;
    let id = leaf.spiffe_id()?;
    if id.path().is_empty() {
        return Err(Refusal::RootPath);
    }
    check_leaf(leaf, usage)?;
    intermediates.iter().try_for_each(|ca| check_intermediate(ca, id.trust_domain()))?;
    let bundle = bundle_of(id.trust_domain(), snapshot, now)?;
    let time = evaluation_time(leaf, now)?;
    let path = build_path(chain, &parsed, bundle, usage, time)?;
    check_extensions(&parsed, &path)?;

    let peer = VerifiedPeer {
        expires: path.expires(bundle),
        issuer_key_id: path.links.first().map_or(path.anchor.key_id(), |link| link.issuer),
        serial: leaf.serial(),
        generation: snapshot.generation,
        anchor_key_id: path.anchor.key_id(),
        fingerprint: sha256(&[leaf.der]),
        path: path.links,
        id,
    };
    // A revoked intermediate is refused even when another path leads around it (RV-07).
    if intermediates.iter().any(|ca| snapshot.revoked.has_issuer(&ca.key_id())) {
        return Err(Refusal::RevokedIssuer);
    }
    snapshot.revoked.check(&peer)?;
    Ok(peer)
}

/// VS-01 and VS-02.
fn parse_chain<'a>(chain: &'a [CertificateDer<'_>]) -> Result<Vec<Certificate<'a>>, Refusal> {
    if chain.len() > CHAIN_LIMIT {
        return Err(Refusal::TooManyCertificates);
    }
    let size = chain.iter().fold(0_usize, |sum, der| sum.saturating_add(der.len()));
    if size > CHAIN_SIZE_LIMIT {
        return Err(Refusal::TooLarge);
    }
    let parsed: Vec<_> = chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
    for certificate in &parsed {
        certificate.key()?;
    }
    Ok(parsed)
}

/// VS-04.
fn check_leaf(leaf: &Certificate<'_>, usage: Usage) -> Result<(), Refusal> {
    if leaf.is_ca() {
        return Err(Refusal::LeafIsCa);
    }
    let key_usage = leaf.key_usage().ok_or(Refusal::KeyUsageMissing)?;
    if key_usage.key_cert_sign() || key_usage.crl_sign() {
        return Err(Refusal::LeafMaySign);
    }
    if !key_usage.digital_signature() {
        return Err(Refusal::NoDigitalSignature);
    }
    let allowed = leaf.purposes().is_none_or(|purposes| match usage {
        Usage::Client => purposes.client,
        Usage::Server => purposes.server,
    });
    if allowed { Ok(()) } else { Err(Refusal::WrongPurpose) }
}

/// VS-05.
fn check_intermediate(ca: &Certificate<'_>, domain: &TrustDomain) -> Result<(), Refusal> {
    if !ca.is_ca() {
        return Err(Refusal::IntermediateNotCa);
    }
    if !ca.key_usage().is_some_and(|usage| usage.key_cert_sign()) {
        return Err(Refusal::IntermediateKeyUsage);
    }
    match ca.spiffe_id() {
        Err(Refusal::NoUri) => Ok(()),
        Ok(name) if name.path().is_empty() && name.is_member_of(domain) => Ok(()),
        Ok(_) | Err(Refusal::ManyUris | Refusal::SpiffeId(_)) => Err(Refusal::IntermediateName),
        Err(other) => Err(other),
    }
}

/// VS-06: the bundle of the leaf's own trust domain, never another.
fn bundle_of<'a>(
    domain: &TrustDomain,
    snapshot: &'a IdentitySnapshot,
    now: UnixTime,
) -> Result<&'a Bundle, Refusal> {
    let bundle = snapshot.bundles.get(domain).ok_or_else(|| Refusal::UnknownTrustDomain(domain.clone()))?;
    if bundle.anchors().is_empty() {
        return Err(Refusal::BundleEmpty);
    }
    if bundle.stale_after.is_some_and(|limit| now > limit) {
        return Err(Refusal::BundleStale);
    }
    Ok(bundle)
}

/// VS-08: now, or the leaf's notBefore when that is a little ahead. Never earlier than now.
fn evaluation_time(leaf: &Certificate<'_>, now: UnixTime) -> Result<UnixTime, Refusal> {
    if leaf.not_before().saturating_since(now) > NOT_BEFORE_TOLERANCE {
        return Err(Refusal::NotYetValid);
    }
    let time = now.max(leaf.not_before());
    if time > leaf.not_after() { Err(Refusal::Expired) } else { Ok(time) }
}

struct Path<'a> {
    anchor: &'a Anchor,
    links: Vec<PathLink>,
    intermediates: usize,
    not_after: UnixTime,
}

impl Path<'_> {
    fn expires(&self, bundle: &Bundle) -> UnixTime {
        let end = self.not_after.min(self.anchor.not_after());
        bundle.stale_after.map_or(end, |limit| end.min(limit))
    }
}

/// VS-08: a path by webpki at `time`, from the anchors that are valid themselves (VS-07).
fn build_path<'a>(
    chain: &[CertificateDer<'_>],
    parsed: &[Certificate<'_>],
    bundle: &'a Bundle,
    usage: Usage,
    time: UnixTime,
) -> Result<Path<'a>, Refusal> {
    let valid: Vec<&Anchor> = bundle.anchors().iter().filter(|anchor| anchor.is_valid_at(time)).collect();
    if valid.is_empty() {
        return Err(Refusal::AnchorExpired);
    }
    let trust: Vec<TrustAnchor<'_>> = valid.iter().map(|anchor| anchor.trust().clone()).collect();
    let (leaf, intermediates) = chain.split_first().ok_or(Refusal::NoCertificate)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(refusal_of)?;
    let purpose = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    let since_epoch = time.saturating_since(UnixTime::from_secs(0));
    let at = rustls_pki_types::UnixTime::since_unix_epoch(since_epoch);
    let path =
        leaf.verify_for_usage(ALLOWED, &trust, intermediates, at, purpose, None, None).map_err(refusal_of)?;
    let anchor_at = trust.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
    let anchor = anchor_at.and_then(|nth| valid.get(nth)).ok_or(Refusal::NoPath)?;
    links_of(&path, parsed, anchor).ok_or(Refusal::NoPath)
}

/// Names every certificate of the path by the key above it.
fn links_of<'a>(path: &VerifiedPath<'_>, parsed: &[Certificate<'_>], anchor: &'a Anchor) -> Option<Path<'a>> {
    let leaf = parsed.first()?;
    let mut walked = vec![leaf];
    for used in path.intermediate_certificates() {
        let der = used.der();
        walked.push(parsed.iter().find(|certificate| certificate.der == der.as_ref())?);
    }
    let not_after = walked.iter().map(|certificate| certificate.not_after()).min()?;
    let issuers = walked.iter().skip(1).map(|ca| ca.key_id()).chain([anchor.key_id()]);
    let links = walked
        .iter()
        .zip(issuers)
        .map(|(certificate, issuer)| PathLink { issuer, serial: certificate.serial() })
        .collect();
    Some(Path { anchor, links, intermediates: walked.len().saturating_sub(1), not_after })
}

/// VS-09.
fn check_extensions(parsed: &[Certificate<'_>], path: &Path<'_>) -> Result<(), Refusal> {
    let depth = u32::try_from(path.intermediates).unwrap_or(u32::MAX);
    if path.anchor.path_len().is_some_and(|limit| depth > limit) {
        return Err(Refusal::PathLength);
    }
    if parsed.iter().any(Certificate::has_unknown_critical) {
        return Err(Refusal::CriticalExtension);
    }
    // webpki applies them to DNS and IP names only; a URI constraint would count for nothing (XT-32).
    if parsed.iter().any(Certificate::has_name_constraints) {
        return Err(Refusal::NameConstraints);
    }
    Ok(())
}

/// What webpki said, in our words. It reports the failure that went furthest along a path.
fn refusal_of(error: webpki::Error) -> Refusal {
    use webpki::Error;
    match error {
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::InvalidSerialNumber => {
            Refusal::Malformed
        }
        Error::CaUsedAsEndEntity => Refusal::LeafIsCa,
        Error::EndEntityUsedAsCa => Refusal::IntermediateNotCa,
        Error::CertExpired { .. } | Error::InvalidCertValidity => Refusal::Expired,
        Error::CertNotValidYet { .. } => Refusal::NotYetValid,
        Error::InvalidSignatureForPublicKey => Refusal::BadSignature,
        Error::NameConstraintViolation | Error::InvalidNetworkMaskConstraint => Refusal::NameConstraints,
        Error::PathLenConstraintViolated => Refusal::PathLength,
        Error::RequiredEkuNotFoundContext(_) => Refusal::WrongPurpose,
        Error::UnsupportedCriticalExtension => Refusal::CriticalExtension,
        Error::UnsupportedCertVersion => Refusal::NotVersion3,
        Error::SignatureAlgorithmMismatch => Refusal::AlgorithmMismatch,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refusal::SignatureAlgorithm,
        _ => Refusal::NoPath,
    }
}

#[cfg(test)]
mod tests;
