//! A connection: what both sides and both directions share.

use std::time::Duration;

use super::budget::Budget;
use super::frame::{self, PREFACE, kind};
use super::hpack::{Decoder, Encoder, Lines};
use super::receive::Reading;
use super::send::PENDING;
use super::settings::{self, Settings};
use super::streams::{Answering, Stream, Streams};
use super::{CONNECTION_WINDOW, Reason, STREAM_WINDOW};
use crate::Limits;

/// What a PING carries whose answer tells that the caller has seen our GOAWAY.
pub(super) const FAREWELL: [u8; 8] = *b"farewell";
/// What the standard gives a connection to begin with.
const FIRST_WINDOW: u32 = 65_535;

/// Who we are on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A caller opens streams.
    Server,
    /// We open them.
    Client,
}

/// One side of a connection. `T` is what the driver keeps with each stream.
#[derive(Debug)]
pub struct Connection<T> {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) reading: Reading,
    /// The part of a frame that arrived.
    pub(super) carry: Vec<u8>,
    pub(super) block: Option<Block>,
    pub(super) decoder: Decoder,
    pub(super) lines: Lines,
    pub(super) streams: Streams<T>,
    pub(super) strays: Strays,
    pub(super) budget: Budget,
    pub(super) peer: Settings,
    /// The settings of the peer have arrived.
    pub(super) is_greeted: bool,
    /// It has taken ours.
    pub(super) is_heard: bool,
    /// What the peer may send.
    pub(super) room: u32,
    /// What was taken and not told to the peer.
    pub(super) owed: u32,
    /// The newest stream.
    pub(super) last: u32,
    pub(super) leaving: Leaving,
    pub(super) encoder: Encoder,
    /// What may be sent.
    pub(super) send: i64,
    pub(super) out: Vec<u8>,
    /// How much of `out` is written.
    pub(super) written: usize,
}

/// A header block that goes on in the next frame.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) is_end: bool,
    pub(super) bytes: Vec<u8>,
}

/// What may still come for streams that are over here and not yet with the caller (5.1, "closed").
#[derive(Debug, Default)]
pub(super) struct Strays {
    pub(super) bytes: u64,
    pub(super) heads: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The caller was asked to go; what it sent before it heard is served.
    Asked,
    /// Streams above this one are not served.
    Since(u32),
}

impl<T> Connection<T> {
    /// The server's side of a connection whose first byte is to come. What we say first is in the buffer already. `now` is
    /// of any clock that does not go back.
    pub fn server(limits: Limits, is_proved: bool, now: Duration) -> Self {
        Self::new(Role::Server, limits, is_proved, now)
    }

    /// The client's side of a connection. What we say first is in the buffer already.
    pub fn client(limits: Limits, now: Duration) -> Self {
        Self::new(Role::Client, limits, true, now)
    }

    fn new(role: Role, limits: Limits, is_proved: bool, now: Duration) -> Self {
        let mut out = Vec::with_capacity(128);
        let reading = match role {
            Role::Server => Reading::Preface(0),
            Role::Client => {
                out.extend_from_slice(PREFACE);
                Reading::Head
            }
        };
        settings::put_ours(role, &limits, &mut out);
        frame::put_window(0, CONNECTION_WINDOW.saturating_sub(FIRST_WINDOW), &mut out);
        Self {
            role,
            limits,
            reading,
            carry: Vec::new(),
            block: None,
            decoder: Decoder::new(),
            lines: Lines::default(),
            streams: Streams::new(),
            strays: Strays::default(),
            budget: Budget::new(is_proved, now),
            peer: Settings::default(),
            is_greeted: false,
            is_heard: false,
            room: CONNECTION_WINDOW,
            owed: 0,
            last: 0,
            leaving: Leaving::No,
            encoder: Encoder::new(),
            send: i64::from(FIRST_WINDOW),
            out,
            written: 0,
        }
    }

    /// The peer has begun to speak HTTP/2.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// The peer has acknowledged our settings.
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// A header block has begun and not ended.
    pub fn is_head_open(&self) -> bool {
        let is_head = |kind| kind == kind::HEADERS || kind == kind::CONTINUATION;
        self.block.is_some() || matches!(&self.reading, Reading::Payload(head) if is_head(head.kind))
    }

    /// A stream whose call is not over.
    pub fn stream(&mut self, id: u32) -> Option<&mut Stream<T>> {
        self.streams.get_mut(id)
    }

    /// All streams whose calls are not over.
    pub fn streams(&mut self) -> impl Iterator<Item = &mut Stream<T>> {
        self.streams.iter_mut()
    }

    /// What is to be written next.
    pub fn pending(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// So much of it was written.
    pub fn wrote(&mut self, length: usize) {
        self.written = self.written.saturating_add(length);
        if self.written >= self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written >= PENDING {
            // A peer that always takes a little never leaves the buffer empty.
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// Gives back the memory that only a busy connection needs (MM-02).
    pub fn trim(&mut self) {
        self.lines = Lines::default();
        self.streams.trim();
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        self.carry.shrink_to_fit();
    }

    /// So much of the body of a stream was taken: the peer may send as much again.
    pub fn release(&mut self, id: u32, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let Some(stream) = self.streams.get_mut(id) else { return };
        let length = length.min(stream.held);
        stream.held = stream.held.saturating_sub(length);
        stream.owed = stream.owed.saturating_add(length);
        if stream.is_open() && stream.owed >= STREAM_WINDOW.wrapping_div(2) {
            frame::put_window(id, stream.owed, &mut self.out);
            stream.room = stream.room.saturating_add(stream.owed);
            stream.owed = 0;
        }
        self.credit(length);
    }

    /// The connection has room for so much again. It is told in few frames.
    pub(super) fn credit(&mut self, length: u32) {
        self.owed = self.owed.saturating_add(length);
        if self.owed >= CONNECTION_WINDOW.wrapping_div(2) {
            frame::put_window(0, self.owed, &mut self.out);
            self.room = self.room.saturating_add(self.owed);
            self.owed = 0;
        }
    }

    /// The call of a stream is over: what is not complete is reset, what is still to come has no reader.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let stream = self.streams.remove(id)?;
        self.credit(stream.held);
        if stream.is_open {
            self.stray(stream.room);
        }
        let reason = match (stream.reset, stream.answer, stream.is_open) {
            (Some(_), _, _) | (None, Answering::Ended, false) => None,
            // RFC 9113 8.1: the answer is complete, the rest of the request is not wanted.
            (None, Answering::Ended, true) if self.role == Role::Server => Some(Reason::NO_ERROR),
            (None, _, _) => Some(Reason::CANCEL),
        };
        if let Some(reason) = reason {
            frame::put_reset(id, reason, &mut self.out);
        }
        Some(stream.lane)
    }

    /// So much more may come for streams that are over.
    pub(super) fn stray(&mut self, bytes: u32) {
        let heads = match self.role {
            Role::Server => 1,
            // Interim answers, the answer, its trailers.
            Role::Client => u32::from(self.limits.interim).saturating_add(2),
        };
        self.strays.bytes = self.strays.bytes.saturating_add(u64::from(bytes));
        self.strays.heads = self.strays.heads.saturating_add(heads);
    }

    /// Resets a stream.
    pub fn reset(&mut self, id: u32, reason: Reason) {
        if let Some(stream) = self.streams.get_mut(id)
            && stream.reset.is_none()
        {
            stream.reset = Some(reason);
            frame::put_reset(id, reason, &mut self.out);
        }
    }

    /// Asks the caller to go. Calls that it sent before it heard of it are served; later it is told which one is the last.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
            frame::put_goaway(u32::MAX >> 1, Reason::NO_ERROR, &mut self.out);
            frame::put(kind::PING, 0, 0, &FAREWELL, &mut self.out);
        }
    }

    /// No call is left and none can come.
    pub fn is_left(&self) -> bool {
        matches!(self.leaving, Leaving::Since(_)) && self.streams.len() == 0
    }

    /// The last word of a connection that ends at once.
    pub fn end(&mut self, reason: Reason) {
        let last = match self.role {
            Role::Server => self.last,
            // The streams of a server, of which there are none.
            Role::Client => 0,
        };
        frame::put_goaway(last, reason, &mut self.out);
    }
}

#[cfg(test)]
impl<T> Connection<T> {
    /// Bytes of memory in buffers.
    pub(super) fn buffers(&self) -> usize {
        self.out.capacity().saturating_add(self.carry.capacity()).saturating_add(self.lines.bytes.capacity())
    }

    pub(super) fn budget_of_proved(&mut self) {
        self.budget = Budget::new(true, Duration::ZERO);
    }
}
