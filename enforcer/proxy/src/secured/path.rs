//! Where the caller of a QUIC connection is: it may go on from another address, which policies and routes then see (QU-03).
//!
//! The library tells of no change, so whoever is about to judge or to go on with a call looks.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use policies_engine::{ConnectionFacts, Protocol};

/// The way to a caller.
#[derive(Debug)]
pub(super) struct Path {
    quic: quinn::Connection,
    here: Mutex<Here>,
}

#[derive(Debug)]
struct Here {
    address: SocketAddr,
    /// Changes of the IP address.
    moves: u32,
    /// Of the connection, and of its gRPC calls, since the first of these.
    facts: Option<[Arc<ConnectionFacts>; 2]>,
}

impl Path {
    pub(super) fn new(quic: quinn::Connection, address: SocketAddr) -> Self {
        Self { quic, here: Mutex::new(Here { address, moves: 0, facts: None }) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.here.lock().address
    }

    /// Looks where the caller is, and says how often that was another IP address than before; `first` is what was known of
    /// the connection at its beginning.
    pub(super) fn look(&self, first: &ConnectionFacts) -> u32 {
        let address = self.quic.remote_address();
        let mut here = self.here.lock();
        if address.ip() != here.address.ip() {
            let facts = ConnectionFacts { source_ip: address.ip().to_canonical(), ..first.clone() };
            let grpc = ConnectionFacts { protocol: Protocol::Grpc, ..facts.clone() };
            here.facts = Some([Arc::new(facts), Arc::new(grpc)]);
            here.moves = here.moves.wrapping_add(1);
            tracing::info!(event = "caller_moved", from = %here.address, to = %address, "a caller goes on from another address");
        }
        here.address = address;
        here.moves
    }

    /// What is known since it moved.
    pub(super) fn facts(&self, grpc: bool) -> Option<Arc<ConnectionFacts>> {
        let here = self.here.lock();
        let [own, of_grpc] = here.facts.as_ref()?;
        Some(Arc::clone(if grpc { of_grpc } else { own }))
    }
}
