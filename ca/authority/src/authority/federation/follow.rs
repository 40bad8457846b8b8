//! Fetching the bundles of other trust domains: when, with what to verify the endpoint, and what is said of the outcome
//! (FE-05, FE-07, FE-11).
//!
//! A failure changes nothing: the bundle that is held stays until its end, and the next fetch comes at the next interval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Mono, Tasks};
use ca_identity::TrustDomain;

use super::Authority;
use crate::error::AuthorityError;
use crate::federation::{
    Endpoint, EndpointPeer, FederationError, FetchError, FetchFault, Fetched, Profile, Relationship,
};
use crate::ports::IdentityEvent;

/// A whole fetch (identity.md 3).
const TOTAL: Duration = Duration::from_secs(10);
/// How often it is looked whether one is due.
const TICK: Duration = Duration::from_secs(1);
/// Fetches at the same time.
const PARALLEL: usize = 16;

/// What is known of fetches, by trust domain.
pub(in crate::authority) type Fetches = BTreeMap<TrustDomain, Attempt>;

/// The last fetch, and when the next is due.
#[derive(Debug, Clone)]
pub(in crate::authority) struct Attempt {
    is_running: bool,
    next: Mono,
    last: Option<Fetched>,
}

impl Authority {
    /// Fetches every bundle when its time has come. Dropping it ends what is under way.
    pub async fn follow_federation(self: Arc<Self>) {
        let tasks = Tasks::new("federation");
        let mut changed = self.federated.subscribe();
        loop {
            for domain in self.due_fetches() {
                let authority = Arc::clone(&self);
                tasks.spawn("bundle fetch", async move {
                    // The outcome is told by `note`; a relationship that is gone needs none.
                    drop(authority.refresh_federation(&domain).await);
                });
            }
            tokio::select! {
                moved = changed.changed() => if moved.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Fetches the bundle of that trust domain now. The relationship afterwards, and what came of it.
    ///
    /// # Errors
    /// When there is no such relationship.
    pub async fn refresh_federation(
        &self,
        domain: &TrustDomain,
    ) -> Result<(Arc<Relationship>, Fetched), AuthorityError> {
        let relation = self.federation(domain)?;
        let interval = relation.interval();
        self.begin_fetch(domain, interval);
        let result = self.fetch(&relation).await;
        let fetched = self.note(domain, result);
        self.federation(domain).map(|relation| (relation, fetched))
    }

    /// What came of the last fetch of that trust domain's bundle.
    pub fn last_fetch(&self, domain: &TrustDomain) -> Option<Fetched> {
        self.fetches.lock().get(domain)?.last.clone()
    }

    pub(super) fn forget_fetches(&self, domain: &TrustDomain) {
        self.fetches.lock().remove(domain);
    }

    /// Those whose time has come, as many as may run.
    pub(crate) fn due_fetches(&self) -> Vec<TrustDomain> {
        let (now, fetches) = (self.ports.clock.mono(), self.fetches.lock());
        // The next one is never due before one that runs has had its time.
        let running = fetches.values().filter(|attempt| attempt.is_running && attempt.next > now).count();
        let is_due = |domain: &&TrustDomain| fetches.get(*domain).is_none_or(|attempt| attempt.next <= now);
        let federated = self.federated.borrow();
        federated.keys().filter(is_due).take(PARALLEL.saturating_sub(running)).cloned().collect()
    }

    fn begin_fetch(&self, domain: &TrustDomain, interval: Duration) {
        let next = self.ports.clock.mono() + interval;
        let mut fetches = self.fetches.lock();
        let last = fetches.remove(domain).and_then(|attempt| attempt.last);
        fetches.insert(domain.clone(), Attempt { is_running: true, next, last });
    }

    async fn fetch(&self, relation: &Relationship) -> Result<Arc<Relationship>, AuthorityError> {
        let peer = self.endpoint_peer(relation)?;
        let from = match &peer {
            EndpointPeer::Web => relation.with.url.clone(),
            EndpointPeer::Spiffe { id, .. } => id.to_string(),
        };
        let fetch = self.ports.fetch.fetch(Endpoint { url: relation.with.url.clone(), peer });
        let document = tokio::time::timeout(TOTAL, fetch).await;
        let document = document.unwrap_or(Err(FetchError::Timeout)).map_err(FederationError::from)?;
        self.take_fetched(relation, &document, from).await
    }

    /// FE-05: an SVID is verified with the newest bundle of its own trust domain, which may be the one to be fetched, one
    /// of another relationship, or our own.
    fn endpoint_peer(&self, relation: &Relationship) -> Result<EndpointPeer, AuthorityError> {
        let Profile::Spiffe(id) = &relation.with.profile else { return Ok(EndpointPeer::Web) };
        let domain = id.trust_domain();
        let bundle = if *domain == self.config.trust_domain {
            Some(self.bundle())
        } else {
            let serving = self.federated.borrow().get(domain).cloned();
            serving.and_then(|serving| Some(Arc::clone(&serving.held.as_ref()?.bundle)))
        };
        let bundle = bundle.ok_or_else(|| FederationError::from(FetchError::NoBundle(domain.clone())))?;
        Ok(EndpointPeer::Spiffe { id: id.clone(), bundle })
    }

    /// Says what came of it: each fetch to the log (FE-11), a fault that is new to the record, a step back as an alarm.
    fn note(&self, domain: &TrustDomain, result: Result<Arc<Relationship>, AuthorityError>) -> Fetched {
        let result = match result {
            Ok(relation) => {
                let held = relation.held.as_ref();
                let (peer, sequence) =
                    held.map_or(("", 0), |held| (held.from.as_str(), held.bundle.sequence));
                tracing::info!(event = "bundle_fetched", trust_domain = %domain, peer, sequence, "bundle fetched");
                Ok(peer.to_owned())
            }
            Err(fault) => {
                let (code, detail) = (fault.code(), fault.to_string());
                tracing::warn!(event = "bundle_not_fetched", trust_domain = %domain, code, detail, "the bundle that is held stays");
                Err(FetchFault { code, detail })
            }
        };
        let fetched = Fetched { at: self.now(), result };
        let mut fetches = self.fetches.lock();
        let before = match fetches.get_mut(domain) {
            Some(attempt) => {
                attempt.is_running = false;
                // A bundle may have come with a hint of its own.
                if fetched.result.is_ok()
                    && let Some(relation) = self.federated.borrow().get(domain)
                {
                    attempt.next = self.ports.clock.mono() + relation.interval();
                }
                attempt.last.replace(fetched.clone())
            }
            None => None,
        };
        drop(fetches);
        let known = before.and_then(|before| before.result.err());
        if let Err(fault) = &fetched.result
            && known.is_none_or(|known| known.code != fault.code)
        {
            self.tell_fault(domain, fault);
        }
        fetched
    }

    fn tell_fault(&self, domain: &TrustDomain, FetchFault { code, detail }: &FetchFault) {
        let (trust_domain, code, detail) = (domain.clone(), *code, detail.clone());
        if code == "bundle_rollback" {
            let detail = format!("{domain}: {detail}");
            self.ports.events.event(IdentityEvent::Alarm { code, detail });
        }
        self.ports.events.event(IdentityEvent::FederationRefused { trust_domain, code, detail });
    }
}
