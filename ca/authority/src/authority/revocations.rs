//! Revocation of what was issued (tier 3): recorded, then denied by everybody who reads the set.
//!
//! The set moves only after the record is durable, and everything that it denies is refused here as well: nothing is
//! issued for a revoked identity, not even by a signature that was under way (RV-03). Refused are what would end a role
//! of this process, and keys that still sign tokens.

use base_ports::{Mono, UnixTime};
use base_store::Transaction;
use ca_identity::{KeyId, PathLink, RevocationSet, Revoked, Serial, SpiffeId, TrustDomain};
use tokio::sync::watch;

use super::Authority;
use crate::error::AuthorityError;
use crate::issue::IssuanceRecord;
use crate::keys::{KeyInfo, KeyKind};
use crate::ports::{IdentityEvent, Ports};
use crate::revocation::{self, Named, NewRevocation, Revocation};
use crate::row;

/// Items of the set (identity.md 14).
const LIMIT: usize = 1_000_000;
const PAGE: usize = 1000;

impl Authority {
    /// The deny set, and its changes.
    pub fn watch_revoked(&self) -> watch::Receiver<RevocationSet> {
        self.revoked.subscribe()
    }

    /// When the last revocation was durable, on the clock that never goes back.
    pub fn revoked_at(&self) -> Option<Mono> {
        *self.revoked_at.lock()
    }

    /// What a revocation would say, without making it.
    ///
    /// # Errors
    /// When it would be refused.
    pub fn plan_revocation(&self, new: NewRevocation) -> Result<Revocation, AuthorityError> {
        revocation::check_reason(&new.reason)?;
        let (what, end) = self.resolve(new.what, new.until)?;
        if self.revoked.borrow().contains(&what) {
            return Err(AuthorityError::AlreadyRevoked(what));
        }
        self.check_room(1)?;
        let until = match (new.until, end) {
            // Denied for a shorter time than it holds, it would come back.
            (Some(asked), Some(end)) => Some(asked.max(end)),
            (asked, end) => asked.or(end),
        };
        Ok(Revocation { what, reason: new.reason, author: new.author, at: self.now(), until })
    }

    /// Whether so many more fit into the set.
    pub(super) fn check_room(&self, more: usize) -> Result<(), AuthorityError> {
        let all = self.revoked.borrow().len().saturating_add(more);
        if all > LIMIT { Err(AuthorityError::TooManyRevocations(LIMIT)) } else { Ok(()) }
    }

    /// Denies something from now on.
    ///
    /// # Errors
    /// When it is denied already, is nothing that can be denied, or the store fails.
    pub async fn revoke(&self, new: NewRevocation) -> Result<Revocation, AuthorityError> {
        let _revoking = self.revoking.lock().await;
        let revocation = self.plan_revocation(new)?;
        self.ports.store.commit(revocation.write(Transaction::new())?).await?;
        *self.revoked_at.lock() = Some(self.ports.clock.now().mono);
        self.revoked.send_modify(|set| set.deny(&revocation.what));
        self.ports.events.event(IdentityEvent::Revoked(revocation.clone()));
        Ok(revocation)
    }

    /// Takes a revocation back. `by` is who does.
    ///
    /// # Errors
    /// When nothing of that name is denied, it belongs to a key that was revoked for good, or the store fails.
    pub async fn lift(&self, what: &Revoked, by: &str) -> Result<Revocation, AuthorityError> {
        let _revoking = self.revoking.lock().await;
        let unknown = || AuthorityError::NotRevoked(what.to_string());
        let revocation = self.revocation(what)?.ok_or_else(unknown)?;
        if let Revoked::Issuer(key) = what {
            return Err(AuthorityError::RevokedForGood(*key));
        }
        self.ports.store.commit(revocation.delete(Transaction::new())).await?;
        self.revoked.send_modify(|set| set.lift([what]));
        self.ports.events.event(IdentityEvent::RevocationLifted { what: what.clone(), by: by.to_owned() });
        Ok(revocation)
    }

    /// The revocation of that name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn revocation(&self, what: &Revoked) -> Result<Option<Revocation>, AuthorityError> {
        let stored = self.ports.store.get(&revocation::row_key(what))?;
        stored.map(|stored| Revocation::from_row(&stored.key, &stored.value)).transpose()
    }

    /// Revocations in the order of their names, behind `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn revocations(
        &self,
        after: Option<&Revoked>,
        limit: usize,
    ) -> Result<Vec<Revocation>, AuthorityError> {
        let after = after.map(revocation::row_key);
        let page = self.ports.store.range(row::REVOKED.as_bytes(), after.as_deref(), limit)?;
        page.iter().map(|stored| Revocation::from_row(&stored.key, &stored.value)).collect()
    }

    /// Whether an issued certificate is denied, by itself, by its identity or by its issuer.
    pub fn is_revoked(&self, record: &IssuanceRecord) -> bool {
        let link = PathLink { issuer: record.issuer_key_id, serial: record.serial.clone() };
        let keys = self.keys.borrow();
        let above = keys.iter().find(|slot| slot.key_id == record.issuer_key_id).and_then(KeyInfo::issuer);
        let revoked = self.revoked.borrow();
        let is_above = above.is_some_and(|root| revoked.has_issuer(&root));
        is_above || revoked.check_path(&record.spiffe_id, &[link]).is_err()
    }

    /// How many certificates that have not ended a revocation takes with it. Reads all their records.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn live_svids(&self, what: &Revoked) -> Result<usize, AuthorityError> {
        let (now, below) = (self.now(), self.issuers_below(what));
        let is_hit = |record: &IssuanceRecord| {
            now <= record.not_after
                && match what {
                    Revoked::Certificate(link) => {
                        record.serial == link.serial && record.issuer_key_id == link.issuer
                    }
                    Revoked::Issuer(_) => below.contains(&record.issuer_key_id),
                    Revoked::Id(id) => record.spiffe_id == *id,
                    Revoked::JwtKey(..) | Revoked::Token(..) => false,
                }
        };
        let mut count = 0_usize;
        for page in base_store::pages(self.ports.store.as_ref(), row::ISSUED.as_bytes(), PAGE) {
            for stored in page? {
                let record = IssuanceRecord::from_row(&stored.key, &stored.value)?;
                count = count.saturating_add(usize::from(is_hit(&record)));
            }
            tokio::task::yield_now().await;
        }
        Ok(count)
    }

    /// The key, and when it is a root the signing CAs below it.
    fn issuers_below(&self, what: &Revoked) -> Vec<KeyId> {
        let Revoked::Issuer(key) = what else { return Vec::new() };
        let keys = self.keys.borrow();
        let below = keys.iter().filter(|slot| slot.issuer() == Some(*key)).map(|slot| slot.key_id);
        below.chain([*key]).collect()
    }

    /// Refuses what would be issued for, or through, a revoked identity.
    pub(super) fn refuse_revoked(&self, ids: [&SpiffeId; 2]) -> Result<(), AuthorityError> {
        let revoked = self.revoked.borrow();
        match ids.into_iter().find(|id| revoked.has_id(id)) {
            Some(id) => Err(AuthorityError::Revoked(id.clone())),
            None => Ok(()),
        }
    }

    /// The exact name of what is asked for, and when it ends by itself.
    fn resolve(
        &self,
        what: Named,
        until: Option<UnixTime>,
    ) -> Result<(Revoked, Option<UnixTime>), AuthorityError> {
        match what {
            Named::Certificate { serial, issuer } => self.resolve_certificate(serial, issuer, until),
            Named::Id(id) => {
                if id.path().is_empty() || self.own.lock().contains(&id) || id == self.local_agent {
                    return Err(AuthorityError::OwnRole(id));
                }
                Ok((Revoked::Id(id), None))
            }
            Named::JwtKey { domain, kid } => self.resolve_key(domain, kid, until),
            Named::Token { domain, jti } => {
                let what = named(Revoked::Token(domain, jti))?;
                // No token of ours that is valid now is valid longer.
                Ok((what, until.is_none().then(|| self.now() + self.config.jwt_ttl_cap())))
            }
        }
    }

    fn resolve_certificate(
        &self,
        serial: Serial,
        issuer: Option<KeyId>,
        until: Option<UnixTime>,
    ) -> Result<(Revoked, Option<UnixTime>), AuthorityError> {
        let key = format!("{}{serial}", row::ISSUED).into_bytes();
        let stored = self.ports.store.get(&key)?;
        let record = stored.map(|stored| IssuanceRecord::from_row(&stored.key, &stored.value)).transpose()?;
        let record = record.filter(|record| issuer.is_none_or(|issuer| issuer == record.issuer_key_id));
        let signer = issuer.or(record.as_ref().map(|record| record.issuer_key_id));
        let Some(signer) = signer else {
            return Err(AuthorityError::UnknownCertificate(serial));
        };
        let of_slot =
            || self.keys.borrow().iter().find(|slot| slot.key_id == signer).map(|slot| slot.not_after);
        let end = record.map(|record| record.not_after).or_else(of_slot);
        match end.or(until) {
            Some(end) => Ok((Revoked::certificate(signer, serial), Some(end))),
            None => Err(AuthorityError::NoEnd),
        }
    }

    fn resolve_key(
        &self,
        domain: TrustDomain,
        kid: String,
        until: Option<UnixTime>,
    ) -> Result<(Revoked, Option<UnixTime>), AuthorityError> {
        let keys = self.keys.borrow();
        let is_it = |slot: &&KeyInfo| slot.kind == KeyKind::Jwt && slot.key_id.to_string() == kid;
        let slot = keys.iter().find(is_it).filter(|_| domain == self.config.trust_domain);
        if slot.is_some_and(|slot| slot.signs()) {
            return Err(AuthorityError::KeyInUse(kid));
        }
        let end = slot.map(|slot| slot.not_after);
        if end.or(until).is_none() {
            return Err(AuthorityError::NoEnd);
        }
        Ok((named(Revoked::JwtKey(domain, kid))?, end))
    }

    /// Takes off the set what has ended (RV-05).
    pub(super) async fn prune_revocations(&self, limit: usize) -> Result<usize, AuthorityError> {
        let _revoking = self.revoking.lock().await;
        let (store, now) = (self.ports.store.as_ref(), self.now());
        let (mut gone, mut transaction) = (Vec::new(), Transaction::new());
        for stored in store.range(row::REVOKED_END.as_bytes(), None, limit)? {
            let Some(what) = revocation::ended(&stored.key, now)? else { break };
            transaction = transaction.delete(stored.key).delete(revocation::row_key(&what));
            gone.push(what);
        }
        if !gone.is_empty() {
            store.commit(transaction).await?;
            self.revoked.send_modify(|set| set.lift(&gone));
        }
        Ok(gone.len())
    }
}

/// What can be named in a row is what reads back from one.
fn named(what: Revoked) -> Result<Revoked, AuthorityError> {
    let name = what.to_string();
    if Revoked::parse(&name).as_ref() == Some(&what) { Ok(what) } else { Err(AuthorityError::RevokedName) }
}

/// The set as the store has it (RV-08).
pub(super) fn load(ports: &Ports) -> Result<RevocationSet, AuthorityError> {
    let mut set = RevocationSet::default();
    for page in base_store::pages(ports.store.as_ref(), row::REVOKED.as_bytes(), PAGE) {
        for stored in page? {
            set.deny(&Revocation::from_row(&stored.key, &stored.value)?.what);
        }
    }
    Ok(set)
}
