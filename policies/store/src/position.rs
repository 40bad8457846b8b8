//! Which snapshot: its numbers and the digest of its manifest. What a follower names when it asks for the next one.

use crate::{content::Hash, generated::messages};
use policies_engine::Numbers;
use prost::bytes::Bytes;
use std::fmt;

/// One snapshot among all that were ever published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Raised when a store is restored.
    pub epoch: u64,
    /// Grows with every snapshot.
    pub snapshot: u64,
    /// SHA-256 of the manifest.
    pub digest: [u8; 32],
}

impl Position {
    pub(crate) fn new(numbers: Numbers, digest: Hash) -> Position {
        Position { epoch: numbers.epoch, snapshot: numbers.snapshot, digest: digest.0 }
    }

    /// `None` when the digest is no SHA-256.
    pub(crate) fn from_message(message: &messages::Position) -> Option<Position> {
        let digest = <[u8; 32]>::try_from(&*message.digest).ok()?;
        Some(Position { epoch: message.epoch, snapshot: message.snapshot, digest })
    }

    pub(crate) fn to_message(self) -> messages::Position {
        let digest = Bytes::copy_from_slice(&self.digest);
        messages::Position { epoch: self.epoch, snapshot: self.snapshot, digest }
    }

    /// The digest in hexadecimal.
    #[must_use]
    pub fn to_hex(&self) -> String {
        Hash(self.digest).to_string()
    }

    /// What grows from snapshot to snapshot (ST5).
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.epoch, self.snapshot)
    }
}

impl fmt::Display for Position {
    /// `1.1207`: epoch and snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_a_digest_of_another_length_is_none() {
        let position = Position { epoch: 2, snapshot: 9, digest: [3; 32] };
        let mut message = position.to_message();
        assert_eq!(Position::from_message(&message), Some(position));
        assert_eq!(position.to_string(), "2.9");
        message.digest = Bytes::from_static(&[3; 31]);
        assert_eq!(Position::from_message(&message), None);
    }
}
