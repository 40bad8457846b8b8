//! The exporter of spans (TA-02, OB5): a task that takes sampled calls from the workers, gathers them for a moment, and
//! posts them to a collector by OTLP over HTTP. What cannot be sent is dropped and counted; calls never wait for it.
//!
//! The collector is one of this host or this network, over plain HTTP: what leaves it from there is its own matter.

mod wire;

use std::sync::Arc;
use std::time::Duration;

use base_telemetry::{Counter, Family, Metrics};
use enforcer_proxy::{CallTrail, Reader, Trails};
use tokio::time::{Instant, timeout_at};

use super::collector::{Collector, Exporter};
use crate::config::Spans;
use crate::messages::Message;

/// Spans of one request.
const MOST: usize = 512;
/// The first of them waits so long for others.
const GATHER: Duration = Duration::from_secs(1);

/// Starts the exporter; sampled calls find it by `trails`.
///
/// # Errors
/// When the roots of the collector cannot be read.
pub(super) fn start(spans: &Spans, trails: &mut Trails, metrics: &Metrics) -> Result<Exporter, Message> {
    let reader = trails.sampled(spans.share, metrics);
    let sent = metrics.counter(
        "portcullis_spans_sent",
        "Spans of sampled calls, by what became of them.",
        &["result"],
    );
    let collector = Collector::new(&spans.collector, "spans")?;
    Ok(Exporter::start("spans", async move { run(reader, collector, &sent).await }))
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
        let body = wire::request(collector.resource(), spans);
        let is_sent = collector.send(body).await.is_ok();
        let count = u64::try_from(gathered.len()).unwrap_or(u64::MAX);
        if is_sent { &ok } else { &failed }.add(count);
    }
}
