//! The authority's keys: which there are, in which state, and since when (AU-04).
//!
//! Slots and certificates are one row of the store; the private halves are sealed files (`vault`). A slot goes
//! prepared, active, old, and is then removed with its file.

use base_ports::UnixTime;
use base_store::{Revision, Store};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{CertificateDer, KeyId, TrustDomain, inspect};
use serde::{Deserialize, Serialize};

use crate::error::AuthorityError;
use crate::row;

mod vault;

pub(crate) use vault::Vault;

/// Kinds of authority keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Anchor of the bundle.
    Root,
    /// Signs leaves, under the root.
    Signing,
}

impl KeyKind {
    /// A stable word, also part of file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Signing => "signing",
        }
    }
}

/// States of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Made, waits for its turn.
    Prepared,
    /// In use.
    Active,
    /// Signs nothing new; what it signed still verifies.
    Old,
}

impl KeyState {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
        }
    }
}

/// One authority key, as `ca show` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// What it is for.
    pub kind: KeyKind,
    /// Where it stands in its life.
    pub state: KeyState,
    /// Its name.
    pub key_id: KeyId,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Start of validity.
    pub not_before: UnixTime,
    /// End of validity.
    pub not_after: UnixTime,
}

impl KeyInfo {
    pub(crate) fn of(
        kind: KeyKind,
        state: KeyState,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, AuthorityError> {
        let facts = inspect::certificate(&certificate).map_err(AuthorityError::Unverified)?;
        let (key_id, not_before, not_after) = (facts.key_id, facts.not_before, facts.not_after);
        Ok(Self { kind, state, key_id, certificate, not_before, not_after })
    }
}

/// All slots, as one value with the revision of their row.
#[derive(Debug, Clone)]
pub(crate) struct KeyTable {
    pub(crate) slots: Vec<KeyInfo>,
    pub(crate) revision: Option<Revision>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableRow {
    v: u8,
    trust_domain: String,
    slots: Vec<SlotRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotRow {
    kind: KeyKind,
    state: KeyState,
    certificate: String,
}

impl KeyTable {
    /// Reads the row; `None` when no authority was ever made here.
    pub(crate) fn load(store: &dyn Store, domain: &TrustDomain) -> Result<Option<Self>, AuthorityError> {
        let Some(entry) = store.get(row::KEYS)? else { return Ok(None) };
        let table: TableRow = row::read(row::KEYS, &entry.value)?;
        if table.v != 1 {
            return Err(row::unreadable(row::KEYS, format!("version {} is unknown", table.v)));
        }
        if table.trust_domain != domain.as_str() {
            let stored = table.trust_domain;
            return Err(AuthorityError::OtherTrustDomain { stored, configured: domain.clone() });
        }
        let mut slots = Vec::new();
        for slot in table.slots {
            let der = STANDARD.decode(&slot.certificate).map_err(|e| row::unreadable(row::KEYS, e))?;
            slots.push(KeyInfo::of(slot.kind, slot.state, CertificateDer::from(der))?);
        }
        Ok(Some(Self { slots, revision: Some(entry.modified) }))
    }

    /// The row as bytes.
    pub(crate) fn to_row(&self, domain: &TrustDomain) -> Result<Vec<u8>, AuthorityError> {
        let slots = self.slots.iter().map(|slot| SlotRow {
            kind: slot.kind,
            state: slot.state,
            certificate: STANDARD.encode(&slot.certificate),
        });
        let trust_domain = domain.as_str().to_owned();
        row::write(row::KEYS, &TableRow { v: 1, trust_domain, slots: slots.collect() })
    }

    pub(crate) fn find(&self, kind: KeyKind, state: KeyState) -> Option<&KeyInfo> {
        self.slots.iter().find(|slot| slot.kind == kind && slot.state == state)
    }

    /// What was active becomes old, and `key_id` becomes active.
    pub(crate) fn activate(&mut self, key_id: KeyId) {
        let Some(kind) = self.slots.iter().find(|slot| slot.key_id == key_id).map(|slot| slot.kind) else {
            return;
        };
        for slot in self.slots.iter_mut().filter(|slot| slot.kind == kind) {
            if slot.key_id == key_id {
                slot.state = KeyState::Active;
            } else if slot.state == KeyState::Active {
                slot.state = KeyState::Old;
            }
        }
    }

    /// Certificates that belong into the bundle: every root that is still there.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &KeyInfo> {
        self.slots.iter().filter(|slot| slot.kind == KeyKind::Root)
    }
}
