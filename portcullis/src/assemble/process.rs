//! What of a process outlives a new start of its roles: sockets, metrics, readiness, and the data plane with its calls.
//! An upgrade that failed after the state was given up starts all roles anew around them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use base_net::Sockets;
use base_ports::Tasks;
use base_telemetry::{Health, Metrics};
use ca_identity::tls::Trust;
use enforcer_proxy::{Names, Proxy, Trails, ViewHandle};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::collector::Exporter;
use super::issuers::Issuers;
use super::log_level::LogLevel;
use super::numbers::Numbers;
use super::trails::Writer;
use super::upgrade::Upgrades;

/// How late a worker may be with its work before nobody tells the service manager that all is well.
const LATE: Duration = Duration::from_secs(5);
/// How long calls may run on what a reload took away, when nobody says otherwise.
const GRACE: Duration = Duration::from_secs(300);
/// The condition of readiness that calls can come in.
pub(super) const LISTENERS: &str = "listeners";

/// What all starts of the roles of a process share.
#[derive(Clone)]
pub(crate) struct Process {
    pub(super) sockets: Arc<Sockets>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
    pub(super) upgrades: Arc<Upgrades>,
    /// The service manager gave them.
    pub(super) is_activated: bool,
    pub(super) numbers: Arc<Numbers>,
    pub(super) issuers: Arc<Issuers>,
    /// How long calls may run on what a reload took away (DR-02).
    pub(super) grace: Duration,
    /// None where somebody else decides what is logged.
    pub(crate) log: Option<LogLevel>,
    /// Told when the process is to end.
    end: Arc<Notify>,
    /// The data plane, when there is one.
    served: Arc<Mutex<Weak<Proxy>>>,
    tasks: Tasks,
}

/// The data plane and what is published to it.
pub(crate) struct DataPlane {
    pub(super) proxy: Arc<Proxy>,
    pub(super) view: Arc<ViewHandle>,
    pub(super) trust: Arc<Trust>,
    pub(super) names: Arc<Names>,
    /// Who is told of its calls.
    pub(super) readers: Mutex<Option<Readers>>,
}

/// Who is told of calls that have ended.
#[derive(Debug)]
pub(super) struct Readers {
    pub(super) told: Trails,
    pub(super) writer: Option<Writer>,
    pub(super) exporter: Option<Exporter>,
}

impl DataPlane {
    /// Ends it: running calls get up to `timeout`, and their trails are written.
    pub(super) async fn drain(&self, timeout: Duration) {
        self.proxy.drain(timeout).await;
        self.told().await;
    }

    /// Its calls have ended: their trails are written, and their spans sent.
    pub(super) async fn told(&self) {
        let readers = self.readers.lock().take();
        let Some(Readers { told, writer, exporter }) = readers else { return };
        told.end().await;
        if let Some(writer) = writer {
            writer.finish().await;
        }
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
    }
}

impl Process {
    /// A process that binds what it listens on.
    pub(crate) fn alone() -> Self {
        Self::with(Sockets::new())
    }

    /// One whose sockets the service manager gave: those, and no others for the data plane.
    pub(crate) fn activated(sockets: Arc<Sockets>) -> Self {
        Self { is_activated: true, ..Self::with(sockets) }
    }

    /// One that listens on these sockets, and on what it binds besides.
    pub(crate) fn with(sockets: Arc<Sockets>) -> Self {
        let (metrics, health) = (Arc::new(Metrics::new()), Health::new());
        let upgrades = Arc::new(Upgrades::new(&metrics));
        let tasks = Tasks::new("process");
        Self {
            sockets,
            metrics,
            health,
            upgrades,
            is_activated: false,
            numbers: Arc::default(),
            issuers: Arc::default(),
            grace: GRACE,
            log: None,
            end: Arc::default(),
            served: Arc::default(),
            tasks,
        }
    }

    /// With another time for calls that run on what a reload took away.
    pub(crate) fn within(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// What lives as long as the process.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// It logs as that says.
    pub(crate) fn logging(self, log: LogLevel) -> Self {
        Self { log: Some(log), ..self }
    }

    /// It is to end as on SIGTERM.
    pub(crate) fn end(&self) {
        self.end.notify_one();
    }

    /// Returns when somebody has asked it to end.
    pub(crate) async fn told_to_end(&self) {
        self.end.notified().await;
    }

    /// The data plane that runs.
    pub(crate) fn served(&self) -> Option<Arc<Proxy>> {
        self.served.lock().upgrade()
    }

    pub(super) fn serves(&self, plane: &DataPlane) {
        *self.served.lock() = Arc::downgrade(&plane.proxy);
        self.tell_listeners();
    }

    /// Readiness says how many places calls come in at.
    pub(super) fn tell_listeners(&self) {
        if let Some(proxy) = self.served() {
            self.health.condition(LISTENERS).set(true, format!("{} bound", proxy.urls().len()));
        }
    }

    /// Tells the service manager twice per interval that the process lives: that this runtime runs, and that every worker
    /// came to its work lately (HO1).
    pub(crate) fn watch(&self) {
        let Some(interval) = base_net::notify::watchdog_interval() else { return };
        let served = Arc::clone(&self.served);
        self.tasks.spawn("watchdog", async move {
            loop {
                let proxy = served.lock().upgrade();
                if proxy.is_none_or(|proxy| proxy.is_heard_within(LATE.min(interval / 2))) {
                    base_net::notify::watchdog();
                }
                tokio::time::sleep(interval / 2).await;
            }
        });
    }
}
