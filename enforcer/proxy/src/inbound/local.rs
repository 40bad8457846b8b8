//! Connections of the local application, without TLS (SC-01): the kernel says whose process called, and only the
//! workload's own get in, under the workload's identity (OUT4). What they speak shows in their first bytes (DT-01).

use std::sync::Arc;

use base_net::{Peer, Stream, owner};
use bytes::BytesMut;
use policies_engine::Protocol;

use super::Connection;
use super::detect::spoken;
use super::handshake::{bind, ends};
use super::wire::{Io, Wire};
use crate::Callers;
use crate::authorize::not_attested;
use crate::listening::Listening;
use crate::secured::Proof;
use crate::worker::Worker;

/// Takes in a connection of the own workload, or ends it without a byte.
pub(super) async fn attest(
    worker: Arc<Worker>,
    listening: Arc<Listening>,
    callers: Arc<Callers>,
    mut stream: Stream,
    peer: Peer,
) -> Option<(Box<Connection>, Box<Wire>)> {
    let ends = ends(&stream, peer);
    let refused = match owner(&stream, &peer) {
        Ok(uid) if callers.uids.contains(&uid) => None,
        Ok(uid) => Some(format!("uid {uid} is none of the workload's")),
        Err(cause) => Some(format!("whose process it is cannot be told: {cause}")),
    };
    if let Some(cause) = refused {
        worker.meters.handshake("not_attested");
        tracing::info!(event = "caller_refused", listener = %listening.name, %peer, cause, "a local caller was refused");
        let conn = bind(worker, listening, Proof::None, ends, None, Protocol::Tcp);
        let now = conn.worker.clock.now();
        not_attested(&conn, cause, now).await;
        return None;
    }
    let mut ahead = BytesMut::new();
    let protocol = spoken(&worker, &listening, &mut stream, &mut ahead).await?;
    worker.meters.handshake("ok");
    let conn = bind(worker, listening, Proof::Own(callers.id.clone()), ends, None, protocol);
    Some((Box::new(conn), Box::new(Wire::new(Io::Plain(stream), ahead))))
}
