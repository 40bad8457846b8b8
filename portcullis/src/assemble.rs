//! From a configuration to running roles: what is made, in which order, and how it ends.
//!
//! The only place that knows all crates. It owns no logic: it hands values and channels from one to the next.
//! Order matters and is the order of `start`: state, ledger, authority, policies, own identity, agent, proxy, API.

mod activations;
pub(crate) mod configuration;
mod data_plane;
mod doubt;
pub(crate) mod entities;
mod gauges;
mod identity;
pub(crate) mod judge;
mod listeners;
mod open;
pub(crate) mod outside;
pub(crate) mod policies;
mod saves;
pub(crate) mod signals;
mod view;
mod vitals;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base_net::Drain;
use base_ports::{Clock, Disk, Rng, SystemClock, SystemDisk, SystemRng, Tasks};
use base_telemetry::{Health, Metrics};
use ca_authority::Authority;
use ca_identity::tls::Trust;
use ca_identity::{Bundle, BundleMap, IdentitySnapshot, SpiffeId, X509Svid};
use parking_lot::Mutex;
use policies_decisions::Ledger;
use policies_store::Follower;
use tokio::sync::watch;

use crate::admin::{Api, StatusFacts};
use crate::config::{Ca, Config};
use crate::messages::Message;
use configuration::Configuration;
use judge::Judge;
use policies::Policies;

/// Lane of the control runtime in the ledger; workers use 0, 1, 2, ..
const CONTROL_LANE: u16 = 1 << 14;
/// How long the start may wait for the first own identity and the listeners.
const START: Duration = Duration::from_secs(20);
/// How often rotation thresholds are looked at.
const SWEEP: Duration = Duration::from_secs(60);

/// Roles that run. Dropping it ends them at once; `drain` ends them well.
pub(crate) struct Running {
    tasks: Tasks,
    drain: Drain,
    proxy: Option<enforcer_proxy::Proxy>,
    ledger: Ledger,
    listeners: Vec<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
    health: Health,
    configuration: Arc<Configuration>,
    judge: Arc<Judge>,
    owner: u32,
    follower: Option<Arc<Follower>>,
}

impl Running {
    /// Where a listener of the data plane is bound.
    pub(crate) fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(known, _)| known == name).map(|(_, addr)| *addr)
    }

    /// Where health, metrics and docs are served.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Brings the configuration file into force, as a SIGHUP asks.
    pub(crate) async fn reload(&self) {
        self.configuration.reload_by_signal(&self.judge, self.owner).await;
    }

    /// Unready at once, then after `delay` no new connections, then up to `timeout` for running calls, then the
    /// records that are still on their way.
    pub(crate) async fn drain(self, delay: Duration, timeout: Duration) {
        self.health.condition("serving").set(false, "draining");
        base_net::notify::stopping();
        tokio::time::sleep(delay).await;
        if let Some(proxy) = self.proxy {
            proxy.drain(timeout).await;
        }
        self.drain.start();
        self.drain.finished(Duration::from_secs(2).min(timeout)).await;
        drop(self.tasks);
        if let Some(follower) = self.follower {
            follower.write_down().await;
        }
        let ledger = self.ledger;
        if tokio::task::spawn_blocking(move || ledger.close()).await.is_err() {
            tracing::error!(event = "ledger_close", "the ledger could not be closed");
        }
    }
}

/// Logs to stderr: for people on a terminal, JSON otherwise.
pub(crate) fn logs(filter: &str, json: bool) {
    use std::io::IsTerminal;
    let format = if json || !std::io::stderr().is_terminal() {
        base_telemetry::logs::Format::Json
    } else {
        base_telemetry::logs::Format::Human
    };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    base_telemetry::logs::init(format, &filter);
}

/// Starts the roles of `config` and returns when they serve.
///
/// # Errors
/// What could not start, with the next command to run. Nothing is left running then.
pub(crate) async fn start(config: Config) -> Result<Running, Message> {
    ca_identity::tls::install_provider();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let (tasks, health, metrics) = (Tasks::new("control"), Health::new(), Arc::new(Metrics::new()));
    let (drain, draining) = Drain::new();
    let conditions = Conditions::new(&health, &config);

    // State and ledger.
    let store = open::store(&config, &disk, &clock)?;
    let ledger = open::ledger(&config, &disk, &clock, &rng)?;
    conditions.ledger.set(true, "writable");

    // Authority and what belongs to it.
    let gate = identity::CedarGate::closed();
    let authority = match &config.ca {
        None => None,
        Some(ca) => {
            let ports = ca_authority::Ports {
                store: Arc::clone(&store),
                disk: Arc::clone(&disk),
                clock: Arc::clone(&clock),
                rng: Arc::clone(&rng),
                gate: Arc::clone(&gate) as Arc<dyn ca_authority::IssuanceGate>,
                events: Arc::new(identity::LedgerEvents {
                    ledger: ledger.clone(),
                    clock: Arc::clone(&clock),
                }),
            };
            Some(open::authority(&config, ca, ports).await?)
        }
    };

    // Policies: the shipped ones are in force even without [policies]. Everything there is to know about entities is told
    // before the first of them is in force, so that a start makes one snapshot at most.
    let mismatches: Arc<AtomicU64> = Arc::default();
    let entries = authority.as_ref().map(|authority| authority.watch_entries());
    let owner = owner(&config.data_dir);
    let saves = saves::CedarSaves::closed(owner, config.admin.is_two_person(owner));
    let machine = open::Machine { disk: &disk, clock: &clock, rng: &rng };
    let asked = Arc::clone(&saves) as Arc<dyn policies_store::Saves>;
    let policies = Policies::open(&config, &store, machine, &ledger, asked, &mismatches).await?;
    let snapshots = policies.subscribe();
    let judge = Judge::new(policies.judging(&tasks)?, ledger.lane(CONTROL_LANE), Arc::clone(&clock));
    saves.open(Arc::clone(&judge));
    let names = data_plane::names(&config, &clock);
    let parts = configuration::Parts {
        policies: policies.clone(),
        authority: authority.clone(),
        ledger: ledger.clone(),
        clock: Arc::clone(&clock),
        names: Arc::clone(&names),
    };
    let configuration = Configuration::new(config.clone(), parts, &metrics)?;
    configuration.tell().await;
    configuration.start(&tasks);
    gate.open(Arc::clone(&judge));
    if let (Some(authority), Some(entries)) = (&authority, entries) {
        follow_entries(&configuration, entries, &tasks);
        sweep(Arc::clone(authority), &tasks);
    }
    policies.start(&tasks, &metrics);

    let api_listeners = Arc::new(Mutex::new(Vec::new()));
    let mut running = Running {
        tasks,
        drain,
        proxy: None,
        ledger: ledger.clone(),
        listeners: Vec::new(),
        admin: None,
        health: health.clone(),
        configuration: Arc::clone(&configuration),
        judge: Arc::clone(&judge),
        owner,
        follower: policies.follower(),
    };

    // Agent and own identity.
    let mut trust = None;
    if let Some(authority) = &authority {
        let own = config
            .enforcer
            .as_ref()
            .map(|enforcer| enforcer.id.clone())
            .unwrap_or_else(|| authority.local_agent().clone());
        let names = config.enforcer.as_ref().map(|enforcer| enforcer.dns_names.clone()).unwrap_or_default();
        trust = Some(
            keep_identity(authority, &own, &names, &clock, &rng, &running.tasks, conditions.identity.clone())
                .await?,
        );
        if let Some(agent) = &config.agent {
            let changed = identity::changes(authority, &running.tasks);
            let upstream = identity::InProcess::new(Arc::clone(authority), changed);
            let service =
                ca_agent::Agent::start(upstream, Arc::clone(&clock), Arc::clone(&rng), &running.tasks);
            listeners::workload_api(agent, service, &running.tasks, &draining)?;
        }
    }

    if let Some((id, socket)) = workload_api(&config) {
        let (id, socket, condition) = (id.clone(), socket.to_owned(), conditions.identity.clone());
        trust = Some(identity::follow(id, socket, &clock, &running.tasks, condition));
    }

    // The API, before the proxy: who waits for readiness can ask.
    let api = Arc::new(Api {
        trust_domain: config.trust_domain.clone(),
        owner,
        users: config.admin.users.clone(),
        two_person: config.admin.is_two_person(owner),
        judge,
        ledger: ledger.clone(),
        authority: authority.clone(),
        store: policies.own(),
        repeats: open::repeats(&store, &clock)?,
        follower: running.follower.clone(),
        outside: outside::ask(&config, &snapshots, &ledger, trust.as_ref(), &clock)?,
        ext_authz: config.ext_authz,
        authzen: config.authzen.clone(),
        health: health.clone(),
        metrics: Arc::clone(&metrics),
        configuration: Arc::clone(&configuration),
        status: StatusFacts {
            trust: trust.clone(),
            listeners: Arc::clone(&api_listeners),
            workload_socket: config.agent.as_ref().map(|agent| format!("unix://{}", agent.socket.display())),
        },
        clock: Arc::clone(&clock),
    });
    listeners::local_api(&config.admin, &api, &running.tasks, &draining)?;
    for addr in &config.admin.listen {
        running.admin = Some(listeners::public_api(*addr, &api, &running.tasks, &draining)?);
    }
    if let (Some(Ca { listen: Some(addr), .. }), Some(trust)) = (&config.ca, &trust) {
        listeners::remote_api(*addr, trust, &api, &running.tasks, &draining)?;
    }

    // The data plane.
    if let (Some(enforcer), Some(trust)) = (&config.enforcer, &trust) {
        names.prepare(&configuration.plans().routes()).await;
        let proxy = data_plane::start(
            &config,
            enforcer,
            trust,
            &ledger,
            &metrics,
            &clock,
            &rng,
            view::publish(
                configuration.plans(),
                (snapshots, policies.silence()),
                &running.tasks,
                conditions.policy.clone(),
            ),
            mismatches,
            policies.own(),
            names,
            &running.tasks,
        )?;
        running.listeners =
            proxy.addresses().into_iter().map(|(name, addr)| (name.to_string(), addr)).collect();
        *api_listeners.lock() = proxy.urls();
        running.proxy = Some(proxy);
        conditions.listeners.set(true, format!("{} bound", api_listeners.lock().len()));
    }
    health.condition("serving").set(true, "");
    vitals::watch(ledger, conditions.ledger.clone(), health, &metrics, &running.tasks);
    base_net::notify::ready();
    tracing::info!(event = "started", trust_domain = config.trust_domain.as_str(), "portcullis runs");
    Ok(running)
}

/// What readiness waits for; a role that is not configured is no condition.
struct Conditions {
    identity: base_telemetry::Condition,
    policy: base_telemetry::Condition,
    listeners: base_telemetry::Condition,
    ledger: base_telemetry::Condition,
}

impl Conditions {
    fn new(health: &Health, config: &Config) -> Self {
        let idle = |runs: bool, name: &'static str| {
            let condition = health.condition(name);
            if !runs {
                condition.set(true, "not configured");
            }
            condition
        };
        Self {
            identity: idle(config.ca.is_some() || workload_api(config).is_some(), "identity"),
            policy: idle(config.enforcer.is_some(), "policy"),
            listeners: idle(config.enforcer.is_some(), "listeners"),
            ledger: health.condition("ledger"),
        }
    }
}

/// The identity of the enforcer and the Workload API that gives it, where this process does not make it.
fn workload_api(config: &Config) -> Option<(&SpiffeId, &Path)> {
    let enforcer = config.enforcer.as_ref()?;
    Some((&enforcer.id, enforcer.workload_api.as_deref()?))
}

/// Workloads with a namespace or labels become entities, as entries come and go.
fn follow_entries(configuration: &Arc<Configuration>, mut changed: watch::Receiver<u64>, tasks: &Tasks) {
    let configuration = Arc::clone(configuration);
    tasks.spawn("entities", async move {
        while changed.changed().await.is_ok() {
            configuration.tell().await;
        }
    });
}

fn sweep(authority: Arc<Authority>, tasks: &Tasks) {
    tasks.spawn("rotation", async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            if let Err(error) = authority.sweep_rotation().await {
                tracing::error!(event = "rotation_failed", error = %error, "rotation of the signing CA failed");
            }
        }
    });
}

/// Keeps the own SVID and the bundle in one published snapshot; returns once the first SVID is held.
async fn keep_identity(
    authority: &Arc<Authority>,
    id: &SpiffeId,
    dns_names: &[String],
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    tasks: &Tasks,
    condition: base_telemetry::Condition,
) -> Result<Arc<Trust>, Message> {
    let trust = Trust::new(Arc::clone(clock));
    let sign = identity::sign_own(authority, id, dns_names);
    let keeper = ca_agent::Keeper::start(
        id.clone(),
        dns_names.to_vec(),
        sign,
        |_| {},
        Arc::clone(clock),
        Arc::clone(rng),
        tasks,
    );
    let (mut own, mut bundle) = (keeper.watch(), authority.watch_bundle());
    let first = async { own.wait_for(Option::is_some).await.is_ok() };
    if !tokio::time::timeout(START, first).await.unwrap_or(false) {
        return Err(Message::error("PC1001", format!("`{id}` got no SVID within {} s", START.as_secs()))
            .next("portcullis run --log-json"));
    }
    let publish = {
        let trust = Arc::clone(&trust);
        move |own: Option<Arc<X509Svid>>, bundle: &Arc<Bundle>| {
            match &own {
                Some(own) => condition.set(true, format!("{} until {}", own.id, own.not_after)),
                None => condition.set(false, "own SVID expired"),
            }
            let bundles = BundleMap::of(Arc::clone(bundle));
            if let Err(error) =
                trust.publish(IdentitySnapshot { own, bundles, ..IdentitySnapshot::default() })
            {
                tracing::error!(event = "identity_not_published", error = %error, "the identity cannot be used");
            }
        }
    };
    publish(own.borrow_and_update().clone(), &bundle.borrow_and_update());
    tasks.spawn("identity", async move {
        let _keeper = keeper;
        loop {
            let alive = tokio::select! {
                moved = own.changed() => moved.is_ok(),
                moved = bundle.changed() => moved.is_ok(),
            };
            if !alive {
                return;
            }
            publish(own.borrow_and_update().clone(), &bundle.borrow_and_update());
        }
    });
    Ok(trust)
}

/// Who owns the data directory; root when it cannot be told.
fn owner(dir: &Path) -> u32 {
    std::fs::metadata(dir).map_or(0, |about| about.uid())
}
