//! rustls asks, `verify_svid` answers: the verifiers of both sides, the resolver, and the way back from an error.
//!
//! Names of hosts play no role here: a mesh peer is who its SPIFFE ID says. DNS names may stand in the SAN for
//! stock clients (S21), but nothing is concluded from them.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, SignatureScheme,
};

use super::Trust;
use super::cache::Key;
use crate::{IdPattern, Refusal, SpiffeId, TrustDomain, Usage, VerifiedPeer, verify_svid};

/// Whom a client accepts as its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any of these identities.
    Ids(Vec<SpiffeId>),
    /// Any identity of this trust domain.
    TrustDomain(TrustDomain),
    /// Any identity of one of these sets.
    Matching(Vec<IdPattern>),
}

impl Expected {
    /// True when `id` is expected.
    pub fn accepts(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(id),
            Self::TrustDomain(domain) => id.is_member_of(domain),
            Self::Matching(some) => some.iter().any(|pattern| pattern.has(id)),
        }
    }
}

/// Who is at the other end, after the handshake; `None` when the peer showed no certificate.
///
/// # Errors
/// When the chain does not verify under the snapshot of this moment, which may be newer than the handshake's.
pub fn peer(
    trust: &Trust,
    certs: Option<&[CertificateDer<'_>]>,
    usage: Usage,
) -> Result<Option<VerifiedPeer>, Refusal> {
    match certs {
        None | Some([]) => Ok(None),
        Some(chain) => judge(trust, chain, usage).map(|peer| Some(VerifiedPeer::clone(&peer))),
    }
}

/// `verify_svid` through the verify-once cache.
fn judge(trust: &Trust, chain: &[CertificateDer<'_>], usage: Usage) -> Result<Arc<VerifiedPeer>, Refusal> {
    let (snapshot, now) = (trust.snapshot(), trust.now());
    let key = Key::of(chain, usage);
    if let Some(peer) = trust.accepted.get(&key, snapshot.generation, now) {
        return Ok(peer);
    }
    let peer = Arc::new(verify_svid(chain, &snapshot, usage, now)?);
    trust.accepted.keep(key, Arc::clone(&peer));
    Ok(peer)
}

fn joined<'a>(leaf: &CertificateDer<'a>, rest: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(rest).cloned().collect()
}

/// The refusal behind a failed handshake, if ours was the side that refused.
pub fn refusal_of(error: &Error) -> Option<Refusal> {
    match error {
        Error::NoCertificatesPresented
        | Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            Some(Refusal::NoCertificate)
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some(Refusal::Expired)
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Some(Refusal::NotYetValid),
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            // The library shows each as `DnsName("localhost")`.
            let names: Vec<_> =
                presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name.as_str())).collect();
            let seen = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            Some(Refusal::WrongName { seen })
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(Refusal::NoPath),
        Error::InvalidCertificate(CertificateError::BadSignature) => Some(Refusal::BadSignature),
        Error::InvalidCertificate(CertificateError::Revoked) => Some(Refusal::RevokedCertificate),
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            cause.downcast_ref::<Refusal>().cloned()
        }
        _ => None,
    }
}

/// As [`refusal_of`], for the error of an asynchronous handshake.
pub fn refusal_in(error: &io::Error) -> Option<Refusal> {
    refusal_of(error.get_ref()?.downcast_ref()?)
}

/// As [`refusal_of`], for a handshake of which only the alert that ended it is known, as over QUIC (RFC 9001, 4.8): for
/// refusals that TLS has a word for.
pub fn refusal_in_alert(alert: u8) -> Option<Refusal> {
    match AlertDescription::from(alert) {
        AlertDescription::CertificateRequired => Some(Refusal::NoCertificate),
        AlertDescription::CertificateExpired => Some(Refusal::Expired),
        AlertDescription::CertificateRevoked => Some(Refusal::RevokedCertificate),
        AlertDescription::UnknownCA => Some(Refusal::NoPath),
        _ => None,
    }
}

/// The alert with which the peer ended the connection, by its name in RFC 8446 6, if that is what the error says.
///
/// A client of TLS 1.3 is done before the server has judged its certificate, so the first read may say this (TL-10).
pub fn alert_in(error: &io::Error) -> Option<String> {
    let Error::AlertReceived(alert) = error.get_ref()?.downcast_ref()? else { return None };
    // `UnknownCA` is `unknown_ca`.
    let (mut name, mut is_within) = (String::new(), false);
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && is_within {
            name.push('_');
        }
        is_within = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    Some(name)
}

/// The error of a handshake that the peer ended with that alert, where only its number is known (RFC 9001, 4.8).
pub fn alerted(alert: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(AlertDescription::from(alert)))
}

/// Why a server was refused last.
#[derive(Debug, Clone, Default)]
pub struct Refused(Arc<Mutex<Option<Refusal>>>);

impl Refused {
    /// The error that the handshake would have had over TCP, once.
    pub fn take(&self) -> Option<io::Error> {
        let refusal = self.0.lock().take()?;
        Some(io::Error::new(io::ErrorKind::InvalidData, rejection(refusal)))
    }
}

/// Where TLS has a word for it the peer gets the right alert; anything else is `certificate_unknown`, without detail.
fn rejection(refusal: Refusal) -> Error {
    Error::InvalidCertificate(match refusal {
        Refusal::Expired => CertificateError::Expired,
        Refusal::NotYetValid => CertificateError::NotValidYet,
        Refusal::NoPath => CertificateError::UnknownIssuer,
        Refusal::RevokedCertificate => CertificateError::Revoked,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

/// Judges clients.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// TLS-02: no names of authorities, which would show the topology.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        judge(&self.trust, &joined(leaf, intermediates), Usage::Client).map_err(rejection)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Judges servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) expected: Expected,
    pub(super) refused: Refused,
}

impl ServerVerifier {
    fn refuse(&self, refusal: Refusal) -> Error {
        *self.refused.0.lock() = Some(refusal.clone());
        rejection(refusal)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = joined(leaf, intermediates);
        let peer = judge(&self.trust, &chain, Usage::Server).map_err(|refusal| self.refuse(refusal))?;
        if self.expected.accepts(&peer.id) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(self.refuse(Refusal::UnexpectedId { seen: peer.id.clone() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Shows the own SVID of the snapshot of this moment, on both sides.
#[derive(Debug)]
pub(super) struct OwnSvid(pub(super) Arc<Trust>);

impl ResolvesServerCert for OwnSvid {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.own()
    }
}

impl ResolvesClientCert for OwnSvid {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.own()
    }

    fn has_certs(&self) -> bool {
        self.0.own().is_some()
    }
}
