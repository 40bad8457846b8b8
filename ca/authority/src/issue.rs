//! Issuance, one type per stage: `Requested -> Permitted -> Templated -> Signed -> Checked -> Journaled -> Issued`.
//!
//! Each stage is made only from the one before, so no certificate leaves without gate, post-check and durable record
//! (identity.md 7). Attestation and entry look-up come before; they yield the `Subject`.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Rng, UnixTime};
use base_store::{Compare, Store, Transaction};
use ca_identity::csr::{self, SubjectPublicKey};
use ca_identity::{
    Bundle, CertificateDer, IdentitySnapshot, KeyId, Selector, Serial, SpiffeId, Usage, verify_svid,
};
use rcgen::{Issuer, KeyPair};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::entry::EntryRecord;
use crate::error::AuthorityError;
use crate::lint;
use crate::ports::{IssuanceGate, IssueKind, IssueRequest, SvidKind};
use crate::revocation::{self, unless_revoked};
use crate::row;
use crate::template::{self, Certified};

/// The authority of this moment: what signs, what verifies. One value, one swap.
pub(crate) struct Current {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) issuer_key: KeyId,
    pub(crate) issuer_der: CertificateDer<'static>,
    pub(crate) not_before: UnixTime,
    /// The earlier end of signing CA and root.
    pub(crate) not_after: UnixTime,
    pub(crate) bundle: Arc<Bundle>,
    /// Trusts exactly `bundle`.
    pub(crate) verify: IdentitySnapshot,
    /// Keys that no request may carry (IS-02).
    pub(crate) authority_keys: Vec<KeyId>,
}

/// What is to be certified, and for whom.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) requester: SpiffeId,
    pub(crate) attested_by: String,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) kind: IssueKind,
    pub(crate) entry: Option<Arc<EntryRecord>>,
}

/// A subject whose key was proved (IS-02).
#[derive(Debug)]
pub(crate) struct Requested {
    subject: Subject,
    key: SubjectPublicKey,
    validity: Validity,
}

/// When the certificate will be valid.
#[derive(Debug, Clone, Copy)]
struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
    ttl: Duration,
    clamped: bool,
}

impl Requested {
    pub(crate) fn new(
        subject: Subject,
        request: &[u8],
        current: &Current,
        config: &Config,
        now: UnixTime,
    ) -> Result<Self, AuthorityError> {
        let key = csr::parse(request)?;
        if current.authority_keys.contains(&key.key_id()) {
            return Err(AuthorityError::AuthorityKey);
        }
        let validity = Validity::of(&subject, current, config, now)?;
        Ok(Self { subject, key, validity })
    }

    /// Asks the gate (IS-04).
    pub(crate) fn pass(self, gate: &dyn IssuanceGate) -> Result<Permitted, AuthorityError> {
        let Subject { requester, attested_by, spiffe_id, dns_names, kind, entry, .. } = &self.subject;
        let selectors: &[Selector] = entry.as_ref().map_or(&[], |entry| &entry.selectors);
        let answer = gate.decide(&IssueRequest {
            requester,
            spiffe_id,
            entry: entry.as_deref(),
            kind: *kind,
            svid: SvidKind::X509,
            audience: &[],
            ttl: self.validity.ttl,
            selectors,
            dns_names,
            attested_by,
        });
        if answer.allow {
            Ok(Permitted { requested: self, decision_id: answer.decision_id })
        } else {
            Err(AuthorityError::GateRefused { decision_id: answer.decision_id })
        }
    }
}

impl Validity {
    /// Inside the issuer's validity and the entry's, at most a sixth of a signing CA's life, in whole seconds.
    fn of(
        subject: &Subject,
        current: &Current,
        config: &Config,
        now: UnixTime,
    ) -> Result<Self, AuthorityError> {
        let now = UnixTime::from_secs(now.as_secs());
        let wished = subject.ttl.unwrap_or(config.svid_ttl);
        let mut not_after = (now + wished.min(config.svid_ttl_cap())).min(current.not_after);
        if let Some(end) = subject.entry.as_ref().and_then(|entry| entry.expires_at) {
            not_after = not_after.min(UnixTime::from_secs(end.as_secs()));
        }
        let not_before = (now - config.backdate).max(current.not_before);
        if not_after <= now {
            return Err(AuthorityError::NoLifetime);
        }
        let ttl = not_after.saturating_since(now);
        Ok(Self { not_before, not_after, ttl, clamped: ttl < wished })
    }
}

/// The gate said yes.
#[derive(Debug)]
pub(crate) struct Permitted {
    requested: Requested,
    decision_id: String,
}

impl Permitted {
    /// Builds the template from entry and defaults (IS-05).
    pub(crate) fn template(self, rng: &dyn Rng) -> Result<Templated, AuthorityError> {
        let Requested { subject, key, validity } = &self.requested;
        let serial = template::serial(rng);
        let params = template::leaf(&template::Leaf {
            id: &subject.spiffe_id,
            dns_names: &subject.dns_names,
            serial,
            not_before: validity.not_before,
            not_after: validity.not_after,
            key_id: key.key_id(),
        })?;
        Ok(Templated { permitted: self, params, serial: Serial::from_bytes(&serial) })
    }
}

/// Everything that will stand in the certificate.
#[derive(Debug)]
pub(crate) struct Templated {
    permitted: Permitted,
    pub(crate) params: rcgen::CertificateParams,
    serial: Serial,
}

impl Templated {
    /// Signs with the active signing CA.
    pub(crate) fn sign(self, current: &Current) -> Result<Signed, AuthorityError> {
        let key = Certified(&self.permitted.requested.key);
        let der = self.params.signed_by(&key, &current.issuer)?.into();
        Ok(Signed { templated: self, der })
    }
}

/// A certificate that nobody has looked at yet.
#[derive(Debug)]
pub(crate) struct Signed {
    templated: Templated,
    der: CertificateDer<'static>,
}

impl Signed {
    /// Reads the finished DER as a stranger would, and as a pedant would (IS-06).
    pub(crate) fn check(self, current: &Current, now: UnixTime) -> Result<Checked, AuthorityError> {
        let Requested { subject, key, validity } = &self.templated.permitted.requested;
        let profile = lint::LeafProfile {
            id: &subject.spiffe_id,
            dns_names: &subject.dns_names,
            spki: key.spki(),
            issuer_key: current.issuer_key,
            issuer_der: &current.issuer_der,
            not_before: validity.not_before,
            not_after: validity.not_after,
        };
        lint::leaf(&self.der, &profile)?;
        let chain = [self.der.clone(), current.issuer_der.clone()];
        let peer =
            verify_svid(&chain, &current.verify, Usage::Client, now).map_err(AuthorityError::Unverified)?;
        let same = peer.id == subject.spiffe_id && peer.serial == self.templated.serial;
        if same {
            Ok(Checked { signed: self, chain })
        } else {
            Err(lint::LintError::Field("the identity").into())
        }
    }
}

/// A certificate that verifies and fits the profile.
#[derive(Debug)]
pub(crate) struct Checked {
    signed: Signed,
    chain: [CertificateDer<'static>; 2],
}

impl Checked {
    /// Makes the record durable, together with `with` (IS-07). A serial number is never used twice (IS-08).
    pub(crate) async fn journal(
        self,
        store: &dyn Store,
        issuer_key_id: KeyId,
        with: Transaction,
    ) -> Result<Journaled, AuthorityError> {
        let Templated { permitted, serial, .. } = self.signed.templated;
        let Permitted { requested: Requested { subject, key, validity }, decision_id } = permitted;
        let record = IssuanceRecord {
            serial,
            issuer_key_id,
            spiffe_id: subject.spiffe_id,
            entry: subject.entry.map(|entry| (entry.id.clone(), entry.revision)),
            kind: subject.kind,
            agent: subject.requester,
            spki_sha256: key.sha256(),
            not_before: validity.not_before,
            not_after: validity.not_after,
            decision_id,
        };
        let row_key = record.row_key();
        let transaction = with.require(row_key.clone(), Compare::Absent).put(row_key, record.to_row()?);
        let committed = store.commit(unless_revoked(transaction, &record.spiffe_id)).await;
        committed.map_err(|fault| revocation::lost(fault, &record.spiffe_id))?;
        Ok(Journaled { record, chain: self.chain.into(), ttl_clamped: validity.clamped })
    }
}

/// A certificate whose record is durable.
#[derive(Debug)]
pub(crate) struct Journaled {
    record: IssuanceRecord,
    chain: Vec<CertificateDer<'static>>,
    ttl_clamped: bool,
}

impl Journaled {
    /// Lets it go.
    pub(crate) fn release(self, bundle: Arc<Bundle>) -> (Issued, IssuanceRecord) {
        let issued = Issued {
            chain: self.chain,
            id: self.record.spiffe_id.clone(),
            serial: self.record.serial.clone(),
            not_before: self.record.not_before,
            not_after: self.record.not_after,
            bundle,
            ttl_clamped: self.ttl_clamped,
        };
        (issued, self.record)
    }
}

/// What a requester gets.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Issued {
    /// Leaf and signing CA; never the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The identity.
    pub id: SpiffeId,
    /// Serial number of the leaf.
    pub serial: Serial,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
    /// What to verify peers with.
    pub bundle: Arc<Bundle>,
    /// True when the lifetime is shorter than the entry asked for.
    pub ttl_clamped: bool,
}

/// The durable record of one issuance (IS-07).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuanceRecord {
    /// Serial number of the leaf.
    pub serial: Serial,
    /// The key that signed it.
    pub issuer_key_id: KeyId,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// Entry id and revision; `None` for agents and own roles.
    pub entry: Option<(String, u64)>,
    /// Kind of holder.
    pub kind: IssueKind,
    /// The agent through which it was issued.
    pub agent: SpiffeId,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
    /// The gate's decision.
    pub decision_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuedRow {
    v: u8,
    serial: String,
    issuer_key_id: String,
    spiffe_id: String,
    entry: Option<(String, u64)>,
    kind: String,
    agent: String,
    spki_sha256: String,
    not_before_secs: i64,
    not_after_secs: i64,
    decision_id: String,
}

impl IssuanceRecord {
    fn row_key(&self) -> Vec<u8> {
        format!("{}{}", row::ISSUED, self.serial).into_bytes()
    }

    fn to_row(&self) -> Result<Vec<u8>, AuthorityError> {
        let row = IssuedRow {
            v: 1,
            serial: self.serial.to_string(),
            issuer_key_id: self.issuer_key_id.to_string(),
            spiffe_id: self.spiffe_id.to_string(),
            entry: self.entry.clone(),
            kind: self.kind.as_str().to_owned(),
            agent: self.agent.to_string(),
            spki_sha256: row::hex(&self.spki_sha256),
            not_before_secs: self.not_before.as_secs(),
            not_after_secs: self.not_after.as_secs(),
            decision_id: self.decision_id.clone(),
        };
        row::write(&self.row_key(), &row)
    }

    pub(crate) fn from_row(key: &[u8], bytes: &[u8]) -> Result<Self, AuthorityError> {
        let row: IssuedRow = row::read(key, bytes)?;
        let id = |text: &str| SpiffeId::parse(text).map_err(|reason| row::unreadable(key, reason));
        let wrong = |what: &'static str| row::unreadable(key, what);
        Ok(Self {
            serial: Serial::parse_hex(&row.serial).ok_or_else(|| wrong("serial"))?,
            issuer_key_id: KeyId::parse_hex(&row.issuer_key_id).ok_or_else(|| wrong("issuer_key_id"))?,
            spiffe_id: id(&row.spiffe_id)?,
            entry: row.entry,
            kind: IssueKind::parse(&row.kind).ok_or_else(|| wrong("kind"))?,
            agent: id(&row.agent)?,
            spki_sha256: row::hash(key, &row.spki_sha256)?,
            not_before: UnixTime::from_secs(row.not_before_secs),
            not_after: UnixTime::from_secs(row.not_after_secs),
            decision_id: row.decision_id,
        })
    }
}
