//! The data plane as its owner sees it: start, addresses, drain.

use std::net::SocketAddr;
use std::sync::{Arc, Weak, mpsc as reports};
use std::thread::JoinHandle;
use std::time::Duration;

use base_net::{Bind, Drain, DrainWatch, Gate, Part, Sockets};
use base_ports::{Clock, Tasks};
use parking_lot::Mutex;
use policies_engine::Samples;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

use crate::checks::Checks;
use crate::fleets::Fleets;
use crate::leaving::Leaving;
use crate::overload::Sampler;
use crate::worker::{Addresses, Worker, bind};
use crate::{EndpointReport, Lanes, ListenerSpec, Ports, ProxyConfig, ProxyError};

/// The running data plane. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<(Arc<str>, Addresses)>,
    drain: Drain,
    leaving: Arc<Leaving>,
    clock: Arc<dyn Clock>,
    begin: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    /// Ends when no worker reads datagrams any more that are another process's.
    left: Mutex<Option<mpsc::Receiver<()>>>,
    workers: Vec<Weak<Worker>>,
    fleets: Arc<Fleets>,
    sockets: Arc<Sockets>,
    listeners: Mutex<Vec<ListenerSpec>>,
    _endpoints: Tasks,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a worker reports once its sockets are bound.
type Started = Result<(Weak<Worker>, Vec<Addresses>), ProxyError>;

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
    pub fn prepare(config: ProxyConfig, ports: Ports) -> Result<Self, ProxyError> {
        let config = Arc::new(config);
        let (drain, watched) = Drain::new();
        let (stop, stopped) = watch::channel(false);
        let (begin, begun) = watch::channel(false);
        let (leave, left) = mpsc::channel(1);
        let leaving = Arc::<Leaving>::default();
        // The workers of a listener share its caps.
        let gates: Vec<Gate> = config.listeners.iter().map(ListenerSpec::gate).collect();
        let fleets = Fleets::new(&ports.names, config.workers.max(1), config.handshakes);
        let (mut threads, mut workers) = (Vec::new(), Vec::new());
        let mut bound: Vec<Addresses> = Vec::new();
        for number in 0..config.workers.max(1) {
            let start = Start {
                number,
                config: Arc::clone(&config),
                ports: ports.clone(),
                gates: gates.clone(),
                fleets: Arc::clone(&fleets),
                leaving: Arc::clone(&leaving),
                drain: watched.clone(),
                begin: begun.clone(),
                left: leave.clone(),
                stop: stopped.clone(),
            };
            let (report, started) = reports::sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || start.run(&report))
                .map_err(|source| ProxyError::Worker { worker: number, source })?;
            threads.push(thread);
            // The first worker finds free ports; the others join it there.
            match started.recv() {
                Ok(started) => {
                    let (worker, addresses) = started?;
                    workers.push(worker);
                    if number == 0 {
                        bound = addresses;
                    }
                }
                Err(gone) => {
                    let source = std::io::Error::other(gone);
                    return Err(ProxyError::Worker { worker: number, source });
                }
            }
        }
        let endpoints = Tasks::new("endpoints");
        endpoints.spawn("names", Arc::clone(&ports.names).run(Arc::clone(&ports.view)));
        endpoints.spawn("checks", Checks::new(&ports, &fleets).run());
        let sampler = Sampler::new(&ports.gauges, &fleets, &ports.clock, &ports.metrics, &gates);
        endpoints.spawn("overload", sampler.run());
        let names = config.listeners.iter().map(|listener| Arc::clone(&listener.name));
        let addresses = names.zip(bound).collect();
        Ok(Self {
            addresses,
            drain,
            leaving,
            clock: Arc::clone(&ports.clock),
            begin,
            stop,
            left: Mutex::new(Some(left)),
            workers,
            fleets,
            sockets: Arc::clone(&ports.sockets),
            listeners: Mutex::new(config.listeners.clone()),
            _endpoints: endpoints,
            threads: Mutex::new(threads),
        })
    }

    /// The endpoints of its clusters as all workers know them; none before the first call or connection used a cluster.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointReport> {
        self.fleets.report()
    }

    /// From now on it takes what arrives.
    pub fn accept(&self) {
        self.begin.send_replace(true);
    }

    /// New connections are served as these listeners say, which listen where those before do, and the names of those that
    /// changed (RD-01). Open connections go on as they began; what is the same is not touched.
    pub fn renew(&self, listeners: Vec<ListenerSpec>) -> Vec<Arc<str>> {
        let mut known = self.listeners.lock();
        let mut renewed = Vec::new();
        for (number, (known, next)) in known.iter_mut().zip(listeners).enumerate() {
            if known.name != next.name || known.serves_as(&next) {
                continue;
            }
            self.workers.iter().filter_map(Weak::upgrade).for_each(|worker| worker.renew(number, &next));
            renewed.push(Arc::clone(&next.name));
            *known = next;
        }
        renewed
    }

    /// Decisions are recorded and sampled elsewhere from now on: when this returns, no worker uses the lanes before.
    pub fn rewire(&self, lanes: &Lanes, samples: &Arc<dyn Samples>) {
        for (number, worker) in self.workers.iter().enumerate() {
            if let Some(worker) = worker.upgrade() {
                let lane = lanes(u16::try_from(number).unwrap_or(u16::MAX));
                worker.judge.rewire(lane, Arc::clone(samples));
            }
        }
    }

    /// Names and real TCP addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.bound(|addresses| &addresses.tcp)
    }

    /// Names and real QUIC addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn quic_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.bound(|addresses| &addresses.quic)
    }

    /// Names of the listeners and what they listen on, as the configuration writes it, with real ports.
    #[must_use]
    pub fn urls(&self) -> Vec<(String, String)> {
        let urls = self.addresses.iter().flat_map(|(name, bound)| {
            let tcp = bound.tcp.iter().map(|address| Bind::Tcp(*address).to_string());
            let unix = bound.unix.iter().map(|path| format!("unix://{}", path.display()));
            let quic = bound.quic.iter().map(|address| format!("quic://{address}"));
            tcp.chain(quic).chain(unix).map(|url| (name.to_string(), url))
        });
        urls.collect()
    }

    fn bound(&self, of: impl Fn(&Addresses) -> &Vec<SocketAddr>) -> Vec<(Arc<str>, SocketAddr)> {
        let named = self.addresses.iter().map(|(name, addresses)| (name, of(addresses)));
        named.flat_map(|(name, bound)| bound.iter().map(|address| (Arc::clone(name), *address))).collect()
    }

    /// Stops accepting, lets running calls end within `timeout`, then cuts the rest.
    pub async fn drain(&self, timeout: Duration) {
        self.leaving.begin(self.clock.mono(), timeout);
        self.drain.start();
        // Nobody would accept what a copy keeps open.
        self.listeners.lock().iter().for_each(|listener| self.sockets.release(&listener.name));
        self.end(timeout).await;
    }

    /// Another process takes what arrives at the sockets from now on; connections are asked to go within `timeout`, by
    /// [`end`](Self::end). Returns when nothing that arrives for the other is read here.
    pub async fn relieve(&self, timeout: Duration) {
        self.leaving.begin(self.clock.mono(), timeout);
        self.drain.start_relieved();
        let left = self.left.lock().take();
        if let Some(mut left) = left {
            // Nobody sends: the channel ends when the last worker has left.
            while left.recv().await.is_some() {}
        }
    }

    /// Whether every worker came to its work within that time.
    #[must_use]
    pub fn is_heard_within(&self, time: Duration) -> bool {
        let now = self.clock.mono();
        self.workers.iter().filter_map(Weak::upgrade).all(|worker| worker.load.delay(now) <= time)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.drain.open()
    }

    /// Waits until the connections of a drain that began have ended, for at most `timeout`, then cuts the rest.
    pub async fn end(&self, timeout: Duration) {
        if !self.drain.finished(timeout).await {
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
        self.leaving.begin(self.clock.mono(), Duration::ZERO);
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
    gates: Vec<Gate>,
    fleets: Arc<Fleets>,
    leaving: Arc<Leaving>,
    drain: DrainWatch,
    begin: watch::Receiver<bool>,
    left: mpsc::Sender<()>,
    stop: watch::Receiver<bool>,
}

impl Start {
    fn run(self, report: &reports::SyncSender<Started>) {
        let Self { number, config, ports, gates, fleets, leaving, drain, begin, left, stop } = self;
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => {
                report.send(Err(ProxyError::Worker { worker: number, source })).ok();
                return;
            }
        };
        runtime.block_on(async {
            let part = Part { number, of: config.workers.max(1) };
            let bound = match bind(&config, &ports, part) {
                Ok(bound) => bound,
                Err(error) => {
                    report.send(Err(error)).ok();
                    return;
                }
            };
            let real = bound.iter().map(|sockets| sockets.addresses.clone()).collect();
            let own = u16::try_from(number).unwrap_or(u16::MAX);
            let worker = Worker::new(own, &config, &ports, fleets, leaving);
            report.send(Ok((Arc::downgrade(&worker), real))).ok();
            worker.run(config, (bound, gates), (begin, left), drain, stop).await;
        });
    }
}
