//! Everything that identity checks read, as one immutable value behind one swap (BN-02, P12).

use std::sync::Arc;

use crate::{BundleMap, Refusal, RevocationSet, VerifiedPeer, X509Svid};

/// Own SVID, bundles and deny set that belong together.
#[derive(Debug, Clone, Default)]
pub struct IdentitySnapshot {
    /// What this process shows to peers.
    pub own: Option<Arc<X509Svid>>,
    /// Whom it trusts, per trust domain.
    pub bundles: BundleMap,
    /// What it refuses nevertheless.
    pub revoked: RevocationSet,
    /// Grows with every publication; stamped by the publisher (`tls::Trust`).
    pub generation: u64,
}

impl IdentitySnapshot {
    /// Re-judges a peer that was verified earlier, such as the one of an open connection: its root is still trusted for its
    /// trust domain, and nothing of its path is denied. Look-ups, no cryptography (S14).
    ///
    /// # Errors
    /// Why it would be refused now.
    pub fn check(&self, peer: &VerifiedPeer) -> Result<(), Refusal> {
        let domain = peer.id.trust_domain();
        let bundle = self.bundles.get(domain).ok_or_else(|| Refusal::UnknownTrustDomain(domain.clone()))?;
        if !bundle.anchors().iter().any(|anchor| anchor.key_id() == peer.anchor_key_id) {
            return Err(Refusal::NoPath);
        }
        self.revoked.check(peer)
    }
}
