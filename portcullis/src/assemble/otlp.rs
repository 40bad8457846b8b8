//! What goes to a collector by OTLP over HTTP: the task that sends it, and the way there. Spans and decisions use it.
//!
//! The collector is one of this host or this network, over plain HTTP: what leaves it from there is its own matter.

pub(super) mod wire;

use std::io;
use std::time::Duration;

use base_ports::Tasks;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::Collector;

/// A request takes no longer.
const LIMIT: Duration = Duration::from_secs(5);
/// At the end there is so long for what is left.
const LAST: Duration = Duration::from_secs(2);

/// A running exporter. Dropping it ends it at once.
#[derive(Debug)]
pub(super) struct Exporter {
    what: &'static str,
    ended: oneshot::Receiver<()>,
    _tasks: Tasks,
}

impl Exporter {
    /// Starts one of that name.
    pub(super) fn start(what: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Exporter {
        let ((end, ended), tasks) = (oneshot::channel(), Tasks::new("export"));
        tasks.spawn(what, async move {
            work.await;
            // Whoever does not wait for it needs no word.
            end.send(()).unwrap_or_default();
        });
        Exporter { what, ended, _tasks: tasks }
    }

    /// Waits a moment until what is under way is sent.
    pub(super) async fn finish(self) {
        if timeout(LAST, self.ended).await.is_err() {
            let what = self.what;
            tracing::warn!(
                event = "export_lost",
                what,
                "the collector did not take the last of them in time"
            );
        }
    }
}

/// Why a collector did not take something.
#[derive(Debug)]
pub(super) enum Refused {
    /// It can be tried again.
    Now,
    /// It never takes this.
    Ever,
}

/// The way to a collector.
#[derive(Debug)]
pub(super) struct Poster {
    collector: Collector,
    what: &'static str,
    resource: wire::Resource,
    is_failing: bool,
}

impl Poster {
    /// To that collector; `what` is sent.
    pub(super) fn new(collector: &Collector, what: &'static str) -> Poster {
        let resource = wire::resource(&collector.resource);
        Poster { collector: collector.clone(), what, resource, is_failing: false }
    }

    /// The process as it is told.
    pub(super) fn resource(&self) -> &wire::Resource {
        &self.resource
    }

    /// Posts. A failure is said once until it works again.
    pub(super) async fn send(&mut self, body: Vec<u8>) -> Result<(), Refused> {
        let failed = match timeout(LIMIT, self.post(body)).await {
            Ok(Ok(status)) if status.is_success() => None,
            Ok(Ok(status)) => Some((refusal(status), format!("it answered {status}"))),
            Ok(Err(error)) => Some((Refused::Now, error.to_string())),
            Err(_late) => Some((Refused::Now, "it did not answer in time".to_owned())),
        };
        let what = self.what;
        match &failed {
            Some((_, cause)) if !self.is_failing => {
                let collector = self.collector.to_string();
                tracing::error!(event = "export_failed", what, collector, cause, "a collector takes nothing");
            }
            None if self.is_failing => {
                tracing::info!(event = "export_works", what, "the collector takes them again")
            }
            _ => {}
        }
        self.is_failing = failed.is_some();
        failed.map_or(Ok(()), |(refused, _)| Err(refused))
    }

    async fn post(&self, body: Vec<u8>) -> io::Result<StatusCode> {
        let Collector { host, port, path, .. } = &self.collector;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driven = Tasks::new("export");
        driven.spawn("connection", async move { drop(connection.await) });
        let request = Request::post(path.as_str())
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        // Its answer says nothing that we could act on.
        drop(answer.into_body().collect().await);
        Ok(status)
    }
}

/// OTLP 1.x, "Failures": these may be sent again, nothing else.
fn refusal(status: StatusCode) -> Refused {
    match status.as_u16() {
        429 | 502 | 503 | 504 => Refused::Now,
        _ => Refused::Ever,
    }
}
