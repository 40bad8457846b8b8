//! The identity of the gateway in a process that joined: the SVID that an entry of the authority grants to this very process,
//! from the agent beside it, with the bundles and the deny set of that agent's copy.
//!
//! Kept in a file together with the deny set: a restart while the authority is away goes on with both, until the SVID ends
//! (RV-08). Nothing is shown that has ended, is denied, or that the authority says no entry grants.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Tasks, UnixTime};
use base_telemetry::Condition;
use ca_agent::kept::{Kept, KeptFile};
use ca_agent::{Agent, Entitled, OwnIdentity, Upstream};
use ca_identity::tls::Trust;
use ca_identity::{Bundle, IdentitySnapshot, MARK, RevocationSet, Serial, SpiffeId, TrustDomain, X509Svid};

use super::super::own::trusted;
use crate::messages::Message;

/// So often it is looked whether the SVID still holds.
const LOOK: Duration = Duration::from_secs(1);

/// What is followed, and where it is put in force.
pub(super) struct Gateway {
    id: SpiffeId,
    trust: Arc<Trust>,
    upstream: Arc<dyn Upstream>,
    own: OwnIdentity,
    file: KeptFile,
    kept: Option<Kept>,
    condition: Condition,
    shown: Option<Shown>,
    /// When what is shown ends.
    ends: Option<UnixTime>,
}

/// By what two publications are known to be the same.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    serial: Option<Serial>,
    bundles: Vec<(TrustDomain, u64, Option<UnixTime>)>,
    denied: [u8; MARK],
    why: String,
}

/// What the last process kept, while its SVID holds; a file that cannot be used is told, and is as good as none.
pub(super) fn kept(file: &KeptFile, now: UnixTime) -> Option<Kept> {
    let read = file.load().unwrap_or_else(|error| {
        tracing::error!(event = "gateway_svid_unusable", %error, "this gateway waits for its authority");
        None
    });
    read.filter(|kept| kept.svid.is_valid_at(now))
}

impl Gateway {
    pub(super) fn new(
        (id, trust): (&SpiffeId, &Arc<Trust>),
        agent: &Arc<Agent>,
        upstream: Arc<dyn Upstream>,
        (file, kept): (KeptFile, Option<Kept>),
        condition: Condition,
    ) -> Result<Self, Message> {
        let own = agent.own_identity(id.clone()).map_err(|error| {
            Message::error("PC1001", format!("this process cannot be attested: {error}"))
                .next("portcullis check")
        })?;
        let (id, trust) = (id.clone(), Arc::clone(trust));
        Ok(Self { id, trust, upstream, own, file, kept, condition, shown: None, ends: None })
    }

    /// Keeps the identity in force until `tasks` end; what is known already is in force when this returns.
    pub(super) async fn start(mut self, tasks: &Tasks) {
        self.publish().await;
        tasks.spawn("gateway identity", async move {
            let mut changed = self.upstream.changed();
            loop {
                // Every arm is cancellation safe: two watches, a sleep.
                let alive = tokio::select! {
                    alive = self.own.changed() => alive,
                    moved = changed.changed() => moved.is_ok(),
                    () = tokio::time::sleep(LOOK) => {
                        let now = self.trust.now();
                        if self.ends.is_none_or(|end| now < end) {
                            continue;
                        }
                        true
                    }
                };
                if !alive {
                    return;
                }
                self.publish().await;
            }
        });
    }

    async fn publish(&mut self) {
        let entitled = self.own.look().await;
        let is_known = self.upstream.is_known();
        let denied = match (&self.kept, is_known) {
            (Some(kept), false) => kept.denied.clone(),
            _ => self.upstream.revoked(),
        };
        let kept = self.kept.as_ref().map(|kept| Arc::clone(&kept.svid));
        let (own, why) = match entitled {
            Entitled::Svid(svid) => (Some(svid), String::new()),
            Entitled::Waiting(why) => (kept, why),
            Entitled::Unheard => (kept, "the authority was not heard since the start".to_owned()),
            Entitled::Nothing => {
                (None, format!("the authority has no entry that grants {} to this process", self.id))
            }
        };
        let now = self.trust.now();
        let holds =
            |own: &Arc<X509Svid>| own.is_valid_at(now) && denied.check_path(&own.id, &own.path).is_ok();
        let own = own.filter(holds);
        self.keep(own.as_ref(), &denied, is_known);
        let (bundle, federated) = (self.upstream.bundle(), self.upstream.federated());
        let told = |bundle: &Arc<Bundle>| (bundle.trust_domain.clone(), bundle.sequence, bundle.stale_after);
        let shown = Shown {
            serial: own.as_ref().map(|own| own.serial.clone()),
            bundles: std::iter::once(&bundle).chain(&federated).map(told).collect(),
            denied: denied.digest(),
            why,
        };
        if self.shown.as_ref() == Some(&shown) {
            return;
        }
        match &own {
            Some(own) if shown.why.is_empty() => {
                self.condition.set(true, format!("{} until {}", own.id, own.not_after));
            }
            Some(own) => {
                self.condition.set(true, format!("{} until {}; {}", own.id, own.not_after, shown.why));
            }
            None => self.condition.set(false, format!("{}{}", shown.why, self.advice())),
        }
        self.ends = own.as_ref().map(|own| own.not_after);
        let bundles = trusted(bundle, federated);
        let snapshot = IdentitySnapshot { own, bundles, revoked: denied, ..IdentitySnapshot::default() };
        match self.trust.publish(snapshot) {
            Ok(_) => self.shown = Some(shown),
            Err(error) => {
                tracing::error!(event = "identity_not_published", %error, "the identity cannot be used");
            }
        }
    }

    /// Writes down what a restart without the authority goes on with.
    fn keep(&mut self, own: Option<&Arc<X509Svid>>, denied: &RevocationSet, is_known: bool) {
        let Some(own) = own.filter(|_| is_known) else { return };
        let is_same = self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.svid.serial == own.serial && kept.denied.digest() == denied.digest());
        if is_same {
            return;
        }
        let kept = Kept { svid: Arc::clone(own), denied: denied.clone() };
        if let Err(error) = self.file.save(&kept) {
            tracing::error!(event = "gateway_svid_unwritten", %error, "a restart will wait for the authority");
        }
        self.kept = Some(kept);
    }

    fn advice(&self) -> String {
        let user = rustix::process::getuid().as_raw();
        format!(
            "; at the authority: portcullis entry create --id {} --selector unix:uid:{user} --dns-name NAME",
            self.id
        )
    }
}
