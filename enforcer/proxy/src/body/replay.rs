//! A body that can be sent again: what went by is kept, up to a limit (RY-04).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;

use super::{Inlet, Piece};
use crate::fault::Broken;

/// So much of a body is kept.
const KEPT: usize = 64 * 1024;

/// A body and what was taken of it so far.
#[derive(Debug)]
pub(crate) struct Replay<'a, R> {
    body: Inlet<'a, R>,
    kept: Vec<Piece>,
    bytes: usize,
    /// The part that comes next; beyond the kept ones it comes from the body.
    next: usize,
    /// The sender of the part that was given last may send as much again already.
    is_released: bool,
    /// More went by than is kept, or nothing of it is needed any more.
    is_spent: Arc<AtomicBool>,
}

impl<'a, R: AsyncRead + Unpin> Replay<'a, R> {
    pub(super) fn new(body: Inlet<'a, R>, is_spent: Arc<AtomicBool>) -> Self {
        Self { body, kept: Vec::new(), bytes: 0, next: 0, is_released: false, is_spent }
    }

    pub(super) fn body(&mut self) -> &mut Inlet<'a, R> {
        &mut self.body
    }

    pub(super) fn taken(&self) -> u64 {
        self.body.taken()
    }

    pub(super) fn limit(&mut self, most: u32) {
        self.body.limit(most);
    }

    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        if let Some(kept) = self.kept.get(self.next) {
            self.next = self.next.saturating_add(1);
            self.is_released = true;
            return Poll::Ready(Ok(kept.clone()));
        }
        let piece = ready!(self.body.poll_piece(context))?;
        self.is_released = false;
        if self.is_spent() {
            self.forget();
            return Poll::Ready(Ok(piece));
        }
        if let Piece::Data { bytes, .. } = &piece {
            self.bytes = self.bytes.saturating_add(bytes.len());
            if self.bytes > KEPT {
                self.is_spent.store(true, Ordering::Relaxed);
                self.forget();
                return Poll::Ready(Ok(piece));
            }
            // What is kept is taken; the sender may send as much again.
            self.body.release(bytes.len())?;
            self.is_released = true;
        }
        self.kept.push(piece.clone());
        self.next = self.kept.len();
        Poll::Ready(Ok(piece))
    }

    pub(super) fn release(&mut self, bytes: usize) -> Result<(), Broken> {
        if self.is_released { Ok(()) } else { self.body.release(bytes) }
    }

    pub(super) fn holds(&mut self, part: usize) -> usize {
        let kept = if self.is_spent() { 0 } else { self.bytes };
        self.body.holds(part).saturating_add(kept)
    }

    pub(super) fn is_over(&self) -> bool {
        self.next >= self.kept.len() && self.body.is_over()
    }

    pub(super) fn is_untouched(&self) -> bool {
        if self.is_spent() { self.body.is_untouched() } else { self.next == 0 }
    }

    pub(super) fn awaits_continue(&self) -> bool {
        self.kept.is_empty() && self.body.awaits_continue()
    }

    fn forget(&mut self) {
        (self.kept, self.next) = (Vec::new(), 0);
    }

    fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::BytesMut;
    use enforcer_codec::Limits;
    use enforcer_codec::h1::{BodyDecoder, Framing};

    use super::*;
    use crate::body::H1Inlet;

    fn take<R: AsyncRead + Unpin>(body: &mut Replay<'_, R>) -> Option<Vec<u8>> {
        let mut context = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        loop {
            match body.poll_piece(&mut context) {
                Poll::Ready(Ok(Piece::Data { bytes, last })) => {
                    all.extend_from_slice(&bytes);
                    body.release(bytes.len()).unwrap();
                    if last {
                        return Some(all);
                    }
                }
                Poll::Ready(Ok(_)) => return Some(all),
                Poll::Ready(Err(_)) | Poll::Pending => return None,
            }
        }
    }

    #[test]
    fn ry_04_a_body_of_64_kib_can_be_sent_again_and_a_larger_one_not() {
        for (length, is_kept) in [(0, true), (5, true), (64 * 1024, true), (64 * 1024 + 1, false)] {
            let sent: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let (spent, mut buffer) = (Arc::<AtomicBool>::default(), BytesMut::new());
            let decoder = BodyDecoder::response(Framing::Length(length), Limits::default());
            let inlet = Inlet::H1(H1Inlet::new(&sent[..], &mut buffer, decoder, false));
            let mut body = Replay::new(inlet, Arc::clone(&spent));
            assert_eq!(take(&mut body), Some(sent.clone()), "{length}");
            assert!(body.is_over());
            assert_eq!(!spent.load(Ordering::Relaxed), is_kept, "{length}");
            if is_kept {
                body.rewind();
                assert!(length == 0 || !body.is_over());
                assert!(body.is_untouched());
                assert_eq!(take(&mut body), Some(sent.clone()), "{length}");
                assert!(body.is_over());
            }
        }
    }
}
