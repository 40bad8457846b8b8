//! Who is at the other end of a connection: made once, after the handshake, and never read from certificates again.
//!
//! A connection lives no longer than the certificate that opened it (TL-04, CT-02). When the published trust changes,
//! the identity is looked up in the deny set before the next call (S14).

mod path;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_ports::{Mono, Now};
use ca_identity::tls::{NamedCertificate, Trust};
use ca_identity::{RefusalClass, SpiffeId, TokenRefusal, VerifiedPeer, VerifiedToken};
use enforcer_traffic::{Arrival, Routes};
use policies_engine::{ConnectionFacts, Credential, CredentialKind, Principal, Protocol, Reason};

use crate::issuer::Person;
use crate::listening::Listening;
use path::Path;

/// Before its end a connection takes no new calls, so that the running ones can finish (CT-06).
const NOTICE: Duration = Duration::from_secs(60);

/// The identity of a connection and what is bound to it.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) principal: Principal,
    pub(crate) credential: Option<Arc<Credential>>,
    /// `portcullis-peer` for the upstream: the SPIFFE id.
    pub(crate) peer_header: String,
    /// `x-forwarded-client-cert` for the upstream, in Envoy's form.
    pub(crate) cert_header: String,
    /// From here on the connection asks its peer to go.
    pub(crate) retires: Mono,
    /// Here it ends.
    pub(crate) ends: Mono,
    /// How long it took to secure the connection.
    pub(crate) shaken_in: Duration,
    /// Random: its place among those that a drain asks to go.
    pub(crate) share: u8,
    source: SocketAddr,
    /// The address that was called.
    pub(crate) local: SocketAddr,
    /// Of a caller that may change its address.
    path: Option<Arc<Path>>,
    /// The certificate that its caller saw; none = the own SVID.
    shown: Option<Arc<NamedCertificate>>,
    facts: Arc<ConnectionFacts>,
    grpc_facts: Arc<ConnectionFacts>,
    proof: Proof,
    /// Whom a token of the call names besides (MO5).
    person: Option<Arc<Person>>,
    /// Trust generation under which the peer was found good last.
    checked: AtomicU64,
}

/// How the caller proved who it is.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// Not at all.
    None,
    /// By an X.509-SVID.
    Svid(VerifiedPeer),
    /// Nobody asked: its TLS goes through to the endpoint (LT-16).
    Unasked,
    /// By the kernel's word that its process is of the own workload (OUT4).
    Own(SpiffeId),
    /// By a JWT-SVID that came with the call (TL-06).
    Token(Arc<VerifiedToken>),
}

impl Proof {
    fn id(&self) -> Option<&SpiffeId> {
        match self {
            Self::None | Self::Unasked => None,
            Self::Svid(peer) => Some(&peer.id),
            Self::Own(id) => Some(id),
            Self::Token(token) => Some(&token.id),
        }
    }

    fn token(&self) -> Option<&VerifiedToken> {
        if let Self::Token(token) = self { Some(token) } else { None }
    }

    fn svid(&self) -> Option<&VerifiedPeer> {
        match self {
            Self::Svid(peer) => Some(peer),
            Self::None | Self::Unasked | Self::Own(_) | Self::Token(_) => None,
        }
    }
}

/// What is known of a connection besides its peer.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) source: SocketAddr,
    /// The address that was called; its port is 0 where there is none.
    pub(crate) local: SocketAddr,
    pub(crate) sni: Option<&'a str>,
    pub(crate) protocol: Protocol,
    pub(crate) now: Now,
    /// Random, so that connections opened together do not end together.
    pub(crate) jitter: u64,
}

impl Secured {
    pub(crate) fn new(proof: Proof, bound: &Bound<'_>, listening: &Listening, trust: &Trust) -> Self {
        let Bound { source, local, sni, protocol, now, jitter } = *bound;
        let snapshot = trust.snapshot();
        // Whether its TLS ends here.
        let is_ended = listening.callers.is_none() && !matches!(proof, Proof::Unasked);
        let peer = proof.svid();
        let facts = ConnectionFacts {
            mtls: peer.is_some(),
            tls: if is_ended { 13 } else { 0 },
            source_ip: source.ip().to_canonical(),
            sni: sni.map(Arc::from),
            listener: Arc::clone(&listening.name),
            protocol,
        };
        let grpc_facts = ConnectionFacts { protocol: Protocol::Grpc, ..facts.clone() };
        let age = listening.timers.age(jitter);
        // Under TLS a connection ends with the certificates that opened it.
        let shown = snapshot.own.as_ref().filter(|_| is_ended);
        let expires = [peer.map(|peer| peer.expires), shown.map(|own| own.not_after)];
        let life = expires
            .into_iter()
            .flatten()
            .map(|expires| expires.saturating_since(now.wall))
            .fold(age, Duration::min);
        let notice = NOTICE.min(life / 4);
        Self {
            principal: principal(&proof),
            credential: credential(&proof).map(Arc::new),
            peer_header: peer_header(&proof),
            cert_header: peer.map(forwarded_cert).unwrap_or_default(),
            retires: now.mono + life.saturating_sub(notice),
            ends: now.mono + life,
            shaken_in: Duration::ZERO,
            share: u8::try_from(jitter >> 8 & 0xff).unwrap_or_default(),
            source,
            local,
            path: None,
            shown: listening.certificate(sni).cloned(),
            facts: Arc::new(facts),
            grpc_facts: Arc::new(grpc_facts),
            checked: AtomicU64::new(peer.map_or(snapshot.generation, |peer| peer.generation)),
            proof,
            person: None,
        }
    }

    /// The same caller.
    pub(crate) fn copy(&self) -> Self {
        Self {
            principal: self.principal.clone(),
            credential: self.credential.clone(),
            peer_header: self.peer_header.clone(),
            cert_header: self.cert_header.clone(),
            path: self.path.clone(),
            shown: self.shown.clone(),
            facts: Arc::clone(&self.facts),
            grpc_facts: Arc::clone(&self.grpc_facts),
            proof: self.proof.clone(),
            person: self.person.clone(),
            checked: AtomicU64::new(self.checked.load(Ordering::Relaxed)),
            ..*self
        }
    }

    /// The caller that the token names, until that ends.
    pub(crate) fn named_by(&self, token: VerifiedToken, now: Now) -> Self {
        let ends = self.ends.min(now.mono + token.expires.saturating_since(now.wall));
        let proof = Proof::Token(Arc::new(token));
        Self {
            principal: principal(&proof),
            credential: credential(&proof).map(Arc::new),
            peer_header: peer_header(&proof),
            checked: AtomicU64::new(proof.token().map_or(0, |token| token.generation)),
            ends,
            proof,
            ..self.copy()
        }
    }

    /// The same caller on behalf of that person; who is nobody calls as the person. Until the token ends.
    pub(crate) fn on_behalf_of(&self, person: Person, now: Now) -> Self {
        let ends = self.ends.min(now.mono + person.token.expires.saturating_since(now.wall));
        let copy = Self { ends, ..self.copy() };
        let copy = if self.is_stranger() {
            let credential = Some(Arc::new(person.credential()));
            Self { principal: Principal::user(&person.token), credential, ..copy }
        } else {
            copy
        };
        Self { person: Some(Arc::new(person)), ..copy }
    }

    /// The person whom a token of the call names.
    pub(crate) fn person(&self) -> Option<&Arc<Person>> {
        self.person.as_ref()
    }

    /// Nobody is known to be at the other end, though somebody could be.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self.proof, Proof::None) && self.person.is_none()
    }

    /// The token of the call is for this gateway alone.
    pub(crate) fn keeps_token(&self) -> bool {
        self.proof.token().is_some() || self.person.as_ref().is_some_and(|person| !person.is_passed_on())
    }

    /// The caller is at the other end of that, wherever it goes.
    pub(crate) fn follow(&mut self, quic: quinn::Connection) {
        self.path = Some(Arc::new(Path::new(quic, self.source)));
    }

    /// How often the caller went on from another IP address, as far as this was looked at; from then on that is its source
    /// (QU-03).
    pub(crate) fn moves(&self) -> u32 {
        self.path.as_ref().map_or(0, |path| path.look(&self.facts))
    }

    /// The caller's address, or what a forwarder said it is.
    pub(crate) fn source(&self) -> SocketAddr {
        self.path.as_ref().map_or(self.source, |path| path.address())
    }

    /// The facts of the connection as policies see them for a call of that protocol.
    pub(crate) fn facts(&self, grpc: bool) -> Arc<ConnectionFacts> {
        let moved = self.path.as_ref().and_then(|path| path.facts(grpc));
        moved.unwrap_or_else(|| Arc::clone(if grpc { &self.grpc_facts } else { &self.facts }))
    }

    /// What the connection carries.
    pub(crate) fn protocol(&self) -> Protocol {
        self.facts.protocol
    }

    /// The server name that its caller asked for.
    pub(crate) fn sni(&self) -> Option<&str> {
        self.facts.sni.as_deref()
    }

    /// Whether the connection is for that host (TL-07, IN4): the certificate that its caller saw is for it, or its TLS goes
    /// through to it. Nothing is both (LT-16).
    pub(crate) fn serves(&self, listening: &Listening, routes: &Routes, host: &str) -> bool {
        let is_passed = matches!(self.proof, Proof::Unasked);
        let has_shown =
            || self.shown.as_ref().map_or_else(|| listening.serves(host), |shown| shown.covers(host));
        routes.passes(&listening.name, host) == is_passed && (is_passed || has_shown())
    }

    /// What a route may ask of the connection.
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        Arrival {
            listener: &self.facts.listener,
            port: self.local.port(),
            source: self.source().ip().to_canonical(),
            sni: self.facts.sni.as_deref(),
            passed: matches!(self.proof, Proof::Unasked),
            identity: self.proof.id(),
        }
    }

    /// Why the identity no longer holds, if so.
    pub(crate) fn lapsed(&self, trust: &Trust, now: Now) -> Option<Reason> {
        if let Some(person) = &self.person {
            if now.wall > person.token.expires {
                return Some(Reason::TokenExpired);
            }
            if !person.holds() {
                return Some(Reason::TokenInvalid);
            }
        }
        let (expires, past) = match &self.proof {
            Proof::None | Proof::Unasked => return None,
            Proof::Own(_) => return (!holds(trust)).then_some(Reason::IdentityExpired),
            Proof::Svid(peer) => (peer.expires, Reason::IdentityExpired),
            Proof::Token(token) => (token.expires, Reason::TokenExpired),
        };
        if now.wall > expires {
            return Some(past);
        }
        let generation = trust.generation();
        if self.checked.load(Ordering::Relaxed) == generation {
            return None;
        }
        let snapshot = trust.snapshot();
        let lapsed = match &self.proof {
            Proof::Svid(peer) => snapshot.check(peer).err().map(|refusal| reason_of(refusal.class())),
            Proof::Token(token) => snapshot.check_token(token).err().map(|refusal| reason_of_token(&refusal)),
            Proof::None | Proof::Unasked | Proof::Own(_) => None,
        };
        if lapsed.is_none() {
            self.checked.store(snapshot.generation, Ordering::Relaxed);
        }
        lapsed
    }
}

/// The reason word for a refused certificate.
pub(crate) fn reason_of(class: RefusalClass) -> Reason {
    match class {
        RefusalClass::Untrusted => Reason::IdentityUntrusted,
        RefusalClass::Expired => Reason::IdentityExpired,
        RefusalClass::Revoked => Reason::IdentityRevoked,
    }
}

/// The reason word for a refused token.
pub(crate) fn reason_of_token(refusal: &TokenRefusal) -> Reason {
    match refusal.class() {
        RefusalClass::Expired if *refusal == TokenRefusal::Expired => Reason::TokenExpired,
        RefusalClass::Revoked => Reason::IdentityRevoked,
        RefusalClass::Untrusted | RefusalClass::Expired => Reason::TokenInvalid,
    }
}

fn principal(proof: &Proof) -> Principal {
    proof.id().map_or_else(Principal::anonymous, |id| Principal::workload(id.as_str()))
}

fn peer_header(proof: &Proof) -> String {
    proof.id().map(|id| id.as_str().to_owned()).unwrap_or_default()
}

/// Whether there is a valid SVID of our own to show (TL-08).
pub(crate) fn holds(trust: &Trust) -> bool {
    let snapshot = trust.snapshot();
    snapshot.own.as_ref().is_some_and(|own| own.is_valid_at(trust.now()))
}

fn credential(proof: &Proof) -> Option<Credential> {
    match proof {
        Proof::None | Proof::Unasked => None,
        Proof::Svid(peer) => Some(credential_of(peer)),
        Proof::Own(_) => Some(Credential::local()),
        Proof::Token(token) => Some(Credential::token(token.jti.clone(), token.key.clone(), token.expires)),
    }
}

/// What a verified peer proved itself with, as records tell it.
#[must_use]
pub fn credential_of(peer: &VerifiedPeer) -> Credential {
    Credential {
        kind: CredentialKind::X509,
        serial: Some(peer.serial.to_string()),
        fingerprint: Some(peer.fingerprint),
        issuer: Some(peer.issuer_key_id.to_string()),
        not_after: Some(peer.expires),
    }
}

/// `Hash=<SHA-256 of the leaf>;URI=<SPIFFE id>`, the form of Envoy's `x-forwarded-client-cert`.
fn forwarded_cert(peer: &VerifiedPeer) -> String {
    let mut text = String::with_capacity(80 + peer.id.as_str().len());
    text.push_str("Hash=");
    for byte in peer.fingerprint {
        // INVARIANT: writing to a String does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text.push_str(";URI=");
    text.push_str(peer.id.as_str());
    text
}
