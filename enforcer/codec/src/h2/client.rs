//! What a client does besides: it opens streams, takes the heads of their answers, and hears that a server leaves.

use super::connection::{Connection, Leaving, Role};
use super::frame::{self, kind};
use super::head::AnswerHead;
use super::hpack::Encoder;
use super::streams::{Answering, Reply, Stream};
use super::{Event, Reason};

/// What a PING carries that asks whether the server is there.
const ALIVE: [u8; 8] = *b"alive???";
/// The newest stream that a client can open (5.1.1).
const LAST: u32 = u32::MAX >> 1;

/// Whether a stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// Now.
    Now,
    /// Once another one is over, or the server takes more.
    Later,
    /// Never again on this connection.
    Never,
}

impl<T: Default> Connection<T> {
    /// Whether a stream can be opened.
    pub fn opens(&self) -> Opens {
        let is_over = self.leaving != Leaving::No || self.last >= LAST || self.role == Role::Server;
        let open = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        match (is_over, open < self.peer.streams) {
            (true, _) => Opens::Never,
            (false, true) => Opens::Now,
            (false, false) => Opens::Later,
        }
    }

    /// Opens a stream with the head of a request, pseudo-header fields first; `over` when no body follows, `is_bodiless` when
    /// the answer has none (RFC 9110 9.3.2). It lives until its driver removes it.
    ///
    /// # Errors
    /// When [`Self::opens`] does not say now.
    pub fn open(
        &mut self,
        over: bool,
        is_bodiless: bool,
        fields: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) -> Result<u32, Reason> {
        if self.opens() != Opens::Now {
            return Err(Reason::REFUSED_STREAM);
        }
        let id = if self.last == 0 { 1 } else { self.last.saturating_add(2) };
        self.last = id;
        let mut stream = Stream::new(id, self.peer.window, true, None, T::default());
        stream.answer = if over { Answering::Ended } else { Answering::Begun };
        stream.reply = Reply::Due { interim: 0, is_bodiless };
        self.streams.push(stream);
        let at = self.begin();
        fields(&mut self.encoder, &mut self.out);
        self.finish(at, id, over);
        Ok(id)
    }

    /// Asks the server whether it is there. It is, when anything comes.
    pub fn ping(&mut self) {
        frame::put(kind::PING, 0, 0, &ALIVE, &mut self.out);
    }

    /// A header block on a stream whose answer has no head yet.
    pub(super) fn answered<'i>(&mut self, id: u32, over: bool) -> Result<Option<Event<'i>>, Reason> {
        let head = AnswerHead::of(&self.lines);
        let Some(stream) = self.streams.get_mut(id) else { return Ok(None) };
        let (Ok(head), Reply::Due { interim, is_bodiless }) = (head, stream.reply) else {
            return self.broken(id, Reason::PROTOCOL_ERROR).map(Some);
        };
        if head.status() < 200 {
            let interim = interim.saturating_add(1);
            stream.reply = Reply::Due { interim, is_bodiless };
            // 8.6: nothing is switched.
            if over || head.status() == 101 || interim > self.limits.interim {
                return self.broken(id, Reason::PROTOCOL_ERROR).map(Some);
            }
            return Ok(None);
        }
        stream.reply = Reply::Headed;
        let declared = head.length();
        let has_none = is_bodiless || matches!(head.status(), 204 | 304);
        stream.missing = if has_none { Some(0) } else { declared };
        if over && !has_none && declared.is_some_and(|length| length > 0) {
            return self.broken(id, Reason::PROTOCOL_ERROR).map(Some);
        }
        if over {
            (stream.is_open, stream.is_whole) = (false, true);
        }
        Ok(Some(Event::Answer { stream: id, head, over }))
    }

    /// The server serves no stream above that one.
    pub(super) fn left_at<'i>(&mut self, last: u32) -> Event<'i> {
        let last = match self.leaving {
            Leaving::Since(before) => last.min(before),
            Leaving::No | Leaving::Asked => last,
        };
        self.leaving = Leaving::Since(last);
        for stream in self.streams.iter_mut().filter(|stream| stream.id > last && stream.reset.is_none()) {
            (stream.reset, stream.is_open) = (Some(Reason::REFUSED_STREAM), false);
        }
        Event::Leaving
    }
}
