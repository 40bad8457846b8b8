//! What an agent has to know at a moment, and when that may have changed. Read by the stream of an agent (`service/sync`).

use std::sync::Arc;

use ca_identity::{Bundle, RevocationSet, SpiffeId};
use tokio::sync::watch;

use super::{Authority, Federation};
use crate::crl::Crl;
use crate::keys::KeyInfo;
use crate::sync::{Resume, Sent, Standing};

impl Authority {
    /// Everything for that agent, as it is now.
    pub(crate) fn standing(&self, agent: &SpiffeId) -> Standing {
        // The revision first: what comes in between is in it as well, and is told again.
        let revision = *self.entries_revision.borrow();
        let entries = self.entries_for(agent).into_iter();
        let federated = self.federated_bundles().into_iter();
        Standing {
            revision,
            entries: entries.map(|entry| (entry.id.clone(), entry)).collect(),
            document: self.bundle().to_jwks(),
            federated: federated.map(|bundle| (bundle.trust_domain.clone(), bundle)).collect(),
            denied: self.revoked.borrow().clone(),
            tainted: self.tainted(),
            crls: self.crls.borrow().clone(),
        }
    }

    /// What an agent has that comes with those words.
    pub(crate) fn resumed(&self, resume: &Resume, now: &Standing) -> Sent {
        let removed = resume.revision().and_then(|revision| self.removals.lock().after(revision));
        Sent::resumed(resume, now, removed)
    }

    /// Follows everything that [`Authority::standing`] tells of, and agents that are evicted or banned.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            entries: self.entries_revision.subscribe(),
            bundle: self.bundle.subscribe(),
            revoked: self.revoked.subscribe(),
            keys: self.keys.subscribe(),
            crls: self.crls.subscribe(),
            federated: self.federated.subscribe(),
            agents: self.agents_changed.subscribe(),
        }
    }
}

/// Whatever may change what an agent has to know.
pub(crate) struct Changes {
    entries: watch::Receiver<u64>,
    bundle: watch::Receiver<Arc<Bundle>>,
    revoked: watch::Receiver<RevocationSet>,
    keys: watch::Receiver<Arc<[KeyInfo]>>,
    crls: watch::Receiver<Arc<[Crl]>>,
    federated: watch::Receiver<Arc<Federation>>,
    agents: watch::Receiver<u64>,
}

impl Changes {
    /// Returns after a change; false when there will be none any more. Safe to cancel.
    pub(crate) async fn next(&mut self) -> bool {
        let moved = tokio::select! {
            moved = self.entries.changed() => moved,
            moved = self.bundle.changed() => moved,
            moved = self.revoked.changed() => moved,
            moved = self.keys.changed() => moved,
            moved = self.crls.changed() => moved,
            moved = self.federated.changed() => moved,
            moved = self.agents.changed() => moved,
        };
        moved.is_ok()
    }
}
