//! A new connection to an endpoint, handshake included, within its time.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ca_identity::tls::{alert_in, refusal_in};

use super::Endpoint;
use super::wire::{Standing, Wire};
use crate::worker::Worker;

impl Endpoint {
    /// Connects. A dial that takes longer than `limit` is `TimedOut`.
    pub(super) async fn dial(&self, worker: &Worker, limit: Duration) -> io::Result<Wire> {
        self.within(worker, limit, pin!(self.connect(worker))).await
    }

    /// The same over QUIC.
    pub(super) async fn dial_quic(
        &self,
        worker: &Worker,
        limit: Duration,
    ) -> io::Result<(quinn::Connection, Arc<Standing>)> {
        self.within(worker, limit, pin!(self.connect_quic(worker))).await
    }

    async fn within<T>(
        &self,
        worker: &Worker,
        limit: Duration,
        connecting: Pin<&mut impl Future<Output = io::Result<T>>>,
    ) -> io::Result<T> {
        let timer = worker.wheel.timer();
        timer.set(worker.clock.mono() + limit);
        let connected = timer.within(connecting).await;
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

    async fn connect_quic(&self, worker: &Worker) -> io::Result<(quinn::Connection, Arc<Standing>)> {
        let originator = self.originator.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let secured = originator.secure_quic(&worker.pools.datagrams, &*worker.net);
        let (quic, standing) = Box::pin(secured).await?;
        self.secured.lock().push(Arc::downgrade(&standing));
        Ok((quic, standing))
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
