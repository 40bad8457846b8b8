//! One proof as one file (C2SP tlog-proof): the leaf, its path, and the checkpoint it leads to.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    check::includes,
    checkpoint::Checkpoint,
    hash::TreeHash,
    note::{NoteError, VerifierKey},
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Longer files are no proofs: a leaf of 32 KiB, 64 hashes and a note are far less, bytes.
const LONGEST: usize = 256 << 10;

/// That a leaf stands in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofDocument {
    /// The leaf, byte for byte (`extra` of the file).
    pub leaf: Vec<u8>,
    /// Its position in the log.
    pub index: u64,
    /// Hashes from the leaf to the root.
    pub path: Vec<TreeHash>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// Why a proof file proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It has not the form.
    #[error("it is no tlog-proof file with a leaf in it")]
    Malformed,
    /// The checkpoint is not believed.
    #[error("the checkpoint in it: {0}")]
    Checkpoint(#[source] NoteError),
    /// The path does not lead from the leaf to the checkpoint.
    #[error("the leaf is not in the tree of the checkpoint")]
    NotIncluded,
}

impl ProofDocument {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ProofError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        Self::read(bytes).ok_or(ProofError::Malformed)
    }

    /// The checkpoint, if a key of `keys` signed it and the leaf is in its tree.
    ///
    /// # Errors
    /// Why nothing is proved.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let checkpoint =
            Checkpoint::open(self.checkpoint.as_bytes(), keys).map_err(ProofError::Checkpoint)?;
        let leaf = TreeHash::of_leaf(&self.leaf);
        if includes(leaf, self.index, &self.path, checkpoint.size, checkpoint.root) {
            Ok(checkpoint)
        } else {
            Err(ProofError::NotIncluded)
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST)?;
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let (header, extra, index) = (lines.next()?, lines.next()?, lines.next()?);
        let document = Self {
            leaf: STANDARD.decode(extra.strip_prefix("extra ")?).ok()?,
            index: index.strip_prefix("index ")?.parse().ok()?,
            path: lines.map(TreeHash::from_base64).collect::<Option<_>>()?,
            checkpoint: checkpoint.to_owned(),
        };
        (header == HEADER && document.to_string() == text).then_some(document)
    }
}

impl std::fmt::Display for ProofDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{HEADER}\nextra {}\nindex {}\n", STANDARD.encode(&self.leaf), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
