//! The data plane as its owner sees it: start, addresses, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use base_net::{Bind, Drain, DrainWatch, Gate};
use base_ports::Tasks;
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::checks::Checks;
use crate::fleets::Fleets;
use crate::overload::Sampler;
use crate::worker::{Addresses, Worker, bind};
use crate::{ListenerSpec, Ports, ProxyConfig, ProxyError};

/// The running data plane. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<(Arc<str>, Addresses)>,
    drain: Drain,
    stop: watch::Sender<bool>,
    _endpoints: Tasks,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a worker reports once its sockets are bound.
type Started = Result<Vec<Addresses>, ProxyError>;

impl Proxy {
    /// Binds every listener for every worker and starts the workers. Health checks and names run on the runtime
    /// of the caller.
    ///
    /// # Errors
    /// When a socket cannot be bound or a thread cannot be started.
    pub fn start(config: ProxyConfig, ports: Ports) -> Result<Self, ProxyError> {
        let config = Arc::new(config);
        let (drain, watched) = Drain::new();
        let (stop, stopped) = watch::channel(false);
        // The workers of a listener share its caps.
        let gates: Vec<Gate> = config.listeners.iter().map(ListenerSpec::gate).collect();
        let fleets = Fleets::new(&ports.names, config.workers.max(1), config.handshakes);
        let mut threads = Vec::new();
        let mut bound: Option<Vec<Addresses>> = None;
        for number in 0..config.workers.max(1) {
            let start = Start {
                number,
                config: Arc::clone(&config),
                ports: ports.clone(),
                addresses: bound.clone(),
                gates: gates.clone(),
                fleets: Arc::clone(&fleets),
                drain: watched.clone(),
                stop: stopped.clone(),
            };
            let (report, started) = mpsc::sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || start.run(&report))
                .map_err(|source| ProxyError::Worker { worker: number, source })?;
            threads.push(thread);
            // The first worker finds free ports; the others join it there.
            match started.recv() {
                Ok(addresses) => bound = Some(addresses?),
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
        let addresses = names.zip(bound.unwrap_or_default()).collect();
        Ok(Self { addresses, drain, stop, _endpoints: endpoints, threads: Mutex::new(threads) })
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
            let unix = bound.unix.iter().map(|socket| socket.bound().to_string());
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
        self.drain.start();
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
    addresses: Option<Vec<Addresses>>,
    gates: Vec<Gate>,
    fleets: Arc<Fleets>,
    drain: DrainWatch,
    stop: watch::Receiver<bool>,
}

impl Start {
    fn run(self, report: &mpsc::SyncSender<Started>) {
        let Self { number, config, ports, addresses, gates, fleets, drain, stop } = self;
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => {
                report.send(Err(ProxyError::Worker { worker: number, source })).ok();
                return;
            }
        };
        runtime.block_on(async {
            let bound = match bind(&config, addresses.as_deref()) {
                Ok(bound) => bound,
                Err(error) => {
                    report.send(Err(error)).ok();
                    return;
                }
            };
            let real = bound.iter().map(|sockets| sockets.addresses.clone()).collect();
            let worker = Worker::new(u16::try_from(number).unwrap_or(u16::MAX), &config, &ports, fleets);
            report.send(Ok(real)).ok();
            worker.run(config, (bound, gates), drain, stop).await;
        });
    }
}
