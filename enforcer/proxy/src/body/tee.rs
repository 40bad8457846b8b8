//! A body that is read twice: by its receiver, and as a copy by another call that must not hold it back (RT-05).
//!
//! The copy keeps what its reader has not taken yet, up to a limit. A reader that falls further behind loses the copy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::AsyncRead;

use super::{Inlet, Piece};
use crate::fault::Broken;

/// So much of a body waits for the reader of the copy, bytes: some parts of the largest kind.
const ROOM: usize = 256 * 1024;

/// A body whose parts are copied as they go by.
#[derive(Debug)]
pub(crate) struct Tee<'a, R> {
    body: Inlet<'a, R>,
    copy: Writer,
}

/// Once it is gone, nothing more is copied.
#[derive(Debug)]
struct Writer(Arc<Mutex<Copy>>);

/// The copy as its reader has it.
#[derive(Debug)]
pub(crate) struct Copied {
    copy: Arc<Mutex<Copy>>,
    taken: usize,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Copy {
    pieces: VecDeque<Piece>,
    bytes: usize,
    state: State,
    reader: Option<Waker>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The whole body went by.
    Whole,
    /// The rest will not come.
    Cut,
}

impl Copy {
    fn push(&mut self, piece: &Piece) {
        if self.state != State::Open {
            return;
        }
        self.bytes = self.bytes.saturating_add(piece.length());
        if self.bytes > ROOM {
            return self.cut();
        }
        if !matches!(piece, Piece::Data { last: false, .. }) {
            self.state = State::Whole;
        }
        self.pieces.push_back(piece.clone());
        self.wake();
    }

    fn cut(&mut self) {
        if self.state == State::Open {
            (self.state, self.pieces) = (State::Cut, VecDeque::new());
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl<'a, R: AsyncRead + Unpin> Tee<'a, R> {
    pub(super) fn new(body: Inlet<'a, R>) -> (Self, Copied) {
        let copy = Arc::default();
        (Self { body, copy: Writer(Arc::clone(&copy)) }, Copied { copy, taken: 0, is_over: false })
    }

    pub(super) fn body(&mut self) -> &mut Inlet<'a, R> {
        &mut self.body
    }

    pub(super) fn of(&self) -> &Inlet<'a, R> {
        &self.body
    }

    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let piece = ready!(self.body.poll_piece(context));
        let mut copy = self.copy.0.lock();
        match &piece {
            Ok(piece) => copy.push(piece),
            Err(_) => copy.cut(),
        }
        Poll::Ready(piece)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().cut();
    }
}

impl Copied {
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let mut copy = self.copy.lock();
        if let Some(piece) = copy.pieces.pop_front() {
            copy.bytes = copy.bytes.saturating_sub(piece.length());
            self.taken = self.taken.saturating_add(piece.length());
            self.is_over = !matches!(piece, Piece::Data { last: false, .. });
            return Poll::Ready(Ok(piece));
        }
        match copy.state {
            State::Whole => Poll::Ready(Ok(Piece::End)),
            State::Cut => Poll::Ready(Err(Broken::Ended)),
            State::Open => {
                copy.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The rest of the copy does not come.
    pub(crate) fn is_cut(&self) -> bool {
        self.copy.lock().state == State::Cut
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn holds(&self) -> usize {
        self.copy.lock().bytes
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.copy.lock().cut(); // nothing more is kept for nobody
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use enforcer_codec::Limits;
    use enforcer_codec::h1::{BodyDecoder, Framing};

    use super::*;
    use crate::body::H1Inlet;

    /// What the two readers get when the copy is read after every so many parts of the body.
    fn both(sent: &[u8], every: usize) -> (Vec<u8>, Result<Vec<u8>, ()>) {
        let mut buffer = BytesMut::new();
        let decoder = BodyDecoder::response(Framing::Length(sent.len() as u64), Limits::default());
        let (mut tee, mut copied) = Tee::new(Inlet::H1(H1Inlet::new(sent, &mut buffer, decoder, false)));
        let mut context = Context::from_waker(Waker::noop());
        let (mut one, mut other, mut parts) = (Vec::new(), Vec::new(), 0);
        let read = |copied: &mut Copied, other: &mut Vec<u8>| loop {
            match copied.poll_piece(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(Piece::Data { bytes, .. })) => other.extend_from_slice(&bytes),
                Poll::Ready(Ok(_)) => return Ok(true),
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(false),
            }
        };
        loop {
            let Poll::Ready(Ok(piece)) = tee.poll_piece(&mut context) else { panic!("it is all there") };
            let is_last = !matches!(piece, Piece::Data { last: false, .. });
            if let Piece::Data { bytes, .. } = piece {
                one.extend_from_slice(&bytes);
            }
            parts += 1;
            if parts % every == 0 && read(&mut copied, &mut other).is_err() {
                assert!(copied.is_cut());
            }
            if is_last {
                break;
            }
        }
        drop(tee);
        let whole = read(&mut copied, &mut other);
        (one, whole.map(|whole| assert!(whole)).map(|()| other))
    }

    #[test]
    fn rt_05_a_copy_is_the_body_while_its_reader_keeps_up_and_is_cut_when_not() {
        let sent: Vec<u8> = (0..900_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for (length, every, is_whole) in
            [(1, 1, true), (60_000, 1_000, true), (900_000, 1, true), (900_000, 1_000, false)]
        {
            let sent = &sent[..length];
            let (one, other) = both(sent, every);
            assert_eq!(one, sent, "{length} {every}");
            assert_eq!(other, if is_whole { Ok(sent.to_vec()) } else { Err(()) }, "{length} {every}");
        }
    }

    #[test]
    fn rt_05_a_body_that_breaks_off_breaks_the_copy_off() {
        let mut buffer = BytesMut::new();
        let decoder = BodyDecoder::response(Framing::Length(10), Limits::default());
        let (mut tee, mut copied) =
            Tee::new(Inlet::H1(H1Inlet::new(&b"abc"[..], &mut buffer, decoder, false)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(tee.poll_piece(&mut context), Poll::Ready(Ok(Piece::Data { .. }))));
        assert!(matches!(tee.poll_piece(&mut context), Poll::Ready(Err(_))));
        assert!(matches!(copied.poll_piece(&mut context), Poll::Ready(Err(Broken::Ended))));
        let (tee, mut copied) = Tee::new(Inlet::<tokio::io::Empty>::Empty);
        assert!(copied.poll_piece(&mut context).is_pending());
        drop(tee); // its caller went
        assert!(matches!(copied.poll_piece(&mut context), Poll::Ready(Err(Broken::Ended))));
    }
}
