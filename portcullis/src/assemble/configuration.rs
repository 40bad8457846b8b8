//! The configuration in force, and the way from it to another (CF9, RD-01): read, checked and compiled beside it, then
//! in force at once, or not at all. What a running process cannot change is named, and then nothing changes.
//!
//! Entities of the configuration and of the registration entries are told from here, one after another, so that no two
//! ever mix.

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Mono, Now, Rng, Tasks};
use base_telemetry::{Counter, Metrics};
use ca_authority::Authority;
use enforcer_proxy::{Names, NextListeners, Proxy};
use parking_lot::Mutex;
use policies_decisions::Ledger;
use policies_engine::{
    AdminAction, AdministrationRecord, EntitySet, OwnedFacts, Phase, Principal, Record, Resource, Role,
};

use super::judge::{Judge, Question};
use super::policies::Policies;
use super::process::Process;
use super::view::{self, Plans, Traffic};
use super::{activation, data_plane, entities};
use crate::config::{self, Changes, Config};
use crate::messages::Message;

/// How often it is looked at whether what a reload took away is not needed any more.
const LOOK: Duration = Duration::from_secs(10);

/// What there is to configure while the process runs.
pub(crate) struct Configuration {
    state: Mutex<State>,
    /// Held by whoever changes something.
    turn: tokio::sync::Mutex<()>,
    plans: Arc<Plans>,
    parts: Parts,
    reloads: [Counter; 3],
}

/// Who is told, and where it is noted.
pub(super) struct Parts {
    pub(super) policies: Policies,
    pub(super) authority: Option<Arc<Authority>>,
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) names: Arc<Names>,
    pub(super) rng: Arc<dyn Rng>,
    pub(super) process: Process,
}

struct State {
    in_force: Arc<Config>,
    /// What reloads took away and calls may still run on, judged by what is known of it, each until when.
    gone: Gone,
    last: Option<Attempt>,
}

type Gone = Vec<(Mono, EntitySet)>;

/// The last reload.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) at: Now,
    /// `applied`, `unchanged` or `failed`.
    pub(crate) result: &'static str,
    pub(crate) faults: Vec<Message>,
}

/// What a reload did.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// Digest of what is in force now.
    pub(crate) digest: String,
    /// The keys that changed.
    pub(crate) changed: Vec<String>,
    pub(crate) warnings: Vec<Message>,
}

/// The file, as it is now.
#[derive(Debug)]
pub(crate) struct OnDisk {
    /// None when it is not valid.
    pub(crate) digest: Option<String>,
    pub(crate) faults: Vec<Message>,
    /// How it differs from what is in force.
    pub(crate) changes: Changes,
}

impl Configuration {
    pub(super) fn new(config: Config, parts: Parts, metrics: &Metrics) -> Result<Arc<Self>, Message> {
        let plans = Plans::new(Traffic::of(&config, &parts.process.numbers, None)?);
        let reloads =
            metrics.counter("portcullis_config_reloads", "Reloads of the configuration", &["result"]);
        let reloads = ["applied", "unchanged", "failed"].map(|result| reloads.with(&[result]));
        let state = Mutex::new(State { in_force: Arc::new(config), gone: Gone::default(), last: None });
        Ok(Arc::new(Self { state, turn: tokio::sync::Mutex::default(), plans, parts, reloads }))
    }

    /// From now on what was taken away is forgotten in time.
    pub(super) fn start(self: &Arc<Self>, tasks: &Tasks) {
        let configuration = Arc::clone(self);
        tasks.spawn("configuration", async move {
            loop {
                tokio::time::sleep(LOOK).await;
                configuration.forget().await;
            }
        });
    }

    pub(super) fn plans(&self) -> &Arc<Plans> {
        &self.plans
    }

    pub(crate) fn in_force(&self) -> Arc<Config> {
        Arc::clone(&self.state.lock().in_force)
    }

    pub(crate) fn last(&self) -> Option<Attempt> {
        self.state.lock().last.clone()
    }

    /// Looks at the file; changes nothing.
    pub(crate) async fn on_disk(&self) -> OnDisk {
        let in_force = self.in_force();
        match read(&in_force).await {
            Ok(next) => OnDisk {
                digest: Some(next.config.digest()),
                faults: Vec::new(),
                changes: config::changes(&in_force.values, &next.config.values),
            },
            Err(faults) => OnDisk { digest: None, faults, changes: Changes::default() },
        }
    }

    /// Tells the policies all entities once more, as entries came or went.
    pub(super) async fn tell(&self) {
        let _turn = self.turn.lock().await;
        self.tell_all().await;
    }

    /// Brings the file into force for `by`.
    ///
    /// # Errors
    /// What is wrong with it; then everything is as it was.
    pub(crate) async fn reload(&self, by: &Principal) -> Result<Reloaded, Vec<Message>> {
        let _turn = self.turn.lock().await;
        base_net::notify::reloading();
        let reloaded = self.attempt().await;
        base_net::notify::ready();
        self.note(by, &reloaded);
        reloaded
    }

    /// The same for whoever may send a signal to this process, or write its file. The kernel lets root and the user of the
    /// process; whether `owner` may is asked of the policies in force, as for every other change. `way` is one or the other.
    pub(super) async fn reload_unasked(&self, judge: &Judge, owner: u32, way: &str) {
        let by = Principal::local_user(owner, None, &[Role::Operator]);
        let verdict = judge.decide(&Question {
            principal: by.clone(),
            action: AdminAction::ConfigWrite,
            resource: Resource::system(),
            context: None,
            phase: Phase::Admin,
            facts: Some(OwnedFacts::local(way)),
        });
        let (allow, decision) = (verdict.allow, verdict.id.to_string());
        if verdict.recorded().await.is_err() || !allow {
            tracing::error!(
                event = "config_reload_refused",
                code = "PC0120",
                decision,
                way,
                "a reload is not permitted"
            );
            return;
        }
        // What is wrong with the file is told by `note`.
        self.reload(&by).await.map(drop).unwrap_or_default();
    }

    async fn attempt(&self) -> Result<Reloaded, Vec<Message>> {
        let now = self.in_force();
        let loaded = read(&now).await?;
        let (next, warnings) = (loaded.config, loaded.warnings);
        let Changes { mut live, restart } = config::changes(&now.values, &next.values);
        if !restart.is_empty() {
            return Err(vec![needs_restart(&restart)]);
        }
        let process = &self.parts.process;
        let traffic = Traffic::of(&next, &process.numbers, Some(&self.plans.in_force()));
        let traffic = traffic.map_err(|fault| vec![fault])?;
        let (digest, next) = (next.digest(), Arc::new(next));
        let listeners = self.listeners(&next).await.map_err(|fault| vec![fault])?;
        if traffic.digest != entities::digest(now.enforcer.as_ref()) {
            let mut gone = self.state.lock().gone.clone();
            let departed = entities::departed(&now, &next);
            if departed != EntitySet::default() {
                gone.push((self.parts.clock.mono() + process.grace, departed));
            }
            let (told, routes) = (self.entities(&next, &gone), traffic.digest);
            self.parts.names.prepare(traffic.routes()).await;
            self.plans.offer(traffic);
            if let Err(found) = self.parts.policies.change(told, routes).await {
                self.plans.withdraw();
                return Err(found.iter().map(Message::from).collect());
            }
            self.plans.settle().await;
            self.state.lock().gone = gone;
        }
        self.parts.ledger.set_keep(next.decisions.keep);
        self.state.lock().in_force = next;
        let renewed = match listeners {
            Some((proxy, next)) => proxy.renew(next, process.grace).await,
            None => Vec::new(),
        };
        process.tell_listeners();
        // The file may say the same of other certificates.
        for listener in renewed.iter().map(|name| format!("enforcer.listener[{name}]")) {
            if !live.iter().any(|key| key.starts_with(&listener)) {
                live.push(format!("{listener}.certificate"));
            }
        }
        Ok(Reloaded { digest, changed: live, warnings })
    }

    /// Where new connections are to come in and how they are to be served, with the certificates as their files hold them
    /// now; what is to be bound for it is bound then. None without a data plane.
    async fn listeners(&self, next: &Arc<Config>) -> Result<Option<(Arc<Proxy>, NextListeners)>, Message> {
        let process = &self.parts.process;
        let Some(proxy) = process.served() else { return Ok(None) };
        activation::check(next, process)?;
        let (next, rng) = (Arc::clone(next), Arc::clone(&self.parts.rng));
        let (numbers, issuers) = (Arc::clone(&process.numbers), Arc::clone(&process.issuers));
        let read = move || match &next.enforcer {
            Some(enforcer) => view::settings(&next, enforcer, (&numbers, &issuers), &*rng)
                .map(|settings| settings.listeners),
            None => Ok(Vec::new()),
        };
        let read = tokio::task::spawn_blocking(read).await;
        let specs = read.unwrap_or_else(|error| Err(Message::error("PC9001", error.to_string())))?;
        let bound = proxy.bind(specs).map_err(|error| data_plane::refusal(&error))?;
        Ok(Some((proxy, bound)))
    }

    async fn forget(&self) {
        let now = self.parts.clock.mono();
        let is_over = |(until, _): &(Mono, EntitySet)| *until <= now;
        if !self.state.lock().gone.iter().any(is_over) {
            return;
        }
        let _turn = self.turn.lock().await;
        self.state.lock().gone.retain(|gone| !is_over(gone));
        self.tell_all().await;
    }

    async fn tell_all(&self) {
        let (in_force, gone) = {
            let state = self.state.lock();
            (Arc::clone(&state.in_force), state.gone.clone())
        };
        let told = self.entities(&in_force, &gone);
        self.parts.policies.tell(told, entities::digest(in_force.enforcer.as_ref())).await;
    }

    fn entities(&self, config: &Config, gone: &Gone) -> EntitySet {
        let entries =
            self.parts.authority.as_ref().map(|authority| authority.entries_for(authority.local_agent()));
        let mut told = entities::of(config, entries.as_deref().unwrap_or_default());
        // The youngest knows best what became of a name.
        gone.iter().rev().for_each(|(_, gone)| entities::keep(&mut told, gone));
        told
    }

    /// Log, metric, status and ledger say the same.
    fn note(&self, by: &Principal, reloaded: &Result<Reloaded, Vec<Message>>) {
        let at = self.parts.clock.now();
        let [applied, unchanged, failed] = &self.reloads;
        let (counter, result, details, faults) = match reloaded {
            Ok(reloaded) => {
                let is_new = !reloaded.changed.is_empty();
                let (counter, result) = if is_new { (applied, "applied") } else { (unchanged, "unchanged") };
                let changed = reloaded.changed.join(", ");
                tracing::info!(
                    event = "config_reloaded",
                    result,
                    changed,
                    digest = reloaded.digest,
                    "reloaded"
                );
                (counter, result, [("digest", reloaded.digest.clone()), ("changed", changed)], Vec::new())
            }
            Err(faults) => {
                let told: Vec<_> = faults.iter().map(Message::in_one_line).collect();
                let text = told.join("; ");
                tracing::error!(
                    event = "config_reload_failed",
                    code = "PC0120",
                    "the configuration in force stays: {text}"
                );
                let digest = self.in_force().digest();
                (failed, "failed", [("digest", digest), ("faults", text)], faults.clone())
            }
        };
        counter.inc();
        self.state.lock().last = Some(Attempt { at, result, faults });
        let details = details.into_iter().filter(|(_, value)| !value.is_empty());
        let result = [("result".to_owned(), result.to_owned())];
        let record = AdministrationRecord {
            operation: "config.reload".to_owned(),
            principal: Some(by.clone()),
            details: result
                .into_iter()
                .chain(details.map(|(name, value)| (name.to_owned(), value)))
                .collect(),
            time: at,
        };
        if let Err(error) = self.parts.ledger.append(Record::Administration(record)) {
            tracing::error!(event = "administration_not_recorded", %error, "a reload is not on record");
        }
    }
}

async fn read(in_force: &Config) -> Result<config::Loaded, Vec<Message>> {
    let path = in_force.source.clone();
    let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
    read.unwrap_or_else(|error| Err(vec![Message::error("PC9001", format!("it could not be read: {error}"))]))
}

/// Nothing of the file is in force then: the keys that could be changed may belong together with those that cannot.
fn needs_restart(keys: &[String]) -> Message {
    let verb = if let [_] = keys { "needs" } else { "need" };
    Message::error("PC0121", format!("{} {verb} a restart; nothing was changed", keys.join(", ")))
        .help(
            "portcullis config explain KEY says what a reload changes: listeners, services, clusters, routes, decisions.keep",
        )
        .next("restart portcullis run")
}

impl std::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configuration").finish_non_exhaustive()
    }
}
