//! Everything that identity checks read, as one immutable value behind one swap (BN-02, P12).

use std::sync::Arc;

use crate::{BundleMap, RevocationSet, X509Svid};

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
