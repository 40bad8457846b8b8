//! The published identity snapshot: one value, one swap, read by every handshake.
//!
//! Also the only place that asks the clock, and never lets it run back by more than a minute (identity.md 15).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use base_ports::{Clock, UnixTime};
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::cache::VerifyOnce;
use crate::{IdentitySnapshot, X509Svid};

const BACKWARD_LIMIT_NANOS: i64 = 60_000_000_000;

/// The own SVID cannot sign a handshake; the snapshot was not published.
#[derive(Debug, thiserror::Error)]
#[error("the key of the own SVID cannot be used for TLS: {0}")]
pub struct PublishError(#[source] rustls::Error);

/// What TLS reads: the current snapshot, the clock and the chains accepted so far.
pub struct Trust {
    clock: Arc<dyn Clock>,
    current: ArcSwap<Published>,
    publishing: Mutex<()>,
    told: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    last_seen_nanos: AtomicI64,
    pub(super) accepted: VerifyOnce,
}

struct Published {
    snapshot: Arc<IdentitySnapshot>,
    own: Option<Arc<CertifiedKey>>,
}

impl Trust {
    /// Trusts nobody and shows nothing until the first publication.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let empty = Published { snapshot: Arc::default(), own: None };
        Arc::new(Self {
            clock,
            current: ArcSwap::from_pointee(empty),
            publishing: Mutex::new(()),
            told: Mutex::new(Vec::new()),
            last_seen_nanos: AtomicI64::new(i64::MIN),
            accepted: VerifyOnce::default(),
        })
    }

    /// Publishes a snapshot, stamped with the next generation, which is returned.
    ///
    /// # Errors
    /// When the own key cannot sign; then the former snapshot stays.
    pub fn publish(&self, snapshot: IdentitySnapshot) -> Result<u64, PublishError> {
        let guard = self.publishing.lock();
        let generation = self.swap(snapshot)?;
        drop(guard);
        Ok(generation)
    }

    /// Changes part of the snapshot: what is not touched stays, also under concurrent updates.
    ///
    /// # Errors
    /// When the own key cannot sign; then the former snapshot stays.
    pub fn update(&self, change: impl FnOnce(&mut IdentitySnapshot)) -> Result<u64, PublishError> {
        let guard = self.publishing.lock();
        let mut snapshot = IdentitySnapshot::clone(&self.current.load().snapshot);
        change(&mut snapshot);
        let generation = self.swap(snapshot)?;
        drop(guard);
        Ok(generation)
    }

    fn swap(&self, mut snapshot: IdentitySnapshot) -> Result<u64, PublishError> {
        let generation = self.generation().saturating_add(1);
        snapshot.generation = generation;
        let own = snapshot.own.as_deref().map(certified).transpose()?;
        self.current.store(Arc::new(Published { snapshot: Arc::new(snapshot), own }));
        self.told.lock().iter().for_each(|tell| tell());
        Ok(generation)
    }

    /// Calls `tell` after every publication from now on. It must be short and publish nothing.
    pub fn tell(&self, tell: impl Fn() + Send + Sync + 'static) {
        self.told.lock().push(Box::new(tell));
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<IdentitySnapshot> {
        Arc::clone(&self.current.load().snapshot)
    }

    /// Number of the current snapshot; 0 before the first publication.
    pub fn generation(&self) -> u64 {
        self.current.load().snapshot.generation
    }

    /// The wall clock, at most a minute behind the latest time seen.
    pub fn now(&self) -> UnixTime {
        let wall = self.clock.now().wall.as_nanos();
        let seen = self.last_seen_nanos.fetch_max(wall, Ordering::Relaxed);
        UnixTime::from_nanos(wall.max(seen.saturating_sub(BACKWARD_LIMIT_NANOS)))
    }

    /// Chain and key to show to a peer; `None` without an SVID and with an expired one, which is never shown.
    pub(super) fn own(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        let svid = current.snapshot.own.as_ref()?;
        current.own.clone().filter(|_| svid.is_valid_at(self.now()))
    }
}

fn certified(svid: &X509Svid) -> Result<Arc<CertifiedKey>, PublishError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.key.pkcs8()));
    let signer = any_supported_type(&key).map_err(PublishError)?;
    Ok(Arc::new(CertifiedKey::new(svid.chain.clone(), signer)))
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("generation", &self.generation()).finish_non_exhaustive()
    }
}
