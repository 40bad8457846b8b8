//! The listeners of a data plane on all its workers, and the way from these to others while calls run (RD-01).
//!
//! What is new is bound before anything changes, so that a port that cannot be had leaves all as it was. A listener is known
//! by its name, each of its addresses is an entrance of its own: what stays is not touched, what goes lets its connections
//! end within a grace.

mod entrance;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base_net::{Bind, Gate, Part, Sockets};
use base_ports::{Clock, Rng, Tasks};
use ca_identity::tls::NamedCertificate;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::fleets::Fleets;
use crate::worker::Worker;
use crate::{ListenerSpec, Ports, ProxyError};
pub(crate) use entrance::{Address, Entry, Socket};
use entrance::{Bound, Entrance};

/// The listeners that are served, and those that end.
#[derive(Debug)]
pub(crate) struct Listeners {
    state: Mutex<State>,
    sockets: Arc<Sockets>,
    fleets: Arc<Fleets>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    begin: watch::Sender<bool>,
    /// Wait for the end of what was closed.
    endings: Tasks,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of the configuration.
    served: Vec<Served>,
    /// Closed, with connections that still end.
    ending: Vec<Arc<Entrance>>,
    /// All of them end: nothing is opened any more.
    is_over: bool,
}

#[derive(Debug)]
struct Served {
    spec: ListenerSpec,
    gate: Gate,
    entrances: Vec<Arc<Entrance>>,
}

/// A worker, and the runtime that its sockets belong to.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) worker: Weak<Worker>,
    pub(crate) runtime: Handle,
}

/// Listeners whose sockets are bound. Dropped, it gives up those that are new.
#[derive(Debug)]
pub struct NextListeners {
    specs: Vec<ListenerSpec>,
    bound: Vec<Bound>,
    /// None once they are open.
    sockets: Option<Arc<Sockets>>,
}

impl Listeners {
    pub(crate) fn new(members: Vec<Member>, fleets: &Arc<Fleets>, ports: &Ports) -> Arc<Self> {
        fleets.meet(members);
        Arc::new(Self {
            state: Mutex::default(),
            sockets: Arc::clone(&ports.sockets),
            fleets: Arc::clone(fleets),
            clock: Arc::clone(&ports.clock),
            rng: Arc::clone(&ports.rng),
            begin: watch::Sender::new(false),
            endings: Tasks::new("listeners"),
        })
    }

    /// What is open takes in what arrives.
    pub(crate) fn accept(&self) {
        self.begin.send_replace(true);
    }

    /// Binds what these need and is not there.
    ///
    /// # Errors
    /// A socket cannot be bound, and then none of these is; or everything ends.
    pub(crate) fn bind(&self, specs: Vec<ListenerSpec>) -> Result<NextListeners, ProxyError> {
        let mut next = NextListeners { specs, bound: Vec::new(), sockets: Some(Arc::clone(&self.sockets)) };
        let mut wanted = Vec::new();
        {
            let state = self.state.lock();
            if state.is_over {
                return Err(ProxyError::Ending);
            }
            for spec in &next.specs {
                let known = state.served.iter().find(|served| served.spec.name == spec.name);
                let mut there = known.map(|known| known.entrances.clone()).unwrap_or_default();
                for address in spec.addresses() {
                    match there.iter().position(|entrance| entrance.written == address) {
                        Some(at) => drop(there.swap_remove(at)),
                        None => {
                            let lender = state.leaves(&address, &next.specs);
                            wanted.push((Arc::clone(&spec.name), address, lender));
                        }
                    }
                }
            }
        }
        for (name, address, lender) in wanted {
            let mut bound = Bound::new(name, address);
            if let Some(lender) = lender {
                bound.borrows(&self.sockets, &lender)?;
            }
            let done = self.bind_parts(&mut bound);
            next.bound.push(bound);
            done?;
        }
        Ok(next)
    }

    fn bind_parts(&self, bound: &mut Bound) -> Result<(), ProxyError> {
        for (number, member) in self.fleets.members().iter().enumerate() {
            let _inside = member.runtime.enter();
            bound.bind(&self.sockets, Part { number, of: self.fleets.members().len() })?;
        }
        Ok(())
    }

    /// These are served from now on, and no others; the names of those that were there and serve new connections in
    /// another way. What is not among them ends within `grace`, and takes nothing in any more when this returns.
    pub(crate) async fn renew(self: &Arc<Self>, next: NextListeners, grace: Duration) -> Vec<Arc<str>> {
        let (renewed, closed) = self.open(next);
        closed.iter().for_each(|entrance| self.close(entrance, grace));
        for entrance in closed {
            entrance.left().await;
        }
        renewed
    }

    /// The names of those that changed, and what is to be closed.
    pub(crate) fn open(&self, mut next: NextListeners) -> (Vec<Arc<str>>, Vec<Arc<Entrance>>) {
        let mut renewed = Vec::new();
        let mut closed = Vec::new();
        let mut state = self.state.lock();
        if state.is_over {
            return (renewed, closed);
        }
        next.sockets = None;
        let mut before = std::mem::take(&mut state.served);
        self.fleets.marks.store(next.specs.iter().any(|spec| spec.is_sidecar), Ordering::Relaxed);
        for spec in std::mem::take(&mut next.specs) {
            let known = before.iter().position(|served| served.spec.name == spec.name);
            let mut served = match known.map(|at| before.remove(at)) {
                Some(known) => {
                    if !known.spec.serves_as(&spec) {
                        known.gate.renew(spec.caps, !spec.forwarders.is_empty());
                        self.each(|_, worker| worker.renew(&spec));
                        renewed.push(Arc::clone(&spec.name));
                    }
                    Served { spec, ..known }
                }
                None => {
                    let gate = spec.gate();
                    self.each(|_, worker| worker.listen(&spec, &gate));
                    Served { spec, gate, entrances: Vec::new() }
                }
            };
            let mut there = std::mem::take(&mut served.entrances);
            for address in served.spec.addresses() {
                let kept = there.iter().position(|entrance| entrance.written == address);
                let entrance = match kept.map(|at| there.remove(at)) {
                    Some(kept) => Some(kept),
                    None => next.take(&served.spec.name, &address).map(|bound| self.serve(&served, bound)),
                };
                served.entrances.extend(entrance);
            }
            closed.extend(there);
            state.served.push(served);
        }
        closed.extend(before.into_iter().flat_map(|gone| gone.entrances));
        state.ending.extend(closed.iter().cloned());
        (renewed, closed)
    }

    fn serve(&self, served: &Served, bound: Bound) -> Arc<Entrance> {
        let (leave, left) = mpsc::channel(1);
        let (entrance, mut parts) = bound.open(served.spec.number, left, &self.rng);
        self.each(|number, worker| {
            let (Some(sockets), Some(connections)) =
                (parts.get_mut(number), entrance.connections.get(number))
            else {
                return;
            };
            let entry = Entry {
                gate: served.gate.clone(),
                drain: entrance.drain.watch(),
                begin: self.begin.subscribe(),
                connections: connections.clone(),
                left: leave.clone(),
            };
            worker.serve(served.spec.number, std::mem::take(sockets), &entry);
        });
        Arc::new(entrance)
    }

    /// Takes nothing in any more; connections have `grace` to end.
    fn close(self: &Arc<Self>, entrance: &Arc<Entrance>, grace: Duration) {
        let (now, entrance) = (self.clock.mono(), Arc::clone(entrance));
        tracing::info!(event = "listener_closed", listener = %entrance.listener, address = %entrance.real, "nothing is taken in there any more");
        match &entrance.real {
            Address::Stream(_) => {
                // Nobody would accept what a copy keeps open.
                self.sockets.release_place(&entrance.listener, &entrance.real.to_string());
                entrance.drain.start_within(now, grace);
            }
            // Its connections go on over sockets of their own, and the port can be had again meanwhile.
            Address::Quic(_) => entrance.drain.start_relieved(now, grace),
        }
        let listeners = Arc::downgrade(self);
        self.endings.spawn("ending", async move {
            if !entrance.drain.finished(grace).await {
                tracing::warn!(event = "drain_cut", listener = %entrance.listener, "connections of a closed listener were cut at the end of its grace");
            }
            entrance.cut().await;
            if let Some(listeners) = listeners.upgrade() {
                listeners.forget(&entrance);
            }
        });
    }

    /// Its last connection has ended.
    fn forget(&self, ended: &Arc<Entrance>) {
        let mut state = self.state.lock();
        state.ending.retain(|entrance| !Arc::ptr_eq(entrance, ended));
        let of_it = |served: &&Served| served.spec.name == ended.listener;
        let served = state.served.iter().find(of_it);
        if !served.is_some_and(|served| served.entrances.iter().any(|known| known.real == ended.real)) {
            self.sockets.release_place(&ended.listener, &ended.real.to_string());
        }
        if served.is_none() && !state.ending.iter().any(|other| other.listener == ended.listener) {
            self.each(|_, worker| worker.forget(ended.number));
        }
    }

    /// Nothing is taken in any more, and connections have until `timeout` to end (DR-01).
    pub(crate) fn drain(&self, timeout: Duration) {
        let now = self.clock.mono();
        for entrance in self.over() {
            self.sockets.release(&entrance.listener);
            entrance.drain.start_within(now, timeout);
        }
    }

    /// Another process takes in what arrives from now on; returns when nothing of that is read here (UP-02).
    pub(crate) async fn relieve(&self, timeout: Duration) {
        let now = self.clock.mono();
        let entrances = self.over();
        entrances.iter().for_each(|entrance| entrance.drain.start_relieved(now, timeout));
        for entrance in entrances {
            entrance.left().await;
        }
    }

    /// Everybody who is asked to go is asked at once.
    pub(crate) fn hurry(&self) {
        let now = self.clock.mono();
        self.over().iter().for_each(|entrance| entrance.drain.start_within(now, Duration::ZERO));
    }

    /// Waits until all connections have ended; false when some have not by then.
    pub(crate) async fn finished(&self, timeout: Duration) -> bool {
        let entrances = self.over();
        join_all(entrances.iter().map(|entrance| entrance.drain.finished(timeout)))
            .await
            .into_iter()
            .all(|all| all)
    }

    fn over(&self) -> Vec<Arc<Entrance>> {
        let mut state = self.state.lock();
        state.is_over = true;
        state.entrances().cloned().collect()
    }

    /// Connections open now.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().entrances().map(|entrance| entrance.drain.open()).sum()
    }

    /// Names and gates.
    pub(crate) fn gates(&self) -> Vec<(Arc<str>, Gate)> {
        let state = self.state.lock();
        state.served.iter().map(|served| (Arc::clone(&served.spec.name), served.gate.clone())).collect()
    }

    /// Where each is entered, with the ports they were given.
    pub(crate) fn addresses(&self) -> Vec<(Arc<str>, Address)> {
        let state = self.state.lock();
        let entrances = state.served.iter().flat_map(|served| &served.entrances);
        entrances.map(|entrance| (Arc::clone(&entrance.listener), entrance.real.clone())).collect()
    }

    /// What each shows besides the own SVID.
    pub(crate) fn certificates(&self) -> Vec<(Arc<str>, Arc<NamedCertificate>)> {
        let state = self.state.lock();
        let shown = state.served.iter().flat_map(|served| {
            served.spec.certificates.iter().map(|shown| (Arc::clone(&served.spec.name), Arc::clone(shown)))
        });
        shown.collect()
    }

    /// Within the runtime of each worker.
    fn each(&self, mut of: impl FnMut(usize, &Arc<Worker>)) {
        for (number, member) in self.fleets.members().iter().enumerate() {
            let _inside = member.runtime.enter();
            if let Some(worker) = member.worker.upgrade() {
                of(number, &worker);
            }
        }
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = Arc<Worker>> {
        self.fleets.members().iter().filter_map(|member| member.worker.upgrade())
    }
}

impl State {
    /// The listener that is served there, when it is not any more under these.
    fn leaves(&self, address: &Address, next: &[ListenerSpec]) -> Option<Arc<str>> {
        let is_there = |served: &&Served| served.entrances.iter().any(|known| known.written == *address);
        let name = &self.served.iter().find(is_there)?.spec.name;
        let stays =
            next.iter().any(|spec| spec.name == *name && spec.addresses().any(|kept| kept == *address));
        (!stays && !address.is_any_port()).then(|| Arc::clone(name))
    }

    fn entrances(&self) -> impl Iterator<Item = &Arc<Entrance>> {
        self.served.iter().flat_map(|served| &served.entrances).chain(&self.ending)
    }
}

impl NextListeners {
    fn take(&mut self, name: &Arc<str>, address: &Address) -> Option<Bound> {
        let wanted = |bound: &Bound| bound.listener == *name && bound.written == *address;
        self.bound.iter().position(wanted).map(|at| self.bound.remove(at))
    }
}

impl Drop for NextListeners {
    fn drop(&mut self) {
        if let Some(sockets) = &self.sockets {
            let real = self.bound.iter().filter_map(|bound| Some((&bound.listener, bound.real.as_ref()?)));
            real.for_each(|(name, real)| sockets.release_place(name, &real.to_string()));
        }
    }
}

impl ListenerSpec {
    /// Every address of it.
    fn addresses(&self) -> impl Iterator<Item = Address> {
        let tcp = self.binds.iter().map(|address| Address::Stream(Bind::Tcp(*address)));
        let quic = self.quic.iter().map(|address: &SocketAddr| Address::Quic(*address));
        let files = self.sockets.iter().cloned().map(Address::file);
        tcp.chain(quic).chain(files)
    }
}
