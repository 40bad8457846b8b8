//! A new connection to an endpoint, within its time.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::worker::Worker;

/// Connects. A dial that takes longer than `limit` is `TimedOut`.
pub(super) async fn dial(worker: &Worker, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let timer = worker.wheel.timer();
    timer.set(worker.clock.mono() + limit);
    let mut connecting = worker.net.dial(address);
    let stream = poll_fn(|context| match connecting.as_mut().poll(context) {
        Poll::Pending => timer.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
        connected => connected,
    })
    .await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
