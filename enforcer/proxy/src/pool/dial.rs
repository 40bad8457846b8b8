//! A new connection to an endpoint, handshake included, within its time.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ca_identity::tls::{alert_in, refusal_in};

use super::Endpoint;
use super::wire::Wire;
use crate::worker::Worker;

impl Endpoint {
    /// Connects. A dial that takes longer than `limit` is `TimedOut`.
    pub(super) async fn dial(&self, worker: &Worker, limit: Duration) -> io::Result<Wire> {
        let timer = worker.wheel.timer();
        timer.set(worker.clock.mono() + limit);
        let connected = timer.within(pin!(self.connect(worker))).await;
        let connected = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        worker.meters.dial(match &connected {
            Ok(_) => "ok",
            Err(error) => self.failed(error),
        });
        connected
    }

    async fn connect(&self, worker: &Worker) -> io::Result<Wire> {
        let stream = worker.net.dial(&self.address).await?;
        let Some(originator) = &self.originator else { return Ok(Wire::Plain(stream)) };
        let wire = Box::pin(originator.secure(stream)).await?;
        if let Some(standing) = wire.standing() {
            self.secured.lock().push(Arc::downgrade(standing));
        }
        Ok(wire)
    }

    /// The word for a dial that failed.
    fn failed(&self, error: &io::Error) -> &'static str {
        if let Some(refusal) = refusal_in(error) {
            let expected = self.originator.as_ref().map(|originator| originator.expected());
            tracing::warn!(event = "upstream_identity", endpoint = %self.address, expected, seen = %refusal, "an endpoint is not who the cluster expects; it gets no calls");
            return refusal.code();
        }
        if let Some(alert) = alert_in(error) {
            tracing::warn!(event = "tls_rejected", endpoint = %self.address, alert, "an endpoint rejected the handshake");
            return "tls_rejected";
        }
        match error.kind() {
            io::ErrorKind::TimedOut => "timeout",
            io::ErrorKind::ConnectionRefused => "refused",
            _ => "failed",
        }
    }
}
