//! This process as an agent of an authority on another host: it becomes one, stays one, and follows what it has to know.
//!
//! `assemble` starts it in place of an authority of its own. What it knows is kept while the authority is away, and served
//! until it ends (AG-04); then it comes back by itself. A gateway beside it has its identity from here (`gateway`), and whose
//! policies are believed (`pins`). Refused at the start, with what a person has to do: an authority
//! that is another one, and a host that is no agent and has no usable token.

mod enter;
mod follow;
mod gateway;
mod line;
mod pins;
mod ship;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Disk, Rng, Tasks, UnixTime};
use base_telemetry::{Condition, Health, Metrics};
use ca_agent::kept::KeptFile;
use ca_agent::own::{Own, OwnFile};
use ca_agent::replica::{Receiver, Replica, SyncError};
use ca_agent::rotate::{renew_at, retry_after, spread};
use ca_agent::{Agent, UpstreamError, enrol};
use ca_identity::tls::Trust;
use ca_identity::{Bundle, IdentitySnapshot, TrustDomain};
use parking_lot::Mutex;
use policies_decisions::Ledger;

use super::own::trusted;
use crate::config::{Config, Join};
use crate::messages::Message;
use enter::Barred;
use gateway::Gateway;
use line::{Line, LineError};
use upstream::Elsewhere;

pub(crate) use enter::fingerprint;
pub(super) use pins::{Pins, ToAuthority};
pub(crate) use ship::{Shipped, Shipping};

/// So often it is looked what is due, whatever the wall clock does.
const TICK: Duration = Duration::from_secs(1);
/// The shortest time between two renewals.
const BETWEEN: Duration = Duration::from_secs(30);
/// How long the start waits for the first word of the authority.
const FIRST: Duration = Duration::from_secs(10);

/// What this machine gives.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) rng: &'a Arc<dyn Rng>,
    pub(super) tasks: &'a Tasks,
}

/// What an agent elsewhere is, for the rest of its process.
pub(super) struct Fleet {
    pub(super) join: Box<Join>,
    /// What it shows its authority, and whom it believes; never the identity of a gateway beside it.
    pub(super) trust: Arc<Trust>,
    pub(super) pins: Arc<Pins>,
}

impl Fleet {
    /// None where the process joins nobody; `own` is the identity of the process towards its peers.
    ///
    /// # Errors
    /// What the last process knew cannot be read.
    pub(super) fn open(
        config: &Config,
        own: &Arc<Trust>,
        clock: &Arc<dyn Clock>,
        disk: &Arc<dyn Disk>,
    ) -> Result<Option<Self>, Message> {
        let Some(join) = config.join.clone() else { return Ok(None) };
        let dir = config.data_dir.join(super::policies::FILES);
        let pins = Pins::open((&dir, &config.trust_domain), &join, disk)?;
        let trust = match &config.enforcer {
            Some(_) => Trust::new(Arc::clone(clock)),
            None => Arc::clone(own),
        };
        Ok(Some(Self { join, trust, pins }))
    }
}

/// Starts the agent, and beside it identity and shipping of the gateway, where there is one; `own` is the identity of the process
/// towards its peers, and `condition` says how it stands.
///
/// # Errors
/// What a person has to do before this host can be an agent.
pub(super) async fn start(
    config: &Config,
    fleet: &Fleet,
    own: &Arc<Trust>,
    (health, condition): (&Health, Condition),
    (ledger, metrics): (&Ledger, &Metrics),
    ground: Ground<'_>,
) -> Result<(Arc<Agent>, Option<Arc<Shipping>>), Message> {
    let Some(enforcer) = &config.enforcer else {
        return Ok((enrolled(config, fleet, false, condition, ground).await?.0, None));
    };
    let file =
        KeptFile::open(&config.data_dir, &enforcer.id, Arc::clone(ground.disk), Arc::clone(ground.rng));
    let file = file.map_err(|error| {
        Message::error("PC6001", format!("SVID of the gateway: {error}")).next("portcullis check")
    })?;
    let (kept, tasks) = (gateway::kept(&file, ground.clock.now().wall), ground.tasks);
    let (agent, upstream) =
        enrolled(config, fleet, kept.is_some(), health.condition("agent"), ground).await?;
    let gateway = Gateway::new((&enforcer.id, own), &agent, upstream, (file, kept), condition)?;
    gateway.start(tasks).await;
    let shipping = ship::start(config, &fleet.join, own, ledger, (ground, metrics))?;
    Ok((agent, Some(shipping)))
}

/// Becomes an agent, or goes on being one. An authority that is away is waited for in the background; where something can be
/// served without it, by an SVID that is `kept`, the start does not wait for its first word.
///
/// # Errors
/// What a person has to do before this host can be an agent.
async fn enrolled(
    config: &Config,
    Fleet { join, trust, pins }: &Fleet,
    is_kept: bool,
    condition: Condition,
    Ground { disk, clock, rng, tasks }: Ground<'_>,
) -> Result<(Arc<Agent>, Arc<dyn ca_agent::Upstream>), Message> {
    let domain = config.trust_domain.clone();
    let unusable = |error: &dyn std::fmt::Display| {
        Message::error("PC6001", format!("own SVID of this agent: {error}")).next("portcullis check")
    };
    let file = OwnFile::open(&config.data_dir, &domain, Arc::clone(disk), Arc::clone(rng));
    let file = file.map_err(|error| unusable(&error))?;
    let own = file.load().map_err(|error| unusable(&error))?;
    let line = Line::new(join, &domain, trust).map_err(|error| unusable(&error))?;
    let line = Arc::new(line);
    let bundle = match &own {
        Some(own) => own.bundle().to_owned(),
        None => Bundle::new(domain.clone(), Vec::new(), 0).map_err(|error| unusable(&error))?.to_jwks(),
    };
    let newest = own.as_ref().and_then(Own::newest);
    let due = newest.map(|svid| renew_at(svid.not_before, svid.not_after, rng.u64()));
    let copy = Replica::new(&domain, &bundle).map_err(|error| unusable(&error))?;
    let receiver = Receiver::new(domain.clone(), copy);
    let elsewhere = Elsewhere::new(Arc::clone(&line), receiver.current());
    let upstream = Arc::clone(&elsewhere) as Arc<dyn ca_agent::Upstream>;
    let agent = Agent::start(Arc::clone(&upstream), Arc::clone(clock), Arc::clone(rng), tasks);
    let mut member = Member {
        join: join.as_ref().clone(),
        pins: Arc::clone(pins),
        is_kept,
        domain,
        file,
        own,
        lost: None,
        due,
        line,
        receiver,
        elsewhere,
        agent: Arc::clone(&agent),
        trust: Arc::clone(trust),
        condition,
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
        failures: 0,
        told: String::new(),
        is_barred: false,
    };
    match member.enter().await {
        Ok(()) => {}
        Err(Barred::Later(cause)) => member.tell(&Barred::Later(cause)),
        Err(Barred::Person(message)) => return Err(message),
    }
    let mut changed = upstream.changed();
    tasks.spawn("join", member.run());
    let asked = Arc::clone(&upstream);
    let heard = async move { while !asked.is_known() && changed.changed().await.is_ok() {} };
    if !is_kept && tokio::time::timeout(FIRST, heard).await.is_err() {
        tracing::warn!(event = "authority_silent", "this agent starts without a word of its authority");
    }
    Ok((agent, upstream))
}

/// The one task that has the own SVID and the copy of what the authority says.
struct Member {
    join: Join,
    /// Told whose policies are believed.
    pins: Arc<Pins>,
    /// A gateway beside this agent serves without a word of the authority.
    is_kept: bool,
    domain: TrustDomain,
    file: OwnFile,
    own: Option<Own>,
    /// Why the last own SVID is worth nothing.
    lost: Option<Message>,
    /// When the own SVID is renewed.
    due: Option<UnixTime>,
    line: Arc<Line>,
    receiver: Receiver,
    elsewhere: Arc<Elsewhere>,
    agent: Arc<Agent>,
    trust: Arc<Trust>,
    condition: Condition,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    failures: u32,
    /// What was told last of what is wrong; empty while nothing is.
    told: String,
    /// A person has to do something.
    is_barred: bool,
}

impl Member {
    async fn run(mut self) {
        loop {
            let ended = match self.enter().await {
                Ok(()) => self.follow().await,
                barred => barred,
            };
            let Err(barred) = ended else { continue };
            self.failures = self.failures.saturating_add(1);
            self.tell(&barred);
            let wait = retry_after(self.failures, self.rng.u64());
            let begun = self.clock.now().mono;
            loop {
                let waited = self.clock.now().mono.saturating_since(begun);
                let left = wait.saturating_sub(waited);
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(TICK)).await;
                self.stand();
            }
        }
    }

    /// An own SVID that holds: the one that is kept, or a first one.
    async fn enter(&mut self) -> Result<(), Barred> {
        let now = self.clock.now().wall;
        let held = self.own.as_ref().map(|own| own.at(now)).filter(|own| own.newest().is_some());
        if let Some(held) = held {
            self.own = Some(held);
            self.show();
            return Ok(());
        }
        if let Some(ended) = self.own.as_ref().and_then(Own::newest).filter(|_| self.lost.is_none()) {
            let text = format!("the SVID of this agent ended at {}", ended.not_after);
            self.lost = Some(enter::refusal("agent_expired", &text));
        }
        self.attest().await.map_err(|barred| match (barred, &self.lost) {
            // What happened to the last SVID says more than that its token was used.
            (Barred::Person(refused), Some(lost)) if matches!(refused.code, "PC1020" | "PC1022") => {
                Barred::Person(lost.clone())
            }
            (barred, _) => barred,
        })
    }

    async fn attest(&mut self) -> Result<(), Barred> {
        let bundle = match (enter::known(&self.join, &self.domain).await, &self.own) {
            // What was known last may be newer than what the file of the operator knows.
            (Err(Barred::Person(_)), Some(own)) => own.bundle().to_owned(),
            (known, _) => known?,
        };
        let copy = Replica::new(&self.domain, &bundle).map_err(later)?;
        // Unknown is whom it has entries for: it will be another agent.
        self.receiver = Receiver::new(self.domain.clone(), copy);
        self.show();
        self.line.reset().await;
        let token = enter::token(&self.join).map_err(Barred::Person)?;
        let (line, refused, keys) = (Arc::clone(&self.line), Mutex::new(None), Mutex::default());
        let ask = async |csr: Vec<u8>| {
            let answer = enter::attest(&line, &token, &csr).await;
            answer.map(|given| given.noting(&keys)).map_err(|error| note(&refused, error))
        };
        let now = || self.clock.now().wall;
        let svid = enrol(&self.domain, None, ask, now).await.map_err(|error| barred(&refused, &error))?;
        tracing::info!(event = "attested", id = %svid.id, "this host is an agent");
        let own = Own::new(svid, bundle);
        self.file.save(&own).map_err(later)?;
        self.own = Some(own);
        self.lost = None;
        self.received();
        self.show();
        // From now on it is shown.
        self.line.reset().await;
        self.pins.given(&keys.into_inner());
        Ok(())
    }

    /// A new own SVID, kept before it is used.
    async fn renew(&mut self) -> Result<(), Barred> {
        let Some(own) = &self.own else { return Ok(()) };
        let Some(id) = own.newest().map(|svid| svid.id.clone()) else { return Ok(()) };
        let (line, refused, keys) = (Arc::clone(&self.line), Mutex::new(None), Mutex::default());
        let ask = async |csr: Vec<u8>| {
            let answer = enter::renew(&line, &csr).await;
            answer.map(|given| given.noting(&keys)).map_err(|error| note(&refused, error))
        };
        let now = || self.clock.now().wall;
        let svid =
            enrol(&self.domain, Some(&id), ask, now).await.map_err(|error| barred(&refused, &error))?;
        let renewed = own.renewed(svid);
        self.file.save(&renewed).map_err(later)?;
        self.own = Some(renewed);
        self.received();
        self.show();
        self.line.reset().await;
        self.pins.given(&keys.into_inner());
        Ok(())
    }

    /// An own SVID that was made just now: when the next one is.
    fn received(&mut self) {
        let now = self.clock.now().wall;
        let Some(own) = self.own.as_ref().and_then(Own::newest) else { return };
        // From now on, so that a clock that is ahead does not renew without end.
        let due = renew_at(own.not_before.max(now), own.not_after, self.rng.u64());
        self.due = Some(due.max(now + BETWEEN));
    }

    /// The newest SVID was taken: older ones are of no use any more.
    fn settle(&mut self) {
        let Some(own) = self.own.as_ref().filter(|own| own.has_older()).map(Own::used) else { return };
        self.keep(own);
    }

    fn keep(&mut self, own: Own) {
        if let Err(error) = self.file.save(&own) {
            tracing::error!(event = "own_svid_unwritten", %error, "the own SVID is in use, and not on disk");
        }
        self.own = Some(own);
    }

    /// A new copy is in force here.
    fn take_copy(&mut self) {
        let copy = self.receiver.current();
        if let Some(own) = self.own.as_ref().filter(|own| own.bundle() != copy.document()) {
            self.keep(own.with_bundle(copy.document()));
        }
        let own = self.own.as_ref().and_then(Own::newest);
        let is_tainted = own.is_some_and(|own| copy.tainted().check_path(&own.id, &own.path).is_err());
        if is_tainted {
            let soon = self.clock.now().wall + spread(self.rng.u64());
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
        self.elsewhere.publish(copy);
        self.show();
    }

    /// Publishes the own SVID and whom this process trusts.
    fn show(&mut self) {
        let copy = self.receiver.current();
        let own = self.own.as_ref().and_then(Own::newest).cloned();
        let bundles = trusted(copy.bundle(), copy.federated());
        let snapshot = IdentitySnapshot { own, bundles, revoked: copy.denied(), ..Default::default() };
        if let Err(error) = self.trust.publish(snapshot) {
            tracing::error!(event = "identity_not_published", %error, "the identity cannot be used");
        }
    }

    /// Says what is wrong, once until something else is.
    fn tell(&mut self, barred: &Barred) {
        self.is_barred = matches!(barred, Barred::Person(_));
        let text = match barred {
            Barred::Later(cause) => {
                format!("the authority at {} does not answer: {cause}", self.line.place())
            }
            Barred::Person(message) => message.in_one_line(),
        };
        if self.told != text {
            match barred {
                Barred::Later(_) => {
                    tracing::warn!(event = "authority_away", "{text}; what is held is served until it ends")
                }
                Barred::Person(message) => {
                    tracing::error!(event = "barred", code = message.code, "{message}")
                }
            }
            self.told = text;
        }
        self.stand();
    }

    /// Readiness: true as long as this agent and what it serves hold.
    fn stand(&self) {
        let own = self.own.as_ref().and_then(Own::newest);
        let own = own.filter(|own| own.is_valid_at(self.trust.now()));
        let status = self.agent.status();
        let away = Some(self.told.as_str()).filter(|told| !told.is_empty());
        let (is_ready, text) = match (own, away) {
            (None, away) => (false, away.unwrap_or("this host is no agent yet").to_owned()),
            (Some(_), Some(away)) if self.is_barred => (false, away.to_owned()),
            (Some(_), away) if !self.receiver.current().is_known() => {
                (self.is_kept, away.unwrap_or("the authority was not heard yet").to_owned())
            }
            (Some(_), Some(away)) if status.held < status.entries => {
                (false, format!("{} of {} entries have an SVID: {away}", status.held, status.entries))
            }
            (Some(own), Some(away)) => (true, format!("{} until {}; {away}", own.id, own.not_after)),
            (Some(own), None) => (true, format!("{} until {}", own.id, own.not_after)),
        };
        self.condition.set(is_ready, text);
    }
}

fn later(error: impl std::fmt::Display) -> Barred {
    Barred::Later(error.to_string())
}

impl From<SyncError> for Barred {
    fn from(error: SyncError) -> Self {
        later(error)
    }
}

/// Keeps what the authority said, for [`barred`].
fn note(refused: &Mutex<Option<LineError>>, error: LineError) -> UpstreamError {
    let reason = error.to_string();
    *refused.lock() = Some(error);
    UpstreamError::Unavailable { reason }
}

/// Why there is no SVID: what the authority said, or what is wrong with its answer.
fn barred(refused: &Mutex<Option<LineError>>, error: &ca_agent::IssueError) -> Barred {
    refused.lock().take().map_or_else(|| later(error), Barred::from)
}

#[cfg(test)]
mod tests;
