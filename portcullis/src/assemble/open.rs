//! Opening what lies on disk: store, ledger, policies, authority. Each failure is a message with the next command.

use std::sync::Arc;

use base_ports::{Clock, Disk, Rng};
use base_store::{Embedded, Store};
use base_telemetry::Metrics;
use ca_authority::{AUTHORITY_PATH, Authority};
use ca_identity::tls::Trust;
use policies_decisions::{Accepted, Ledger, LedgerConfig, LedgerError, Meter, Redaction};
use policies_engine::Principal;
use policies_store::{Activations, PolicyStore, Saves, Signer, StoreConfig};

use super::activations::Records;
use super::log_key::KeyFile;
use super::people_key::{self, PeopleKey};
use super::vouch::OwnSvid;
use crate::admin::Repeats;
use crate::config::{Ca, Config, Federation};
use crate::messages::Message;

/// Whose records those of an agent of another host are, before it has an id of its own.
const AGENT_PATH: &str = "/portcullis/agent";

pub(super) fn store(
    config: &Config,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Embedded>, Arc<dyn Store>), Message> {
    let fault = |error: &dyn std::fmt::Display| {
        Message::error("PC6001", format!("state directory `{}`: {error}", config.data_dir.display()))
            .next("portcullis check")
    };
    disk.create_dir_all(&config.data_dir).map_err(|error| fault(&error))?;
    let store = Embedded::open(&config.data_dir.join("state"), Arc::clone(disk), Arc::clone(clock))
        .map_err(|error| fault(&error))?;
    Ok((Arc::clone(&store), store))
}

pub(super) fn ledger(
    config: &Config,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    identity: &Arc<Trust>,
    metrics: &Metrics,
) -> Result<Ledger, Message> {
    let settings = vouched(signing(config, disk, clock, rng)?, Arc::clone(identity));
    let settings = LedgerConfig { meter: Some(Arc::new(Meter::new(metrics))), ..settings };
    Ledger::open(settings, Arc::clone(disk), Arc::clone(clock), rng.as_ref()).map_err(|error| match error {
        LedgerError::Tree(error) if error.is_loss() => {
            let text = format!("decision ledger: {error}");
            let dir = config.data_dir.join("ledger");
            Message::error("PC6020", text)
                .help("nothing was signed; put back the copy that fits, or give up what is lost with `portcullis decisions accept-loss`")
                .next(format!("portcullis decisions verify --dir {} --key FILE", dir.display()))
        }
        error => Message::error("PC6001", format!("decision ledger: {error}")).next("portcullis check"),
    })
}

/// How records are kept and who signs for them.
fn signing(
    config: &Config,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> Result<LedgerConfig, Message> {
    let keys = KeyFile::open(&config.data_dir, disk, rng, clock).map_err(unusable)?;
    let unsigned = ledger_config(config, &people(config, disk.as_ref(), rng.as_ref())?, rng);
    Ok(LedgerConfig { signer: Some(Arc::new(keys)), ..unsigned })
}

/// The key that ids of people are hidden with.
pub(super) fn people(config: &Config, disk: &dyn Disk, rng: &dyn Rng) -> Result<PeopleKey, Message> {
    people_key::open(&config.data_dir, disk, rng).map_err(unusable)
}

fn unusable(error: String) -> Message {
    Message::error("PC6001", format!("key of the decision log: {error}")).next("portcullis check")
}

/// Gives up what is lost of the ledger of a process that does not run, in the name of `uid`.
///
/// # Errors
/// It runs, or the records themselves cannot be opened.
pub(crate) async fn accept_loss(config: &Config, uid: u32) -> Result<Accepted, Message> {
    let (disk, clock, rng): (Arc<dyn Disk>, Arc<dyn Clock>, Arc<dyn Rng>) = (
        Arc::new(base_ports::SystemDisk),
        Arc::new(base_ports::SystemClock),
        Arc::new(base_ports::SystemRng),
    );
    let fault = |error: &dyn std::fmt::Display| {
        Message::error("PC6001", format!("decision ledger: {error}")).next("portcullis check")
    };
    let _lock = base_store::Lock::take(&config.data_dir.join("state")).map_err(|error| fault(&error))?;
    let settings = signing(config, &disk, &clock, &rng)?;
    let by = Principal::local_user(uid, None, &[policies_engine::Role::Operator]);
    policies_decisions::accept_loss(&settings, &disk, &clock, rng.as_ref(), by)
        .await
        .map_err(|error| fault(&error))
}

/// Heartbeats are signed with the own SVID in `identity`.
pub(super) fn vouched(settings: LedgerConfig, identity: Arc<Trust>) -> LedgerConfig {
    let voucher = OwnSvid { trust: identity, enforcer: settings.enforcer_id.clone() };
    LedgerConfig { voucher: Some(Arc::new(voucher)), ..settings }
}

/// How records are kept, by nobody signed for.
pub(super) fn ledger_config(config: &Config, people: &PeopleKey, rng: &Arc<dyn Rng>) -> LedgerConfig {
    let enforcer = match &config.enforcer {
        Some(enforcer) => enforcer.id.as_str().to_owned(),
        None if config.join.is_some() => format!("spiffe://{}{AGENT_PATH}", config.trust_domain.as_str()),
        None => format!("spiffe://{}{AUTHORITY_PATH}", config.trust_domain.as_str()),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    LedgerConfig {
        name: config.decisions.name.clone(),
        keep: config.decisions.keep,
        commit_interval: config.decisions.commit_interval,
        clear: config.decisions.clear,
        redaction: Arc::new(
            Redaction::new(people, config.decisions.dropped.clone())
                .with(config.decisions.people, Arc::clone(rng)),
        ),
        ..LedgerConfig::new(config.data_dir.join("ledger"), config.trust_domain.as_str(), &enforcer, &host)
    }
}

pub(super) fn repeats(store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) -> Result<Arc<Repeats>, Message> {
    Repeats::open(Arc::clone(store), Arc::clone(clock))
        .map_err(|error| Message::error("PC6001", format!("keys of calls: {error}")).next("portcullis check"))
}

/// What this machine gives.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) rng: &'a Arc<dyn Rng>,
}

pub(super) async fn policies(
    config: &Config,
    store: &Arc<dyn Store>,
    Machine { disk, clock, rng }: Machine<'_>,
    ledger: &Ledger,
    saves: Arc<dyn Saves>,
) -> Result<Arc<PolicyStore>, Message> {
    let fault = |error: &dyn std::fmt::Display| {
        Message::error("PC6001", format!("policy store: {error}")).next("portcullis check")
    };
    let domain = config.trust_domain.as_str();
    let signer = Signer::open(&config.data_dir, domain, Arc::clone(disk), Arc::clone(rng));
    let records = Arc::new(Records { ledger: ledger.clone(), clock: Arc::clone(clock) });
    let settings = StoreConfig {
        dir: config.policies.as_ref().map(|policies| policies.dir.clone()),
        store: Arc::clone(store),
        clock: Arc::clone(clock),
        signer: Arc::new(signer.map_err(|error| fault(&error))?),
        saves,
        activations: Arc::clone(&records) as Arc<dyn Activations>,
        pinned: records,
    };
    PolicyStore::open(settings).await.map_err(|error| fault(&error))
}

pub(super) async fn authority(
    config: &Config,
    ca: &Ca,
    ports: ca_authority::Ports,
) -> Result<Arc<Authority>, Message> {
    let settings = ca_authority::Config {
        svid_ttl: ca.svid_ttl,
        jwt_ttl: ca.jwt_ttl,
        agent_ttl: ca.agent_ttl,
        outside_hint: ca.bundle.as_ref().map(|bundle| bundle.hint),
        jwt_issuer: config.oidc.as_ref().map(|oidc| oidc.published.issuer.clone()),
        ..ca_authority::Config::new(config.trust_domain.clone(), &config.data_dir)
    };
    let fault = |error: &dyn std::fmt::Display| {
        Message::error("PC1010", format!("certificate authority: {error}")).next("portcullis check")
    };
    let authority = Authority::open(settings, ports).await.map_err(|error| fault(&error))?;
    authority.apply_entries(ca.entries.clone()).await.map_err(|error| fault(&error))?;
    let mut relationships = Vec::new();
    for Federation { with, bundle } in &ca.federation {
        let first = bundle.as_ref().map(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| Message::error("PC0107", format!("`{}`: {error}", path.display())))
        });
        relationships.push((with.clone(), first.transpose()?));
    }
    authority.apply_federation(relationships).await.map_err(|error| fault(&error))?;
    Ok(authority)
}
