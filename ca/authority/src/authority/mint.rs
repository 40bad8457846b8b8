//! Certificates by an administrator's word, without a registration entry (IC-02): the same pipeline, with gate, post-check
//! and record. Refused are the names that entries may not have either.

use std::time::Duration;

use base_store::Transaction;
use ca_identity::SpiffeId;

use super::Authority;
use crate::config::SVID_TTL_FLOOR;
use crate::entry::{EntryError, check_identity};
use crate::error::AuthorityError;
use crate::issue::{Issued, Subject};
use crate::ports::{IdentityEvent, IssueKind};

/// What an administrator wants signed.
#[derive(Debug, Clone)]
pub struct Minting {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// DNS names that go into the certificate.
    pub dns_names: Vec<String>,
    /// Lifetime; absent = as configured.
    pub ttl: Option<Duration>,
}

impl Authority {
    /// Signs for an identity that needs no entry. `by` is who wants it.
    ///
    /// # Errors
    /// When the name is one that entries may not have, or request, gate or store refuse.
    pub async fn mint(&self, what: Minting, csr_der: &[u8], by: &str) -> Result<Issued, AuthorityError> {
        check_identity(&self.config.trust_domain, &what.spiffe_id, &what.dns_names)?;
        if what.ttl.is_some_and(|ttl| ttl < SVID_TTL_FLOOR) {
            return Err(EntryError::TtlTooShort.into());
        }
        let subject = Subject {
            requester: self.local_agent.clone(),
            attested_by: IssueKind::Minted.as_str().to_owned(),
            spiffe_id: what.spiffe_id,
            dns_names: what.dns_names,
            ttl: what.ttl,
            kind: IssueKind::Minted,
            entry: None,
        };
        let issued = self.issue(subject, csr_der, Transaction::new()).await?;
        let (serial, spiffe_id, by) = (issued.serial.clone(), issued.id.clone(), by.to_owned());
        self.ports.events.event(IdentityEvent::Minted { serial, spiffe_id, by });
        Ok(issued)
    }
}
