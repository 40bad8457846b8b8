//! Bytes both ways between two connections that speak nothing we know (TP-01): TCP, and what an upgrade left behind.
//!
//! One task moves both directions, each through one buffer, so a side that takes nothing stops the other one. Buffers
//! begin small, grow with what a direction moves, and go when nothing moved for a second. The end of one direction is
//! carried through and leaves the other one open; a connection that breaks ends both.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base_ports::NetAddr;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::poll_read_buf;
use crate::clocks::Clocks;
use crate::fault::Fault;
use crate::worker::Worker;

/// A buffer, by what its direction has moved: 1 KiB, then 16 KiB - 64 after 128 KiB, 256 KiB - 64 after 10 MiB.
const SIZES: [(u64, usize); 3] = [(10 << 20, (256 << 10) - 64), (128 << 10, (16 << 10) - 64), (0, SMALL)];
const SMALL: usize = 1024;
/// Larger buffers are given back after so much stillness.
const REST: Duration = Duration::from_secs(1);

/// One side of a tunnel.
pub(crate) struct End<'a, R, W> {
    pub(crate) read: &'a mut R,
    pub(crate) write: &'a mut W,
    /// What was read from it already.
    pub(crate) ahead: BytesMut,
}

/// Which side broke.
#[derive(Debug)]
pub(crate) enum Broke {
    Caller(io::Error),
    Upstream(io::Error),
}

impl Broke {
    /// What the call failed of; the other side is at `address`.
    pub(crate) fn at(self, address: &NetAddr) -> Fault {
        match self {
            Self::Caller(error) => Fault::Caller(error.into()),
            Self::Upstream(error) => Fault::Upstream { address: address.clone(), source: error.into() },
        }
    }
}

/// Carries bytes until both sides have ended. How long nothing may move, the clocks say.
///
/// # Errors
/// The side that broke.
pub(crate) async fn tunnel<A, B, C, D>(
    worker: &Worker,
    clocks: &Clocks<'_>,
    caller: End<'_, A, B>,
    upstream: End<'_, C, D>,
) -> Result<(), Broke>
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    clocks.answered(true);
    clocks.moved();
    let rest = worker.wheel.timer();
    let mut up = Pipe::new(caller.ahead);
    let mut down = Pipe::new(upstream.ahead);
    poll_fn(|context| {
        let before = (up.moved, down.moved);
        let sent = up.poll(caller.read, upstream.write, context).map_err(|cut| match cut {
            Cut::Read(error) => Broke::Caller(error),
            Cut::Write(error) => Broke::Upstream(error),
        })?;
        let received = down.poll(upstream.read, caller.write, context).map_err(|cut| match cut {
            Cut::Read(error) => Broke::Upstream(error),
            Cut::Write(error) => Broke::Caller(error),
        })?;
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if (up.moved, down.moved) != before {
            clocks.moved();
            if let Some(notes) = clocks.notes() {
                notes.moved(up.moved, down.moved);
            }
        }
        if up.is_large() || down.is_large() {
            if (up.moved, down.moved) != before {
                rest.set(clocks.now() + REST);
            }
            if rest.poll(context).is_ready() {
                up.rest();
                down.rest();
            }
            clocks.holds(false, up.held.capacity());
            clocks.holds(true, down.held.capacity());
        }
        Poll::Pending
    })
    .await
}

/// Where a direction broke.
enum Cut {
    Read(io::Error),
    Write(io::Error),
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    /// Read and not yet written.
    held: BytesMut,
    moved: u64,
    state: State,
    /// Written and not yet flushed.
    is_dirty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader ended, the writer does not know yet.
    Ending,
    Over,
}

impl Pipe {
    fn new(ahead: BytesMut) -> Self {
        Self { held: ahead, moved: 0, state: State::Open, is_dirty: false }
    }

    /// Moves what there is; ready once the end was carried through.
    fn poll<R, W>(&mut self, read: &mut R, write: &mut W, context: &mut Context<'_>) -> Poll<Result<(), Cut>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.held.has_remaining() {
                let taken =
                    ready!(Pin::new(&mut *write).poll_write(context, &self.held)).map_err(Cut::Write)?;
                if taken == 0 {
                    return Poll::Ready(Err(Cut::Write(io::ErrorKind::WriteZero.into())));
                }
                self.held.advance(taken);
                self.moved = self.moved.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
                self.is_dirty = true;
            }
            match self.state {
                State::Open => {
                    self.held.reserve(size_after(self.moved));
                    let Poll::Ready(read) = poll_read_buf(read, &mut self.held, context) else {
                        if self.is_dirty {
                            ready!(Pin::new(&mut *write).poll_flush(context)).map_err(Cut::Write)?;
                            self.is_dirty = false;
                        }
                        return Poll::Pending;
                    };
                    if read.map_err(Cut::Read)? == 0 {
                        (self.state, self.held) = (State::Ending, BytesMut::new());
                    }
                }
                State::Ending => {
                    ready!(Pin::new(&mut *write).poll_shutdown(context)).map_err(Cut::Write)?;
                    self.state = State::Over;
                }
                State::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_large(&self) -> bool {
        self.held.capacity() > SMALL
    }

    /// Gives the buffer back when it holds nothing.
    fn rest(&mut self) {
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }
}

fn size_after(moved: u64) -> usize {
    SIZES.into_iter().find(|(from, _)| moved >= *from).map_or(SMALL, |(_, size)| size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    #[test]
    fn tp_01_a_buffer_grows_with_what_was_moved() {
        let sizes = [0, (128 << 10) - 1, 128 << 10, (10 << 20) - 1, 10 << 20, u64::MAX].map(size_after);
        assert_eq!(sizes, [1024, 1024, 16_320, 16_320, 262_080, 262_080]);
    }

    /// Reads what it is given in pieces, then ends; every other poll is not ready.
    struct Source(Vec<Vec<u8>>, bool);

    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 = !self.1;
            if self.1 {
                return Poll::Pending;
            }
            let Some(piece) = self.0.first_mut() else { return Poll::Ready(Ok(())) };
            let taken = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece.drain(..taken).collect::<Vec<_>>());
            self.0.retain(|piece| !piece.is_empty());
            Poll::Ready(Ok(()))
        }
    }

    /// Takes at most so many bytes at a time; every other poll is not ready.
    struct Sink {
        taken: Vec<u8>,
        most: usize,
        turn: bool,
        flushed: usize,
        is_over: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            assert!(!self.is_over, "written after the end");
            self.turn = !self.turn;
            if self.turn {
                return Poll::Pending;
            }
            let taken = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.taken.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_over = true;
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn tp_01_a_direction_carries_every_byte_in_order_and_its_end(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3000), 0..20), ahead: Vec<u8>, most in 64_usize..4000,
        ) {
            let whole = [ahead.clone(), pieces.concat()].concat();
            let (mut source, mut pipe) = (Source(pieces, false), Pipe::new(BytesMut::from(&ahead[..])));
            let mut sink = Sink { taken: Vec::new(), most, turn: false, flushed: 0, is_over: false };
            let mut context = Context::from_waker(Waker::noop());
            let mut polls = 0;
            while pipe.poll(&mut source, &mut sink, &mut context).is_pending() {
                polls += 1;
                prop_assert!(polls < 500_000, "it never ends");
                if pipe.held.is_empty() {
                    prop_assert_eq!(sink.flushed, sink.taken.len(), "held back while waiting");
                    pipe.rest();
                }
            }
            prop_assert!(sink.is_over);
            prop_assert_eq!(pipe.moved, whole.len() as u64);
            prop_assert_eq!(sink.taken, whole);
        }
    }
}
