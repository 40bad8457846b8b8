//! The one loop that moves a body.

use std::future::poll_fn;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Inlet, Outlet, Piece};
use crate::clocks::Clocks;
use crate::fault::Broken;

/// Which end broke.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// Where the body comes from.
    From(Broken),
    /// Where it goes to.
    To(Broken),
}

/// What the outlet may hold that is not with its receiver.
const GATHERED: usize = 16 * 1024;

/// A part of so many bytes may be waited with.
const BULK: usize = 4 * 1024;

/// Moves the whole body. What was gathered is written before each wait, so nothing is held back.
pub(crate) async fn relay<R, W>(
    from: &mut Inlet<'_, R>,
    to: &mut Outlet<'_, W>,
    clocks: &Clocks<'_>,
) -> Result<(), RelayError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let is_answer = to.is_answer();
    loop {
        let here = poll_fn(|context| Poll::Ready(from.poll_piece(context))).await;
        let piece = match here {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                if is_answer {
                    clocks.hands(GATHERED);
                }
                to.flush().await.map_err(RelayError::To)?;
                clocks.served(GATHERED);
                // An upstream has the time of its clocks; a caller that owes its body is to hurry.
                if is_answer {
                    clocks.moved()
                } else {
                    clocks.owed()
                }
                clocks.holds(is_answer, from.holds(0));
                let piece = poll_fn(|context| {
                    if let Poll::Ready(broken) = to.poll_gone(context) {
                        return Poll::Ready(Err(RelayError::To(broken)));
                    }
                    from.poll_piece(context).map(Ok)
                })
                .await?;
                if !is_answer {
                    clocks.served(piece.as_ref().map_or(0, Piece::length));
                }
                piece
            }
        };
        match piece.map_err(RelayError::From)? {
            Piece::Data { bytes, last } => {
                let length = bytes.len();
                if is_answer {
                    clocks.hands(length);
                }
                if length >= BULK {
                    clocks.holds(is_answer, from.holds(length));
                }
                to.data(bytes, last).await.map_err(RelayError::To)?;
                clocks.served(length);
                from.release(length).map_err(RelayError::From)?;
                if last {
                    clocks.holds(is_answer, 0);
                    return to.finish(None, false).await.map_err(RelayError::To);
                }
            }
            Piece::Trailers(trailers) => {
                let status =
                    trailers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
                if let (Some(notes), Some(status)) = (clocks.notes(), status) {
                    notes.grpc(status);
                }
                clocks.holds(is_answer, 0);
                return to.finish(Some(trailers), true).await.map_err(RelayError::To);
            }
            Piece::End => {
                clocks.holds(is_answer, 0);
                return to.finish(None, true).await.map_err(RelayError::To);
            }
        }
    }
}
