//! Header compression of HTTP/2 (RFC 7541): a decoder that knows no bounds but ours, an encoder for what we say.
//!
//! Fields are decoded straight into the lines in which HTTP/1 prints them, so most of a head is copied once from the
//! dynamic table to where the call keeps it. Called by the connection alone.

mod decoder;
mod dynamic;
mod encoder;
mod fixed;
pub(crate) mod huffman;
pub(crate) mod integer;
#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use decoder::{Lines, string};
pub use encoder::Encoder;

/// The largest dynamic table that either side of ours keeps, which is what a peer may expect without asking (4.2).
pub(crate) const TABLE: usize = 4096;

/// The block breaks the compression, and with it the state of the connection (4.3: COMPRESSION_ERROR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header block that cannot be decoded")]
pub(crate) struct NotHpack;
