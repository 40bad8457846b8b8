//! A new key for the log: what the old key says of it, and how that stands on record (VF2).
//!
//! The record is an `administration` one, in the same tree. Its signature is by the old key, so that an auditor who holds
//! only that one follows to the new one, and nobody else makes him.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base_ports::UnixTime;
use base64::{Engine, engine::general_purpose::STANDARD};
use policies_engine::{AdministrationRecord, Principal, Record};

use super::note::{Signer, VerifierKey};
use crate::{Ledger, LedgerError};

/// The operation of the record.
pub(crate) const OPERATION: &str = "decisions.rotate_key";

/// How long both keys sign.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// A change of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The key before.
    pub old: VerifierKey,
    /// The key from then on.
    pub new: VerifierKey,
    /// When the new one began.
    pub at: UnixTime,
    /// Until when the old one signs as well.
    pub until: UnixTime,
    signature: Vec<u8>,
}

impl Handover {
    /// What the signature is over.
    fn text(&self) -> String {
        let Self { old, new, at, until, .. } = self;
        format!("portcullis-log-key/1\n{old}\n{new}\n{at}\n{until}\n")
    }

    /// By the key that `signer` signs with as its newest.
    fn signed(mut self, signer: &dyn Signer) -> Option<Self> {
        let signatures = signer.sign(self.text().as_bytes());
        let (_, signature) = signatures.into_iter().find(|(key, _)| *key == *self.old.public())?;
        self.signature = signature.to_vec();
        Some(self)
    }

    fn details(&self) -> Vec<(String, String)> {
        let details = [
            ("old", self.old.to_string()),
            ("new", self.new.to_string()),
            ("at", self.at.to_string()),
            ("until", self.until.to_string()),
            ("signature", STANDARD.encode(&self.signature)),
        ];
        details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The change that a record tells, if the old key signed it.
    pub(crate) fn told(details: &[(String, String)]) -> Option<Self> {
        let of =
            |wanted: &str| details.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let handover = Self {
            old: of("old")?.parse().ok()?,
            new: of("new")?.parse().ok()?,
            at: UnixTime::parse_rfc3339(of("at")?).ok()?,
            until: UnixTime::parse_rfc3339(of("until")?).ok()?,
            signature: STANDARD.decode(of("signature")?).ok()?,
        };
        let key = UnparsedPublicKey::new(&ED25519, handover.old.public());
        let is_signed = key.verify(handover.text().as_bytes(), &handover.signature).is_ok();
        (is_signed && handover.old.name() == handover.new.name()).then_some(handover)
    }
}

impl Ledger {
    /// Makes a new key for the log, in the name of `by`. It and the ones before sign until 24 h are over; the change is on
    /// disk, signed by the key before, when the new one signs first.
    ///
    /// # Errors
    /// There is no tree, the keys cannot be changed, or the change could not be put on record; nothing is changed then.
    pub async fn rotate_key(&self, by: Principal) -> Result<Handover, LedgerError> {
        let refused = |why: &str| LedgerError::Keys(why.to_owned());
        let tree = self.inner().tree.clone().ok_or_else(|| refused("this ledger has no tree"))?;
        let now = self.inner().clock.now();
        let old = tree.signer.public_keys().first().copied().ok_or_else(|| refused("no key signs"))?;
        let new = tree.signer.draw(now.wall).map_err(LedgerError::Keys)?;
        let named = |key| VerifierKey::new(&tree.origin, key);
        let (at, until) = (now.wall, now.wall + OVERLAP);
        let handover = Handover { old: named(old), new: named(new), at, until, signature: Vec::new() };
        let handover =
            handover.signed(tree.signer.as_ref()).ok_or_else(|| refused("the key signs nothing"))?;
        let record = Record::Administration(AdministrationRecord {
            operation: OPERATION.to_owned(),
            principal: Some(by),
            details: handover.details(),
            time: now,
        });
        let (_, synced) = self.append(record).map_err(LedgerError::NotRecorded)?;
        synced.await.map_err(LedgerError::NotRecorded)?;
        tree.signer.turn(new, at, until).map_err(LedgerError::Keys)?;
        Ok(handover)
    }
}

#[cfg(test)]
mod tests;
