//! What arrives: bytes become frames, frames become events.
//!
//! A frame is judged when its head is there: its length, its place, its budget. Bodies pass through as they arrive; all other
//! payloads are looked at when they are whole. What breaks the connection ends it with a GOAWAY that says why.

use std::mem;
use std::time::Duration;

use http::HeaderMap;

use super::connection::{Connection, Role};
use super::frame::{HEAD, Head, PAYLOAD, PREFACE, flag, kind};
use super::streams::Reply;
use super::{AnswerHead, Reason, RequestHead};
use crate::NotCanonical;

/// Something that arrived.
#[derive(Debug)]
pub enum Event<'a> {
    /// A new stream, which lives until its driver removes it.
    Request {
        /// The stream.
        stream: u32,
        /// What was asked, or what is answered to what cannot be asked.
        head: Result<RequestHead, NotCanonical>,
        /// No body follows.
        over: bool,
    },
    /// The head of the answer to a stream that we opened. Interim answers are left out.
    Answer {
        /// The stream.
        stream: u32,
        /// The head.
        head: AnswerHead,
        /// No body follows.
        over: bool,
    },
    /// Part of a body, empty at its end alone; it counts as held until it is released.
    Data {
        /// The stream.
        stream: u32,
        /// The part.
        bytes: &'a [u8],
        /// Nothing follows.
        over: bool,
    },
    /// The end of a body.
    Trailers {
        /// The stream.
        stream: u32,
        /// The fields.
        fields: HeaderMap,
    },
    /// The peer gave a stream up, or broke it.
    Reset {
        /// The stream.
        stream: u32,
    },
    /// The peer takes more.
    Room {
        /// The stream; 0 is the connection.
        stream: u32,
    },
    /// The peer said what it is like: the windows of all streams may be others.
    Settings,
    /// The server opens no more streams. Those that it does not serve are reset with REFUSED_STREAM.
    Leaving,
}

/// The connection has ended. What is pending says so to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the http/2 of the peer broke a rule ({})", reason.0)]
pub struct Ended {
    /// What the peer is told.
    pub reason: Reason,
}

impl From<Reason> for Ended {
    fn from(reason: Reason) -> Self {
        Self { reason }
    }
}

/// Which byte comes next.
#[derive(Debug)]
pub(super) enum Reading {
    /// So many of the preface were there.
    Preface(usize),
    /// The head of a frame.
    Head,
    /// The payload of a frame that is looked at whole.
    Payload(Head),
    /// How long the padding of a DATA frame is.
    Pad(Head),
    Data {
        stream: u32,
        left: u32,
        padding: u32,
        is_end: bool,
    },
    /// Bytes of a body that nobody takes.
    Skip(u32),
}

impl<T: Default> Connection<T> {
    /// Takes bytes up to the next event; what is not taken is left in `input`. `now` is of the clock of [`Self::new`].
    ///
    /// # Errors
    /// When the connection is over.
    pub fn receive<'i>(&mut self, input: &mut &'i [u8], now: Duration) -> Result<Option<Event<'i>>, Ended> {
        self.next(input, now).map_err(|reason| {
            self.end(reason);
            Ended { reason }
        })
    }

    fn next<'i>(&mut self, input: &mut &'i [u8], now: Duration) -> Result<Option<Event<'i>>, Reason> {
        loop {
            let event = match self.reading {
                Reading::Preface(matched) => {
                    let wanted = PREFACE.get(matched..).unwrap_or_default();
                    let given = take(input, wanted.len());
                    if !wanted.starts_with(given) {
                        return Err(Reason::PROTOCOL_ERROR);
                    }
                    let matched = matched.saturating_add(given.len());
                    self.reading = Reading::Preface(matched);
                    if matched < PREFACE.len() {
                        return Ok(None);
                    }
                    self.reading = Reading::Head;
                    None
                }
                Reading::Head => {
                    let Some(head) = self.head(input) else { return Ok(None) };
                    self.judge(head, now)?
                }
                Reading::Payload(head) => {
                    let length = head.length as usize;
                    if self.carry.is_empty() && input.len() >= length {
                        let payload = take(input, length);
                        self.reading = Reading::Head;
                        self.frame(head, payload)?
                    } else {
                        let part = take(input, length.saturating_sub(self.carry.len()));
                        self.carry.extend_from_slice(part);
                        if self.carry.len() < length {
                            return Ok(None);
                        }
                        self.reading = Reading::Head;
                        let payload = mem::take(&mut self.carry);
                        self.frame(head, &payload)?
                    }
                }
                Reading::Pad(head) => {
                    let Some((&padding, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    let padding = u32::from(padding);
                    let left = head.length.checked_sub(padding.saturating_add(1));
                    let left = left.ok_or(Reason::PROTOCOL_ERROR)?;
                    self.unread(head.stream, padding.saturating_add(1));
                    let is_end = head.has(flag::END_STREAM);
                    // Padding alone moves no call, however long it is.
                    let is_empty = left == 0 && !is_end;
                    if is_empty && !self.budget.take(Head { length: 0, flags: 0, ..head }, now) {
                        return Err(Reason::ENHANCE_YOUR_CALM);
                    }
                    self.reading = Reading::Data { stream: head.stream, left, padding, is_end };
                    if left == 0 { self.part(&[])? } else { None }
                }
                Reading::Data { left, .. } => {
                    let part = take(input, left as usize);
                    if part.is_empty() {
                        return Ok(None);
                    }
                    self.part(part)?
                }
                Reading::Skip(left) => {
                    let part = take(input, left as usize);
                    let left = left.saturating_sub(u32::try_from(part.len()).unwrap_or(u32::MAX));
                    self.reading = if left > 0 { Reading::Skip(left) } else { Reading::Head };
                    if left > 0 {
                        return Ok(None);
                    }
                    None
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn head(&mut self, input: &mut &[u8]) -> Option<Head> {
        if self.carry.is_empty()
            && let Some((head, rest)) = input.split_first_chunk::<HEAD>()
        {
            *input = rest;
            return Some(Head::parse(*head));
        }
        let part = take(input, HEAD.saturating_sub(self.carry.len()));
        self.carry.extend_from_slice(part);
        let head = self.carry.first_chunk::<HEAD>().copied()?;
        self.carry.clear();
        Some(Head::parse(head))
    }

    /// Whether a frame may come now, and how the rest of it is read.
    fn judge<'i>(&mut self, head: Head, now: Duration) -> Result<Option<Event<'i>>, Reason> {
        if head.length as usize > PAYLOAD {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let is_in_place = match &self.block {
            Some(block) => head.kind == kind::CONTINUATION && head.stream == block.stream,
            None => head.kind != kind::CONTINUATION,
        };
        let is_first = self.is_greeted || (head.kind == kind::SETTINGS && !head.has(flag::ACK));
        let has_stream = match head.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => {
                head.stream != 0
            }
            kind::SETTINGS | kind::PING | kind::GOAWAY => head.stream == 0,
            _ => true,
        };
        if !is_in_place || !is_first || !has_stream {
            return Err(Reason::PROTOCOL_ERROR);
        }
        // A stream that we opened can be given up once, which is a kind of answer.
        let is_answer = self.role == Role::Client
            && head.kind == kind::RST_STREAM
            && self.streams.get(head.stream).is_some_and(|stream| stream.reset.is_none());
        if !is_answer && !self.budget.take(head, now) {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if head.kind == kind::DATA {
            return self.body(head);
        }
        self.reading = Reading::Payload(head);
        Ok(None)
    }

    /// The head of a DATA frame: all of it counts towards the windows (6.9.1).
    fn body<'i>(&mut self, head: Head) -> Result<Option<Event<'i>>, Reason> {
        self.room = self.room.checked_sub(head.length).ok_or(Reason::FLOW_CONTROL_ERROR)?;
        let fault = match self.streams.get_mut(head.stream) {
            // 8.1: a message begins with its head.
            Some(stream) if stream.is_open() && stream.reply != Reply::Headed => Some(Reason::PROTOCOL_ERROR),
            Some(stream) if stream.is_open() => match stream.room.checked_sub(head.length) {
                Some(room) => {
                    stream.room = room;
                    None
                }
                None => Some(Reason::FLOW_CONTROL_ERROR),
            },
            Some(stream) if stream.reset.is_none() => Some(Reason::STREAM_CLOSED),
            // Reset by us, which the caller may not have heard of.
            Some(stream) if stream.is_open => {
                stream.room = stream.room.checked_sub(head.length).ok_or(Reason::STREAM_CLOSED)?;
                return Ok(self.skip(head.length));
            }
            _ => {
                self.closed(head.stream)?;
                let left = self.strays.bytes.checked_sub(u64::from(head.length));
                self.strays.bytes = left.ok_or(Reason::STREAM_CLOSED)?;
                return Ok(self.skip(head.length));
            }
        };
        if let Some(reason) = fault {
            self.skip(head.length);
            return self.broken(head.stream, reason).map(Some);
        }
        let is_end = head.has(flag::END_STREAM);
        self.reading = match (head.has(flag::PADDED), head.length) {
            (true, 0) => return Err(Reason::FRAME_SIZE_ERROR),
            (true, _) => Reading::Pad(head),
            (false, left) => Reading::Data { stream: head.stream, left, padding: 0, is_end },
        };
        // An empty one is over with its head.
        if head.length == 0 { self.part(&[]) } else { Ok(None) }
    }

    /// Nobody takes what follows.
    fn skip<'i>(&mut self, length: u32) -> Option<Event<'i>> {
        self.credit(length);
        self.reading = Reading::Skip(length);
        None
    }

    /// Part of a body.
    fn part<'i>(&mut self, bytes: &'i [u8]) -> Result<Option<Event<'i>>, Reason> {
        let Reading::Data { stream: id, left, padding, is_end } = &mut self.reading else { return Ok(None) };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        *left = left.saturating_sub(length);
        let (id, padding, is_whole) = (*id, *padding, *left == 0);
        let over = is_whole && *is_end;
        if is_whole {
            self.reading = if padding > 0 { Reading::Skip(padding) } else { Reading::Head };
        }
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.is_open()) else {
            self.credit(length);
            return Ok(None);
        };
        let missing = stream.missing.map(|missing| missing.checked_sub(bytes.len() as u64));
        let is_wrong = match missing {
            None => false,
            Some(None) => true,
            Some(Some(missing)) => over && missing > 0,
        };
        if is_wrong {
            self.credit(length);
            // HX-04.
            return self.broken(id, Reason::PROTOCOL_ERROR).map(Some);
        }
        stream.missing = missing.flatten();
        stream.held = stream.held.saturating_add(length);
        (stream.is_open, stream.is_whole) = (!over, over);
        if bytes.is_empty() && !over {
            return Ok(None);
        }
        Ok(Some(Event::Data { stream: id, bytes, over }))
    }

    /// So much of a DATA frame is no body.
    fn unread(&mut self, id: u32, length: u32) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.held = stream.held.saturating_add(length);
            self.release(id, length as usize);
        } else {
            self.credit(length);
        }
    }
}

/// Takes so many bytes, or as many as there are.
fn take<'i>(input: &mut &'i [u8], most: usize) -> &'i [u8] {
    let (taken, rest) = input.split_at_checked(most).unwrap_or((input, &[]));
    *input = rest;
    taken
}
