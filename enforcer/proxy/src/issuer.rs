//! Issuers of OpenID Connect whose users may call: what a listener believes of them, and the keys they sign with (TL-06, MO5).
//!
//! Whoever fetches keys publishes them here; `bearer` asks who a token names. Without keys every token of the issuer is
//! refused. Keys that are withdrawn end the calls of tokens that they signed.

mod person;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base_ports::UnixTime;
use ca_identity::{IssuerKeys, TokenRefusal, verify_user_token};
use parking_lot::RwLock;

pub(crate) use person::Person;

/// What is believed of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its alias in policies: users are `User::"<alias>/<sub>"` (MO2).
    pub name: String,
    /// `iss`, byte for byte.
    pub url: String,
    /// Tokens are taken that are for one of these.
    pub audience: Vec<String>,
    /// The claim that names groups, a member of a claim as `realm_access.roles`.
    pub groups_claim: String,
    /// Whether endpoints receive the token.
    pub passes_on: bool,
}

/// An issuer, and the keys it is known to sign with.
#[derive(Debug)]
pub struct Issuer {
    settings: IssuerSettings,
    keys: RwLock<Option<Arc<IssuerKeys>>>,
    /// A token named a key that is not known.
    wanted: AtomicBool,
}

impl Issuer {
    /// An issuer whose keys are not known yet.
    #[must_use]
    pub fn new(settings: IssuerSettings) -> Arc<Self> {
        Arc::new(Self { settings, keys: RwLock::default(), wanted: AtomicBool::new(false) })
    }

    /// What is believed of it.
    #[must_use]
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// From here on these are its keys, and no others.
    pub fn publish(&self, keys: IssuerKeys) {
        *self.keys.write() = Some(Arc::new(keys));
    }

    /// Whether any keys are known.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.keys.read().is_some()
    }

    /// Whether a token named a key that was not known, since the last [`settled`](Self::settled).
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Keys are being fetched.
    pub fn settled(&self) {
        self.wanted.store(false, Ordering::Relaxed);
    }

    pub(crate) fn url(&self) -> &str {
        &self.settings.url
    }

    /// Whom the token names.
    pub(crate) fn judge(self: &Arc<Self>, token: &str, now: UnixTime) -> Result<Person, TokenRefusal> {
        let keys = self.keys.read().clone();
        let IssuerSettings { url, audience, .. } = &self.settings;
        let judged = match &keys {
            Some(keys) => verify_user_token(token, url, audience, keys, now),
            None => Err(TokenRefusal::NoKeys),
        };
        if matches!(judged, Err(TokenRefusal::UnknownKey | TokenRefusal::NoKeys)) {
            self.wanted.store(true, Ordering::Relaxed);
        }
        judged.map(|verified| Person::new(self, &verified))
    }

    fn knows(&self, key: &str) -> bool {
        self.keys.read().as_ref().is_some_and(|keys| keys.has(key))
    }
}

impl PartialEq for Issuer {
    /// Whether the same is believed of both.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Issuer {}
