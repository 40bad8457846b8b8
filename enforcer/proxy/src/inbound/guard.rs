//! Counts the frames of an HTTP/2 caller before the library sees them (H2-01 to H2-03): frames that cost work and move no
//! call have budgets, because the library takes any number of them. When one is spent nothing more is read, and the
//! connection says ENHANCE_YOUR_CALM and ends. It also tells since when a header block is open, which no library limits.
//!
//! Only frame headers are looked at; the clock is read for frames with a budget alone.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base_ports::{Clock, Mono};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const WINDOW: Duration = Duration::from_secs(10);
/// What a caller with a proved identity may do, in times of what anybody may.
const PROVED: u32 = 10;
/// Control bytes without a request or a body byte in between (H2-03).
const NO_PROGRESS: u32 = 64 * 1024;
/// CONTINUATION frames of one header block.
const CONTINUATIONS: u32 = 20;
/// RST_STREAM over the life of a connection, or a tenth of its streams, whichever is more (H2-02).
const RESETS: u32 = 10_000;

const PREFACE: u32 = 24;

/// The bytes of a caller, guarded.
pub(super) struct Guarded<S> {
    io: S,
    read: Walk,
    written: Walk,
    budget: Budget,
    seen: Arc<Seen>,
}

/// What whoever drives the connection must know of its bytes.
#[derive(Debug, Default)]
pub(super) struct Seen {
    is_spent: AtomicBool,
    /// Nanoseconds; 0 when no header block is open.
    open_since: AtomicU64,
}

impl Seen {
    /// A budget is spent; nothing more will be read.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// When the header block began that has not ended yet.
    pub(super) fn open_since(&self) -> Option<Mono> {
        let since = self.open_since.load(Ordering::Relaxed);
        (since != 0).then(|| Mono::from_nanos(since))
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(io: S, clock: Arc<dyn Clock>, is_proved: bool) -> Self {
        let since = clock.mono();
        let times = if is_proved { PROVED } else { 1 };
        Self {
            io,
            read: Walk { skip: PREFACE, ..Walk::default() },
            written: Walk::default(),
            budget: Budget { clock, times, since, window: Counts::default(), life: Life::default() },
            seen: Arc::default(),
        }
    }

    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }
}

/// Finds frame headers in a stream of bytes.
#[derive(Debug, Default)]
struct Walk {
    head: [u8; 9],
    held: usize,
    /// Bytes of the current frame, or of the preface, still to come.
    skip: u32,
    /// The current frame carries a header block.
    is_header: bool,
    /// That block goes on in the next frame.
    goes_on: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
}

impl Walk {
    /// A header block has begun and not ended.
    fn is_open(&self) -> bool {
        self.goes_on || (self.is_header && self.skip > 0)
    }

    fn over(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip = self.skip.saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let taken = bytes.len().min(self.head.len().saturating_sub(self.held));
            let (now, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
            for (slot, byte) in self.head.iter_mut().skip(self.held).zip(now) {
                *slot = *byte;
            }
            self.held = self.held.saturating_add(taken);
            bytes = rest;
            if self.held == self.head.len() {
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                (self.held, self.skip) = (0, length);
                self.is_header = kind == kind::HEADERS || (kind == kind::CONTINUATION && self.goes_on);
                self.goes_on = if self.is_header { flags & END_HEADERS == 0 } else { self.goes_on };
                each(Frame { length, kind, flags });
            }
        }
    }
}

/// What a caller has left.
struct Budget {
    clock: Arc<dyn Clock>,
    times: u32,
    since: Mono,
    window: Counts,
    life: Life,
}

/// Frames of the current window.
#[derive(Debug, Default)]
struct Counts {
    streams: u32,
    resets: u32,
    pings: u32,
    settings: u32,
    priorities: u32,
    unknown: u32,
    empty: u32,
    updates: u32,
    /// DATA that we sent.
    sent: u32,
}

/// What outlives a window.
#[derive(Debug, Default)]
struct Life {
    streams: u32,
    resets: u32,
    idle_bytes: u32,
    continuations: u32,
}

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const PRIORITY_UPDATE: u8 = 0x10;
}

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Budget {
    /// Takes one frame of the caller; false when that was one too many.
    fn take(&mut self, frame: Frame) -> bool {
        let is_progress = match frame.kind {
            kind::HEADERS => true,
            kind::DATA => frame.length > 0 || frame.flags & END_STREAM != 0,
            _ => false,
        };
        if is_progress {
            self.life.idle_bytes = 0;
            if frame.kind == kind::HEADERS {
                self.life.continuations = 0;
                self.life.streams = self.life.streams.saturating_add(1);
                self.window.streams = self.window.streams.saturating_add(1);
            }
            return true;
        }
        self.life.idle_bytes = self.life.idle_bytes.saturating_add(frame.length.saturating_add(9));
        if frame.kind == kind::CONTINUATION {
            self.life.continuations = self.life.continuations.saturating_add(1);
            return self.life.continuations <= CONTINUATIONS;
        }
        let now = self.clock.mono();
        if now.saturating_since(self.since) >= WINDOW {
            self.since = now;
            self.window = Counts::default();
        }
        let is_ack = frame.flags & ACK != 0;
        let Self { times, window, life, .. } = self;
        let (count, base, earned) = match frame.kind {
            kind::DATA => (&mut window.empty, 100, 0),
            kind::PRIORITY | kind::PRIORITY_UPDATE => (&mut window.priorities, 100, 0),
            kind::RST_STREAM => {
                life.resets = life.resets.saturating_add(1);
                if life.resets > RESETS.max(life.streams / 10) {
                    return false;
                }
                (&mut window.resets, 100, window.streams / 10)
            }
            // An answer to what we sent; the library refuses one that answers nothing.
            kind::SETTINGS if is_ack => return true,
            kind::SETTINGS => (&mut window.settings, 50, 0),
            // Clients measure the path with a PING per burst of data that they receive. One that claims to be an answer
            // counts as well: the library takes any number of answers to nothing.
            kind::PING => (&mut window.pings, 100, window.sent),
            kind::WINDOW_UPDATE => (&mut window.updates, 100, window.sent.saturating_mul(10)),
            _ => (&mut window.unknown, 100, 0),
        };
        *count = count.saturating_add(1);
        let is_earned = frame.kind == kind::WINDOW_UPDATE && *count <= earned;
        if is_earned {
            // Credit for data that flows is part of its progress.
            life.idle_bytes = 0;
        }
        *count <= base * *times + earned && life.idle_bytes <= NO_PROGRESS.saturating_mul(*times)
    }

    fn sent(&mut self, frame: Frame) {
        if frame.kind == kind::DATA {
            self.window.sent = self.window.sent.saturating_add(1);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.seen.is_spent() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let Self { read: walk, budget, seen, .. } = this;
        if let Poll::Ready(Ok(())) = &read {
            let mut is_within = true;
            walk.over(buf.filled().get(before..).unwrap_or_default(), |frame| {
                is_within &= budget.take(frame)
            });
            if !is_within {
                seen.is_spent.store(true, Ordering::Relaxed);
                // What came with it is not looked at either.
                buf.set_filled(before);
                return Poll::Pending;
            }
            match (walk.is_open(), seen.open_since()) {
                (true, None) => {
                    seen.open_since.store(budget.clock.mono().as_nanos().max(1), Ordering::Relaxed);
                }
                (false, Some(_)) => seen.open_since.store(0, Ordering::Relaxed),
                _ => {}
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, written, budget, .. } = self.get_mut();
        let wrote = Pin::new(io).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = &wrote {
            written.over(buf.get(..*length).unwrap_or_default(), |frame| budget.sent(frame));
        }
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { io, written, budget, .. } = self.get_mut();
        let wrote = Pin::new(io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(length)) = &wrote {
            let mut left = *length;
            for buf in bufs {
                let part = buf.get(..left.min(buf.len())).unwrap_or_default();
                written.over(part, |frame| budget.sent(frame));
                left = left.saturating_sub(part.len());
            }
        }
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("seen", &self.seen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
