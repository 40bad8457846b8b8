//! Issuance of JWT-SVIDs: who may have one, how often, and what is told about it.

use std::sync::Arc;

use base_store::Transaction;

use super::{Authority, Requester, admitted};
use crate::agent;
use crate::error::{AuthorityError, Fault};
use crate::issue::Subject;
use crate::ports::{IdentityEvent, SvidKind};
use crate::row;
use crate::token::{IssuedToken, Requested, TokenRecord};

/// Tokens that one agent gets in a second (identity.md 14).
const PER_AGENT: u32 = 500;

impl Authority {
    /// A JWT-SVID for an entry and an audience. The requester names the entry, never the SPIFFE ID (IS-03).
    ///
    /// # Errors
    /// When the entry is not the requester's, the audience is unusable, the requester asks too often, or gate or store
    /// refuse.
    pub async fn sign_token(
        &self,
        requester: Requester,
        entry_id: &str,
        audience: Vec<String>,
    ) -> Result<IssuedToken, AuthorityError> {
        let (asked, with) = (self.name_of(&requester), admitted(&requester));
        let subject = match self.entitled_to_token(requester, entry_id) {
            Ok(subject) => subject,
            Err(fault) => {
                // A flood is not to fill the ledger as well.
                if fault.fault() != Fault::Limited {
                    self.tell_refusal((asked, None), SvidKind::Jwt, &fault);
                }
                return Err(fault);
            }
        };
        let spiffe_id = subject.spiffe_id.clone();
        let staged = self.token_stages(subject, audience, with).await;
        match staged.map_err(|fault| agent::lost(fault, &asked)) {
            Ok((issued, record)) => {
                self.ports.events.event(IdentityEvent::TokenIssued(record));
                Ok(issued)
            }
            Err(fault) => {
                self.tell_refusal((asked, Some(spiffe_id)), SvidKind::Jwt, &fault);
                Err(fault)
            }
        }
    }

    /// The durable records of tokens that have not expired yet, in the order of their ends.
    ///
    /// # Errors
    /// When the store fails.
    pub fn issued_tokens(&self, limit: usize) -> Result<Vec<TokenRecord>, AuthorityError> {
        let page = self.ports.store.range(row::ISSUED_JWT.as_bytes(), None, limit)?;
        page.iter().map(|stored| TokenRecord::from_row(&stored.key, &stored.value)).collect()
    }

    fn entitled_to_token(&self, requester: Requester, entry_id: &str) -> Result<Subject, AuthorityError> {
        let subject = self.entitled(requester, entry_id)?;
        if !self.token_rate.admit(subject.requester.clone(), PER_AGENT, self.ports.clock.now().mono) {
            return Err(AuthorityError::TooManyTokens(subject.requester));
        }
        let ttl = subject.entry.as_ref().and_then(|entry| entry.jwt_ttl);
        Ok(Subject { ttl, dns_names: Vec::new(), ..subject })
    }

    async fn token_stages(
        &self,
        subject: Subject,
        audience: Vec<String>,
        with: Transaction,
    ) -> Result<(IssuedToken, TokenRecord), AuthorityError> {
        let now = self.signing_time()?;
        self.refuse_revoked([&subject.requester, &subject.spiffe_id])?;
        let key: Arc<_> = self.tokens.load_full().ok_or(AuthorityError::NoSigningKey)?;
        let journaled = Requested::new(subject, audience, &key, &self.config, now)?
            .pass(self.ports.gate.as_ref())?
            .sign(&key, self.ports.rng.as_ref())?
            .check(&key, now)?
            .journal(self.ports.store.as_ref(), with)
            .await?;
        Ok(journaled.release())
    }
}
