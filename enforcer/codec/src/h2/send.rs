//! What we send: heads, bodies, trailers.

use super::Reason;
use super::connection::Connection;
use super::frame::{self, HEAD, Head, PAYLOAD, flag, kind};
use super::hpack::Encoder;
use super::streams::Answering;

/// So much may wait to be written before bodies wait too: four full frames, and the heads before them.
pub(super) const PENDING: usize = 66 * 1024;

/// How much of a body can be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many bytes, never none.
    Free(usize),
    /// None until the peer takes more of this stream.
    Stream,
    /// None until it takes more of the connection, or what was said is written.
    Connection,
    /// Never again.
    Gone(Reason),
}

impl<T> Connection<T> {
    /// Sends the head of an answer. `over` when nothing follows.
    ///
    /// # Errors
    /// Why the stream takes none.
    pub fn answer(
        &mut self,
        id: u32,
        status: u16,
        over: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), Reason> {
        let stream = self.streams.get_mut(id).ok_or(Reason::STREAM_CLOSED)?;
        stream.takes(Answering::Due)?;
        stream.answer = if over { Answering::Ended } else { Answering::Begun };
        let at = self.begin();
        self.encoder.status(status, &mut self.out);
        fields(&mut self.encoder, &mut self.out);
        self.finish(at, id, over);
        Ok(())
    }

    /// Ends a message with trailers.
    ///
    /// # Errors
    /// Why the stream takes none.
    pub fn trailers(
        &mut self,
        id: u32,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<(), Reason> {
        let stream = self.streams.get_mut(id).ok_or(Reason::STREAM_CLOSED)?;
        stream.takes(Answering::Begun)?;
        stream.answer = Answering::Ended;
        let at = self.begin();
        fields(&mut self.encoder, &mut self.out);
        self.finish(at, id, true);
        Ok(())
    }

    /// How much of a body the stream takes now.
    pub fn room(&self, id: u32) -> Room {
        let Some(stream) = self.streams.get(id) else { return Room::Gone(Reason::STREAM_CLOSED) };
        if let Err(reason) = stream.takes(Answering::Begun) {
            return Room::Gone(reason);
        }
        let waits = self.out.len().saturating_sub(self.written);
        let both = usize::try_from(self.send).unwrap_or(0).min(PENDING.saturating_sub(waits));
        match (usize::try_from(stream.send).unwrap_or(0), both) {
            (0, _) => Room::Stream,
            (_, 0) => Room::Connection,
            (stream, both) => Room::Free(stream.min(both).min(PAYLOAD)),
        }
    }

    /// Sends part of a body, no more than there is room for; `over` when nothing follows.
    ///
    /// # Errors
    /// Why the stream takes none.
    pub fn data(&mut self, id: u32, bytes: &[u8], over: bool) -> Result<(), Reason> {
        let stream = self.streams.get_mut(id).ok_or(Reason::STREAM_CLOSED)?;
        stream.takes(Answering::Begun)?;
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        stream.send = stream.send.saturating_sub(length);
        self.send = self.send.saturating_sub(length);
        if over {
            stream.answer = Answering::Ended;
        }
        let flags = if over { flag::END_STREAM } else { 0 };
        frame::put(kind::DATA, flags, id, bytes, &mut self.out);
        self.budget.sent();
        Ok(())
    }

    /// Leaves room for the head of a frame with a header block.
    pub(super) fn begin(&mut self) -> usize {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; HEAD]);
        self.encoder.begin(&mut self.out);
        at
    }

    /// Frames the block that was appended.
    pub(super) fn finish(&mut self, at: usize, stream: u32, over: bool) {
        let flags = if over { flag::END_STREAM } else { 0 };
        let from = at.saturating_add(HEAD);
        let length = self.out.len().saturating_sub(from);
        if length <= PAYLOAD {
            let length = u32::try_from(length).unwrap_or_default();
            let head = Head { length, kind: kind::HEADERS, flags: flags | flag::END_HEADERS, stream };
            let place = self.out.iter_mut().skip(at);
            place.zip(head.print()).for_each(|(place, byte)| *place = byte);
            return;
        }
        let block = self.out.split_off(from);
        self.out.truncate(at);
        let mut parts = block.chunks(PAYLOAD).peekable();
        let mut kind = (kind::HEADERS, flags);
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() { flag::END_HEADERS } else { 0 };
            frame::put(kind.0, kind.1 | end, stream, part, &mut self.out);
            kind = (kind::CONTINUATION, 0);
        }
    }
}
