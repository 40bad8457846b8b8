//! Node attestation: evidence in, `Attested` out. No later stage can reach the evidence (IS-01).
//!
//! A join token makes an agent, never a workload (S24). It is kept as a hash, lives ten minutes, and is consumed in
//! the same transaction that makes the agent and records its certificate, so that exactly one redemption wins
//! (NA-01, HV-16, RG-02). Consuming and recording are one step: a refused issuance costs no token.

use std::fmt;
use std::time::Duration;

use base_ports::{Rng, UnixTime};
use base_store::{Compare, Store, Transaction};
use ca_identity::{SpiffeId, TrustDomain, spki_sha256};
use serde::{Deserialize, Serialize};

use crate::agent::AgentRecord;
use crate::error::AuthorityError;
use crate::{agent, row};

/// Longest life of a join token.
const TOKEN_TTL_LIMIT: Duration = Duration::from_secs(86_400);
const TOKEN_BYTES: usize = 16;

/// What a node shows to become an agent.
#[non_exhaustive]
pub enum Evidence {
    /// The text of a join token.
    JoinToken(String),
}

impl Evidence {
    /// The attestor that judges it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::JoinToken(_) => "join_token",
        }
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence({})", self.kind())
    }
}

/// A new join token: shown once, kept nowhere.
#[derive(Clone)]
pub struct JoinToken {
    /// The secret text.
    pub token: String,
    /// End of its validity.
    pub expires: UnixTime,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRow {
    v: u8,
    expires_nanos: i64,
}

/// A node that proved itself, and what must be written with its first certificate.
#[derive(Debug)]
pub(crate) struct Attested {
    pub(crate) agent: SpiffeId,
    pub(crate) attested_by: &'static str,
    pub(crate) consume: Transaction,
}

/// A fresh token and the transaction that stores its hash.
pub(crate) fn new_token(
    ttl: Duration,
    now: UnixTime,
    rng: &dyn Rng,
) -> Result<(JoinToken, Transaction), AuthorityError> {
    if ttl < Duration::from_secs(1) || ttl > TOKEN_TTL_LIMIT {
        return Err(AuthorityError::TokenTtl { ttl });
    }
    let token = random_hex(rng);
    let expires = now + ttl;
    let key = token_key(&token);
    let value = row::write(&key, &TokenRow { v: 1, expires_nanos: expires.as_nanos() })?;
    let transaction = Transaction::new().require(key.clone(), Compare::Absent).put(key, value);
    Ok((JoinToken { token, expires }, transaction))
}

/// Judges evidence. Nothing is consumed yet: `Attested::consume` does it, in the transaction of the issuance.
pub(crate) fn attest(
    evidence: Evidence,
    domain: &TrustDomain,
    store: &dyn Store,
    now: UnixTime,
    rng: &dyn Rng,
) -> Result<Attested, AuthorityError> {
    let attested_by = evidence.kind();
    match evidence {
        Evidence::JoinToken(token) => {
            let key = token_key(&token);
            let entry = store.get(&key)?.ok_or(AuthorityError::TokenRefused)?;
            let row: TokenRow = row::read(&key, &entry.value)?;
            if row.v != 1 || now > UnixTime::from_nanos(row.expires_nanos) {
                return Err(AuthorityError::TokenRefused);
            }
            // The identity says nothing about the token (NA-01).
            let path = format!("/portcullis/agent/join_token/{}", random_hex(rng));
            let agent = SpiffeId::new(domain, &path).map_err(|fault| row::unreadable(&key, fault))?;
            let agent_key = agent::row_key(&agent);
            let consume = Transaction::new()
                .require(key.clone(), Compare::ModifiedAt(entry.modified))
                .delete(key)
                .require(agent_key, Compare::Absent);
            let consume = AgentRecord::new(agent.clone(), attested_by, now).write(consume)?;
            Ok(Attested { agent, attested_by, consume })
        }
    }
}

/// Keys of tokens that have expired, at most `limit`.
pub(crate) fn expired_tokens(
    store: &dyn Store,
    now: UnixTime,
    limit: usize,
) -> Result<Vec<Vec<u8>>, AuthorityError> {
    let mut expired = Vec::new();
    for entry in store.range(row::TOKEN.as_bytes(), None, limit)? {
        let row: TokenRow = row::read(&entry.key, &entry.value)?;
        if now > UnixTime::from_nanos(row.expires_nanos) {
            expired.push(entry.key);
        }
    }
    Ok(expired)
}

/// True when the key names a token.
pub(crate) fn is_token_key(key: &[u8]) -> bool {
    key.starts_with(row::TOKEN.as_bytes())
}

/// A token is looked up by its hash: the secret is not at rest, and a look-up tells nothing of near misses.
fn token_key(token: &str) -> Vec<u8> {
    format!("{}{}", row::TOKEN, row::hex(&spki_sha256(token.as_bytes()))).into_bytes()
}

fn random_hex(rng: &dyn Rng) -> String {
    let mut bytes = [0_u8; TOKEN_BYTES];
    rng.fill(&mut bytes);
    row::hex(&bytes)
}
