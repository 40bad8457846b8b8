//! One address of a listener on all workers: from its sockets to the end of its last connection.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base_net::{Bind, Drain, DrainWatch, Gate, Listener, Part, Sockets, UNIX_MODE};
use base_ports::{Rng, Tasks};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::ProxyError;
use crate::quic::Lane;

/// Where it takes what comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Stream(Bind),
    Quic(SocketAddr),
}

/// A socket of one worker.
#[derive(Debug)]
pub(crate) enum Socket {
    Stream(Listener),
    Datagrams(UdpSocket, Lane),
}

/// What a worker needs to serve a socket.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) gate: Gate,
    pub(crate) drain: DrainWatch,
    /// Nothing is taken in before.
    pub(crate) begin: watch::Receiver<bool>,
    /// The connections of this worker; they end with their entrance.
    pub(crate) connections: Tasks,
    /// Dropped when nothing is taken in any more.
    pub(crate) left: mpsc::Sender<()>,
}

/// An address with its sockets, before anybody serves them.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: Arc<str>,
    /// As the configuration says.
    pub(super) written: Address,
    /// With the port that it was given; none before the first socket.
    pub(super) real: Option<Address>,
    /// By worker.
    parts: Vec<Mine>,
}

/// The sockets of one worker there, of one kind.
#[derive(Debug, Default)]
struct Mine {
    listeners: Vec<Listener>,
    datagrams: Vec<UdpSocket>,
}

/// An address that is served, or whose connections still end.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(super) listener: Arc<str>,
    pub(super) number: usize,
    pub(super) written: Address,
    pub(super) real: Address,
    pub(super) drain: Drain,
    /// By worker.
    pub(super) connections: Vec<Tasks>,
    left: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Bound {
    pub(super) fn new(listener: Arc<str>, written: Address) -> Self {
        Self { listener, written, real: None, parts: Vec::new() }
    }

    /// Takes the sockets of another listener, which leaves them: what waits there to be accepted is taken in here.
    pub(super) fn borrows(&self, sockets: &Sockets, from: &str) -> Result<(), ProxyError> {
        let place = self.written.to_string();
        sockets.lend_place(from, &self.listener, &place).map_err(|source| self.refused(source))
    }

    fn refused(&self, source: io::Error) -> ProxyError {
        ProxyError::Bind { listener: Arc::clone(&self.listener), address: self.written.to_string(), source }
    }

    /// Binds the part of one worker, in the runtime of that.
    pub(super) fn bind(&mut self, sockets: &Sockets, part: Part) -> Result<(), ProxyError> {
        let name = &*self.listener;
        let mine = match &self.written {
            Address::Stream(bind) => sockets.share(name, bind, part).map(|listeners| {
                if let Some(listener) = listeners.first() {
                    self.real.get_or_insert_with(|| Address::Stream(listener.bound().clone()));
                }
                Mine { listeners, ..Mine::default() }
            }),
            Address::Quic(address) => sockets.datagrams(name, *address, part).map(|datagrams| {
                if let Some(socket) = datagrams.first() {
                    let real = || Address::Quic(socket.local_addr().unwrap_or(*address));
                    self.real.get_or_insert_with(real);
                }
                Mine { datagrams, ..Mine::default() }
            }),
        };
        let mine = mine.map_err(|source| self.refused(source))?;
        self.parts.push(mine);
        Ok(())
    }

    /// The entrance of the listener of that number, and the sockets of each worker.
    pub(super) fn open(
        self,
        number: usize,
        left: mpsc::Receiver<()>,
        rng: &Arc<dyn Rng>,
    ) -> (Entrance, Vec<Vec<Socket>>) {
        let mut lanes = Lane::all(self.parts.iter().map(|mine| mine.datagrams.len()).sum(), rng).into_iter();
        let sockets = |mine: Mine| {
            let datagrams = mine.datagrams.into_iter().zip(&mut lanes);
            let datagrams = datagrams.map(|(socket, lane)| Socket::Datagrams(socket, lane));
            mine.listeners.into_iter().map(Socket::Stream).chain(datagrams).collect()
        };
        let entrance = Entrance {
            listener: self.listener,
            number,
            real: self.real.unwrap_or_else(|| self.written.clone()),
            written: self.written,
            drain: Drain::new().0,
            connections: self.parts.iter().map(|_| Tasks::new("connections")).collect(),
            left: Mutex::new(Some(left)),
        };
        (entrance, self.parts.into_iter().map(sockets).collect())
    }
}

impl Entrance {
    /// Returns when nobody takes anything in here any more.
    pub(super) async fn left(&self) {
        let left = self.left.lock().take();
        if let Some(mut left) = left {
            // Nobody sends: the channel ends when the last has left.
            while left.recv().await.is_some() {}
        }
    }

    /// Cuts the connections that are left.
    pub(super) async fn cut(&self) {
        for connections in &self.connections {
            connections.drain(Duration::ZERO).await;
        }
    }
}

impl Address {
    /// Whatever port is free.
    pub(super) fn is_any_port(&self) -> bool {
        match self {
            Self::Stream(Bind::Tcp(address)) | Self::Quic(address) => address.port() == 0,
            Self::Stream(Bind::Unix { .. }) => false,
        }
    }

    pub(super) fn file(path: PathBuf) -> Self {
        Self::Stream(Bind::Unix { path, mode: UNIX_MODE })
    }
}

impl fmt::Display for Address {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(bind) => bind.fmt(f),
            Self::Quic(address) => write!(f, "quic://{address}"),
        }
    }
}
