//! Everything that identity checks read, as one immutable value behind one swap (BN-02, P12).

use std::sync::Arc;

use crate::{BundleMap, Refusal, RevocationSet, TokenRefusal, VerifiedPeer, VerifiedToken, X509Svid};

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

    /// The same for a token that was verified earlier: its key is still one of its trust domain, and nothing of it is denied.
    /// Look-ups, no cryptography; when it ends is not looked at.
    ///
    /// # Errors
    /// Why it would be refused now.
    pub fn check_token(&self, token: &VerifiedToken) -> Result<(), TokenRefusal> {
        let domain = token.id.trust_domain();
        let bundle =
            self.bundles.get(domain).ok_or_else(|| TokenRefusal::UnknownTrustDomain(domain.clone()))?;
        if !bundle.jwt_keys().iter().any(|key| key.kid() == token.key) {
            return Err(TokenRefusal::UnknownKey);
        }
        self.revoked.check_token(&token.id, &token.key, token.jti.as_deref())
    }
}
