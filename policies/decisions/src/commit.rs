//! Commitments: what stands on record in place of a value, and how it is shown that a value is the one (CM1).
//!
//! A commitment is a hash over the field, a salt and the value. The salt comes from a key of one person and one day, by the
//! id of the record, so no two records have the same: who learns one salt learns of no other record, and once the key is
//! gone nobody can tell whom a record was about, not even by trying every name. Pure; the keys are the side store's.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use policies_engine::{DecisionId, PrincipalKind};
use serde_json::Value;

use crate::{
    cbor::Writer,
    cursor::unhex,
    leaf::{StoredRecord, hex},
};

/// The fields that are committed: the id of a person who calls, and of one on whose behalf a workload does.
pub(crate) const PRINCIPAL: &str = "principal.id";
pub(crate) const BEHALF: &str = "jwt.id";

/// Begins a commitment where an id is shown.
pub(crate) const SHOWN: &str = "committed:";

/// What filters, indexes and sums know committed ids by: they cannot tell one person from the other.
pub(crate) const WORD: &str = "committed";

/// What stands on record in place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commitment(pub(crate) [u8; 32]);

impl Commitment {
    /// SHA-256 over the name of the form, the field, the salt and the value as deterministic CBOR.
    fn of(field: &str, salt: &[u8; 32], value: &str) -> Commitment {
        let mut encoded = Vec::with_capacity(value.len() + 9);
        Writer::new(&mut encoded).text(value);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"portcullis-commit/1\0");
        context.update(field.as_bytes());
        context.update(&[0]);
        context.update(salt);
        context.update(&encoded);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Commitment(hash)
    }

    /// Reads what [`Commitment`] shows.
    pub(crate) fn read(shown: &str) -> Option<Commitment> {
        let hash = unhex(shown.strip_prefix(SHOWN)?)?;
        hash.try_into().ok().map(Commitment)
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHOWN}{}", hex(&self.0))
    }
}

/// The key of one person for the records of one day. There may be a million of them in memory.
#[derive(Clone)]
pub(crate) struct PersonKey([u8; 32]);

impl PersonKey {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// The salt of a field of that record: one block of HKDF-Expand (RFC 5869).
    pub(crate) fn salt(&self, field: &str, record: DecisionId) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(b"portcullis-salt/1\0");
        context.update(field.as_bytes());
        context.update(&[0]);
        context.update(record.as_bytes());
        context.update(&[1]);
        let mut salt = [0; 32];
        salt.copy_from_slice(context.sign().as_ref());
        salt
    }

    /// What stands in that field of that record for the id of the person.
    pub(crate) fn commit(&self, field: &str, id: &str, record: DecisionId) -> Commitment {
        Commitment::of(field, &self.salt(field, record), id)
    }
}

impl fmt::Debug for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonKey(..)")
    }
}

/// What shows that a value is the one on record: for one auditor, about one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The field, `principal.id` or `jwt.id`.
    pub field: String,
    /// What it was.
    pub value: String,
    /// What the commitment was salted with.
    pub salt: [u8; 32],
}

/// An opening that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The record has the field in clear, or not at all.
    #[error("nothing is committed as `{0}` in this record")]
    NotCommitted(String),
    /// Another value, salt or record.
    #[error("value and salt of `{0}` do not fit what the record is committed to")]
    DoesNotFit(String),
}

impl Opening {
    /// Reads `field`, `value` and `salt`, as they were revealed.
    #[must_use]
    pub fn read(document: &Value) -> Option<Opening> {
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let salt = unhex(text("salt")?)?.try_into().ok()?;
        Some(Opening { field: text("field")?.to_owned(), value: text("value")?.to_owned(), salt })
    }

    /// Whether it opens what stands in that record. Needs nothing else: who holds a proof of the record checks it offline.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, record: &StoredRecord) -> Result<(), OpeningError> {
        let committed = commitment_of(record).filter(|(field, _)| self.field == *field);
        let (_, committed) = committed.ok_or_else(|| OpeningError::NotCommitted(self.field.clone()))?;
        if Commitment::of(&self.field, &self.salt, &self.value) == committed {
            Ok(())
        } else {
            Err(OpeningError::DoesNotFit(self.field.clone()))
        }
    }
}

/// Which field of that record is committed, and to what: who calls himself is named nowhere else in it.
pub(crate) fn commitment_of(record: &StoredRecord) -> Option<(&'static str, Commitment)> {
    if record.principal.kind == PrincipalKind::User.as_str() {
        return Some((PRINCIPAL, Commitment::read(&record.principal.id)?));
    }
    let person = record.decision()?.behalf.as_ref()?.id.as_deref()?;
    Some((BEHALF, Commitment::read(person)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cm1_a_commitment_fits_its_record_person_and_key_alone(
            secret in any::<[u8; 32]>(),
            other in any::<[u8; 32]>(),
            ids in ("[a-z@.]{1,40}", "[a-z@.]{1,40}"),
            seqs in (1..u64::from(u32::MAX), 1..u64::from(u32::MAX)),
        ) {
            prop_assume!(secret != other && ids.0 != ids.1 && seqs.0 != seqs.1);
            let (record, later) = (DecisionId::new(1, 7, seqs.0), DecisionId::new(1, 7, seqs.1));
            let key = PersonKey::new(secret);
            let committed = key.commit(PRINCIPAL, &ids.0, record);
            prop_assert_eq!(Commitment::of(PRINCIPAL, &key.salt(PRINCIPAL, record), &ids.0), committed);
            prop_assert_ne!(key.commit(PRINCIPAL, &ids.1, record), committed);
            prop_assert_ne!(key.commit(PRINCIPAL, &ids.0, later), committed);
            prop_assert_ne!(PersonKey::new(other).commit(PRINCIPAL, &ids.0, record), committed);
            prop_assert_ne!(key.commit(BEHALF, &ids.0, record), committed);
            // A field that ends where another goes on is another field.
            prop_assert_ne!(Commitment::of("principal", &key.salt(PRINCIPAL, record), &ids.0), committed);
            prop_assert_eq!(Commitment::read(&committed.to_string()), Some(committed));
        }
    }

    #[test]
    fn cm1_the_form_of_a_commitment_never_changes() {
        let key = PersonKey::new([7; 32]);
        let record = DecisionId::new(1_795_330_800_123, 7, 1);
        assert_eq!(
            key.commit(PRINCIPAL, "corp/alice", record).to_string(),
            "committed:d07a0eb608ae851d086298f5762c4c4e2b2acbd632ccca9fca27b887b75a65f0"
        );
    }
}
