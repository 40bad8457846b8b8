//! One worker: a thread, its runtime, and everything its connections use without ever meeting another worker (WK-01).

use std::fmt;
use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base_net::{Bind, DrainWatch, Gate, Listener, Part, UNIX_MODE, accept_loop};
use base_ports::{Clock, Net, Rng, Tasks};
use ca_identity::tls::Trust;
use enforcer_traffic::Step;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use crate::body::Scratch;
use crate::fleets::Fleets;
use crate::inbound::connection;
use crate::judge::Judge;
use crate::leaving::Leaving;
use crate::listening::Listening;
use crate::load::Load;
use crate::meter::{Meters, RouteMeter};
use crate::pool::Pools;
use crate::secured;
use crate::wheel::Wheel;
use crate::{ListenerSpec, Names, Ports, ProxyConfig, ProxyError, Reveal, Trails, ViewHandle, quic};

const SWEEP: Duration = Duration::from_secs(5);
/// Between two looks of all connections.
const LOOKS: Duration = Duration::from_millis(50);

/// What all connections of one worker share. The locks inside are this worker's alone.
pub(crate) struct Worker {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) names: Arc<Names>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) view: Arc<ViewHandle>,
    pub(crate) judge: Judge,
    pub(crate) wheel: Wheel,
    pub(crate) pools: Pools,
    /// What this worker shares with the others.
    pub(crate) fleets: Arc<Fleets>,
    /// What is given up under load.
    pub(crate) load: Arc<Load>,
    pub(crate) scratch: Scratch,
    pub(crate) meters: Meters,
    /// Counters of calls without a route.
    pub(crate) nowhere: Arc<RouteMeter>,
    /// What tells calls that were here before.
    pub(crate) mark: Option<Arc<str>>,
    pub(crate) reveal: Reveal,
    /// Where trails go, when they are written.
    pub(crate) trails: Option<Trails>,
    pub(crate) tasks: Tasks,
    pub(crate) leaving: Arc<Leaving>,
    changes: AtomicU32,
    trusted: Arc<Notify>,
    /// The listeners as new connections are served, in the order of the configuration.
    listeners: Mutex<Vec<watch::Sender<Arc<Listening>>>>,
}

/// The bound sockets of a worker, in the order of the configuration.
pub(crate) type Bound = Vec<Sockets>;

/// The bound sockets of a worker for one listener.
pub(crate) struct Sockets {
    tcp: Vec<Listener>,
    /// The first worker alone has these.
    quic: Vec<UdpSocket>,
    pub(crate) addresses: Addresses,
}

/// Where a listener listens, with the ports it was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) quic: Vec<SocketAddr>,
    pub(crate) unix: Vec<PathBuf>,
}

impl Worker {
    pub(crate) fn new(
        number: u16,
        config: &ProxyConfig,
        ports: &Ports,
        fleets: Arc<Fleets>,
        leaving: Arc<Leaving>,
    ) -> Arc<Self> {
        let meters = Meters::new(&ports.metrics);
        let none: Arc<str> = "".into();
        let nowhere = meters.route(&none, &none);
        let trusted = Arc::new(Notify::new());
        let told = Arc::clone(&trusted);
        ports.trust.tell(move || told.notify_one());
        Arc::new(Self {
            clock: Arc::clone(&ports.clock),
            rng: Arc::clone(&ports.rng),
            net: Arc::clone(&ports.net),
            names: Arc::clone(&ports.names),
            trust: Arc::clone(&ports.trust),
            view: Arc::clone(&ports.view),
            judge: Judge::new(
                (ports.lane)(number),
                Arc::clone(&ports.samples),
                ports.view.current(),
                Arc::clone(&nowhere),
            ),
            wheel: Wheel::new(Arc::clone(&ports.clock)),
            pools: Pools::default(),
            load: fleets.loads().get(usize::from(number)).cloned().unwrap_or_default(),
            fleets,
            scratch: Scratch::new(),
            meters,
            nowhere,
            mark: config.mark.clone(),
            reveal: config.reveal_decision_id,
            trails: ports.trails.clone(),
            tasks: Tasks::new("proxy"),
            leaving,
            changes: AtomicU32::new(0),
            trusted,
            listeners: Mutex::default(),
        })
    }

    /// Serves until `stop`; a drain ends the accepting first.
    pub(crate) async fn run(
        self: Arc<Self>,
        config: Arc<ProxyConfig>,
        (bound, gates): (Bound, Vec<Gate>),
        (mut begin, left): (watch::Receiver<bool>, mpsc::Sender<()>),
        drain: DrainWatch,
        mut stop: watch::Receiver<bool>,
    ) {
        let worker = Arc::clone(&self);
        self.tasks.spawn("wheel", async move { worker.wheel.run().await });
        self.tasks.spawn("sweep", sweep(Arc::clone(&self)));
        self.tasks.spawn("changes", judge_again(Arc::clone(&self)));
        self.tasks.spawn("drain", leave(Arc::clone(&self), drain.clone()));
        self.tasks.spawn("given up", give_up(Arc::clone(&self)));
        let worker = Arc::clone(&self);
        self.tasks.spawn("load", async move { worker.load.measure(&*worker.clock).await });
        tokio::select! {
            begun = begin.wait_for(|begin| *begin) => drop(begun),
            stopped = stop.wait_for(|stop| *stop) => drop(stopped),
        }
        let served = config.listeners.iter().zip(bound).zip(gates).enumerate();
        for (number, ((spec, sockets), gate)) in served {
            let (load, mut evictions) = (Arc::clone(&self.load), gate.evictions());
            self.tasks.spawn("evictions", async move {
                while evictions.changed().await.is_ok() {
                    load.told.notify_one();
                }
            });
            let open = self.meters.listener(&spec.name);
            let listening = watch::Sender::new(Arc::new(Listening::new(spec, number, &self.trust, open)));
            for socket in sockets.quic {
                let (worker, listening) = (Arc::clone(&self), listening.subscribe());
                let (gate, drain) = (gate.clone(), drain.clone());
                let accepting = quic::accept(worker, listening, socket, gate, drain, left.clone());
                self.tasks.spawn("quic", accepting);
            }
            for socket in sockets.tcp {
                let (worker, listening) = (Arc::clone(&self), listening.subscribe());
                let accepting = accept_loop(socket, gate.clone(), drain.clone(), move |accepted| {
                    if let Some(strain) = worker.load.gives_up(Step::New) {
                        return worker.meters.shed(strain);
                    }
                    let listening = Arc::clone(&listening.borrow());
                    let served = connection(Arc::clone(&worker), listening, accepted);
                    worker.tasks.spawn("connection", served);
                });
                self.tasks.spawn("accept", accepting);
            }
            self.listeners.lock().push(listening);
        }
        drop(left);
        // An error means that the owner is gone, which is an order to stop too.
        stop.wait_for(|stop| *stop).await.ok();
        self.tasks.drain(Duration::ZERO).await;
    }

    /// From now on new connections of the listener at that place are served so.
    pub(crate) fn renew(&self, number: usize, spec: &ListenerSpec) {
        let open = self.meters.listener(&spec.name);
        let listening = Arc::new(Listening::new(spec, number, &self.trust, open));
        if let Some(served) = self.listeners.lock().get(number) {
            served.send_replace(listening);
        }
    }

    /// How often policies, entities or identities changed. Who holds a call open compares it with what it was.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.leaving.is_begun()
    }

    /// Waits for a time, to the tick of the wheel.
    pub(crate) async fn pause(&self, time: Duration) {
        let timer = self.wheel.timer();
        timer.set(self.clock.mono() + time);
        poll_fn(|context| timer.poll(context)).await;
    }

    /// Whether there is a valid SVID to show (TL-08).
    pub(crate) fn holds_identity(&self) -> bool {
        secured::holds(&self.trust)
    }

    /// Whether calls of the local application can be judged and handed on (SC-04).
    pub(crate) fn is_ready(&self) -> bool {
        self.holds_identity() && self.view.current().policy.is_some()
    }
}

/// This worker's part of every listener of the configuration.
pub(crate) fn bind(config: &ProxyConfig, ports: &Ports, part: Part) -> Result<Bound, ProxyError> {
    let mut bound = Vec::with_capacity(config.listeners.len());
    for spec in &config.listeners {
        let name = &spec.name;
        let fail = |address: &dyn fmt::Display, source| ProxyError::Bind {
            listener: Arc::clone(name),
            address: address.to_string(),
            source,
        };
        let files = spec.sockets.iter().map(|path| Bind::Unix { path: path.clone(), mode: UNIX_MODE });
        let (mut tcp, mut addresses) = (Vec::new(), Addresses::default());
        for bind in spec.binds.iter().map(|address| Bind::Tcp(*address)).chain(files) {
            let listeners = ports.sockets.share(name, &bind, part).map_err(|source| fail(&bind, source))?;
            match listeners.first().map_or(&bind, Listener::bound) {
                Bind::Tcp(address) => addresses.tcp.push(*address),
                Bind::Unix { path, .. } => addresses.unix.push(path.clone()),
            }
            tcp.extend(listeners);
        }
        let mut quic = Vec::new();
        for address in spec.quic.iter().filter(|_| part.number == 0) {
            let socket = ports.sockets.datagram(name, *address);
            let socket = socket.map_err(|source| fail(&format_args!("quic://{address}"), source))?;
            addresses.quic.push(socket.local_addr().unwrap_or(*address));
            quic.push(socket);
        }
        bound.push(Sockets { tcp, quic, addresses });
    }
    Ok(bound)
}

/// Has every connection look whether its time to go has come, from the beginning of a drain on.
async fn leave(worker: Arc<Worker>, mut drain: DrainWatch) {
    drain.started().await;
    drop(drain);
    loop {
        worker.wheel.stir();
        tokio::time::sleep(LOOKS.max(worker.leaving.spread() / 64)).await;
    }
}

/// Has every connection look whether it must leave, as more is given up or descriptors have run out; not more often than
/// looking is worth.
async fn give_up(worker: Arc<Worker>) {
    loop {
        worker.load.told.notified().await;
        worker.wheel.stir();
        tokio::time::sleep(LOOKS).await;
    }
}

/// Has every running call look whether it is still permitted, after each change of the view or of trust (CT-03).
async fn judge_again(worker: Arc<Worker>) {
    let mut views = worker.view.subscribe();
    loop {
        tokio::select! {
            // An error means that nobody can publish any more.
            told = views.changed() => if told.is_err() { return },
            () = worker.trusted.notified() => worker.pools.sweep(&worker),
        }
        worker.changes.fetch_add(1, Ordering::Relaxed);
        worker.wheel.stir();
    }
}

async fn sweep(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now = worker.clock.mono();
        worker.judge.in_force().clusters().for_each(|cluster| cluster.tend(&worker, now));
        worker.pools.sweep(&worker);
        worker.fleets.sweep();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("leaving", &self.leaving).finish_non_exhaustive()
    }
}
