//! The published state of the agent and what one caller may see of it.
//!
//! Made by `cache`, read by `service`. The bytes of an SVID and of a bundle are built once and shared by all streams
//! (AG-05). Nothing expired is ever put into an answer, whatever the state still holds.

mod crls;
mod offer;
mod others;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, OnceLock},
};

use base_ports::UnixTime;
use ca_identity::{
    Bundle, BundleMap, IdentitySnapshot, JwksReader, RevocationSet, Selector, TrustDomain, X509Svid,
};
use prost::{Message as _, bytes::Bytes};

use crate::{
    generated::messages::{JwtBundlesResponse, X509BundlesResponse, X509svid, X509svidResponse},
    secret::{SdsNames, Secret},
    upstream::AgentEntry,
};

pub(crate) use crls::Crls;
use offer::Contexts;
pub(crate) use offer::{Picked, Wanted};
pub(crate) use others::Others;

/// The most identities of one workload, and the most bytes of one answer: what clients accept.
const IDENTITIES: usize = 64;
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
const HINT_BYTES: usize = 1024;
const UNHEARD: &str = "the authority was not heard since this agent started";
const NO_ROOTS: &str = "the trust domain has no roots";

/// Everything that callers can be served, in the order in which they see it.
#[derive(Debug)]
pub(crate) struct State {
    served: Vec<Arc<Served>>,
    own: Arc<Bundle>,
    /// Its roots, as the Workload API has them.
    bundle: Bytes,
    crls: Crls,
    /// The same for SDS, made when first asked for.
    contexts: OnceLock<Contexts>,
    /// The keys for tokens, as a JWK Set.
    jwt_bundle: Bytes,
    /// What tokens of the own trust domain are judged by.
    trust: IdentitySnapshot,
    /// Other trust domains, for those whose entries federate with them.
    others: Arc<Others>,
    /// The authority was heard: who matches nothing has nothing.
    is_known: bool,
}

/// One entry and what is ready for it. Neither SVID nor problem means that the first answer is still to come.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) entry: Arc<AgentEntry>,
    pub(crate) resource: Option<Arc<Resource>>,
    pub(crate) problem: Option<Arc<str>>,
}

/// The bytes of one SVID.
#[derive(Debug)]
pub(crate) struct Resource {
    spiffe_id: String,
    chain: Bytes,
    key: Bytes,
    not_after: UnixTime,
    svid: Arc<X509Svid>,
    /// The same for SDS, by its own name and as the default, made when first asked for.
    secrets: OnceLock<[Arc<Secret>; 2]>,
}

/// What a caller is told.
#[derive(Debug, PartialEq)]
pub(crate) enum View<M> {
    /// The complete state.
    Complete(M),
    /// Some of it, or nothing, until the authority has answered for the rest.
    Pending(Option<M>),
    /// No entry matches. Says nothing of what exists (WA6).
    Denied,
    /// Entries match, but nothing valid is at hand.
    Unavailable(String),
    /// More than clients accept.
    TooLarge { entries: usize },
}

impl<M> View<M> {
    /// Goes on with a complete state; every other view stays as it is.
    pub(crate) fn then<N>(self, next: impl FnOnce(M) -> View<N>) -> View<N> {
        match self {
            Self::Complete(message) => next(message),
            Self::Pending(_) => View::Pending(None),
            Self::Denied => View::Denied,
            Self::Unavailable(reason) => View::Unavailable(reason),
            Self::TooLarge { entries } => View::TooLarge { entries },
        }
    }
}

impl State {
    pub(crate) fn new(served: Vec<Arc<Served>>, bundle: &Arc<Bundle>) -> Self {
        let bundles = BundleMap::of(Arc::clone(bundle));
        Self {
            served,
            own: Arc::clone(bundle),
            contexts: OnceLock::new(),
            crls: Crls::default(),
            bundle: bundle.to_der().into(),
            jwt_bundle: bundle.to_jwt_jwks(JwksReader::WorkloadApi).into(),
            trust: IdentitySnapshot { bundles, ..IdentitySnapshot::default() },
            others: Arc::default(),
            is_known: true,
        }
    }

    /// The same with these revocation lists.
    pub(crate) fn listing(self, crls: Crls) -> Self {
        Self { crls, contexts: OnceLock::new(), ..self }
    }

    /// The same, knowing other trust domains.
    pub(crate) fn knowing(mut self, others: Arc<Others>) -> Self {
        self.others = others;
        self
    }

    /// The same, knowing whether the authority was heard.
    pub(crate) fn heard(mut self, is_known: bool) -> Self {
        self.is_known = is_known;
        self
    }

    /// The same, refusing tokens that are denied.
    pub(crate) fn denying(mut self, revoked: RevocationSet) -> Self {
        self.trust.revoked = revoked;
        self
    }

    /// The own trust domain.
    pub(crate) fn domain(&self) -> &TrustDomain {
        &self.own.trust_domain
    }

    /// What tokens that this caller shows are judged by.
    pub(crate) fn trust(&self, selectors: &[Selector], now: UnixTime) -> IdentitySnapshot {
        let mut trust = self.trust.clone();
        for other in self.others.of(&self.matching(selectors), now) {
            // No root counts for tokens, so none can be shared.
            trust.bundles.insert_allowing_shared_roots(Arc::clone(other.bundle()));
        }
        trust
    }

    pub(crate) fn served(&self) -> &[Arc<Served>] {
        &self.served
    }

    /// The identities of a caller, with keys.
    pub(crate) fn x509(&self, selectors: &[Selector], now: UnixTime) -> View<X509svidResponse> {
        self.entitled(selectors).then(|matching| {
            if self.bundle.is_empty() {
                return View::Unavailable(NO_ROOTS.to_owned());
            }
            let others = self.others.of(&matching, now);
            let answer = X509svidResponse {
                svids: self.messages(&matching, now),
                federated_bundles: others.iter().filter_map(|other| other.roots()).collect(),
                crl: self.crls.messages(),
            };
            if answer.encoded_len() > ANSWER_BYTES {
                return View::TooLarge { entries: matching.len() };
            }
            let pending = matching.iter().any(|served| served.is_pending());
            match (pending, answer.svids.is_empty()) {
                (true, empty) => View::Pending((!empty).then_some(answer)),
                (false, false) => View::Complete(answer),
                (false, true) => View::Unavailable(first_problem(&matching)),
            }
        })
    }

    /// The bundles that a caller may verify with: of its own domain and of those that its entries federate
    /// with, for callers that have an identity (DF-12).
    pub(crate) fn bundles(&self, selectors: &[Selector], now: UnixTime) -> View<X509BundlesResponse> {
        let matching = self.matching(selectors);
        if matching.is_empty() {
            return self.nothing();
        }
        let mut bundles = BTreeMap::from([(self.domain().id().to_string(), self.bundle.clone())]);
        bundles.extend(self.others.of(&matching, now).into_iter().filter_map(|other| other.roots()));
        View::Complete(X509BundlesResponse { bundles, crl: self.crls.messages() })
    }

    /// The same for tokens: a bundle holds its own kind of keys only (WA-09).
    pub(crate) fn jwt_bundles(&self, selectors: &[Selector], now: UnixTime) -> View<JwtBundlesResponse> {
        let matching = self.matching(selectors);
        if matching.is_empty() {
            return self.nothing();
        }
        let mut bundles = BTreeMap::from([(self.domain().id().to_string(), self.jwt_bundle.clone())]);
        bundles.extend(self.others.of(&matching, now).into_iter().filter_map(|other| other.tokens()));
        View::Complete(JwtBundlesResponse { bundles })
    }

    /// The entries that a caller may have tokens of, each with its hint.
    pub(crate) fn identities(&self, selectors: &[Selector]) -> View<Vec<(Arc<AgentEntry>, String)>> {
        self.entitled(selectors).then(|matching| {
            let hinted = hinted(&matching).into_iter();
            View::Complete(
                hinted.map(|(served, hint)| (Arc::clone(&served.entry), hint.to_owned())).collect(),
            )
        })
    }

    /// The entries that match, when there are any and no more than one workload may have.
    fn entitled(&self, selectors: &[Selector]) -> View<Vec<&Served>> {
        let matching = self.matching(selectors);
        match matching.len() {
            0 => self.nothing(),
            entries if entries > IDENTITIES => View::TooLarge { entries },
            _ => View::Complete(matching),
        }
    }

    /// For who matches nothing.
    fn nothing<M>(&self) -> View<M> {
        if self.is_known { View::Denied } else { View::Unavailable(UNHEARD.to_owned()) }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    pub(crate) fn matching(&self, selectors: &[Selector]) -> Vec<&Served> {
        let facts: HashSet<&Selector> = selectors.iter().collect();
        let matches = |entry: &AgentEntry| {
            !entry.selectors.is_empty() && entry.selectors.iter().all(|selector| facts.contains(selector))
        };
        self.served.iter().map(Arc::as_ref).filter(|served| matches(&served.entry)).collect()
    }

    fn messages(&self, matching: &[&Served], now: UnixTime) -> Vec<X509svid> {
        let valid = hinted(matching).into_iter().filter_map(|(served, hint)| {
            let resource = served.resource.as_ref().filter(|resource| resource.not_after > now)?;
            Some(resource.message(self.bundle.clone(), hint.to_owned()))
        });
        valid.collect()
    }
}

/// A hint belongs to the oldest entry that has it; the others lose it (WA-07).
fn hinted<'a>(matching: &[&'a Served]) -> Vec<(&'a Served, &'a str)> {
    let mut hints = HashSet::new();
    let mut give = |served: &'a Served| {
        let hint = served.entry.hint.as_str();
        if hint.is_empty() || (hint.len() <= HINT_BYTES && hints.insert(hint)) {
            return (served, hint);
        }
        tracing::warn!(
            entry = served.entry.id,
            "hint is too long or already used by an older entry; left out"
        );
        (served, "")
    };
    matching.iter().map(|served| give(served)).collect()
}

impl Served {
    /// What identities are ordered by (WA-12).
    pub(crate) fn order(&self) -> (UnixTime, &str) {
        (self.entry.created_at, &self.entry.id)
    }

    fn is_pending(&self) -> bool {
        self.resource.is_none() && self.problem.is_none()
    }
}

impl Resource {
    pub(crate) fn of(svid: &Arc<X509Svid>) -> Self {
        Self {
            spiffe_id: svid.id.to_string(),
            chain: svid.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect(),
            key: Bytes::from_owner(KeyOf(Arc::clone(svid))),
            not_after: svid.not_after,
            svid: Arc::clone(svid),
            secrets: OnceLock::new(),
        }
    }

    /// The SVID itself, while it holds.
    pub(crate) fn held(&self, now: UnixTime) -> Option<Arc<X509Svid>> {
        (self.not_after > now).then(|| Arc::clone(&self.svid))
    }

    fn secrets(&self, names: &SdsNames) -> &[Arc<Secret>; 2] {
        self.secrets.get_or_init(|| {
            [self.spiffe_id.as_str(), &names.certificate]
                .map(|name| Arc::new(Secret::certificate(name, &self.svid)))
        })
    }

    fn message(&self, bundle: Bytes, hint: String) -> X509svid {
        X509svid {
            spiffe_id: self.spiffe_id.clone(),
            x509_svid: self.chain.clone(),
            x509_svid_key: self.key.clone(),
            bundle,
            hint,
        }
    }
}

/// Lends the key's own zeroized memory, so that no further copy of it is kept.
struct KeyOf(Arc<X509Svid>);

impl AsRef<[u8]> for KeyOf {
    fn as_ref(&self) -> &[u8] {
        self.0.key.pkcs8()
    }
}

fn first_problem(matching: &[&Served]) -> String {
    let problem = matching.iter().find_map(|served| served.problem.as_deref());
    format!("no valid SVID is at hand: {}", problem.unwrap_or("the last one expired"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ca_identity::testing::{TestCa, now};

    use super::*;
    use crate::testing::{entry, own_selector};

    fn state(ca: &TestCa, problem: Option<&str>) -> State {
        let resource = Resource::of(&Arc::new(ca.svid("/a")));
        let served = Served {
            entry: Arc::new(entry("a", "/a", 1)),
            resource: Some(Arc::new(resource)),
            problem: problem.map(Arc::from),
        };
        State::new(vec![Arc::new(served)], &ca.bundle())
    }

    #[test]
    fn ag_04_an_expired_svid_is_not_served_even_while_it_is_held() {
        let ca = TestCa::new("example.org", now());
        let state = state(&ca, Some("down"));
        let hour = Duration::from_secs(3_600);

        assert!(matches!(
            state.x509(&[own_selector()], now() + hour - Duration::from_secs(1)),
            View::Complete(_)
        ));
        let View::Unavailable(reason) = state.x509(&[own_selector()], now() + hour) else { panic!("served") };
        assert_eq!(reason, "no valid SVID is at hand: down");
    }

    #[test]
    fn ag_05_the_bytes_of_an_svid_are_shared_not_copied() {
        let ca = TestCa::new("example.org", now());
        let state = state(&ca, None);
        let (View::Complete(first), View::Complete(second)) =
            (state.x509(&[own_selector()], now()), state.x509(&[own_selector()], now()))
        else {
            panic!("not complete")
        };
        let shared =
            |one: &X509svid| [one.x509_svid.as_ptr(), one.x509_svid_key.as_ptr(), one.bundle.as_ptr()];
        assert_eq!(shared(&first.svids[0]), shared(&second.svids[0]));
    }
}
