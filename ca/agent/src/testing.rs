//! A made-up authority for the tests of this crate: signs what it is told to, can be told to fail, counts.

use std::{sync::Arc, time::Duration};

use base_ports::{Clock, ManualClock, SeededRng, UnixTime, task::Tasks};
use ca_identity::{
    Bundle, CertificateDer, JwtClaims, JwtSigner, PrivateKey, RevocationSet, Revoked, Selector, SpiffeId,
    TrustDomain, csr,
};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm,
};
use tokio::sync::watch;

use crate::{
    agent::Agent,
    attest::Caller,
    upstream::{AgentEntry, SignedChain, SignedToken, Upstream, UpstreamError},
};

/// 2026-11-25 12:00:00 UTC.
pub(crate) fn noon() -> UnixTime {
    UnixTime::from_secs(1_795_608_000)
}

pub(crate) fn own_selector() -> Selector {
    Selector::parse(&format!("unix:uid:{}", rustix::process::getuid().as_raw())).unwrap()
}

/// The process that runs the test, as a caller.
pub(crate) fn own_caller() -> Caller {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Caller::pin(uid, gid, Some(std::process::id().cast_signed()))
}

/// An entry for the process that runs the test.
pub(crate) fn entry(id: &str, path: &str, age: i64) -> AgentEntry {
    AgentEntry {
        id: id.to_owned(),
        spiffe_id: SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap(),
        selectors: vec![own_selector()],
        dns_names: Vec::new(),
        federates_with: Vec::new(),
        hint: String::new(),
        created_at: noon() - Duration::from_secs(u64::try_from(age).unwrap()),
    }
}

#[derive(Debug)]
pub(crate) struct FakeAuthority {
    clock: Arc<ManualClock>,
    tokens: JwtSigner,
    state: Mutex<FakeState>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct FakeState {
    issuer: Issuer<'static, KeyPair>,
    /// Of the root that is in the bundle but signs nothing yet.
    next_issuer: Option<Issuer<'static, KeyPair>>,
    entries: Vec<AgentEntry>,
    bundle: Arc<Bundle>,
    others: Vec<Arc<Bundle>>,
    revoked: RevocationSet,
    crls: Vec<Arc<[u8]>>,
    acknowledged: u64,
    ttl: Duration,
    /// Sign for this identity, whatever the entry says.
    other_id: Option<SpiffeId>,
    failure: Option<String>,
    silent: bool,
    signed: usize,
}

impl FakeAuthority {
    pub(crate) fn start(entries: Vec<AgentEntry>) -> Arc<Self> {
        let (root, issuer) = root();
        let tokens = JwtSigner::new(&PrivateKey::generate_p256().unwrap()).unwrap();
        let bundle = bundle_of(vec![root], &tokens);
        let state = FakeState {
            issuer,
            next_issuer: None,
            entries,
            bundle,
            others: Vec::new(),
            revoked: RevocationSet::default(),
            crls: Vec::new(),
            acknowledged: 0,
            ttl: Duration::from_secs(3_600),
            other_id: None,
            failure: None,
            silent: false,
            signed: 0,
        };
        Arc::new(Self {
            clock: Arc::new(ManualClock::new(noon())),
            tokens,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        })
    }

    /// An agent that follows it and looks at its clock every 10 ms.
    pub(crate) fn agent(self: &Arc<Self>, tasks: &Tasks) -> Arc<Agent> {
        let upstream = Arc::clone(self) as Arc<dyn Upstream>;
        Agent::start_with(
            upstream,
            self.clock(),
            Arc::new(SeededRng::new(1)),
            tasks,
            Duration::from_millis(10),
        )
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn set_entries(&self, entries: Vec<AgentEntry>) {
        self.state.lock().entries = entries;
        self.tell();
    }

    pub(crate) fn federate(&self, others: Vec<Arc<Bundle>>) {
        self.state.lock().others = others;
        self.tell();
    }

    pub(crate) fn revoke(&self, what: &Revoked) {
        self.state.lock().revoked.deny(what);
        self.tell();
    }

    pub(crate) fn list(&self, crls: &[&[u8]]) {
        self.state.lock().crls = crls.iter().map(|list| Arc::from(*list)).collect();
        self.tell();
    }

    pub(crate) fn add_root(&self) {
        let mut state = self.state.lock();
        let mut roots: Vec<CertificateDer<'static>> = state.bundle.certificates().cloned().collect();
        let (root, issuer) = root();
        roots.push(root);
        state.bundle = bundle_of(roots, &self.tokens);
        state.next_issuer = Some(issuer);
        drop(state);
        self.tell();
    }

    /// The last root that was added signs from now on.
    pub(crate) fn sign_under_the_new_root(&self) {
        let mut state = self.state.lock();
        state.issuer = state.next_issuer.take().unwrap();
    }

    pub(crate) fn add_token_key(&self) {
        let mut state = self.state.lock();
        let next = JwtSigner::new(&PrivateKey::generate_p256().unwrap()).unwrap();
        let keys = vec![self.tokens.public().clone(), next.public().clone()];
        state.bundle = Arc::new(Bundle::clone(&state.bundle).with_jwt_keys(keys).unwrap());
        drop(state);
        self.tell();
    }

    pub(crate) fn lose_roots(&self) {
        self.state.lock().bundle = bundle_of(Vec::new(), &self.tokens);
        self.tell();
    }

    pub(crate) fn fail(&self, reason: Option<&str>) {
        self.state.lock().failure = reason.map(str::to_owned);
    }

    pub(crate) fn keep_silent(&self) {
        self.state.lock().silent = true;
    }

    pub(crate) fn sign_as(&self, path: &str) {
        self.state.lock().other_id = Some(SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap());
    }

    pub(crate) fn set_ttl(&self, seconds: u64) {
        self.state.lock().ttl = Duration::from_secs(seconds);
    }

    pub(crate) fn signed(&self) -> usize {
        self.state.lock().signed
    }

    /// A token of `/web` for `orders`, signed with the key that the bundle holds.
    pub(crate) fn web_token(&self) -> String {
        self.token_for(&SpiffeId::parse("spiffe://example.org/web").unwrap(), &["orders".to_owned()]).token
    }

    fn token_for(&self, id: &SpiffeId, audience: &[String]) -> SignedToken {
        let issued = self.clock.now().wall;
        let claims = JwtClaims {
            id,
            audience,
            issued,
            expires: issued + Duration::from_secs(300),
            issuer: None,
            jti: None,
        };
        SignedToken { token: self.tokens.sign(&claims).unwrap(), issued }
    }

    fn tell(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    /// Signs for an identity, as the authority would after all its checks.
    pub(crate) fn sign_for(&self, id: &SpiffeId, request: &[u8]) -> Result<SignedChain, UpstreamError> {
        let key = csr::parse(request).unwrap();
        let mut state = self.state.lock();
        if let Some(reason) = &state.failure {
            return Err(UpstreamError::Unavailable { reason: reason.clone() });
        }
        state.signed += 1;
        let id = state.other_id.as_ref().unwrap_or(id);
        let now = self.clock.now().wall;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        params.serial_number = Some(vec![1, u8::try_from(state.signed % 256).unwrap()].into());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(now - Duration::from_secs(60));
        params.not_after = date(now + state.ttl);
        let subject = P256(key.spki().to_vec());
        let leaf = params.signed_by(&subject, &state.issuer).unwrap();
        Ok(SignedChain { chain: vec![leaf.into()] })
    }
}

impl Upstream for FakeAuthority {
    fn entries(&self) -> Vec<AgentEntry> {
        self.state.lock().entries.clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.state.lock().bundle)
    }

    fn federated(&self) -> Vec<Arc<Bundle>> {
        self.state.lock().others.clone()
    }

    fn revoked(&self) -> RevocationSet {
        self.state.lock().revoked.clone()
    }

    fn tainted(&self) -> RevocationSet {
        RevocationSet::default()
    }

    fn crls(&self) -> Vec<Arc<[u8]>> {
        self.state.lock().crls.clone()
    }

    fn acknowledge(&self, sequence: u64) {
        self.state.lock().acknowledged = sequence;
    }

    fn sign(&self, entry_id: &str, csr: Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>> {
        if self.state.lock().silent {
            return Box::pin(std::future::pending());
        }
        let entry = self.entries().into_iter().find(|entry| entry.id == entry_id);
        let answer = match entry {
            Some(entry) => self.sign_for(&entry.spiffe_id, &csr),
            None => Err(UpstreamError::Refused { reason: format!("no entry `{entry_id}`") }),
        };
        Box::pin(std::future::ready(answer))
    }

    fn sign_token(
        &self,
        entry_id: &str,
        audience: Vec<String>,
    ) -> BoxFuture<'static, Result<SignedToken, UpstreamError>> {
        let entry = self.entries().into_iter().find(|entry| entry.id == entry_id);
        let mut state = self.state.lock();
        let answer = match (&state.failure, entry) {
            (Some(reason), _) => Err(UpstreamError::Unavailable { reason: reason.clone() }),
            (None, Some(entry)) if !audience.iter().any(|name| name == "forbidden") => {
                state.signed += 1;
                Ok(self.token_for(state.other_id.as_ref().unwrap_or(&entry.spiffe_id), &audience))
            }
            (None, _) => Err(UpstreamError::Refused { reason: "policy refused the issuance".to_owned() }),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// A P-256 SubjectPublicKeyInfo; the point is its last 65 bytes.
struct P256(Vec<u8>);

impl PublicKeyData for P256 {
    fn der_bytes(&self) -> &[u8] {
        self.0.last_chunk::<65>().unwrap()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn root() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI("spiffe://example.org".try_into().unwrap())];
    params.not_before = date(noon() - Duration::from_secs(86_400));
    params.not_after = date(noon() + Duration::from_secs(86_400 * 365));
    params.serial_number = Some(vec![1].into());
    let root = params.self_signed(&key).unwrap();
    (root.into(), Issuer::new(params, key))
}

fn bundle_of(roots: Vec<CertificateDer<'static>>, tokens: &JwtSigner) -> Arc<Bundle> {
    let sequence = u64::try_from(roots.len()).unwrap();
    let bundle = Bundle::new(TrustDomain::parse("example.org").unwrap(), roots, sequence).unwrap();
    Arc::new(bundle.with_jwt_keys(vec![tokens.public().clone()]).unwrap())
}

fn date(time: UnixTime) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(time.as_secs()).unwrap()
}
