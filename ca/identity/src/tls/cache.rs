//! Verify once: a chain that was accepted is not judged again for the same generation (VS-12).
//!
//! The handshake verifies, then the connection asks for the identity; a busy peer reconnects. Only acceptances are
//! kept, never beyond their end of validity, never across a publication.

use std::collections::HashMap;
use std::sync::Arc;

use base_ports::UnixTime;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use crate::key_id::sha256;
use crate::{Usage, VerifiedPeer};

/// About 4 MiB at most; a full cache is emptied, which costs each live peer one verification.
const LIMIT: usize = 4096;

/// Accepted chains of one generation.
#[derive(Default)]
pub(crate) struct VerifyOnce(Mutex<Accepted>);

#[derive(Default)]
struct Accepted {
    generation: u64,
    peers: HashMap<Key, Arc<VerifiedPeer>>,
}

/// Names a chain and the purpose it was judged for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32], Usage);

impl Key {
    /// Lengths go into the hash, so that two chains never share a key by shifting a boundary.
    pub(crate) fn of(chain: &[CertificateDer<'_>], usage: Usage) -> Self {
        let lengths: Vec<u8> = chain.iter().flat_map(|der| der.len().to_be_bytes()).collect();
        let parts: Vec<&[u8]> =
            std::iter::once(lengths.as_slice()).chain(chain.iter().map(AsRef::as_ref)).collect();
        Self(sha256(&parts), usage)
    }
}

impl VerifyOnce {
    pub(crate) fn get(&self, key: &Key, generation: u64, now: UnixTime) -> Option<Arc<VerifiedPeer>> {
        let accepted = self.0.lock();
        let peer = accepted.peers.get(key).filter(|_| accepted.generation == generation)?;
        (now <= peer.expires).then(|| Arc::clone(peer))
    }

    pub(crate) fn keep(&self, key: Key, peer: Arc<VerifiedPeer>) {
        let mut accepted = self.0.lock();
        if accepted.generation > peer.generation {
            return;
        }
        if accepted.generation < peer.generation || accepted.peers.len() >= LIMIT {
            accepted.peers.clear();
            accepted.generation = peer.generation;
        }
        accepted.peers.insert(key, peer);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().peers.len()
    }
}
