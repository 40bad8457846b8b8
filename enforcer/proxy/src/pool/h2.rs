//! Kept HTTP/2 connections of an endpoint.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::{Builder, SendRequest};

use super::links::{Link, Links, NoLink, Place};
use super::{Endpoint, Terms};
use crate::fault::{Broken, Fault};
use crate::worker::Worker;

const BUSY: u32 = 32;

const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const HEADER_LIST: u32 = 64 * 1024;

pub(super) type H2Links = Links<SendRequest<Bytes>>;
type H2Link = Link<SendRequest<Bytes>>;

/// A stream that can be asked on.
#[derive(Debug)]
pub(crate) struct H2Stream {
    pub(crate) place: Place<SendRequest<Bytes>>,
    pub(crate) sender: SendRequest<Bytes>,
}

pub(super) fn links() -> H2Links {
    Links::new(BUSY)
}

impl Endpoint {
    /// A stream for one call.
    pub(crate) async fn lend_h2(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        terms: Terms,
    ) -> Result<H2Stream, Fault> {
        loop {
            let generation = self.generation(worker);
            let connect = || {
                let (endpoint, worker) = (Arc::clone(self), Arc::clone(worker));
                let connecting = async move {
                    let connected = endpoint.connect_h2(&worker, terms).await;
                    endpoint.h2.dialled(&connected);
                    connected
                };
                connecting.boxed()
            };
            let lent = self.h2.lend(generation, connect).await;
            let place = lent.map_err(|failed| self.no_connection(&failed))?;
            let mut stream = H2Stream { sender: place.link.speaker.clone(), place };
            // The endpoint may take fewer streams than we would give it; then this waits, else it does not.
            match poll_fn(|context| stream.sender.poll_ready(context)).await {
                Ok(()) => return Ok(stream),
                Err(error) => {
                    tracing::debug!(event = "upstream_connection_lost", endpoint = %self.address, %error, "");
                    stream.place.link.close();
                    self.h2.sweep(generation);
                    if let Some(alert) = stream.rejected() {
                        return Err(Fault::TlsRejected { address: self.address.clone(), alert });
                    }
                }
            }
        }
    }

    async fn connect_h2(&self, worker: &Arc<Worker>, terms: Terms) -> Result<Arc<H2Link>, NoLink> {
        let opened = self.open(&terms).map_err(|_full| NoLink::Full)?;
        let socket = self.dial(worker, terms.limit).await?;
        let standing = socket.standing().cloned();
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .enable_push(false);
        let (sender, connection) = builder.handshake::<_, Bytes>(socket).await.map_err(io::Error::other)?;
        let link = Link::new(sender, standing, opened);
        let (driven, address) = (Arc::downgrade(&link), self.address.clone());
        worker.tasks.spawn("upstream", async move {
            if let Err(error) = connection.await {
                tracing::debug!(event = "upstream_connection_ended", endpoint = %address, %error, "");
            }
            if let Some(link) = driven.upgrade() {
                link.close();
            }
        });
        Ok(link)
    }
}

impl H2Stream {
    /// The alert by which the endpoint rejected the connection.
    pub(crate) fn rejected(&self) -> Option<String> {
        self.place.link.standing()?.alert().map(str::to_owned)
    }

    /// The connection broke or is going away: no further call uses it.
    pub(crate) fn give_up(&self, broken: &Broken) {
        if matches!(broken, Broken::H2(error) if error.is_io() || error.is_go_away()) {
            self.place.link.close();
        }
    }
}
