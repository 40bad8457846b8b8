//! Revocation lists of the authority's keys, published for others (RV-06): kept as one value, made anew when the deny set
//! or the keys have changed, and at half of their time.
//!
//! A list holds what is denied by its serial number, and what is denied with its identity; a signing CA that was revoked
//! stands in the list of its root. The number of a list is the revision of a row of its own, so it never moves back.

use std::collections::HashMap;
use std::sync::Arc;

use base_ports::UnixTime;
use base_store::Transaction;
use ca_identity::{KeyId, Revoked, SpiffeId, inspect};
use tokio::sync::watch;

use super::Authority;
use crate::crl::{self, Crl, Entries, Entry};
use crate::error::AuthorityError;
use crate::issue::IssuanceRecord;
use crate::keys::{KeyKind, KeyState};
use crate::revocation::Revocation;
use crate::row;

const PAGE: usize = 1000;

impl Authority {
    /// The revocation lists, and their changes. None until [`Authority::refresh_crls`] was called.
    pub fn watch_crls(&self) -> watch::Receiver<Arc<[Crl]>> {
        self.crls.subscribe()
    }

    /// Whether half of the time of a list is over, or there is none yet.
    pub fn crls_are_due(&self) -> bool {
        let lists = self.crls.borrow();
        lists.iter().map(|list| list.next_update).min().is_none_or(|end| self.now() + crl::RENEWED >= end)
    }

    /// Makes a list for each root and signing CA that is not revoked, and publishes them.
    ///
    /// # Errors
    /// When the store fails or a list cannot be made; then the former lists stay.
    pub async fn refresh_crls(&self) -> Result<(), AuthorityError> {
        let _writing = self.listing.lock().await;
        let mut entries = self.revoked_certificates().await?;
        let transaction = Transaction::new().put(row::CRL.to_vec(), Vec::new());
        let number = self.ports.store.commit(transaction).await?.get();
        let keys = Arc::clone(&self.keys.borrow());
        let mut lists = Vec::new();
        for slot in keys.iter().filter(|slot| slot.kind != KeyKind::Jwt && slot.state != KeyState::Revoked) {
            let key = match self.vault.load(slot.kind, slot.key_id) {
                Ok(key) => key,
                // It signs nothing any more, so it cannot sign a list either.
                Err(fault) if !slot.signs() => {
                    tracing::warn!(event = "crl_without_key", key = %slot.key_id, %fault, "no revocation list");
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let entries = entries.remove(&slot.key_id).unwrap_or_default();
            let times = (self.now(), self.config.backdate);
            lists.push(crl::build((slot, &key), &self.config.trust_domain, &entries, number, times)?);
        }
        self.crls.send_replace(lists.into());
        Ok(())
    }

    /// Everything that belongs on a list, by the key that issued it.
    async fn revoked_certificates(&self) -> Result<HashMap<KeyId, Entries>, AuthorityError> {
        let store = self.ports.store.as_ref();
        let (mut found, mut identities) = (HashMap::<KeyId, Entries>::new(), HashMap::new());
        for page in base_store::pages(store, row::REVOKED.as_bytes(), PAGE) {
            for stored in page? {
                let Revocation { what, at: since, .. } = Revocation::from_row(&stored.key, &stored.value)?;
                let entry = Entry { since, is_whole_identity: false };
                match what {
                    Revoked::Certificate(link) => {
                        found.entry(link.issuer).or_default().insert(link.serial, entry);
                    }
                    Revoked::Issuer(key) => {
                        if let Some((above, serial)) = self.certified_by(key) {
                            found.entry(above).or_default().insert(serial, entry);
                        }
                    }
                    Revoked::Id(id) => {
                        identities.insert(id, since);
                    }
                    Revoked::JwtKey(..) | Revoked::Token(..) => {}
                }
            }
            tokio::task::yield_now().await;
        }
        if !identities.is_empty() {
            self.certificates_of(&identities, &mut found).await?;
        }
        Ok(found)
    }

    /// The root that certified a signing CA of ours, and the serial number of that certificate.
    fn certified_by(&self, key: KeyId) -> Option<(KeyId, ca_identity::Serial)> {
        let keys = self.keys.borrow();
        let slot = keys.iter().find(|slot| slot.kind == KeyKind::Signing && slot.key_id == key)?;
        let facts = inspect::certificate(slot.certificate()?).ok()?;
        Some((facts.issuer_key_id?, facts.serial))
    }

    /// Adds what identities that are denied hold and has not ended.
    async fn certificates_of(
        &self,
        identities: &HashMap<SpiffeId, UnixTime>,
        found: &mut HashMap<KeyId, Entries>,
    ) -> Result<(), AuthorityError> {
        let now = self.now();
        for page in base_store::pages(self.ports.store.as_ref(), row::ISSUED.as_bytes(), PAGE) {
            for stored in page? {
                let record = IssuanceRecord::from_row(&stored.key, &stored.value)?;
                let Some(since) = identities.get(&record.spiffe_id).filter(|_| now <= record.not_after)
                else {
                    continue;
                };
                let entry = Entry { since: *since, is_whole_identity: true };
                found.entry(record.issuer_key_id).or_default().entry(record.serial).or_insert(entry);
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
