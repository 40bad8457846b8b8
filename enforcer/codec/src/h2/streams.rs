//! The streams of a connection (RFC 9113 5.1): those whose call is not over, oldest first.

use std::collections::VecDeque;

use super::{Reason, STREAM_WINDOW};

/// A stream, and what its driver keeps with it.
#[derive(Debug)]
pub struct Stream<T> {
    pub(super) id: u32,
    /// The driver's own.
    pub lane: T,
    /// What may be sent; less than nothing after the peer made its window smaller.
    pub(super) send: i64,
    /// What the peer may send.
    pub(super) room: u32,
    /// Of what arrived, what was not taken yet.
    pub(super) held: u32,
    /// What was taken and not told to the peer.
    pub(super) owed: u32,
    /// What is missing of the declared length of the body.
    pub(super) missing: Option<u64>,
    /// The peer has not ended its side.
    pub(super) is_open: bool,
    /// It has ended it with all that belongs there.
    pub(super) is_whole: bool,
    pub(super) answer: Answering,
    pub(super) reset: Option<Reason>,
    pub(super) reply: Reply,
}

/// What is known of the answer to a stream that we opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The head that we wait for is there.
    Headed,
    /// It is to come, after so many interim ones; without a body, whatever it declares.
    Due { interim: u8, is_bodiless: bool },
}

/// Our side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answering {
    /// The head of the answer is to come.
    Due,
    /// The head is out.
    Begun,
    Ended,
}

impl<T> Stream<T> {
    pub(super) fn new(id: u32, window: u32, is_open: bool, missing: Option<u64>, lane: T) -> Self {
        Self {
            id,
            lane,
            send: i64::from(window),
            room: STREAM_WINDOW,
            held: 0,
            owed: 0,
            missing,
            is_open,
            is_whole: !is_open,
            answer: Answering::Due,
            reset: None,
            reply: Reply::Headed,
        }
    }

    /// Why the stream was reset, by either side.
    pub fn reset(&self) -> Option<Reason> {
        self.reset
    }

    /// Bytes of its body that arrived and were not taken yet.
    pub fn held(&self) -> usize {
        usize::try_from(self.held).unwrap_or(usize::MAX)
    }

    /// Whether what comes next in an answer that stands there can be sent.
    pub(super) fn takes(&self, stands: Answering) -> Result<(), Reason> {
        match self.reset {
            Some(reason) => Err(reason),
            None if self.answer == stands => Ok(()),
            None if self.answer == Answering::Ended => Err(Reason::STREAM_CLOSED),
            None => Err(Reason::INTERNAL_ERROR),
        }
    }

    /// The peer has sent its whole message.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The peer may still send.
    pub fn is_open(&self) -> bool {
        self.is_open && self.reset.is_none()
    }
}

/// The streams by id.
#[derive(Debug)]
pub(super) struct Streams<T>(VecDeque<Stream<T>>);

impl<T> Streams<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Stream<T>> {
        self.0.get(self.place(id)?)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream<T>> {
        let place = self.place(id)?;
        self.0.get_mut(place)
    }

    /// Adds a stream whose id is larger than all before.
    pub(super) fn push(&mut self, stream: Stream<T>) {
        self.0.push_back(stream);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream<T>> {
        self.0.remove(self.place(id)?)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream<T>> {
        self.0.iter_mut()
    }

    /// Gives memory back that nobody needs.
    pub(super) fn trim(&mut self) {
        self.0.shrink_to_fit();
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.0.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}
