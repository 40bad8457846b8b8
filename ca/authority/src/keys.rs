//! The authority's keys: which there are, in which state, and since when (AU-04).
//!
//! Slots and their public halves are one row of the store; the private halves are sealed files (`vault`). A slot goes
//! prepared, active, old, and is then removed with its file; an old one can be revoked before.

use std::fmt;

use base_ports::UnixTime;
use base_store::{Revision, Store};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{CertificateDer, JwtKey, KeyId, PrivateKey, TrustDomain, inspect};
use serde::{Deserialize, Serialize};

use crate::error::AuthorityError;
use crate::row;

mod fault;
mod vault;

pub use fault::SlotError;
pub(crate) use vault::Vault;

/// Kinds of authority keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Anchor of the bundle.
    Root,
    /// Signs leaves, under the root.
    Signing,
    /// Signs JWT-SVIDs; its public half is in the bundle.
    Jwt,
}

impl KeyKind {
    /// A stable word, also part of file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Signing => "signing",
            Self::Jwt => "jwt",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Root, Self::Signing, Self::Jwt].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    /// Nothing that it signed verifies any more.
    Revoked,
}

impl KeyState {
    /// A stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    /// What it signed is to be issued anew.
    pub tainted: bool,
    /// Its name.
    pub key_id: KeyId,
    /// What everybody may see of it.
    pub public: PublicHalf,
    /// Start of validity; of a key for tokens, when it entered the bundle.
    pub not_before: UnixTime,
    /// End of validity; nothing that it signs is valid longer.
    pub not_after: UnixTime,
}

/// The public half of an authority key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicHalf {
    /// Of a root or a signing CA: its certificate.
    Certificate(CertificateDer<'static>),
    /// Of a key for tokens: DER of the SubjectPublicKeyInfo.
    Spki(Vec<u8>),
}

impl KeyInfo {
    pub(crate) fn of(
        kind: KeyKind,
        state: KeyState,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, AuthorityError> {
        let facts = inspect::certificate(&certificate).map_err(AuthorityError::Unverified)?;
        let (key_id, not_before, not_after) = (facts.key_id, facts.not_before, facts.not_after);
        let public = PublicHalf::Certificate(certificate);
        Ok(Self { kind, state, tainted: false, key_id, public, not_before, not_after })
    }

    /// A key for tokens, prepared.
    pub(crate) fn of_jwt(key: &PrivateKey, not_before: UnixTime, not_after: UnixTime) -> Self {
        let (kind, state, key_id) = (KeyKind::Jwt, KeyState::Prepared, key.key_id());
        Self {
            kind,
            state,
            tainted: false,
            key_id,
            public: PublicHalf::Spki(key.public_spki().to_vec()),
            not_before,
            not_after,
        }
    }

    /// Its certificate, which keys for tokens lack.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.public {
            PublicHalf::Certificate(certificate) => Some(certificate),
            PublicHalf::Spki(_) => None,
        }
    }

    /// Whether it signs, or is to.
    pub(crate) fn signs(&self) -> bool {
        matches!(self.state, KeyState::Prepared | KeyState::Active)
    }

    /// The key that certified it, as its certificate says.
    pub fn issuer(&self) -> Option<KeyId> {
        inspect::certificate(self.certificate()?).ok()?.issuer_key_id
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tainted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicKeyRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKeyRow {
    key_id: String,
    spki: String,
    not_before_secs: i64,
    not_after_secs: i64,
}

impl SlotRow {
    fn of(slot: &KeyInfo) -> Self {
        let (certificate, public_key) = match &slot.public {
            PublicHalf::Certificate(certificate) => (Some(STANDARD.encode(certificate)), None),
            PublicHalf::Spki(spki) => {
                let row = PublicKeyRow {
                    key_id: slot.key_id.to_string(),
                    spki: STANDARD.encode(spki),
                    not_before_secs: slot.not_before.as_secs(),
                    not_after_secs: slot.not_after.as_secs(),
                };
                (None, Some(row))
            }
        };
        Self { kind: slot.kind, state: slot.state, tainted: slot.tainted, certificate, public_key }
    }

    fn read(self) -> Result<KeyInfo, AuthorityError> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|e| row::unreadable(row::KEYS, e));
        match (self.kind, self.certificate, self.public_key) {
            (KeyKind::Root | KeyKind::Signing, Some(certificate), None) => {
                let read = KeyInfo::of(self.kind, self.state, CertificateDer::from(decode(&certificate)?))?;
                Ok(KeyInfo { tainted: self.tainted, ..read })
            }
            (KeyKind::Jwt, None, Some(key)) => Ok(KeyInfo {
                kind: self.kind,
                state: self.state,
                tainted: self.tainted,
                key_id: KeyId::parse_hex(&key.key_id).ok_or_else(|| row::unreadable(row::KEYS, "key_id"))?,
                public: PublicHalf::Spki(decode(&key.spki)?),
                not_before: UnixTime::from_secs(key.not_before_secs),
                not_after: UnixTime::from_secs(key.not_after_secs),
            }),
            _ => Err(row::unreadable(row::KEYS, "a slot has not the public half of its kind")),
        }
    }
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
        let slots = table.slots.into_iter().map(SlotRow::read).collect::<Result<_, _>>()?;
        Ok(Some(Self { slots, revision: Some(entry.modified) }))
    }

    /// The row as bytes.
    pub(crate) fn to_row(&self, domain: &TrustDomain) -> Result<Vec<u8>, AuthorityError> {
        let slots = self.slots.iter().map(SlotRow::of);
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

    /// The same table with that slot in its place.
    pub(crate) fn with(&self, slot: KeyInfo) -> Self {
        let mut next = self.clone();
        next.slots.iter_mut().filter(|old| old.key_id == slot.key_id).for_each(|old| *old = slot.clone());
        next
    }

    /// Takes out what is prepared of that kind.
    pub(crate) fn take_prepared(&mut self, kind: KeyKind) -> Vec<KeyId> {
        let is_it = |slot: &KeyInfo| slot.kind == kind && slot.state == KeyState::Prepared;
        let taken = self.slots.iter().filter(|slot| is_it(slot)).map(|slot| slot.key_id).collect();
        self.slots.retain(|slot| !is_it(slot));
        taken
    }

    /// The old key that is meant: the named one, or the only one.
    pub(crate) fn old(&self, kind: KeyKind, key: Option<KeyId>) -> Result<&KeyInfo, SlotError> {
        if let Some(named) = key.and_then(|key| self.of(kind).find(|slot| slot.key_id == key)) {
            let (key_id, state) = (named.key_id, named.state);
            return if state == KeyState::Old {
                Ok(named)
            } else {
                Err(SlotError::NotOld { kind, key_id, state })
            };
        }
        let mut old = self.of(kind).filter(|slot| slot.state == KeyState::Old && key.is_none());
        match (old.next(), old.count()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(SlotError::Which { kind, found: 0 }),
            (Some(_), more) => Err(SlotError::Which { kind, found: more.saturating_add(1) }),
        }
    }

    /// The same, when it may be revoked.
    pub(crate) fn revocable(
        &self,
        kind: KeyKind,
        key: Option<KeyId>,
        skip_taint: bool,
    ) -> Result<&KeyInfo, SlotError> {
        let slot = self.old(kind, key)?;
        let key_id = slot.key_id;
        if slot.tainted || skip_taint { Ok(slot) } else { Err(SlotError::NotTainted { kind, key_id }) }
    }

    /// What of that kind belongs into the bundle.
    pub(crate) fn published(&self, kind: KeyKind) -> impl Iterator<Item = &KeyInfo> {
        self.of(kind).filter(|slot| slot.state != KeyState::Revoked)
    }

    /// Certificates that belong into the bundle: every root that is still there and not revoked.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.published(KeyKind::Root).filter_map(KeyInfo::certificate)
    }

    /// Keys for tokens that belong into the bundle: from before they sign until nothing that they signed is valid.
    pub(crate) fn jwt_keys(&self) -> Result<Vec<JwtKey>, AuthorityError> {
        let mut keys = Vec::new();
        for slot in self.published(KeyKind::Jwt) {
            if let PublicHalf::Spki(spki) = &slot.public {
                keys.push(JwtKey::from_spki(&slot.key_id.to_string(), spki)?);
            }
        }
        Ok(keys)
    }

    pub(crate) fn of(&self, kind: KeyKind) -> impl Iterator<Item = &KeyInfo> {
        self.slots.iter().filter(move |slot| slot.kind == kind)
    }
}
