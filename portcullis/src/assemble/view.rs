//! The view of the data plane: policies and routes that agree, published together; and its settings.

use std::sync::Arc;
use std::time::Duration;

use base_net::{Caps, Timers};
use base_ports::{Rng, Tasks};
use base_telemetry::Condition;
use ca_identity::tls::{ClientAuth, NamedCertificate};
use enforcer_codec::Profile;
use enforcer_proxy::{Callers, ListenerSpec, ProxyConfig, View, ViewHandle};
use enforcer_traffic::{RateSettings, RouteSpec, Routes, hosts_meet};
use policies_engine::{Freshness, Mode, Patience, Snapshot};
use tokio::sync::watch;

use super::certificate;
use super::cores;
use super::entities;
use super::issuers::Issuers;
use super::numbers::Numbers;
use crate::config::{Config, Enforcer, Listener};
use crate::messages::Message;

/// How long the publication of a view may take.
const PUBLISHED: Duration = Duration::from_secs(5);

/// Snapshots as they come into force, and how long their publisher has been silent.
pub(super) type Subscribed = (watch::Receiver<Option<Arc<Snapshot>>>, Option<watch::Receiver<Duration>>);

/// What the data plane takes from a configuration while it runs: routes, and mode and rate of each listener.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    /// By which a snapshot names the routes it belongs to (MO9).
    pub(super) digest: [u8; 32],
    routes: Arc<Routes>,
    modes: Arc<[Mode]>,
    rates: Arc<[Option<RateSettings>]>,
    patience: Patience,
}

impl Traffic {
    /// What was `before` still holds for listeners that are gone, whose connections may not be.
    pub(super) fn of(config: &Config, numbers: &Numbers, before: Option<&Self>) -> Result<Self, Message> {
        let routes = entities::routes(config)?;
        let mut modes = before.map(|before| before.modes.to_vec()).unwrap_or_default();
        let mut rates = before.map(|before| before.rates.to_vec()).unwrap_or_default();
        if let Some(enforcer) = &config.enforcer {
            for listener in &enforcer.listeners {
                let number = numbers.of(&listener.name);
                let mode = mode(listener.observe.unwrap_or(enforcer.observe));
                modes.resize(modes.len().max(number + 1), Mode::Enforce);
                rates.resize(rates.len().max(number + 1), None);
                modes.get_mut(number).into_iter().for_each(|known| *known = mode);
                rates.get_mut(number).into_iter().for_each(|known| known.clone_from(&listener.rate));
            }
        }
        Ok(Self {
            digest: entities::digest(config.enforcer.as_ref()),
            routes: Arc::new(routes),
            modes: modes.into(),
            rates: rates.into(),
            patience: config
                .policies
                .as_ref()
                .and_then(|policies| policies.follow.as_ref())
                .map(|follow| follow.patience)
                .unwrap_or_default(),
        })
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The last limit that a silence of that length has passed; zero before the first.
    fn passed(&self, silence: Duration) -> Duration {
        let own = self.routes.routes().iter();
        let own = own.flat_map(|route| self.patience.or_own(route.stale_after, route.deny_after).limits());
        let passed = own.chain(self.patience.limits()).filter(|limit| *limit <= silence);
        passed.max().unwrap_or_default()
    }
}

/// The traffic in force, and beside it what a reload is about to bring or has replaced. A view takes the one that its snapshot names, so
/// policies, entities and routes change at once or not at all.
#[derive(Debug)]
pub(super) struct Plans {
    standing: watch::Sender<Standing>,
    /// The digest in the view that was published last; none before the first.
    published: watch::Sender<Option<[u8; 32]>>,
}

#[derive(Debug)]
struct Standing {
    in_force: Traffic,
    other: Option<Traffic>,
}

impl Plans {
    pub(super) fn new(in_force: Traffic) -> Arc<Self> {
        let standing = watch::Sender::new(Standing { in_force, other: None });
        Arc::new(Self { standing, published: watch::Sender::new(None) })
    }

    pub(super) fn in_force(&self) -> Traffic {
        self.standing.borrow().in_force.clone()
    }

    /// The routes in force.
    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.standing.borrow().in_force.routes)
    }

    /// From now on a snapshot may name it.
    pub(super) fn offer(&self, traffic: Traffic) {
        self.standing.send_modify(|standing| standing.other = Some(traffic));
    }

    /// What was offered is not to come.
    pub(super) fn withdraw(&self) {
        self.standing.send_modify(|standing| standing.other = None);
    }

    /// What was offered is in force; returns once every new call finds it, or nobody publishes views.
    pub(super) async fn settle(&self) {
        self.standing.send_modify(|standing| {
            if let Some(other) = &mut standing.other {
                std::mem::swap(&mut standing.in_force, other);
            }
        });
        let digest = self.standing.borrow().in_force.digest;
        let mut published = self.published.subscribe();
        let seen = published.wait_for(|seen| seen.is_none_or(|seen| seen == digest));
        if tokio::time::timeout(PUBLISHED, seen).await.is_err() {
            tracing::error!(event = "view_not_published", "routes are in force and no view has them yet");
        }
    }
}

/// Publishes a view for every snapshot, to a data plane that is to be or one that runs already; the condition says whether calls can be judged.
pub(super) fn publish(
    plans: &Arc<Plans>,
    policies: Subscribed,
    tasks: &Tasks,
    condition: Condition,
    running: Option<Arc<ViewHandle>>,
) -> Arc<ViewHandle> {
    let plans = Arc::clone(plans);
    let standing = plans.standing.subscribe();
    let seen = (Duration::ZERO, standing.borrow().in_force.clone());
    let mut source = Source { policies, standing, condition, seen };
    let (view, digest) = source.view();
    let handle = match running {
        Some(handle) => {
            handle.publish(view.after(&handle.current()));
            handle
        }
        None => Arc::new(ViewHandle::new(view)),
    };
    plans.published.send_replace(Some(digest));
    let views = Arc::clone(&handle);
    tasks.spawn("view", async move {
        while source.changed().await {
            let (view, digest) = source.view();
            let before = views.current();
            if !is_same(&before, &view) {
                views.publish(view.after(&before));
            }
            plans.published.send_replace(Some(digest));
        }
    });
    handle
}

/// Nothing to publish: what settles a reload changes no view.
fn is_same(old: &View, new: &View) -> bool {
    let policies = match (&old.policy, &new.policy) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        (None, None) => true,
        _ => false,
    };
    policies
        && old.silence == new.silence
        && Arc::ptr_eq(&old.routes, &new.routes)
        && Arc::ptr_eq(&old.modes, &new.modes)
        && Arc::ptr_eq(&old.rates, &new.rates)
}

/// What a view is made of.
struct Source {
    policies: Subscribed,
    standing: watch::Receiver<Standing>,
    condition: Condition,
    /// The limit of silence in the view before, and what that was made of.
    seen: (Duration, Traffic),
}

impl Source {
    /// The view of now, with the digest of its routes; what it is made of counts as seen.
    fn view(&mut self) -> (View, [u8; 32]) {
        let (snapshots, silence) = &mut self.policies;
        // INVARIANT: the snapshot is read before what stands, where what it names was put before it came.
        let snapshot = snapshots.borrow_and_update().clone();
        let standing = self.standing.borrow_and_update();
        let named = snapshot.as_ref().map(|snapshot| snapshot.versions().routes);
        let traffic = match &standing.other {
            Some(other) if named == Some(other.digest) => other.clone(),
            _ => standing.in_force.clone(),
        };
        drop(standing);
        let silence = silence.as_mut().map(|told| *told.borrow_and_update()).unwrap_or_default();
        let silence = traffic.passed(silence);
        tell(&self.condition, snapshot.as_ref(), traffic.patience.after(silence));
        let view = View::new(snapshot, Arc::clone(&traffic.routes))
            .in_modes(Arc::clone(&traffic.modes))
            .at_rates(Arc::clone(&traffic.rates))
            .after_silence(silence, traffic.patience);
        let digest = traffic.digest;
        self.seen = (silence, traffic);
        (view, digest)
    }

    /// Waits until something is not seen; false when nothing can come any more.
    async fn changed(&mut self) -> bool {
        let (snapshots, silence) = &mut self.policies;
        let (passed, traffic) = &self.seen;
        let told = async {
            match silence {
                Some(silence) => silence.wait_for(|now| traffic.passed(*now) != *passed).await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            moved = snapshots.changed() => moved.is_ok(),
            moved = self.standing.changed() => moved.is_ok(),
            moved = told => moved,
        }
    }
}

fn tell(condition: &Condition, snapshot: Option<&Arc<Snapshot>>, freshness: Freshness) {
    match snapshot {
        Some(_) if freshness == Freshness::Expired => {
            condition
                .set(false, "the publisher of policies was not heard for longer than policies.deny_after");
        }
        Some(snapshot) => {
            let numbers = snapshot.versions().numbers;
            tracing::info!(
                event = "policies_in_force",
                version = numbers.policies,
                snapshot = numbers.snapshot,
                "policies are in force"
            );
            condition.set(true, format!("policies v{} (snapshot {})", numbers.policies, numbers.snapshot));
        }
        None => condition.set(false, "no valid policies yet; portcullis policy validate shows why"),
    }
}

/// The settings of the data plane.
///
/// # Errors
/// A certificate that cannot be shown.
pub(super) fn settings(
    config: &Config,
    enforcer: &Enforcer,
    (numbers, issuers): (&Numbers, &Issuers),
    rng: &dyn Rng,
) -> Result<ProxyConfig, Message> {
    let mut shown = Vec::with_capacity(enforcer.listeners.len());
    for listener in &enforcer.listeners {
        let certificates = certificates(listener)?;
        is_apart(enforcer, listener, &certificates)?;
        shown.push(certificates);
    }
    Ok(ProxyConfig {
        workers: if enforcer.workers == 0 { cores::usable() } else { enforcer.workers },
        handshakes: enforcer.max_handshakes,
        longest_delay: enforcer.max_delay,
        mark: format!("{:016x}", rng.u64()).into(),
        quic_reset_key: None,
        reveal_decision_id: config.decisions.reveal_decision_id.parse().unwrap_or_default(),
        listeners: enforcer
            .listeners
            .iter()
            .zip(shown)
            .map(|(listener, certificates)| ListenerSpec {
                name: listener.name.as_str().into(),
                number: numbers.of(&listener.name),
                is_sidecar: listener.is_sidecar,
                binds: listener.bind.clone(),
                quic: listener.quic.clone(),
                sockets: listener.sockets.clone(),
                certificates,
                carries: listener.carries,
                forwarders: listener.forwarders.clone(),
                callers: listener
                    .callers
                    .clone()
                    .map(|uids| Arc::new(Callers { id: enforcer.id.clone(), uids })),
                client_auth: match listener.client_auth.as_str() {
                    "optional" => ClientAuth::Optional,
                    "none" => ClientAuth::None,
                    _ => ClientAuth::Required,
                },
                audience: listener.audience.clone(),
                issuers: issuers.of(&enforcer.issuers, &listener.issuers),
                hosts: listener.hosts.clone(),
                timers: Timers {
                    handshake: listener.handshake_timeout,
                    header: listener.header_timeout,
                    idle: listener.idle_timeout,
                    max_age: listener.max_age,
                },
                caps: Caps {
                    connections: listener.max_connections,
                    per_source: listener.max_connections_per_source,
                    per_identity: listener.max_connections_per_identity,
                },
                handshakes_per_source: listener.max_handshakes_per_source,
                max_body: listener.max_body,
                max_held: listener.max_held,
                tells_shed: listener.tells_shed,
                profile: if listener.is_edge { Profile::Edge } else { Profile::Mesh },
            })
            .collect(),
    })
}

/// The certificates of a listener, from their files.
fn certificates(listener: &Listener) -> Result<Vec<Arc<NamedCertificate>>, Message> {
    let files = listener.certificates.iter();
    files.map(|(chain, key)| certificate::read(&listener.name, chain, key)).collect()
}

/// No certificate is shown for a name whose TLS passes through (LT-16).
fn is_apart(
    enforcer: &Enforcer,
    listener: &Listener,
    shown: &[Arc<NamedCertificate>],
) -> Result<(), Message> {
    let is_its_own = |route: &&RouteSpec| route.listener.as_ref() == Some(&listener.name);
    for name in enforcer.routes.iter().filter(is_its_own).flat_map(|route| &route.passes) {
        let mut known = shown.iter().flat_map(|certificate| certificate.names());
        if let Some(known) = known.find(|known| hosts_meet(name, known)) {
            let text =
                format!("`{name}` passes through `{}`, which has a certificate for `{known}`", listener.name);
            return Err(Message::error("PC0104", text)
                .help("a server name either passes through a listener or is served by it"));
        }
    }
    Ok(())
}

fn mode(observe: bool) -> Mode {
    if observe { Mode::Observe } else { Mode::Enforce }
}
