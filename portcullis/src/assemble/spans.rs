//! The exporter of spans (TA-02, OB5): a task that takes sampled calls from the workers, gathers them for a moment, and
//! posts them to a collector by OTLP over HTTP. What cannot be sent is dropped and counted; calls never wait for it.
//!
//! The collector is one of this host or this network, over plain HTTP: what leaves it from there is its own matter.

mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base_ports::Tasks;
use base_telemetry::{Counter, Family, Metrics};
use bytes::Bytes;
use enforcer_proxy::{CallTrail, Reader, Trails};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Spans;

/// Spans of one request.
const MOST: usize = 512;
/// The first of them waits so long for others.
const GATHER: Duration = Duration::from_secs(1);
/// A request takes no longer.
const LIMIT: Duration = Duration::from_secs(5);
/// At the end there is so long for what is left.
const LAST: Duration = Duration::from_secs(2);

/// The running exporter.
#[derive(Debug)]
pub(super) struct Exporter {
    ended: oneshot::Receiver<()>,
}

impl Exporter {
    /// Waits a moment until what is under way is sent.
    pub(super) async fn finish(self) {
        if timeout(LAST, self.ended).await.is_err() {
            tracing::warn!(event = "spans_lost", "the collector did not take the last spans in time");
        }
    }
}

/// Starts the exporter; sampled calls find it by `trails`.
pub(super) fn start(spans: &Spans, trails: &mut Trails, metrics: &Metrics, tasks: &Tasks) -> Exporter {
    let reader = trails.sampled(spans.share, metrics);
    let (end, ended) = oneshot::channel();
    let sent = metrics.counter(
        "portcullis_spans_sent",
        "Spans of sampled calls, by what became of them.",
        &["result"],
    );
    let collector =
        Collector { spans: spans.clone(), resource: wire::resource(&spans.resource), is_failing: false };
    tasks.spawn("spans", async move {
        run(reader, collector, &sent).await;
        // Whoever does not wait for it needs no word.
        end.send(()).unwrap_or_default();
    });
    Exporter { ended }
}

async fn run(mut reader: Reader, mut collector: Collector, sent: &Family<Counter>) {
    let [ok, failed] = ["ok", "failed"].map(|result| sent.with(&[result]));
    let mut is_over = false;
    while !is_over {
        let mut gathered: Vec<Arc<CallTrail>> = Vec::new();
        match reader.recv().await {
            Some(Some(first)) => gathered.push(first),
            Some(None) | None => return,
        }
        let until = Instant::now() + GATHER;
        while gathered.len() < MOST {
            match timeout_at(until, reader.recv()).await {
                Ok(Some(Some(next))) => gathered.push(next),
                Ok(Some(None) | None) => {
                    is_over = true;
                    break;
                }
                Err(_late) => break,
            }
        }
        let spans = gathered.iter().filter_map(|trail| trail.span());
        let body = wire::request(&collector.resource, spans);
        let is_sent = collector.send(body).await;
        let count = u64::try_from(gathered.len()).unwrap_or(u64::MAX);
        if is_sent { &ok } else { &failed }.add(count);
    }
}

/// Where spans go.
struct Collector {
    spans: Spans,
    resource: wire::Resource,
    is_failing: bool,
}

impl Collector {
    /// Posts; whether it was taken. A failure is said once until it works again.
    async fn send(&mut self, body: Vec<u8>) -> bool {
        let failed = match timeout(LIMIT, self.post(body)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_late) => Some("it did not answer in time".to_owned()),
        };
        match &failed {
            Some(cause) if !self.is_failing => {
                let collector = self.spans.collector();
                tracing::error!(event = "spans_lost", collector, cause, "spans cannot be sent and are lost");
            }
            None if self.is_failing => tracing::info!(event = "spans_sent", "spans are sent again"),
            _ => {}
        }
        self.is_failing = failed.is_some();
        failed.is_none()
    }

    async fn post(&self, body: Vec<u8>) -> io::Result<()> {
        let Spans { host, port, path, .. } = &self.spans;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driven = Tasks::new("span export");
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
        if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("it answered {status}"))) }
    }
}
