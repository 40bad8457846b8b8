//! One worker: a thread, its runtime, and everything its connections use without ever meeting another worker (WK-01).

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base_net::{Accepted, DrainWatch, Gate, accept_loop};
use base_ports::{Clock, Detached, Net, Rng, Tasks};
use ca_identity::tls::Trust;
use enforcer_traffic::Step;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::body::Scratch;
use crate::fleets::Fleets;
use crate::holdings::Holdings;
use crate::inbound::connection;
use crate::judge::Judge;
use crate::listeners::{Entry, Member, Socket};
use crate::listening::Listening;
use crate::load::{BEAT, Load, Served};
use crate::meter::{Meters, RouteMeter};
use crate::mirror::Mirrors;
use crate::pool::Pools;
use crate::quic::Keys;
use crate::secured;
use crate::standing::Standing;
use crate::wheel::Wheel;
use crate::{ListenerSpec, Names, Ports, ProxyConfig, Reveal, Trails, ViewHandle, quic};

const SWEEP: Duration = Duration::from_secs(5);
/// Between two looks of all connections.
const LOOKS: Duration = Duration::from_millis(50);

/// While memory is short, everybody says so often what it holds, beats.
const SAYS: u32 = 5;

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
    pub(crate) quic: Arc<Keys>,
    /// What this worker shares with the others.
    pub(crate) fleets: Arc<Fleets>,
    /// What is given up under load.
    pub(crate) load: Arc<Load>,
    pub(crate) scratch: Scratch,
    pub(crate) meters: Meters,
    /// Counters of calls without a route.
    pub(crate) nowhere: Arc<RouteMeter>,
    mark: Arc<str>,
    /// Its place among the workers.
    number: u16,
    pub(crate) reveal: Reveal,
    /// Where trails go, when they are written.
    pub(crate) trails: Option<Trails>,
    /// Who is connected.
    pub(crate) standing: Standing,
    /// What calls hold in memory.
    pub(crate) holdings: Holdings,
    /// Copies of calls that are under way to mirrors.
    pub(crate) mirrors: Mirrors,
    pub(crate) tasks: Tasks,
    changes: AtomicU32,
    trusted: Arc<Notify>,
    /// By number: how new connections of each listener are served.
    listeners: Mutex<HashMap<usize, watch::Sender<Arc<Listening>>>>,
}

impl Worker {
    pub(crate) fn new(
        number: u16,
        config: &ProxyConfig,
        ports: &Ports,
        fleets: Arc<Fleets>,
        quic: Arc<Keys>,
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
            quic,
            load: fleets.loads().get(usize::from(number)).cloned().unwrap_or_default(),
            fleets,
            scratch: Scratch::new(),
            meters,
            nowhere,
            mark: Arc::clone(&config.mark),
            number,
            reveal: config.reveal_decision_id,
            trails: ports.trails.clone(),
            standing: Standing::default(),
            holdings: Holdings::default(),
            mirrors: Mirrors::default(),
            tasks: Tasks::new("proxy"),
            changes: AtomicU32::new(0),
            trusted,
            listeners: Mutex::default(),
        })
    }

    /// Works until `stop`, whatever listeners come and go.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let worker = Arc::clone(&self);
        self.tasks.spawn("wheel", async move { worker.wheel.run().await });
        self.tasks.spawn("sweep", sweep(Arc::clone(&self)));
        self.tasks.spawn("changes", judge_again(Arc::clone(&self)));
        self.tasks.spawn("given up", give_up(Arc::clone(&self)));
        self.tasks.spawn("memory", free_memory(Arc::clone(&self)));
        let worker = Arc::clone(&self);
        self.tasks.spawn("load", async move { worker.load.measure(&*worker.clock).await });
        // An error means that the owner is gone, which is an order to stop too.
        stop.wait_for(|stop| *stop).await.ok();
        self.pools.close().await;
        self.tasks.drain(Duration::ZERO).await;
    }

    /// Knows the listener from now on, and how its connections are served.
    pub(crate) fn listen(&self, spec: &ListenerSpec, gate: &Gate) {
        let (load, mut evictions) = (Arc::clone(&self.load), gate.evictions());
        self.tasks.spawn("evictions", async move {
            while evictions.changed().await.is_ok() {
                load.told.notify_one();
            }
        });
        self.listeners.lock().insert(spec.number, watch::Sender::new(self.listening(spec)));
    }

    /// From now on new connections of the listener are served so.
    pub(crate) fn renew(&self, spec: &ListenerSpec) {
        if let Some(served) = self.listeners.lock().get(&spec.number) {
            served.send_replace(self.listening(spec));
        }
    }

    fn listening(&self, spec: &ListenerSpec) -> Arc<Listening> {
        Arc::new(Listening::new(spec, &self.trust, self.meters.listener(&spec.name)))
    }

    /// The listener is gone.
    pub(crate) fn forget(&self, number: usize) {
        self.listeners.lock().remove(&number);
    }

    /// Serves what arrives at an entrance of the listener, until that drains.
    pub(crate) fn serve(self: &Arc<Self>, number: usize, sockets: Vec<Socket>, entry: &Entry) {
        let listeners = self.listeners.lock();
        let Some(listening) = listeners.get(&number).filter(|_| !sockets.is_empty()) else { return };
        entry.connections.spawn("drain", leave(Arc::clone(self), entry.drain.clone()));
        for socket in sockets {
            let (worker, listening, entry) = (Arc::clone(self), listening.subscribe(), entry.clone());
            self.tasks.spawn("accept", accept(worker, (number, listening), socket, entry));
        }
    }

    /// Serves an accepted connection in a task of its own, which counts as work of this worker.
    fn take_in(
        self: &Arc<Self>,
        listening: Arc<Listening>,
        accepted: Accepted,
        served: Served,
        connections: &Tasks,
    ) {
        let serving = connection(Arc::clone(self), listening, accepted);
        connections.spawn("connection", async move {
            serving.await;
            drop(served);
        });
    }

    /// How often policies, entities or identities changed. Who holds a call open compares it with what it was.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// What tells calls that were here before, where that is looked at.
    pub(crate) fn mark(&self) -> Option<&str> {
        self.fleets.marks.load(Ordering::Relaxed).then_some(&*self.mark)
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

/// Takes in what arrives at a socket, from the beginning on, until a drain.
async fn accept(
    worker: Arc<Worker>,
    (number, listening): (usize, watch::Receiver<Arc<Listening>>),
    socket: Socket,
    mut entry: Entry,
) {
    tokio::select! {
        // An error means that the owner is gone.
        begun = entry.begin.wait_for(|begin| *begin) => if begun.is_err() { return },
        () = entry.drain.started() => {}
    }
    let socket = match socket {
        Socket::Datagrams(socket, lane) => {
            return quic::accept(worker, listening, (socket, lane), entry).await;
        }
        Socket::Stream(socket) => socket,
    };
    let connections = entry.connections;
    accept_loop(socket, entry.gate, entry.drain, move |accepted| {
        if let Some(strain) = worker.load.gives_up(Step::New) {
            return worker.meters.shed(strain);
        }
        if let Some((other, load)) = worker.fleets.lighter(worker.number.into()) {
            return hand_over(other, Served::begin(load), number, accepted, connections.clone());
        }
        let served = Served::begin(&worker.load);
        worker.take_in(Arc::clone(&listening.borrow()), accepted, served, &connections);
    })
    .await;
    drop(entry.left);
}

/// Has another worker serve a connection of which no byte was read (AL-03). It ends with the entrance where it came in.
fn hand_over(to: &Member, served: Served, number: usize, accepted: Accepted, connections: Tasks) {
    let (worker, Accepted { stream, peer, permit }) = (to.worker.clone(), accepted);
    let detached = stream.detach();
    to.runtime.spawn(async move {
        let stream = detached.and_then(Detached::attach);
        let Some(worker) = worker.upgrade() else { return };
        let listening = worker.listeners.lock().get(&number).map(|served| Arc::clone(&served.borrow()));
        match (stream, listening) {
            (Ok(stream), Some(listening)) => {
                worker.take_in(listening, Accepted { stream, peer, permit }, served, &connections);
            }
            (Err(cause), _) => {
                tracing::warn!(event = "connection_lost", %cause, "a connection did not come to its worker")
            }
            (Ok(_), None) => {} // the listener is gone, and its connections with it
        }
    });
}

/// Has every connection look whether its time to go has come, from the beginning of a drain on.
async fn leave(worker: Arc<Worker>, mut drain: DrainWatch) {
    drain.started().await;
    loop {
        worker.wheel.stir();
        tokio::time::sleep(LOOKS.max(drain.spread() / 64)).await;
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

/// Ends the calls that hold most while memory is short, some at a time: what they held is free only when they are gone.
async fn free_memory(worker: Arc<Worker>) {
    let mut beats = 0_u32;
    loop {
        if !worker.load.is_short_of_memory() {
            beats = 0;
            worker.load.short.notified().await;
        }
        tokio::time::sleep(BEAT).await;
        // It may be over again.
        if !worker.load.is_short_of_memory() {
            continue;
        }
        let (calls, bytes) = worker.holdings.choose();
        if calls > 0 {
            tracing::warn!(
                event = "memory_freed",
                calls,
                bytes,
                "memory is short: the calls that hold most end"
            );
        }
        // Calls look when they are stirred, and say anew what they hold.
        if calls > 0 || beats.is_multiple_of(SAYS) {
            worker.wheel.stir();
        }
        beats = beats.wrapping_add(1);
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
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
