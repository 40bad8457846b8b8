//! From a configuration to running roles: what is made, in which order, and how it ends.
//!
//! The only place that knows all crates. It owns no logic: it hands values and channels from one to the next.
//! Order matters and is the order of `start`: state, ledger, authority, policies, own identity, agent, proxy, API.

mod activation;
mod activations;
mod application;
mod aside;
mod certificate;
mod cgroup;
mod collector;
pub(crate) mod configuration;
mod cores;
mod counts;
mod crls;
mod data_plane;
mod decision_logs;
mod doubt;
mod ends;
pub(crate) mod entities;
mod federation;
mod fetch;
mod gauges;
mod identity;
mod issuers;
mod join;
mod journal;
pub(crate) mod judge;
mod listeners;
mod log_key;
pub(crate) mod log_level;
mod numbers;
mod once;
pub(crate) mod open;
pub(crate) mod outside;
mod own;
mod people_key;
pub(crate) mod policies;
mod process;
mod push;
mod running;
mod saved;
mod saves;
pub(crate) mod signals;
mod spans;
mod trails;
pub(crate) mod upgrade;
mod view;
mod vitals;
mod vouch;
mod web_roots;

pub(crate) use join::{Shipped, Shipping, fingerprint};
pub(crate) use process::{DataPlane, Process};
pub(crate) use running::Running;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base_net::Drain;
use base_ports::{Clock, Disk, Rng, SystemClock, SystemDisk, SystemNet, SystemRng, Tasks};
use base_telemetry::Health;
use ca_authority::{AUTHORITY_PATH, Authority};
use ca_identity::SpiffeId;
use ca_identity::tls::Trust;
use tokio::sync::watch;

use crate::admin::{Api, Ingests, StatusFacts};
use crate::config::{Ca, Config};
use crate::messages::Message;
use configuration::Configuration;
use judge::Judge;
use log_level::LogLevel;
use policies::Policies;

/// Lane of the control runtime in the ledger; workers use 0, 1, 2, ..
const CONTROL_LANE: u16 = 1 << 14;
/// How often rotation thresholds are looked at.
const SWEEP: Duration = Duration::from_secs(60);

/// Logs to stderr: for people on a terminal, JSON otherwise.
pub(crate) fn logs(filter: &str, json: bool) -> LogLevel {
    use std::io::IsTerminal;
    let format = if json || !std::io::stderr().is_terminal() {
        base_telemetry::logs::Format::Json
    } else {
        base_telemetry::logs::Format::Human
    };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let control = base_telemetry::logs::init(format, &filter);
    LogLevel::new(&filter, log_level::LASTS, move |filter| control.set_filter(filter))
}

/// Starts the roles of `config` around the data plane of the process, when that runs already, and returns when they serve;
/// a new data plane takes nothing in before it is told to.
///
/// # Errors
/// What could not start, with the next command to run. Nothing is left running then but what ran before.
pub(crate) async fn start(
    config: Config,
    process: &Process,
    plane: &mut Option<DataPlane>,
) -> Result<Running, Message> {
    ca_identity::tls::install_provider();
    activation::check(&config, process)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let (tasks, health, metrics) =
        (Tasks::new("control"), process.health.clone(), Arc::clone(&process.metrics));
    let (drain, draining) = Drain::new();
    let conditions = Conditions::new(&health, &config);

    // State and ledger.
    let (embedded, store) = open::store(&config, &disk, &clock)?;
    let store: Arc<dyn base_store::Store> = journal::Timed::new(store, Arc::clone(&clock), &metrics);
    let kept = match plane {
        Some(plane) => Arc::clone(&plane.trust),
        None => Trust::new(Arc::clone(&clock)),
    };
    let ledger = open::ledger(&config, &disk, &clock, &rng, &kept, &metrics)?;
    conditions.ledger.set(true, "writable");
    let collector = config.decisions.collector.as_ref();
    let logs = collector.map(|collector| decision_logs::start(collector, &ledger, &metrics)).transpose()?;

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
                    counts: counts::Counts::new(&metrics),
                }),
                fetch: Arc::new(fetch::Fetcher::new(ca.web_roots.clone(), ca.fetch_from.clone(), &clock)),
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
    let fleet = join::Fleet::open(&config, &kept, &clock, &disk)?;
    let sources = (fleet.as_ref(), &mismatches);
    let policies = Policies::open(&config, &store, machine, &ledger, asked, sources).await?;
    let snapshots = policies.subscribe();
    let judge = Judge::new(policies.judging(&tasks)?, ledger.patient_lane(CONTROL_LANE), Arc::clone(&clock));
    saves.open(Arc::clone(&judge));
    let names = match plane {
        Some(plane) => Arc::clone(&plane.names),
        None => data_plane::names(&config, &clock),
    };
    let parts = configuration::Parts {
        policies: policies.clone(),
        authority: authority.clone(),
        ledger: ledger.clone(),
        clock: Arc::clone(&clock),
        names: Arc::clone(&names),
        rng: Arc::clone(&rng),
        process: process.clone(),
    };
    let configuration = Configuration::new(config.clone(), parts, &metrics)?;
    configuration.tell().await;
    configuration.start(&tasks);
    saved::follow(&configuration, &judge, owner, &tasks);
    gate.open(Arc::clone(&judge));
    if let (Some(authority), Some(entries)) = (&authority, entries) {
        follow_entries(&configuration, entries, &tasks);
        sweep(Arc::clone(authority), &tasks);
        crls::keep(Arc::clone(authority), &tasks);
        ends::watch(Arc::clone(authority), Arc::clone(&kept), &metrics, &tasks);
        federation::start(authority, &metrics, &tasks);
    }
    if fleet.is_none() {
        policies.start(&tasks, &metrics);
    }

    let mut running = Running {
        process: process.clone(),
        tasks,
        drain,
        plane: None,
        store: embedded,
        ledger: ledger.clone(),
        logs,
        admin: None,
        configuration: Arc::clone(&configuration),
        judge: Arc::clone(&judge),
        owner,
        follower: policies.follower(),
        policies: snapshots.clone(),
        identity: Arc::clone(&kept),
    };

    let apis = listeners::Apis {
        sockets: Arc::clone(&process.sockets),
        tasks: running.tasks.clone(),
        drain: draining,
    };

    // Agent and own identity.
    let (mut trust, mut served, mut shipping) = (None, None, None);
    if let Some(authority) = &authority {
        let own = match &config.enforcer {
            Some(enforcer) => enforcer.id.clone(),
            None => SpiffeId::new(&config.trust_domain, AUTHORITY_PATH)
                .map_err(|error| Message::error("PC9001", error.to_string()))?,
        };
        let names = config.enforcer.as_ref().map(|enforcer| enforcer.dns_names.clone()).unwrap_or_default();
        let (ports, condition) = ((&clock, &rng, &running.tasks), conditions.identity.clone());
        own::keep(&kept, authority, ("gateway", &own, &names), ports, (condition, metrics.as_ref())).await?;
        trust = Some(Arc::clone(&kept));
        if let Some(agent) = &config.agent {
            let changed = identity::changes(authority, &running.tasks);
            let upstream = identity::InProcess::new(Arc::clone(authority), changed);
            let service =
                ca_agent::Agent::start(upstream, Arc::clone(&clock), Arc::clone(&rng), &running.tasks);
            apis.workload(agent, Arc::clone(&service))?;
            served = Some(service);
        }
    }

    if let (Some(fleet), Some(agent)) = (&fleet, &config.agent) {
        let ground = join::Ground { disk: &disk, clock: &clock, rng: &rng, tasks: &running.tasks };
        let told = (&health, conditions.identity.clone());
        let records = (&ledger, metrics.as_ref());
        let (service, ships) = join::start(&config, fleet, &kept, told, records, ground).await?;
        shipping = ships;
        trust = Some(Arc::clone(&kept));
        // Who follows shows the SVID that the agent has by now.
        if let Some(follower) = &running.follower {
            fleet.pins.lead(follower, &clock, &running.tasks).await;
        }
        policies.start(&running.tasks, &metrics);
        apis.workload(agent, Arc::clone(&service))?;
        served = Some(service);
    }

    if let Some((id, socket)) = workload_api(&config) {
        let (id, socket, condition) = (id.clone(), socket.to_owned(), conditions.identity.clone());
        own::follow(&kept, id, socket, &running.tasks, condition);
        trust = Some(Arc::clone(&kept));
    }

    // The API, before the proxy: who waits for readiness can ask.
    let api = Arc::new(Api {
        trust_domain: config.trust_domain.clone(),
        owner,
        users: config.admin.users.clone(),
        two_person: config.admin.is_two_person(owner),
        judge,
        ledger: ledger.clone(),
        reads: config.decisions.reads,
        authority: authority.clone(),
        store: policies.own(),
        repeats: open::repeats(&store, &clock)?,
        follower: running.follower.clone(),
        ingests: Ingests::default(),
        shipping,
        outside: outside::ask(&config, &snapshots, &ledger, trust.as_ref(), &clock)?,
        ext_authz: config.ext_authz,
        authzen: config.authzen.clone(),
        health: health.clone(),
        metrics: Arc::clone(&metrics),
        configuration: Arc::clone(&configuration),
        status: StatusFacts {
            trust: trust.clone(),
            upgrades: Arc::clone(&process.upgrades),
            workload_socket: config.agent.as_ref().map(|agent| format!("unix://{}", agent.socket.display())),
        },
        process: process.clone(),
        clock: Arc::clone(&clock),
    });
    apis.local(&config.admin, &api)?;
    for addr in &config.admin.listen {
        running.admin = Some(apis.public(*addr, &api)?);
    }
    if let (Some(Ca { listen: Some(addr), .. }), Some(authority)) = (&config.ca, &authority) {
        let names = config.enforcer.as_ref().map(|enforcer| enforcer.dns_names.clone()).unwrap_or_default();
        // Agents know the authority by this id, which no entry can grant.
        let id = SpiffeId::new(&config.trust_domain, AUTHORITY_PATH)
            .map_err(|error| Message::error("PC9001", error.to_string()))?;
        let (ports, shown) = ((&clock, &rng, &running.tasks), Trust::new(Arc::clone(&clock)));
        let condition = health.condition("authority");
        own::keep(&shown, authority, ("authority", &id, &names), ports, (condition, metrics.as_ref()))
            .await?;
        apis.remote(*addr, &shown, &api)?;
    }

    if let (Some(bundle), Some(authority)) =
        (config.ca.as_ref().and_then(|ca| ca.bundle.as_ref()), &authority)
    {
        apis.bundle(bundle, authority, (&kept, &clock))?;
    }
    if let (Some(oidc), Some(authority)) = (&config.oidc, &authority) {
        apis.oidc(oidc, authority, &kept)?;
    }

    // The data plane.
    if let (Some(enforcer), Some(trust)) = (&config.enforcer, &trust) {
        names.prepare(&configuration.plans().routes()).await;
        let view = view::publish(
            configuration.plans(),
            (snapshots, policies.silence()),
            &running.tasks,
            conditions.policy.clone(),
            plane.as_ref().map(|plane| Arc::clone(&plane.view)),
        );
        let served = data_plane::start(
            &config,
            enforcer,
            (view, trust, names),
            &ledger,
            (&clock, &rng),
            (mismatches, policies.own()),
            process,
            &running.tasks,
            plane,
        )?;
        issuers::keep(&process.issuers, &clock, &running.tasks).await;
        process.serves(&served);
        application::watch(&configuration, Arc::new(SystemNet), health.clone(), &running.tasks);
        running.plane = Some(served);
    }
    activation::finish(process)?;
    health.condition("serving").set(true, "");
    aside::adopt(&config, &ledger, &running.tasks);
    vitals::watch(ledger, served, conditions.ledger.clone(), health, &metrics, &running.tasks);
    if let Some(pushed) = &config.admin.pushed {
        push::start(pushed, &metrics, &clock, &running.tasks)?;
    }
    Ok(running)
}

/// What readiness waits for; a role that is not configured is no condition.
struct Conditions {
    identity: base_telemetry::Condition,
    policy: base_telemetry::Condition,
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
            identity: idle(
                config.ca.is_some() || config.join.is_some() || workload_api(config).is_some(),
                "identity",
            ),
            policy: idle(config.enforcer.is_some(), "policy"),
            ledger: {
                idle(config.enforcer.is_some(), process::LISTENERS);
                health.condition("ledger")
            },
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

/// Who owns the data directory; root when it cannot be told.
fn owner(dir: &Path) -> u32 {
    std::fs::metadata(dir).map_or(0, |about| about.uid())
}
