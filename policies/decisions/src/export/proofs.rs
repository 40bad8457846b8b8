//! Rows as they were signed, each with its path to one checkpoint: the lines of a bundle that `decisions verify` reads.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    error::LedgerError,
    ledger::Ledger,
    proof::{Signed, Tree, TreeError},
};

/// The tree at one checkpoint.
pub(super) struct Proofs {
    tree: Arc<Tree>,
    signed: Arc<Signed>,
}

impl Proofs {
    /// Writes the last checkpoint; the rows of a piece are proved against that one.
    pub(super) fn begin(ledger: &Ledger, out: &mut String) -> Result<Proofs, LedgerError> {
        let tree = ledger.inner().tree.clone().ok_or(LedgerError::NoTree)?;
        let signed = tree.signed().ok_or(LedgerError::NoTree)?;
        line(&json!({ "kind": "Checkpoint", "note": signed.note }), out);
        Ok(Proofs { tree, signed })
    }

    /// Writes a row with its proof; `false` when the checkpoint does not cover it.
    pub(super) fn put(&self, index: u64, leaf: &[u8], out: &mut String) -> Result<bool, TreeError> {
        let Some((at, path)) = self.tree.path(&self.signed, index, leaf)? else { return Ok(false) };
        let path: Vec<_> = path.iter().map(ToString::to_string).collect();
        line(
            &json!({ "kind": "Entry", "index": at.to_string(), "leaf": STANDARD.encode(leaf), "path": path }),
            out,
        );
        Ok(true)
    }
}

fn line(value: &serde_json::Value, out: &mut String) {
    out.push_str(&value.to_string());
    out.push('\n');
}
