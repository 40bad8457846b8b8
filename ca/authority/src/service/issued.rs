//! The answers of calls that have something signed: a chain and what to verify peers with; and to agents besides, whose
//! policies they may believe.

use std::fmt;
use std::sync::Arc;

use axum::Extension;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Issued;

/// A fresh SVID.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IssuedBody {
    /// The identity.
    spiffe_id: String,
    /// Serial number, hexadecimal.
    serial: String,
    /// RFC 3339.
    not_before: String,
    /// RFC 3339.
    not_after: String,
    /// Base64 of DER, leaf first, without the root.
    chain: Vec<String>,
    /// True when the lifetime is shorter than the entry asked for.
    ttl_clamped: bool,
    /// The bundle of the trust domain.
    bundle: BundleBody,
}

/// The authorities of the trust domain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundleBody {
    /// Whose authorities these are.
    trust_domain: String,
    /// Grows with every change; a decimal number.
    sequence: String,
    /// Base64 of DER.
    authorities: Vec<String>,
}

/// A fresh SVID of an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EnrolledBody {
    #[serde(flatten)]
    issued: IssuedBody,
    /// Public keys whose signature on policies the agent may believe, the newest first; absent = no policies come from here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policy_keys: Vec<String>,
}

impl EnrolledBody {
    pub(super) fn new(issued: Issued, keys: Option<Extension<PolicyKeys>>) -> Self {
        let policy_keys = keys.map(|Extension(PolicyKeys(keys))| keys()).unwrap_or_default();
        Self { issued: issued.into(), policy_keys }
    }
}

/// The keys that sign policies at a moment. A request extension, for what serves the authority knows them (BN-03).
#[derive(Clone)]
pub struct PolicyKeys(pub Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl fmt::Debug for PolicyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyKeys").field(&(self.0)()).finish()
    }
}

impl From<Issued> for IssuedBody {
    fn from(issued: Issued) -> Self {
        let bundle = BundleBody {
            trust_domain: issued.bundle.trust_domain.to_string(),
            sequence: issued.bundle.sequence.to_string(),
            authorities: issued.bundle.certificates().map(|der| STANDARD.encode(der)).collect(),
        };
        Self {
            spiffe_id: issued.id.to_string(),
            serial: issued.serial.to_string(),
            not_before: issued.not_before.to_string(),
            not_after: issued.not_after.to_string(),
            chain: issued.chain.iter().map(|der| STANDARD.encode(der)).collect(),
            ttl_clamped: issued.ttl_clamped,
            bundle,
        }
    }
}
