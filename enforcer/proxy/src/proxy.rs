//! The data plane as its owner sees it: start, addresses, drain.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc as reports};
use std::thread::JoinHandle;
use std::time::Duration;

use base_net::Bind;
use base_ports::{Clock, Tasks};
use ca_identity::tls::NamedCertificate;
use parking_lot::Mutex;
use policies_engine::Samples;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::checks::Checks;
use crate::fleets::Fleets;
use crate::listeners::{Address, Listeners, Member};
use crate::overload::Sampler;
use crate::quic::Keys;
use crate::worker::Worker;
use crate::{
    ConnectionReport, EndpointReport, Injection, Lanes, ListenerSpec, NextListeners, Ports, ProxyConfig,
    ProxyError,
};

/// The running data plane. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Proxy {
    listeners: Arc<Listeners>,
    clock: Arc<dyn Clock>,
    stop: watch::Sender<bool>,
    fleets: Arc<Fleets>,
    _endpoints: Tasks,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a worker reports once it can work.
type Started = Result<Member, ProxyError>;

impl Proxy {
    /// Binds every listener for every worker and starts the workers. Health checks and names run on the runtime
    /// of the caller.
    ///
    /// # Errors
    /// When a socket cannot be bound or a thread cannot be started.
    pub fn start(config: ProxyConfig, ports: Ports) -> Result<Self, ProxyError> {
        let proxy = Self::prepare(config, ports)?;
        proxy.accept();
        Ok(proxy)
    }

    /// The same, but nothing that arrives is looked at before [`accept`](Self::accept).
    ///
    /// # Errors
    /// When a socket cannot be bound or a thread cannot be started.
    pub fn prepare(mut config: ProxyConfig, ports: Ports) -> Result<Self, ProxyError> {
        let specs = std::mem::take(&mut config.listeners);
        let config = Arc::new(config);
        let (stop, stopped) = watch::channel(false);
        let fleets = Fleets::new(&ports.names, config.workers.max(1), config.handshakes);
        let quic = Keys::new(config.quic_reset_key.as_deref(), &ports.clock, &ports.rng);
        let (mut threads, mut members) = (Vec::new(), Vec::new());
        for number in 0..config.workers.max(1) {
            let start = Start {
                number,
                config: Arc::clone(&config),
                ports: ports.clone(),
                fleets: Arc::clone(&fleets),
                quic: Arc::clone(&quic),
                stop: stopped.clone(),
            };
            let (report, started) = reports::sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || start.run(&report))
                .map_err(|source| ProxyError::Worker { worker: number, source })?;
            threads.push(thread);
            let gone = |gone| ProxyError::Worker { worker: number, source: std::io::Error::other(gone) };
            members.push(started.recv().map_err(gone)??);
        }
        let listeners = Listeners::new(members, &fleets, &ports);
        let bound = listeners.bind(specs)?;
        listeners.open(bound);
        let endpoints = Tasks::new("endpoints");
        endpoints.spawn("names", Arc::clone(&ports.names).run(Arc::clone(&ports.view)));
        endpoints.spawn("checks", Checks::new(&ports, &fleets).run());
        let delay = config.longest_delay;
        let sampler = Sampler::new(&ports.gauges, &fleets, &ports.clock, &ports.metrics, &listeners, delay);
        endpoints.spawn("overload", sampler.run());
        Ok(Self {
            listeners,
            clock: Arc::clone(&ports.clock),
            stop,
            fleets,
            _endpoints: endpoints,
            threads: Mutex::new(threads),
        })
    }

    /// The endpoints of its clusters as all workers know them; none before the first call or connection used a cluster.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointReport> {
        self.fleets.report()
    }

    /// Puts a fault into calls of a route until it ends, in place of another of that route (RT-06).
    pub fn inject(&self, injection: Injection) {
        self.fleets.injections.begin(injection, self.clock.mono());
    }

    /// Ends the fault of a route, or all; how many there were.
    pub fn end_injections(&self, route: Option<&str>) -> usize {
        self.fleets.injections.end(route, self.clock.mono())
    }

    /// The faults in force.
    #[must_use]
    pub fn injections(&self) -> Vec<Injection> {
        self.fleets.injections.all(self.clock.mono())
    }

    /// Open connections whose callers are known, of that principal or of everybody, oldest first.
    #[must_use]
    pub fn connections(&self, principal: Option<&str>) -> Vec<ConnectionReport> {
        let now = self.clock.mono();
        let workers = self.listeners.workers();
        let reports = workers.map(|worker| worker.standing.report(principal, &worker.holdings, now));
        let mut all: Vec<_> = reports.flatten().collect();
        all.sort_by_key(|connection| std::cmp::Reverse(connection.age));
        all
    }

    /// Certificates that listeners show to callers that ask for their names, with the names of the listeners.
    #[must_use]
    pub fn certificates(&self) -> Vec<(Arc<str>, Arc<NamedCertificate>)> {
        self.listeners.certificates()
    }

    /// From now on it takes what arrives.
    pub fn accept(&self) {
        self.listeners.accept();
    }

    /// Binds what these listeners need and is not there, and changes nothing else (RD-01).
    ///
    /// # Errors
    /// A socket cannot be bound, and then none of these is; or the data plane is about to end.
    pub fn bind(&self, listeners: Vec<ListenerSpec>) -> Result<NextListeners, ProxyError> {
        self.listeners.bind(listeners)
    }

    /// From now on these are the listeners; gives the names of those that serve new connections in another way. What is
    /// the same is not touched, open connections go on as they began, and those of what is gone have `grace` to end.
    pub async fn renew(&self, next: NextListeners, grace: Duration) -> Vec<Arc<str>> {
        self.listeners.renew(next, grace).await
    }

    /// Decisions are recorded and sampled elsewhere from now on: when this returns, no worker uses the lanes before.
    pub fn rewire(&self, lanes: &Lanes, samples: &Arc<dyn Samples>) {
        for (number, worker) in self.listeners.workers().enumerate() {
            let lane = lanes(u16::try_from(number).unwrap_or(u16::MAX));
            worker.judge.rewire(lane, Arc::clone(samples));
        }
    }

    /// Names and real TCP addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.bound(|address| match address {
            Address::Stream(Bind::Tcp(address)) => Some(address),
            Address::Stream(Bind::Unix { .. }) | Address::Quic(_) => None,
        })
    }

    /// Names and real QUIC addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn quic_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.bound(|address| match address {
            Address::Quic(address) => Some(address),
            Address::Stream(_) => None,
        })
    }

    /// Names of the listeners and what they listen on, as the configuration writes it, with real ports.
    #[must_use]
    pub fn urls(&self) -> Vec<(String, String)> {
        let addresses = self.listeners.addresses().into_iter();
        addresses.map(|(name, address)| (name.to_string(), address.to_string())).collect()
    }

    fn bound(&self, of: impl Fn(Address) -> Option<SocketAddr>) -> Vec<(Arc<str>, SocketAddr)> {
        let addresses = self.listeners.addresses().into_iter();
        addresses.filter_map(|(name, address)| Some((name, of(address)?))).collect()
    }

    /// Stops accepting, lets running calls end within `timeout`, then cuts the rest.
    pub async fn drain(&self, timeout: Duration) {
        self.listeners.drain(timeout);
        self.end(timeout).await;
    }

    /// Another process takes what arrives at the sockets from now on; connections are asked to go within `timeout`, by
    /// [`end`](Self::end). Returns when nothing that arrives for the other is read here.
    pub async fn relieve(&self, timeout: Duration) {
        self.listeners.relieve(timeout).await;
    }

    /// Whether every worker came to its work within that time.
    #[must_use]
    pub fn is_heard_within(&self, time: Duration) -> bool {
        let now = self.clock.mono();
        self.listeners.workers().all(|worker| worker.load.delay(now) <= time)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.listeners.count()
    }

    /// Waits until the connections of a drain that began have ended, for at most `timeout`, then cuts the rest.
    pub async fn end(&self, timeout: Duration) {
        if !self.listeners.finished(timeout).await {
            tracing::warn!(event = "drain_cut", "connections were cut at the end of the drain");
        }
        self.stop.send_replace(true);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // The workers drop what is left and end; this waits for memory to be freed, not for peers.
            if tokio::task::spawn_blocking(|| thread.join()).await.is_err() {
                tracing::error!(event = "worker_lost", "a worker could not be joined");
            }
        }
    }

    /// A drain that began has that much time and no more: everybody is asked to go at once.
    pub async fn hurry(&self, timeout: Duration) {
        self.listeners.hurry();
        self.end(timeout).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Everything a worker thread starts with.
struct Start {
    number: usize,
    config: Arc<ProxyConfig>,
    ports: Ports,
    fleets: Arc<Fleets>,
    quic: Arc<Keys>,
    stop: watch::Receiver<bool>,
}

impl Start {
    fn run(self, report: &reports::SyncSender<Started>) {
        let Self { number, config, ports, fleets, quic, stop } = self;
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => {
                report.send(Err(ProxyError::Worker { worker: number, source })).ok();
                return;
            }
        };
        runtime.block_on(async {
            let own = u16::try_from(number).unwrap_or(u16::MAX);
            let worker = Worker::new(own, &config, &ports, fleets, quic);
            let member = Member { worker: Arc::downgrade(&worker), runtime: Handle::current() };
            report.send(Ok(member)).ok();
            worker.run(stop).await;
        });
    }
}
