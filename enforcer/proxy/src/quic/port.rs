//! The socket of an endpoint, which it gives up to another process while its connections live on (UP-01, UP-03).
//!
//! As long as it serves, it is a datagram socket beside those of the other workers, with which it exchanges what came to
//! the wrong one. When another process takes over what arrives there, each living
//! connection gets a socket of its own on the same address, connected to its caller: the kernel prefers those, so what
//! belongs to old connections comes here and everything else goes to the other process. Answers leave through the old
//! copy. A caller that changes its address after that is lost.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base_net::connected_datagram;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

use super::lane::{Lane, Steered};

/// So long what has arrived is read before a socket is left to another process.
const DRAINED: Duration = Duration::from_millis(100);

/// The socket of one endpoint.
pub(crate) struct Port {
    shared: Arc<dyn AsyncUdpSocket>,
    /// The same socket, to look at.
    socket: UdpSocket,
    callers: Mutex<Callers>,
    is_left: AtomicBool,
    /// What had arrived by then has been read.
    is_drained: AtomicBool,
    leaver: AtomicWaker,
    /// One per caller, once it is left.
    own: Mutex<Vec<Arc<dyn AsyncUdpSocket>>>,
    reader: AtomicWaker,
    lane: Lane,
    steered: Steered,
}

#[derive(Default)]
struct Callers {
    next: u64,
    known: HashMap<u64, Caller>,
}

/// Whose datagrams go on arriving.
enum Caller {
    Shaking(SocketAddr),
    Connected(quinn::Connection),
}

/// A connection that the port knows of, until this is dropped.
pub(crate) struct Known {
    port: Arc<Port>,
    number: u64,
}

impl Port {
    pub(super) fn new(socket: UdpSocket, lane: Lane, steered: Steered) -> io::Result<Arc<Self>> {
        let shared = TokioRuntime.wrap_udp_socket(socket.try_clone()?)?;
        Ok(Arc::new(Self {
            shared,
            socket,
            callers: Mutex::default(),
            is_left: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            leaver: AtomicWaker::new(),
            own: Mutex::default(),
            reader: AtomicWaker::new(),
            lane,
            steered,
        }))
    }

    /// Remembers a caller whose handshake begins.
    pub(crate) fn greet(self: &Arc<Self>, source: SocketAddr) -> Known {
        let mut callers = self.callers.lock();
        let number = callers.next;
        callers.next = number.wrapping_add(1);
        callers.known.insert(number, Caller::Shaking(source));
        Known { port: Arc::clone(self), number }
    }

    /// From now on another process reads what arrives here, but for what belongs to the connections there are.
    ///
    /// # Errors
    /// When sockets cannot be made; some connections may be lost then.
    pub(crate) fn leave(&self) -> io::Result<()> {
        let local = self.socket.local_addr()?;
        let mut own = Vec::new();
        let mut made = HashMap::new();
        let mut failed = Ok(());
        for caller in self.callers.lock().known.values() {
            let (peer, ip) = caller.ends();
            let local = SocketAddr::new(ip.unwrap_or(local.ip()), local.port());
            // Callers behind one address share it.
            made.entry(peer).or_insert_with(|| {
                let socket = connected_datagram(&self.socket, local, peer);
                match socket.and_then(|socket| TokioRuntime.wrap_udp_socket(socket)) {
                    Ok(socket) => own.push(socket),
                    Err(cause) => failed = Err(cause),
                }
            });
        }
        *self.own.lock() = own;
        self.is_left.store(true, Ordering::Release);
        self.reader.wake();
        failed
    }

    /// Returns when what arrived before it was left has been read, so that the other process, to which connections of this
    /// one are unknown, does not find and reset them.
    pub(super) async fn drained(&self) {
        let drained = poll_fn(|context| {
            self.leaver.register(context.waker());
            if self.is_drained.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        });
        // New callers may arrive all the time.
        if tokio::time::timeout(DRAINED, drained).await.is_err() {
            self.is_drained.store(true, Ordering::Release);
        }
    }

    /// Reads on of the shared socket once it is left, until that is empty.
    fn poll_rest(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(read) = self.poll_one(&*self.shared, context, bufs, meta) {
            return Poll::Ready(read);
        }
        // The runtime may not have heard yet of what has arrived.
        if self.socket.peek_from(&mut [0]).is_ok() {
            context.waker().wake_by_ref();
        } else {
            self.is_drained.store(true, Ordering::Release);
            self.leaver.wake();
        }
        Poll::Pending
    }

    /// Reads one of its sockets, and keeps what is for this endpoint: a socket gets whatever comes to the port between
    /// its binding and its connecting.
    fn poll_one(
        &self,
        socket: &dyn AsyncUdpSocket,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(socket.poll_recv(context, bufs, meta))?;
        let metas = meta.get_mut(..count).unwrap_or_default();
        self.lane.steer(bufs, metas, &self.steered);
        Poll::Ready(Ok(count))
    }
}

impl Caller {
    /// Its address, and the one of ours that it calls.
    fn ends(&self) -> (SocketAddr, Option<IpAddr>) {
        match self {
            Self::Shaking(source) => (*source, None),
            Self::Connected(quic) => (quic.remote_address(), quic.local_ip()),
        }
    }
}

impl Known {
    /// The handshake is complete: from now on the connection itself says where its caller is.
    pub(crate) fn connected(&self, quic: &quinn::Connection) {
        self.port.callers.lock().known.insert(self.number, Caller::Connected(quic.clone()));
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // The connection may end with it, which must not happen under the lock.
        let known = self.port.callers.lock().known.remove(&self.number);
        drop(known);
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.shared).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.shared.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(count) = self.lane.poll_passed(context, bufs, meta) {
            return Poll::Ready(Ok(count));
        }
        if !self.is_left.load(Ordering::Acquire) {
            self.reader.register(context.waker());
            if !self.is_left.load(Ordering::Acquire) {
                return self.poll_one(&*self.shared, context, bufs, meta);
            }
        }
        if !self.is_drained.load(Ordering::Acquire)
            && let Poll::Ready(count) = self.poll_rest(context, bufs, meta)
        {
            return Poll::Ready(count);
        }
        let own = self.own.lock();
        let mut arrived = own.iter().map(|socket| match self.poll_one(&**socket, context, bufs, meta) {
            // Its caller has gone; the error is told once.
            Poll::Ready(Err(_)) => self.poll_one(&**socket, context, bufs, meta),
            polled => polled,
        });
        arrived.find(|polled| matches!(polled, Poll::Ready(Ok(_)))).unwrap_or(Poll::Pending)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.shared.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.shared.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.shared.may_fragment()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("socket", &self.socket)
            .field("is_left", &self.is_left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use base_ports::{Rng, SystemRng};
    use quinn::ConnectionIdGenerator;

    use super::*;

    async fn read(port: &Port) -> Option<Vec<u8>> {
        let mut bytes = [0; 2048];
        let mut meta = [RecvMeta::default()];
        let read = poll_fn(|context| port.poll_recv(context, &mut [IoSliceMut::new(&mut bytes)], &mut meta));
        tokio::time::timeout(Duration::from_millis(300), read).await.ok()?.unwrap();
        Some(bytes[..meta[0].len].to_vec()).filter(|read| !read.is_empty())
    }

    /// A socket hears all callers of the port until it is connected; the endpoint reset what it did not know.
    #[tokio::test]
    async fn up_03_what_a_socket_of_its_own_hears_of_another_endpoint_is_passed_on() {
        let rng: Arc<dyn Rng> = Arc::new(SystemRng);
        let mut ids = Vec::new();
        let mut ports = Lane::all(2, &rng).into_iter().map(|lane| {
            ids.push(lane.ids());
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            Port::new(socket, lane, Steered::alone()).unwrap()
        });
        let (left, other) = (ports.next().unwrap(), ports.next().unwrap());
        let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _known = left.greet(caller.local_addr().unwrap());
        left.leave().unwrap();
        for (id, is_own) in [(0, true), (1, false)] {
            let mut packet = vec![0x40];
            packet.extend_from_slice(&ids.get_mut(id).unwrap().generate_cid());
            packet.resize(60, 7);
            caller.send_to(&packet, left.local_addr().unwrap()).unwrap();
            let kept = read(&left).await;
            assert_eq!(kept, is_own.then(|| packet.clone()));
            let passed = read(&other).await;
            assert_eq!(passed, (!is_own).then_some(packet));
        }
    }
}
