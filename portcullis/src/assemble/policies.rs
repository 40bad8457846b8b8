//! Where the policies of this process come from: its own store, another process of this host that it follows, or the authority
//! that it joined. All publish snapshots through the same kind of channel, so nothing behind them knows the difference.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base_ports::Tasks;
use base_store::Store;
use base_telemetry::Metrics;
use policies_decisions::Ledger;
use policies_engine::{
    Diagnostic, EntitySet, Freshness, Numbers, Patience, SchemaText, Snapshot, SnapshotInput,
};
use policies_store::{AdminSocket, FollowConfig, Follower, PolicyStore, Saves, Verifier, Way};
use tokio::sync::watch;

use super::join::{Fleet, ToAuthority};
use super::open;
use crate::config::Config;
use crate::messages::Message;

/// Snapshot files of a follower, below the data directory.
pub(super) const FILES: &str = "policies";

/// Who makes snapshots.
#[derive(Debug, Clone)]
pub(crate) enum Policies {
    Own(Arc<PolicyStore>),
    Followed(Arc<Follower>),
}

impl Policies {
    pub(super) async fn open(
        config: &Config,
        store: &Arc<dyn Store>,
        machine: open::Machine<'_>,
        ledger: &Ledger,
        saves: Arc<dyn Saves>,
        (fleet, mismatches): (Option<&Fleet>, &Arc<AtomicU64>),
    ) -> Result<Self, Message> {
        let Some(followed) = Followed::of(config, fleet)? else {
            return open::policies(config, store, machine, ledger, saves).await.map(Self::Own);
        };
        let open::Machine { disk, clock, rng } = machine;
        let settings = FollowConfig {
            way: followed.way,
            name: name(config),
            signers: followed.signers,
            dir: config.data_dir.join(FILES),
            bootstrap: followed.bootstrap,
            patience: followed.patience,
            disk: Arc::clone(disk),
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
            mismatches: Arc::clone(mismatches),
        };
        let follower = Follower::open(settings).await.map_err(|error| {
            Message::error("PC6001", format!("snapshot files: {error}")).next("portcullis check")
        })?;
        Ok(Self::Followed(follower))
    }

    pub(super) fn start(&self, tasks: &Tasks, metrics: &Metrics) {
        match self {
            Self::Own(store) => store.start(tasks),
            Self::Followed(follower) => {
                follower.start(tasks);
                gauge(follower.freshness(), metrics, tasks);
            }
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        match self {
            Self::Own(store) => store.subscribe(),
            Self::Followed(follower) => follower.subscribe(),
        }
    }

    /// What our own APIs and the issuance of identities are judged by: the snapshot in force, and until a publisher's
    /// first one has come, the shipped policies (SETTLED S15). No call of the data plane is judged by these.
    pub(super) fn judging(&self, tasks: &Tasks) -> Result<watch::Receiver<Option<Arc<Snapshot>>>, Message> {
        let mut followed = self.subscribe();
        if matches!(self, Self::Own(_)) || followed.borrow_and_update().is_some() {
            return Ok(followed);
        }
        let shipped =
            shipped().map_err(|found| Message::error("PC9001", format!("shipped policies: {found}")))?;
        let (publish, judging) = watch::channel(Some(shipped));
        tasks.spawn("judging", async move {
            while followed.changed().await.is_ok() {
                let snapshot = followed.borrow_and_update().clone();
                if snapshot.is_some() {
                    publish.send_replace(snapshot);
                }
            }
        });
        Ok(judging)
    }

    /// How long their publisher has been silent; none for the own store, which is always current.
    pub(super) fn silence(&self) -> Option<watch::Receiver<Duration>> {
        match self {
            Self::Own(_) => None,
            Self::Followed(follower) => Some(follower.silence()),
        }
    }

    /// Tells entities and the digest of the routes they go with. Nothing is in force before the first time.
    pub(super) async fn tell(&self, told: EntitySet, routes: [u8; 32]) {
        match self {
            Self::Own(store) => store.set_entities(told, routes).await,
            Self::Followed(follower) => follower.set_entities(told, routes).await,
        }
    }

    /// The same, all or nothing.
    ///
    /// # Errors
    /// Why they cannot come into force; those before them stay.
    pub(super) async fn change(&self, told: EntitySet, routes: [u8; 32]) -> Result<(), Vec<Diagnostic>> {
        match self {
            Self::Own(store) => store.change_entities(told, routes).await,
            Self::Followed(follower) => follower.change_entities(told, routes).await,
        }
    }

    pub(super) fn own(&self) -> Option<Arc<PolicyStore>> {
        match self {
            Self::Own(store) => Some(Arc::clone(store)),
            Self::Followed(_) => None,
        }
    }

    pub(super) fn follower(&self) -> Option<Arc<Follower>> {
        match self {
            Self::Own(_) => None,
            Self::Followed(follower) => Some(Arc::clone(follower)),
        }
    }
}

/// The shipped policies alone, without a number: what is in force where nothing else is.
pub(crate) fn shipped() -> Result<Arc<Snapshot>, String> {
    let input = SnapshotInput {
        numbers: Numbers::default(),
        schema: SchemaText::default(),
        policies: policies_engine::baseline(),
        entities: Arc::default(),
        routes_digest: [0; 32],
    };
    let first = |found: Vec<Diagnostic>| found.first().map(ToString::to_string).unwrap_or_default();
    Snapshot::compile(input).map(Arc::new).map_err(first)
}

/// Whose policies are in force here, and who is believed to have signed them.
struct Followed {
    way: Arc<dyn Way>,
    signers: Vec<Verifier>,
    bootstrap: Option<PathBuf>,
    patience: Patience,
}

impl Followed {
    /// None where the policies are those of the own store.
    fn of(config: &Config, fleet: Option<&Fleet>) -> Result<Option<Self>, Message> {
        if let Some(Fleet { join, trust, pins }) = fleet {
            let way = Arc::new(ToAuthority::new(join, &config.trust_domain, trust)?);
            let (signers, patience) = (pins.keys(), Patience::default());
            return Ok(Some(Self { way, signers, bootstrap: None, patience }));
        }
        let follow = config.policies.as_ref().and_then(|policies| policies.follow.as_ref());
        Ok(follow.map(|follow| Self {
            way: Arc::new(AdminSocket(follow.socket.clone())),
            signers: vec![follow.signer.clone()],
            bootstrap: follow.bootstrap.clone(),
            patience: follow.patience,
        }))
    }
}

/// What the publisher's `status` calls this process, beside the identity that its connection proves.
fn name(config: &Config) -> String {
    match &config.enforcer {
        Some(enforcer) => enforcer.id.as_str().to_owned(),
        None if config.join.is_some() => {
            format!("agent on {}", rustix::system::uname().nodename().to_string_lossy())
        }
        None => config.data_dir.display().to_string(),
    }
}

/// 0 fresh, 1 stale, 2 expired: calls are denied.
fn gauge(mut freshness: watch::Receiver<Freshness>, metrics: &Metrics, tasks: &Tasks) {
    let help = "Whether the publisher of policies was heard lately: 0 yes, 1 no, 2 so long ago that calls are denied";
    let stale = metrics.gauge("portcullis_policy_stale", help, &[]).with(&[]);
    tasks.spawn("policy stale gauge", async move {
        loop {
            stale.set(match *freshness.borrow_and_update() {
                Freshness::Fresh => 0,
                Freshness::Stale => 1,
                Freshness::Expired => 2,
            });
            if freshness.changed().await.is_err() {
                return;
            }
        }
    });
}
