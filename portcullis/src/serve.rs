//! The one function that serves HTTP on a stream of our own APIs: every timer set, drained on request.
//! The data plane does not come here; it has its own codecs.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base_net::DrainWatch;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

/// A request head that is not complete by then is dropped.
const HEADER: Duration = Duration::from_secs(10);
/// Quiet HTTP/2 connections are probed this often.
const PROBE: Duration = Duration::from_secs(30);
/// A probe without an answer ends the connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request head of an HTTP/1 caller, bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// Serves `router` on `stream` until the peer leaves, the drain ends it, or `max_age` has passed.
/// `extend` puts who is calling into each request.
pub(crate) async fn http<S, E>(stream: S, router: Router, max_age: Duration, mut drain: DrainWatch, extend: E)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Fn(&mut Request<Body>) + Clone + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        extend(&mut request);
        async move {
            let answer: Result<Response<Body>, Infallible> = router.oneshot(request).await;
            answer
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE_TIMEOUT)
        .max_concurrent_streams(256);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = drain.started() => None,
        () = tokio::time::sleep(max_age) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(PROBE_TIMEOUT, connection.as_mut()).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(event = "api_connection_ended", error = %error, "connection ended");
    }
}
