//! What whole frames do: to streams, to windows, to the connection.

use super::connection::{Block, Connection, FAREWELL, Leaving, Role};
use super::frame::{self, Head, flag, kind, number};
use super::head::{self, Unfit};
use super::streams::{Answering, Reply, Stream};
use super::{Event, Reason, RequestHead, STREAM_WINDOW, STREAMS};

/// Compressed bytes of one header block.
const BLOCK: usize = 128 * 1024;
/// The largest window (6.9.1).
const WINDOW: i64 = (1 << 31) - 1;

impl<T: Default> Connection<T> {
    /// Takes a frame other than DATA.
    pub(super) fn frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Reason> {
        match head.kind {
            kind::HEADERS => {
                let fragment = unpadded(head, payload)?;
                let is_end = head.has(flag::END_STREAM);
                if head.has(flag::END_HEADERS) {
                    return self.headers(head.stream, fragment, is_end);
                }
                self.block = Some(Block { stream: head.stream, is_end, bytes: fragment.to_vec() });
                Ok(None)
            }
            kind::CONTINUATION => {
                let Some(block) = &mut self.block else { return Err(Reason::PROTOCOL_ERROR) };
                block.bytes.extend_from_slice(payload);
                if block.bytes.len() > BLOCK {
                    return Err(Reason::ENHANCE_YOUR_CALM);
                }
                match self.block.take_if(|_| head.has(flag::END_HEADERS)) {
                    Some(block) => self.headers(block.stream, &block.bytes, block.is_end),
                    None => Ok(None),
                }
            }
            kind::PRIORITY => fixed::<5>(payload).map(|_| None),
            kind::RST_STREAM => {
                let reason = Reason(u32::from_be_bytes(fixed(payload)?));
                match self.streams.get_mut(head.stream) {
                    Some(stream) if stream.reset.is_none() => {
                        (stream.reset, stream.is_open) = (Some(reason), false);
                        if stream.answer == Answering::Due && !self.budget.gives_up() {
                            return Err(Reason::ENHANCE_YOUR_CALM);
                        }
                        Ok(Some(Event::Reset { stream: head.stream }))
                    }
                    Some(stream) => {
                        stream.is_open = false;
                        Ok(None)
                    }
                    None => self.closed(head.stream).map(|()| None),
                }
            }
            kind::SETTINGS if head.has(flag::ACK) => {
                self.is_heard = true;
                if payload.is_empty() { Ok(None) } else { Err(Reason::FRAME_SIZE_ERROR) }
            }
            kind::SETTINGS => self.settings(payload).map(Some),
            kind::PING => {
                let payload: [u8; 8] = fixed(payload)?;
                if !head.has(flag::ACK) {
                    frame::put(kind::PING, flag::ACK, 0, &payload, &mut self.out);
                } else if payload == FAREWELL && self.leaving == Leaving::Asked {
                    self.leaving = Leaving::Since(self.last);
                    frame::put_goaway(self.last, Reason::NO_ERROR, &mut self.out);
                }
                Ok(None)
            }
            kind::WINDOW_UPDATE => self.window(head.stream, number(fixed(payload)?)),
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            kind::GOAWAY => {
                let last = payload.first_chunk::<4>().filter(|_| payload.len() >= 8);
                let last = number(*last.ok_or(Reason::FRAME_SIZE_ERROR)?);
                Ok((self.role == Role::Client).then(|| self.left_at(last)))
            }
            _ => Ok(None),
        }
    }

    /// A whole header block.
    fn headers<'i>(&mut self, id: u32, block: &[u8], over: bool) -> Result<Option<Event<'i>>, Reason> {
        let decoded = self.decoder.decode(block, &self.limits, &mut self.lines);
        decoded.map_err(|_broken| Reason::COMPRESSION_ERROR)?;
        if self.lines.is_bomb {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if let Some(stream) = self.streams.get_mut(id) {
            if stream.reset.is_some() {
                stream.is_open &= !over;
                return Ok(None);
            }
            if !stream.is_open {
                return self.broken(id, Reason::STREAM_CLOSED).map(Some);
            }
            if let Reply::Due { .. } = stream.reply {
                return self.answered(id, over);
            }
            let is_whole = over && stream.missing.unwrap_or(0) == 0 && !self.lines.is_over;
            return match head::trailers(&self.lines) {
                Ok(fields) if is_whole => {
                    (stream.is_open, stream.is_whole) = (false, true);
                    Ok(Some(Event::Trailers { stream: id, fields }))
                }
                _ => self.broken(id, Reason::PROTOCOL_ERROR).map(Some),
            };
        }
        if id <= self.last || id & 1 == 0 {
            self.closed(id)?;
            self.strays.heads = self.strays.heads.checked_sub(1).ok_or(Reason::STREAM_CLOSED)?;
            return Ok(None);
        }
        if self.role == Role::Client {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.last = id;
        if let Leaving::Since(_) = self.leaving {
            self.stray_unless(over);
            return Ok(None);
        }
        if self.streams.len() >= STREAMS as usize {
            self.refuse(id, Reason::REFUSED_STREAM, over)?;
            return Ok(None);
        }
        let (head, missing) = match RequestHead::of(&self.lines) {
            Ok(head) => {
                let missing = head.length().filter(|_| !over);
                (Ok(head), missing)
            }
            Err(Unfit::Refused(flaw)) => (Err(flaw), None),
            Err(Unfit::Malformed) => {
                self.refuse(id, Reason::PROTOCOL_ERROR, over)?;
                return Ok(None);
            }
        };
        self.streams.push(Stream::new(id, self.peer.window, !over, missing, T::default()));
        Ok(Some(Event::Request { stream: id, head, over }))
    }

    fn settings<'i>(&mut self, payload: &[u8]) -> Result<Event<'i>, Reason> {
        let before = self.peer;
        self.peer.take(payload, self.role, !self.is_greeted)?;
        self.is_greeted = true;
        let more = i64::from(self.peer.window).saturating_sub(i64::from(before.window));
        for stream in self.streams.iter_mut() {
            stream.send = stream.send.saturating_add(more);
            if stream.send > WINDOW {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
        }
        if self.peer.table != before.table {
            self.encoder.limit(self.peer.table as usize);
        }
        frame::put(kind::SETTINGS, flag::ACK, 0, &[], &mut self.out);
        Ok(Event::Settings)
    }

    fn window<'i>(&mut self, id: u32, more: u32) -> Result<Option<Event<'i>>, Reason> {
        let more = i64::from(more);
        if id == 0 {
            self.send = self.send.saturating_add(more);
            return match more {
                0 => Err(Reason::PROTOCOL_ERROR),
                _ if self.send > WINDOW => Err(Reason::FLOW_CONTROL_ERROR),
                _ => Ok(Some(Event::Room { stream: 0 })),
            };
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return self.closed(id).map(|()| None);
        };
        if stream.reset.is_some() {
            return Ok(None);
        }
        stream.send = stream.send.saturating_add(more);
        match more {
            0 => self.broken(id, Reason::PROTOCOL_ERROR).map(Some),
            _ if stream.send > WINDOW => self.broken(id, Reason::FLOW_CONTROL_ERROR).map(Some),
            _ => Ok(Some(Event::Room { stream: id })),
        }
    }

    /// That id is of a stream that was.
    pub(super) fn closed(&self, id: u32) -> Result<(), Reason> {
        if id <= self.last && id & 1 == 1 { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }
    }

    /// Refuses a new stream.
    fn refuse(&mut self, id: u32, reason: Reason, over: bool) -> Result<(), Reason> {
        frame::put_reset(id, reason, &mut self.out);
        self.stray_unless(over);
        if self.budget.reset() { Ok(()) } else { Err(Reason::ENHANCE_YOUR_CALM) }
    }

    fn stray_unless(&mut self, over: bool) {
        if !over {
            self.stray(STREAM_WINDOW);
        }
    }

    /// Resets a stream for an error of the caller.
    fn fail(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        self.reset(id, reason);
        if self.budget.reset() { Ok(()) } else { Err(Reason::ENHANCE_YOUR_CALM) }
    }

    pub(super) fn broken<'i>(&mut self, id: u32, reason: Reason) -> Result<Event<'i>, Reason> {
        self.fail(id, reason)?;
        Ok(Event::Reset { stream: id })
    }
}

/// A payload of exactly that length.
fn fixed<const N: usize>(payload: &[u8]) -> Result<[u8; N], Reason> {
    payload.try_into().map_err(|_other| Reason::FRAME_SIZE_ERROR)
}

/// The fragment of a HEADERS frame, without padding and priority.
fn unpadded(head: Head, mut payload: &[u8]) -> Result<&[u8], Reason> {
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (&length, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
        (padding, payload) = (usize::from(length), rest);
    }
    if head.has(flag::PRIORITY) {
        payload = payload.get(5..).ok_or(Reason::FRAME_SIZE_ERROR)?;
    }
    let end = payload.len().checked_sub(padding).ok_or(Reason::PROTOCOL_ERROR)?;
    payload.get(..end).ok_or(Reason::PROTOCOL_ERROR)
}
