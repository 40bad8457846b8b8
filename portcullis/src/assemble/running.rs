//! Roles that run, and the two ways in which they end: with the process, or in favour of the next one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_net::Drain;
use base_ports::Tasks;
use base_store::Embedded;
use ca_identity::tls::Trust;
use policies_decisions::Ledger;
use policies_store::Follower;
use tokio::sync::watch;

use super::aside::Aside;
use super::collector::Exporter;
use super::configuration::Configuration;
use super::judge::Judge;
use super::process::{DataPlane, Process};
use crate::config::Config;
use crate::messages::Message;

/// How long calls of our own APIs may take once the roles end in favour of the next process.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Roles that run. Dropping it ends them at once; `drain` ends them well.
pub(crate) struct Running {
    pub(super) process: Process,
    pub(super) tasks: Tasks,
    pub(super) drain: Drain,
    pub(super) plane: Option<DataPlane>,
    pub(super) store: Arc<Embedded>,
    pub(super) ledger: Ledger,
    /// Sends decisions to a collector.
    pub(super) logs: Option<Exporter>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) judge: Arc<Judge>,
    pub(super) owner: u32,
    pub(super) follower: Option<Arc<Follower>>,
    /// Policies in force, as their changes come; none without a data plane.
    pub(super) policies: watch::Receiver<Option<Arc<policies_engine::Snapshot>>>,
    /// Own SVID and whom this process trusts.
    pub(super) identity: Arc<Trust>,
}

/// What is left when state and APIs were given up: calls go on, and are recorded aside.
pub(super) struct Released {
    pub(super) process: Process,
    pub(super) config: Arc<Config>,
    pub(super) plane: Option<DataPlane>,
    pub(super) aside: Aside,
    /// Of the policies in force.
    pub(super) policies: Option<u64>,
}

impl Running {
    /// What outlives these roles.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Where a listener of the data plane is bound.
    pub(crate) fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.plane.as_ref()?.proxy.addresses();
        listeners.into_iter().find(|(known, _)| **known == *name).map(|(_, addr)| addr)
    }

    /// What a listener of the data plane listens on, as the configuration writes it.
    pub(crate) fn urls(&self, name: &str) -> Vec<String> {
        let urls = self.plane.as_ref().map(|plane| plane.proxy.urls()).unwrap_or_default();
        urls.into_iter().filter(|(known, _)| known == name).map(|(_, url)| url).collect()
    }

    /// Where health, metrics and docs are served.
    pub(crate) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Calls are taken in from now on.
    pub(crate) fn accept(&self) {
        if let Some(plane) = &self.plane {
            plane.proxy.accept();
        }
        base_net::notify::ready();
        tracing::info!(event = "started", "portcullis runs");
    }

    /// Brings the configuration file into force, as a SIGHUP asks.
    pub(crate) async fn reload(&self) {
        self.configuration.reload_unasked(&self.judge, self.owner, "signal").await;
    }

    /// Unready at once, then after `delay` no new connections, then up to `timeout` for running calls, then the
    /// records that are still on their way.
    pub(crate) async fn drain(self, delay: Duration, timeout: Duration) {
        self.process.health.condition("serving").set(false, "draining");
        base_net::notify::stopping();
        base_net::notify::extend_timeout(delay + timeout + EXTRA);
        tokio::time::sleep(delay).await;
        self.process.sockets.close();
        if let Some(plane) = &self.plane {
            plane.drain(timeout).await;
        }
        self.drain.start();
        self.drain.finished(Duration::from_secs(2).min(timeout)).await;
        drop(self.tasks);
        if let Some(follower) = self.follower {
            follower.write_down().await;
        }
        close(self.ledger).await;
        if let Some(logs) = self.logs {
            logs.finish().await;
        }
    }

    /// The version of the policies in force.
    pub(super) fn policies_version(&self) -> Option<u64> {
        self.policies.borrow().as_ref().map(|snapshot| snapshot.versions().numbers.policies)
    }

    /// Gives up state and APIs: calls go on, judged by what is in force now, and are recorded aside. When this returns,
    /// another process can open the state.
    ///
    /// # Errors
    /// Calls cannot be recorded aside; then everything is as it was.
    pub(super) async fn release(self) -> Result<Released, (Box<Self>, Message)> {
        let config = self.configuration.in_force();
        let (opening, identity) = (Arc::clone(&config), Arc::clone(&self.identity));
        let opened = tokio::task::spawn_blocking(move || Aside::open(&opening, identity)).await;
        let aside = match opened {
            Ok(Ok(aside)) => aside,
            Ok(Err(fault)) => return Err((Box::new(self), fault)),
            Err(error) => return Err((Box::new(self), Message::error("PC9001", error.to_string()))),
        };
        let policies = self.policies_version();
        self.drain.start();
        self.drain.finished(LAST_CALLS).await;
        drop(self.tasks);
        if let Some(follower) = self.follower {
            follower.write_down().await;
        }
        if let Some(plane) = &self.plane {
            aside.take(&plane.proxy);
        }
        let store = self.store;
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            tracing::error!(event = "store_close", "the state could not be closed");
        }
        close(self.ledger).await;
        if let Some(logs) = self.logs {
            // Whoever waits for the state waits for no collector.
            self.process.tasks().spawn("last logs", logs.finish());
        }
        Ok(Released { process: self.process, config, plane: self.plane, aside, policies })
    }
}

/// What ending takes besides the calls.
const EXTRA: Duration = Duration::from_secs(5);

/// Everything in the lanes is on disk afterwards.
pub(super) async fn close(ledger: Ledger) {
    if tokio::task::spawn_blocking(move || ledger.close()).await.is_err() {
        tracing::error!(event = "ledger_close", "the ledger could not be closed");
    }
}
