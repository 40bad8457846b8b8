//! One HTTP/1.1 request on a connection of its own: for what is asked so seldom that no connection is kept.

use base_ports::Tasks;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why the body of an answer could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It has more bytes than were asked for.
    #[error("the answer is too large")]
    TooLarge,
    /// The connection ended before it did.
    #[error("{0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// An answer whose body was not read yet. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    _connection: Tasks,
}

impl Answer {
    /// The whole body.
    ///
    /// # Errors
    /// When it has more than `most` bytes, or does not come whole.
    pub(super) async fn body(self, most: usize) -> Result<Bytes, Unread> {
        let whole = Limited::new(self.body, most).collect().await.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                Unread::TooLarge
            } else {
                Unread::Broken(error)
            }
        })?;
        Ok(whole.to_bytes())
    }
}

/// Asks over that stream. The request names its host and length itself where it has them.
///
/// # Errors
/// When no head of an answer comes back. Whoever asks bounds the time.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = Tasks::new("one request");
    // What ends it is told to whoever waits for the answer.
    driven.spawn("connection", async move { drop(connection.await) });
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body, _connection: driven })
}
