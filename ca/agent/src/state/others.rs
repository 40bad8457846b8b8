//! The bundles of other trust domains as callers are served them: those that their entries federate with, and no more.
//!
//! Made by `cache` when a bundle changes, read by `state` and `offer`. The bytes are built once and shared by all streams
//! (AG-05). What has gone stale, and what holds no key of the kind that is asked for, is left out: absent is withdrawn.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use base_ports::UnixTime;
use ca_identity::{Bundle, JwksReader, TrustDomain};
use parking_lot::Mutex;
use prost::bytes::Bytes;

use super::{Crls, Served};
use crate::secret::{Form, SdsNames, Secret};

/// Every federated trust domain.
#[derive(Debug, Default)]
pub(crate) struct Others {
    known: BTreeMap<TrustDomain, Arc<Other>>,
    /// What verifies peers of the own and of these domains, made when first asked for.
    joint: Mutex<HashMap<Vec<TrustDomain>, Arc<Secret>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Other {
    bundle: Arc<Bundle>,
    /// Its roots, as the Workload API has them.
    roots: Bytes,
    /// Its keys for tokens, as a JWK Set.
    tokens: Bytes,
    /// For SDS: in the form for the SPIFFE validator, and plain.
    contexts: OnceLock<[Arc<Secret>; 2]>,
}

impl Others {
    /// What comes after these: a bundle that is still the same is not encoded again.
    pub(crate) fn next(&self, bundles: Vec<Arc<Bundle>>) -> Self {
        let other = |bundle: Arc<Bundle>| {
            let domain = bundle.trust_domain.clone();
            let same = self.known.get(&domain).filter(|known| Arc::ptr_eq(&known.bundle, &bundle));
            let other = same.cloned().unwrap_or_else(|| Arc::new(Other::of(bundle)));
            (domain, other)
        };
        Self { known: bundles.into_iter().map(other).collect(), joint: Mutex::default() }
    }

    /// Those that these entries federate with and that can be relied on, in the order of names.
    pub(super) fn of<'a>(&'a self, matching: &[&Served], now: UnixTime) -> Vec<&'a Other> {
        let wanted =
            |domain: &TrustDomain| matching.iter().any(|served| served.entry.federates_with.contains(domain));
        let is_good = |other: &Other| other.bundle.stale_after.is_none_or(|end| now <= end);
        let known = self.known.iter().filter(|(domain, other)| is_good(other) && wanted(domain));
        known.map(|(_, other)| other.as_ref()).collect()
    }

    /// What verifies peers of the own trust domain and of `others`; for the SPIFFE validator, which keeps them apart.
    pub(super) fn joint(&self, own: &Bundle, others: &[&Other], names: &SdsNames) -> Arc<Secret> {
        let key = others.iter().map(|other| other.bundle.trust_domain.clone()).collect();
        let mut joint = self.joint.lock();
        let made = joint.entry(key).or_insert_with(|| {
            let all: Vec<&Bundle> =
                std::iter::once(own).chain(others.iter().map(|other| other.bundle.as_ref())).collect();
            Arc::new(Secret::context(&names.bundles, &all, &Crls::default(), Form::Spiffe))
        });
        Arc::clone(made)
    }
}

impl Other {
    fn of(bundle: Arc<Bundle>) -> Self {
        let roots = bundle.to_der().into();
        let tokens = bundle.to_jwt_jwks(JwksReader::WorkloadApi).into();
        Self { bundle, roots, tokens, contexts: OnceLock::new() }
    }

    pub(super) fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// Its name on the Workload API, and its roots when it has some.
    pub(super) fn roots(&self) -> Option<(String, Bytes)> {
        (!self.roots.is_empty()).then(|| (self.name(), self.roots.clone()))
    }

    /// The same for its keys for tokens.
    pub(super) fn tokens(&self) -> Option<(String, Bytes)> {
        (!self.bundle.jwt_keys().is_empty()).then(|| (self.name(), self.tokens.clone()))
    }

    /// What verifies its peers, by the name of its trust domain.
    pub(super) fn context(&self, form: Form) -> Arc<Secret> {
        // Whom they revoked, their own lists say, which are not had.
        let build = |form| Arc::new(Secret::context(&self.name(), &[&self.bundle], &Crls::default(), form));
        let [spiffe, plain] = self.contexts.get_or_init(|| [Form::Spiffe, Form::Plain].map(build));
        Arc::clone(match form {
            Form::Spiffe => spiffe,
            Form::Plain => plain,
        })
    }

    fn name(&self) -> String {
        self.bundle.trust_domain.id().to_string()
    }
}
