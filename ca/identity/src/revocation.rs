//! The deny set: what no longer authenticates although it still verifies (RV-03, VS-10).

use std::collections::HashSet;

use crate::jwt::TokenRefusal;
use crate::key_id::{KeyId, Serial};
use crate::refusal::Refusal;
use crate::{SpiffeId, TrustDomain, VerifiedPeer};

/// Certificates, issuer keys and identities that are refused. Carried by every snapshot from the first day (S14).
#[derive(Debug, Clone, Default)]
pub struct RevocationSet {
    certificates: HashSet<(KeyId, Serial)>,
    issuers: HashSet<KeyId>,
    ids: HashSet<SpiffeId>,
    /// `kid`s and `jti`s, each within its trust domain.
    jwt_keys: HashSet<(TrustDomain, String)>,
    tokens: HashSet<(TrustDomain, String)>,
}

impl RevocationSet {
    /// Denies one certificate, named by the key that issued it and its serial number.
    pub fn revoke_certificate(&mut self, issuer: KeyId, serial: Serial) {
        self.certificates.insert((issuer, serial));
    }

    /// Denies everything that a key issued.
    pub fn revoke_issuer(&mut self, issuer: KeyId) {
        self.issuers.insert(issuer);
    }

    /// Denies an identity, whatever certificate it shows.
    pub fn revoke_id(&mut self, id: SpiffeId) {
        self.ids.insert(id);
    }

    /// Denies every token that a key of that trust domain signed.
    pub fn revoke_jwt_key(&mut self, domain: TrustDomain, kid: String) {
        self.jwt_keys.insert((domain, kid));
    }

    /// Denies one token, named by its `jti`.
    pub fn revoke_token(&mut self, domain: TrustDomain, jti: String) {
        self.tokens.insert((domain, jti));
    }

    /// True when nothing is denied.
    pub fn is_empty(&self) -> bool {
        let certificates = self.certificates.is_empty() && self.issuers.is_empty();
        certificates && self.ids.is_empty() && self.jwt_keys.is_empty() && self.tokens.is_empty()
    }

    /// True when the key is denied as an issuer.
    pub fn has_issuer(&self, issuer: &KeyId) -> bool {
        self.issuers.contains(issuer)
    }

    /// Re-judges a verified peer, such as the one of an open connection: a look-up, no cryptography (S14).
    ///
    /// # Errors
    /// Names what is denied.
    pub fn check(&self, peer: &VerifiedPeer) -> Result<(), Refusal> {
        if self.ids.contains(&peer.id) {
            return Err(Refusal::RevokedId);
        }
        for link in &peer.path {
            if self.issuers.contains(&link.issuer) {
                return Err(Refusal::RevokedIssuer);
            }
            if self.certificates.contains(&(link.issuer, link.serial.clone())) {
                return Err(Refusal::RevokedCertificate);
            }
        }
        Ok(())
    }

    /// The same for what a verified token names (VJ-06).
    ///
    /// # Errors
    /// Names what is denied.
    pub(crate) fn check_token(
        &self,
        id: &SpiffeId,
        kid: &str,
        jti: Option<&str>,
    ) -> Result<(), TokenRefusal> {
        if self.ids.contains(id) {
            return Err(TokenRefusal::RevokedId);
        }
        let is_denied = |set: &HashSet<(TrustDomain, String)>, name: &str| {
            !set.is_empty() && set.contains(&(id.trust_domain().clone(), name.to_owned()))
        };
        if is_denied(&self.jwt_keys, kid) {
            return Err(TokenRefusal::RevokedKey);
        }
        if jti.is_some_and(|jti| is_denied(&self.tokens, jti)) {
            return Err(TokenRefusal::RevokedToken);
        }
        Ok(())
    }
}
