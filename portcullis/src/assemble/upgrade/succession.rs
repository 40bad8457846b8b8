//! The old process as the new one sees it: where its sockets come from, who has the state, and who must be told what
//! changes while the calls of the old one last.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base_net::handover::Channel;
use base_net::{Named, Sockets};
use base_ports::SystemRng;
use ca_identity::tls::{ClientAuth, Expected, Trust, client_config, server_config};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::issuers::Issuers;
use super::super::numbers::Numbers;
use super::super::{Running, view};
use super::successor::SOCKET;
use super::word::{FORMAT, NONCE, Peer, Word};
use crate::config::Config;

/// How long the old process may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the roles may take to be ready once they run.
const READY: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The process whose place this one is to take.
pub(crate) struct Predecessor {
    peer: Peer,
    sockets: Arc<Sockets>,
    /// Those before it that have not ended.
    before: Vec<OwnedFd>,
    /// The configuration and the version of the policies by which it judges.
    judges_by: (String, Option<u64>),
}

impl Predecessor {
    /// The one that started this process and waits for it; none when nobody does.
    ///
    /// # Errors
    /// Why it cannot be met.
    pub(crate) fn meet() -> Result<Option<Self>, String> {
        let Some(path) = std::env::var_os(SOCKET) else { return Ok(None) };
        let mut nonce = [0; NONCE];
        let failed = |error: std::io::Error| format!("the process before this one: {error}");
        std::io::stdin().read_exact(&mut nonce).map_err(failed)?;
        let peer = Peer::new(Channel::to(Path::new(&path)).map_err(failed)?);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        peer.say(&Word::Hello { format: FORMAT, nonce, version }, &[])?;
        let (mut named, mut before) = (Named::new(), None);
        while before.is_none() {
            match peer.hear(PATIENCE)? {
                Some((Word::Sockets { names }, sockets)) if names.len() == sockets.len() => {
                    named.extend(names.into_iter().zip(sockets));
                }
                Some((Word::Before, channels)) => before = Some(channels),
                Some((word, _)) => return Err(word.refusal()),
                None => return Err("the process before this one ended".to_owned()),
            }
        }
        let sockets = Sockets::given(named).map_err(|error| error.to_string())?;
        Ok(Some(Self { peer, sockets, before: before.unwrap_or_default(), judges_by: Default::default() }))
    }

    /// The sockets it listens on.
    pub(crate) fn sockets(&self) -> Arc<Sockets> {
        Arc::clone(&self.sockets)
    }

    /// This process cannot take over.
    pub(crate) fn fail(&self, why: &str) {
        // It may have given this process up already.
        self.peer.say(&Word::Failed { why: why.to_owned() }, &[]).unwrap_or_default();
    }

    /// Looks at what can be known before the state is free, says so, and waits for it.
    ///
    /// # Errors
    /// Why this process cannot take over.
    pub(crate) async fn prepare(&mut self, config: &Config) -> Result<(), String> {
        let numbers = Numbers::default();
        view::Traffic::of(config, &numbers, None).map_err(|fault| fault.in_one_line())?;
        if let Some(enforcer) = &config.enforcer {
            view::settings(config, enforcer, (&numbers, &Issuers::default()), &SystemRng)
                .map_err(|fault| fault.in_one_line())?;
        }
        self.peer.say(&Word::Prepared, &[])?;
        match self.peer.listen(PATIENCE).await? {
            Word::Released { config, policies } => {
                self.judges_by = (config, policies);
                Ok(())
            }
            word => Err(word.refusal()),
        }
    }

    /// Says that this process can serve, once everything is ready and it has shaken hands with itself, and waits until the
    /// old one accepts nothing more.
    ///
    /// # Errors
    /// Why this process cannot take over.
    pub(crate) async fn relieve(&self, running: &Running) -> Result<(), String> {
        let health = &running.process.health;
        let ready = async {
            while health.own_blocker().is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(READY, ready).await.is_err() {
            let (name, detail) = health.own_blocker().unwrap_or(("readiness", String::new()));
            return Err(format!("{name} is not ready: {detail}"));
        }
        if let Some(plane) = &running.plane {
            shake(&plane.trust).await?;
        }
        self.peer.say(&Word::Ready, &[])?;
        match self.peer.listen(PATIENCE).await? {
            Word::Go => Ok(()),
            word => Err(word.refusal()),
        }
    }

    /// Tells the old process, and those before it, as soon as something changes that they would have to know.
    pub(crate) fn inform(self, running: &Running) {
        running.process.sockets.drop_unclaimed();
        running.process.sockets.own_files();
        running.process.upgrades.succeeded();
        let Self { peer, before, judges_by, .. } = self;
        let before = before.into_iter().map(|socket| Peer::new(Channel::from(socket)));
        running.process.upgrades.follow(before.chain([peer]).collect());
        let upgrades = Arc::clone(&running.process.upgrades);
        let is_other = (running.configuration.in_force().digest(), running.policies_version()) != judges_by;
        let mut snapshots = running.policies.clone();
        snapshots.mark_unchanged();
        let trust = running.plane.as_ref().map(|plane| Arc::clone(&plane.trust));
        running.tasks.spawn("predecessors", async move {
            if !is_other {
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() { return },
                    () = trusts_others(trust) => {}
                }
            }
            upgrades.tell_changed();
        });
    }
}

/// Returns when other roots are trusted than at first, or other identities denied; what is renewed in between is no matter.
async fn trusts_others(trust: Option<Arc<Trust>>) {
    let Some(trust) = trust else { return std::future::pending().await };
    let news = Arc::new(Notify::new());
    let told = Arc::clone(&news);
    trust.tell(move || told.notify_one());
    let trusted = |trust: &Trust| {
        let snapshot = trust.snapshot();
        let bundles = snapshot.bundles.iter().map(|bundle| (bundle.trust_domain.clone(), bundle.sequence));
        (bundles.collect::<Vec<_>>(), format!("{:?}", snapshot.revoked))
    };
    let first = trusted(&trust);
    while trusted(&trust) == first {
        news.notified().await;
    }
}

/// A handshake of this process with itself: the SVID it shows is one that it would take.
async fn shake(trust: &Arc<Trust>) -> Result<(), String> {
    let Some(own) = trust.snapshot().own.clone() else { return Err("there is no own SVID".to_owned()) };
    let acceptor = TlsAcceptor::from(server_config(trust, ClientAuth::Required, &[b"h2"]));
    let connector = TlsConnector::from(client_config(trust, Expected::Ids(vec![own.id.clone()]), &[b"h2"]));
    let name = "portcullis".try_into().map_err(|_invalid| "no name for a handshake".to_owned())?;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let shaken = async { tokio::try_join!(acceptor.accept(near), connector.connect(name, far)) };
    match tokio::time::timeout(HANDSHAKE, shaken).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("a handshake with itself fails: {error}")),
        Err(_elapsed) => Err("a handshake with itself does not end".to_owned()),
    }
}
