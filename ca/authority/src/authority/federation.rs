//! Relationships with other trust domains, one writer: durable, then in force, then told (FB-01, FE-09, FE-10).
//!
//! A bundle that is fetched is judged against what is held at the moment it is taken. A relationship that ends takes its
//! bundle with it in the same transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_store::Transaction;
use ca_identity::{Bundle, BundleMap, TrustDomain};
use tokio::sync::watch;

use super::Authority;
use crate::error::AuthorityError;
use crate::federation::{
    self, BundleRow, FederationError, Held, LIMIT, NewRelationship, Relationship, bundle_key, checked_key,
    relation_key,
};
use crate::ports::{IdentityEvent, Ports};
use crate::row;

mod follow;

pub(super) use follow::Fetches;

const PAGE: usize = 1000;
/// Who owns what stands in the configuration.
const FROM_FILE: &str = "configuration";

/// Every relationship, by trust domain.
pub(super) type Federation = BTreeMap<TrustDomain, Arc<Relationship>>;

impl Authority {
    /// The relationships, and their changes: also that a bundle was seen again, which moves the end of trust in it.
    pub fn watch_federation(&self) -> watch::Receiver<Arc<BTreeMap<TrustDomain, Arc<Relationship>>>> {
        self.federated.subscribe()
    }

    /// Every relationship, in the order of names.
    pub fn federations(&self) -> Vec<Arc<Relationship>> {
        self.federated.borrow().values().cloned().collect()
    }

    /// The bundles of other trust domains that are held.
    pub fn federated_bundles(&self) -> Vec<Arc<Bundle>> {
        let federated = self.federated.borrow();
        federated.values().filter_map(|relation| Some(Arc::clone(&relation.held.as_ref()?.bundle))).collect()
    }

    /// The relationship with that trust domain.
    ///
    /// # Errors
    /// When there is none.
    pub fn federation(&self, domain: &TrustDomain) -> Result<Arc<Relationship>, AuthorityError> {
        let found = self.federated.borrow().get(domain).cloned();
        found.ok_or_else(|| AuthorityError::UnknownFederation(domain.clone()))
    }

    /// Begins a relationship, with a first bundle where one is needed or given: a JWK Set or PEM.
    ///
    /// # Errors
    /// When it breaks a rule, there is one already, or the store fails.
    pub async fn create_federation(
        &self,
        new: NewRelationship,
        bundle: Option<&str>,
        by: &str,
    ) -> Result<Arc<Relationship>, AuthorityError> {
        let _federating = self.federating.lock().await;
        if self.federated.borrow().contains_key(&new.trust_domain) {
            return Err(AuthorityError::FederationExists(new.trust_domain));
        }
        self.begin_federation(new, bundle, (by, false)).await
    }

    /// Changes where and from whom a bundle is fetched; the one that is held stays.
    ///
    /// # Errors
    /// When there is none, it breaks a rule, or the store fails.
    pub async fn update_federation(
        &self,
        new: NewRelationship,
        by: &str,
    ) -> Result<Arc<Relationship>, AuthorityError> {
        let _federating = self.federating.lock().await;
        let before = self.federation(&new.trust_domain)?;
        self.change_federation(&before, new, (by, false)).await
    }

    /// Ends a relationship: its identities are not trusted from now on (FE-10).
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn delete_federation(
        &self,
        domain: &TrustDomain,
        by: &str,
    ) -> Result<Arc<Relationship>, AuthorityError> {
        let _federating = self.federating.lock().await;
        let gone = self.federation(domain)?;
        let transaction = Transaction::new()
            .delete(relation_key(domain))
            .delete(bundle_key(domain))
            .delete(checked_key(domain));
        self.ports.store.commit(transaction).await?;
        self.show_federation(|all| drop(all.remove(domain)));
        self.forget_fetches(domain);
        let (trust_domain, by) = (domain.clone(), by.to_owned());
        self.ports.events.event(IdentityEvent::FederationDeleted { trust_domain, by });
        Ok(gone)
    }

    /// Takes a bundle by a person's word; it stands until the next fetch (FE-09).
    ///
    /// # Errors
    /// When there is no relationship, the text is no bundle of that domain, or the store fails.
    pub async fn set_federated_bundle(
        &self,
        domain: &TrustDomain,
        text: &str,
        by: &str,
    ) -> Result<Arc<Relationship>, AuthorityError> {
        let _federating = self.federating.lock().await;
        let before = self.federation(domain)?;
        let (bundle, document) = federation::read(domain, text, self.other_bundles())?;
        self.hold(&before, Held::new(bundle, document, self.now(), by.to_owned())).await
    }

    /// Makes the relationships of the configuration file what `list` says. Those that were made by hand are not touched;
    /// of the file's own, those that are gone from the list end. A first bundle counts where none is held.
    ///
    /// # Errors
    /// When one breaks a rule or the store fails.
    pub async fn apply_federation(
        &self,
        list: Vec<(NewRelationship, Option<String>)>,
    ) -> Result<(), AuthorityError> {
        let listed: Vec<_> = list.iter().map(|(new, _)| new.trust_domain.clone()).collect();
        for (new, bundle) in list {
            let _federating = self.federating.lock().await;
            match self.federation(&new.trust_domain) {
                Err(_unknown) => {
                    self.begin_federation(new, bundle.as_deref(), (FROM_FILE, true)).await?;
                }
                Ok(before) if before.from_configuration && before.with != new => {
                    self.change_federation(&before, new, (FROM_FILE, true)).await?;
                }
                Ok(_same) => {}
            }
        }
        for relation in self.federations() {
            let domain = &relation.with.trust_domain;
            if relation.from_configuration && !listed.contains(domain) {
                self.delete_federation(domain, FROM_FILE).await?;
            }
        }
        Ok(())
    }

    async fn begin_federation(
        &self,
        new: NewRelationship,
        bundle: Option<&str>,
        (by, from_configuration): (&str, bool),
    ) -> Result<Arc<Relationship>, AuthorityError> {
        new.check(&self.config.trust_domain)?;
        if self.federated.borrow().len() >= LIMIT {
            return Err(FederationError::TooMany.into());
        }
        if bundle.is_none() && new.needs_bundle() {
            return Err(FederationError::NeedsBundle(new.trust_domain).into());
        }
        let (now, domain) = (self.now(), new.trust_domain.clone());
        let held = match bundle {
            None => None,
            Some(text) => {
                let (bundle, document) = federation::read(&domain, text, self.other_bundles())?;
                Some(Held::new(bundle, document, now, by.to_owned()))
            }
        };
        let relation = Relationship { with: new, from_configuration, created_at: now, revision: 0, held };
        let mut transaction =
            Transaction::new().put(relation_key(&domain), federation::relation_row(&relation)?);
        if let Some(held) = &relation.held {
            transaction = transaction.put(bundle_key(&domain), BundleRow::write(&domain, held)?);
        }
        let revision = self.ports.store.commit(transaction).await?.get();
        let relation = Arc::new(Relationship { revision, ..relation });
        self.show_federation(|all| drop(all.insert(domain, Arc::clone(&relation))));
        let (with, by) = (relation.with.clone(), by.to_owned());
        self.ports.events.event(IdentityEvent::FederationCreated { with, by });
        relation.held.iter().for_each(|held| self.tell_bundle(&relation.with.trust_domain, held));
        Ok(relation)
    }

    async fn change_federation(
        &self,
        before: &Relationship,
        new: NewRelationship,
        (by, from_configuration): (&str, bool),
    ) -> Result<Arc<Relationship>, AuthorityError> {
        new.check(&self.config.trust_domain)?;
        let domain = new.trust_domain.clone();
        if before.held.is_none() && new.needs_bundle() {
            return Err(FederationError::NeedsBundle(domain).into());
        }
        let relation = Relationship { with: new, from_configuration, ..before.clone() };
        let row = federation::relation_row(&relation)?;
        let transaction = Transaction::new().put(relation_key(&domain), row);
        let revision = self.ports.store.commit(transaction).await?.get();
        let relation = Arc::new(Relationship { revision, ..relation });
        self.show_federation(|all| drop(all.insert(domain.clone(), Arc::clone(&relation))));
        // The new place is asked at once.
        self.forget_fetches(&domain);
        let (with, by) = (relation.with.clone(), by.to_owned());
        self.ports.events.event(IdentityEvent::FederationUpdated { with, by });
        Ok(relation)
    }

    /// Takes what was fetched under `asked`, unless that has changed since (FB-02).
    async fn take_fetched(
        &self,
        asked: &Relationship,
        document: &[u8],
        from: String,
    ) -> Result<Arc<Relationship>, AuthorityError> {
        let _federating = self.federating.lock().await;
        let domain = &asked.with.trust_domain;
        let before = self.federation(domain)?;
        if before.revision != asked.revision {
            return Err(FederationError::Changed.into());
        }
        let now = self.now();
        let held = before.held.as_ref();
        if let Some(held) = held.filter(|held| held.document.as_bytes() == document) {
            let row = federation::checked_row(domain, now)?;
            self.ports.store.commit(Transaction::new().put(checked_key(domain), row)).await?;
            return Ok(self.show_held(&before, Held { from, ..held.seen(now) }));
        }
        let bundle = held.map(|held| held.bundle.as_ref());
        let (bundle, document) = federation::accept(domain, document, bundle, self.other_bundles())?;
        self.hold(&before, Held::new(bundle, document, now, from)).await
    }

    /// Writes a bundle and puts it in force.
    async fn hold(&self, before: &Relationship, held: Held) -> Result<Arc<Relationship>, AuthorityError> {
        let domain = &before.with.trust_domain;
        let transaction = Transaction::new()
            .put(bundle_key(domain), BundleRow::write(domain, &held)?)
            .delete(checked_key(domain));
        self.ports.store.commit(transaction).await?;
        self.tell_bundle(domain, &held);
        Ok(self.show_held(before, held))
    }

    fn show_held(&self, before: &Relationship, held: Held) -> Arc<Relationship> {
        let relation = Arc::new(Relationship { held: Some(held), ..before.clone() });
        let domain = relation.with.trust_domain.clone();
        self.show_federation(|all| drop(all.insert(domain, Arc::clone(&relation))));
        relation
    }

    fn show_federation(&self, change: impl FnOnce(&mut Federation)) {
        self.federated.send_modify(|all| change(Arc::make_mut(all)));
    }

    /// Everybody's bundles, for TB-10.
    fn other_bundles(&self) -> BundleMap {
        let mut all = BundleMap::of(self.bundle());
        self.federated_bundles().into_iter().for_each(|held| all.insert_allowing_shared_roots(held));
        all
    }

    fn tell_bundle(&self, domain: &TrustDomain, held: &Held) {
        self.ports.events.event(IdentityEvent::FederatedBundle {
            trust_domain: domain.clone(),
            sequence: held.bundle.sequence,
            roots: held.bundle.anchors().len(),
            from: held.from.clone(),
        });
    }
}

/// The relationships as the store has them.
pub(super) fn load(ports: &Ports) -> Result<Federation, AuthorityError> {
    let (store, mut all) = (ports.store.as_ref(), Federation::new());
    for page in base_store::pages(store, row::FEDERATION.as_bytes(), PAGE) {
        for stored in page? {
            let mut relation = federation::relation_of(&stored.key, &stored.value, stored.modified.get())?;
            let domain = relation.with.trust_domain.clone();
            if let Some(bundle) = store.get(&bundle_key(&domain))? {
                let mut held = BundleRow::read(&domain, &bundle.value)?;
                if let Some(seen) = store.get(&checked_key(&domain))? {
                    held = held.seen(federation::checked_at(&domain, &seen.value)?);
                }
                relation.held = Some(held);
            }
            all.insert(domain, Arc::new(relation));
        }
    }
    Ok(all)
}
