//! Issuance of JWT-SVIDs, one type per stage as for certificates: `Requested -> Permitted -> Signed -> Checked ->
//! Journaled -> IssuedToken`.
//!
//! No token leaves without gate, post-check by the verifier that everybody uses, and durable record (IS-04, IS-06, IS-07).

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Rng, UnixTime};
use base_store::{Compare, Store, Transaction};
use ca_identity::{
    Bundle, BundleMap, IdentitySnapshot, JwtClaims, JwtSigner, PrivateKey, SpiffeId, spki_sha256,
    verify_jwt_svid,
};
use serde::{Deserialize, Serialize};

use crate::config::{AUTHORITY_PATH, Config};
use crate::error::AuthorityError;
use crate::issue::Subject;
use crate::ports::{IssuanceGate, IssueRequest, SvidKind};
use crate::revocation::{self, unless_revoked};
use crate::row;

const AUDIENCES: usize = 8;
const AUDIENCE_BYTES: usize = 1024;
/// What verifiers take (VJ-01).
const TOKEN_BYTES: usize = 8 * 1024;
/// Audience of the token that a key signs before it is used.
const PROBE: &str = "portcullis-self-test";

/// What signs tokens at this moment, and what verifies them. One value, one swap.
#[derive(Debug)]
pub(crate) struct TokenKey {
    signer: JwtSigner,
    not_after: UnixTime,
    /// Trusts exactly the own bundle.
    verify: IdentitySnapshot,
    issuer: Option<String>,
}

impl TokenKey {
    /// The key, after a token that it signed verified (XT-22).
    pub(crate) fn ready(
        key: &PrivateKey,
        not_after: UnixTime,
        bundle: Arc<Bundle>,
        config: &Config,
        now: UnixTime,
    ) -> Result<Self, AuthorityError> {
        let verify = IdentitySnapshot { bundles: BundleMap::of(bundle), ..IdentitySnapshot::default() };
        let issuer = config.jwt_issuer.clone();
        let ready = Self { signer: JwtSigner::new(key)?, not_after, verify, issuer };
        let id = SpiffeId::new(&config.trust_domain, AUTHORITY_PATH)
            .map_err(|fault| row::unreadable(row::KEYS, fault))?;
        let probe = [PROBE.to_owned()];
        let claims = JwtClaims {
            id: &id,
            audience: &probe,
            issued: now,
            expires: now + config.jwt_ttl,
            issuer: None,
            jti: None,
        };
        let token = ready.signer.sign(&claims).ok_or(AuthorityError::TokenUnsigned)?;
        verify_jwt_svid(&token, PROBE, &ready.verify, now).map_err(AuthorityError::TokenUnverified)?;
        Ok(ready)
    }
}

/// A subject with the audience and the times of its token.
#[derive(Debug)]
pub(crate) struct Requested {
    subject: Subject,
    audience: Vec<String>,
    issued: UnixTime,
    expires: UnixTime,
    clamped: bool,
}

impl Requested {
    pub(crate) fn new(
        subject: Subject,
        audience: Vec<String>,
        key: &TokenKey,
        config: &Config,
        now: UnixTime,
    ) -> Result<Self, AuthorityError> {
        let is_usable = |name: &String| (1..=AUDIENCE_BYTES).contains(&name.len());
        if !(1..=AUDIENCES).contains(&audience.len()) || !audience.iter().all(is_usable) {
            return Err(AuthorityError::Audience);
        }
        if audience.len() > 1 {
            // JW-08: each of them can show the token to the others.
            tracing::warn!(event = "token_for_many", id = %subject.spiffe_id, audiences = audience.len(), "a token for more than one audience");
        }
        let issued = UnixTime::from_secs(now.as_secs());
        let wished = subject.ttl.unwrap_or(config.jwt_ttl);
        let mut expires = (issued + wished.min(config.jwt_ttl_cap())).min(key.not_after);
        if let Some(end) = subject.entry.as_ref().and_then(|entry| entry.expires_at) {
            expires = expires.min(UnixTime::from_secs(end.as_secs()));
        }
        if expires <= issued {
            return Err(AuthorityError::NoLifetime);
        }
        let clamped = expires.saturating_since(issued) < wished;
        Ok(Self { subject, audience, issued, expires, clamped })
    }

    /// Asks the gate (IS-04).
    pub(crate) fn pass(self, gate: &dyn IssuanceGate) -> Result<Permitted, AuthorityError> {
        let Subject { requester, attested_by, spiffe_id, kind, entry, .. } = &self.subject;
        let answer = gate.decide(&IssueRequest {
            requester,
            spiffe_id,
            entry: entry.as_deref(),
            kind: *kind,
            svid: SvidKind::Jwt,
            audience: &self.audience,
            ttl: self.ttl(),
            selectors: entry.as_ref().map_or(&[], |entry| &entry.selectors),
            dns_names: &[],
            attested_by,
        });
        if answer.allow {
            Ok(Permitted { requested: self, decision_id: answer.decision_id })
        } else {
            Err(AuthorityError::GateRefused { decision_id: answer.decision_id })
        }
    }

    fn ttl(&self) -> Duration {
        self.expires.saturating_since(self.issued)
    }
}

/// The gate said yes.
#[derive(Debug)]
pub(crate) struct Permitted {
    requested: Requested,
    decision_id: String,
}

impl Permitted {
    /// Composes and signs. Every issuance has a name of its own; the token carries it where the entry says so (DF-09).
    pub(crate) fn sign(self, key: &TokenKey, rng: &dyn Rng) -> Result<Signed, AuthorityError> {
        let mut random = [0; 16];
        rng.fill(&mut random);
        let jti = row::hex(&random);
        let Requested { subject, audience, issued, expires, .. } = &self.requested;
        let is_named = subject.entry.as_ref().is_some_and(|entry| entry.jwt_jti);
        let claims = JwtClaims {
            id: &subject.spiffe_id,
            audience,
            issued: *issued,
            expires: *expires,
            issuer: key.issuer.as_deref(),
            jti: is_named.then_some(jti.as_str()),
        };
        let token = key.signer.sign(&claims).ok_or(AuthorityError::TokenUnsigned)?;
        if token.len() > TOKEN_BYTES {
            return Err(AuthorityError::Audience);
        }
        Ok(Signed { permitted: self, token, jti })
    }
}

/// A token that nobody has looked at yet.
pub(crate) struct Signed {
    permitted: Permitted,
    pub(crate) token: String,
    jti: String,
}

impl Signed {
    /// Reads the finished token as a stranger would (IS-06).
    pub(crate) fn check(self, key: &TokenKey, now: UnixTime) -> Result<Checked, AuthorityError> {
        let Requested { subject, audience, expires, .. } = &self.permitted.requested;
        for name in audience {
            let read = verify_jwt_svid(&self.token, name, &key.verify, now);
            let read = read.map_err(AuthorityError::TokenUnverified)?;
            let is_meant =
                read.id == subject.spiffe_id && read.audience == *audience && read.expires == *expires;
            if !is_meant || read.key != key.signer.public().kid() {
                return Err(AuthorityError::TokenDiffers);
            }
        }
        Ok(Checked { signed: self, kid: key.signer.public().kid().to_owned() })
    }
}

/// A token that verifies for everybody whom it is for.
pub(crate) struct Checked {
    signed: Signed,
    kid: String,
}

impl Checked {
    /// Makes the record durable, where `with` holds (IS-07).
    pub(crate) async fn journal(
        self,
        store: &dyn Store,
        with: Transaction,
    ) -> Result<Journaled, AuthorityError> {
        let Signed { permitted, token, jti } = self.signed;
        let Permitted { requested, decision_id } = permitted;
        let Requested { subject, audience, issued, expires, clamped } = requested;
        let record = TokenRecord {
            jti,
            kid: self.kid,
            spiffe_id: subject.spiffe_id,
            audience_sha256: spki_sha256(audience.join("\n").as_bytes()),
            entry: subject.entry.map(|entry| (entry.id.clone(), entry.revision)),
            agent: subject.requester,
            issued,
            expires,
            decision_id,
        };
        let key = record.row_key();
        let transaction = with.require(key.clone(), Compare::Absent).put(key, record.to_row()?);
        let committed = store.commit(unless_revoked(transaction, &record.spiffe_id)).await;
        committed.map_err(|fault| revocation::lost(fault, &record.spiffe_id))?;
        Ok(Journaled { token, record, clamped })
    }
}

/// A token whose record is durable.
pub(crate) struct Journaled {
    token: String,
    record: TokenRecord,
    clamped: bool,
}

impl Journaled {
    /// Lets it go.
    pub(crate) fn release(self) -> (IssuedToken, TokenRecord) {
        let issued = IssuedToken {
            token: self.token,
            id: self.record.spiffe_id.clone(),
            issued: self.record.issued,
            expires: self.record.expires,
            ttl_clamped: self.clamped,
        };
        (issued, self.record)
    }
}

/// What a requester gets. Its `Debug` leaves the token out.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuedToken {
    /// The JWT-SVID in compact form.
    pub token: String,
    /// The identity.
    pub id: SpiffeId,
    /// `iat`.
    pub issued: UnixTime,
    /// `exp`.
    pub expires: UnixTime,
    /// True when the lifetime is shorter than the entry asked for.
    pub ttl_clamped: bool,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The durable record of one token (IS-07). Never the token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRecord {
    /// The name of this issuance; `jti` of the token where its entry asks for one.
    pub jti: String,
    /// The key that signed it.
    pub kid: String,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// SHA-256 over the audiences, a line break between them.
    pub audience_sha256: [u8; 32],
    /// Entry id and revision.
    pub entry: Option<(String, u64)>,
    /// The agent through which it was issued.
    pub agent: SpiffeId,
    /// `iat`.
    pub issued: UnixTime,
    /// `exp`.
    pub expires: UnixTime,
    /// The gate's decision.
    pub decision_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRow {
    v: u8,
    jti: String,
    kid: String,
    spiffe_id: String,
    audience_sha256: String,
    entry: Option<(String, u64)>,
    agent: String,
    issued_secs: i64,
    expires_secs: i64,
    decision_id: String,
}

impl TokenRecord {
    /// Rows stand in the order in which their tokens end.
    fn row_key(&self) -> Vec<u8> {
        format!("{}{:012}/{}", row::ISSUED_JWT, self.expires.as_secs(), self.jti).into_bytes()
    }

    fn to_row(&self) -> Result<Vec<u8>, AuthorityError> {
        let row = TokenRow {
            v: 1,
            jti: self.jti.clone(),
            kid: self.kid.clone(),
            spiffe_id: self.spiffe_id.to_string(),
            audience_sha256: row::hex(&self.audience_sha256),
            entry: self.entry.clone(),
            agent: self.agent.to_string(),
            issued_secs: self.issued.as_secs(),
            expires_secs: self.expires.as_secs(),
            decision_id: self.decision_id.clone(),
        };
        row::write(&self.row_key(), &row)
    }

    pub(crate) fn from_row(key: &[u8], bytes: &[u8]) -> Result<Self, AuthorityError> {
        let row: TokenRow = row::read(key, bytes)?;
        let id = |text: &str| SpiffeId::parse(text).map_err(|reason| row::unreadable(key, reason));
        Ok(Self {
            jti: row.jti,
            kid: row.kid,
            spiffe_id: id(&row.spiffe_id)?,
            audience_sha256: row::hash(key, &row.audience_sha256)?,
            entry: row.entry,
            agent: id(&row.agent)?,
            issued: UnixTime::from_secs(row.issued_secs),
            expires: UnixTime::from_secs(row.expires_secs),
            decision_id: row.decision_id,
        })
    }
}
