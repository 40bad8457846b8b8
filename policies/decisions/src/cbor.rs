//! Deterministic CBOR (RFC 8949 4.2.1), as much of it as leaves and the ledger's own state need.
//!
//! Called by `leaf` and `state`. The writer emits one form only; the reader refuses every other form of the same
//! value (longer integers, unsorted or repeated keys, indefinite lengths), so equal bytes mean equal values and
//! the other way round. It never panics on any bytes and never allocates more than the input holds.

mod read;
mod write;

pub use read::CborError;
pub(crate) use read::{Item, Reader};
pub(crate) use write::{IntMap, TextMap, Texts, Writer};

/// Nesting a reader follows before it refuses (decisions.md IG5).
pub(crate) const MAX_DEPTH: u8 = 16;

#[cfg(test)]
mod tests;
