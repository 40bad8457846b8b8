//! Checkpoints (C2SP tlog-checkpoint): size and root of a log, signed.

use std::fmt;

use super::{
    hash::TreeHash,
    note::{self, NoteError, Signer, VerifierKey},
};

/// What a log says of itself at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log: `example.org/decisions/main`.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: TreeHash,
}

impl Checkpoint {
    /// Reads a signed note that one of `keys` signed. The log is the one that the key is named after.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn open(note: &[u8], keys: &[VerifierKey]) -> Result<Self, NoteError> {
        let checkpoint = Self::parse(note::open(note, keys)?).ok_or(NoteError::Malformed)?;
        let is_of = keys.iter().any(|key| key.name() == checkpoint.origin);
        if is_of { Ok(checkpoint) } else { Err(NoteError::OtherLog) }
    }

    pub(crate) fn sign(&self, signer: &dyn Signer) -> String {
        note::sign(&self.origin, &self.to_string(), signer)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let size = size.parse().ok().filter(|number: &u64| number.to_string() == size)?;
        let root = TreeHash::from_base64(root)?;
        let checkpoint = Self { origin: origin.to_owned(), size, root };
        // Nothing follows, and everything is written in the one way.
        (checkpoint.to_string() == text).then_some(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root)
    }
}
