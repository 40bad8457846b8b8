//! HTTP/2, sans I/O (RFC 9113): bytes in, events out; heads and bodies in, bytes out. Towards callers as their server,
//! towards endpoints as their client.
//!
//! The proxy owns the socket, the clock and whoever waits. A [`Connection`] takes what has arrived, however it was split, and
//! gathers all it has to say in one buffer that leaves with one write. It keeps what is bounded: 256 streams of a caller,
//! windows, two tables of 4 KiB, and budgets for every frame that moves no call (H2-01 to H2-04). It takes no pushes and has
//! no priorities.

mod budget;
mod client;
mod connection;
mod frame;
mod frames;
mod head;
mod hpack;
mod reason;
mod receive;
mod send;
mod settings;
mod streams;
#[cfg(test)]
mod tests;

pub use client::Opens;
pub use connection::Connection;
pub use head::{AnswerHead, RequestHead};
pub use hpack::Encoder;
pub(crate) use hpack::{huffman, integer, string};
pub use reason::Reason;
pub use receive::{Ended, Event};
pub use send::Room;
pub use streams::Stream;

/// Streams of a caller at once (SETTINGS_MAX_CONCURRENT_STREAMS).
pub const STREAMS: u32 = 256;
/// What a caller may send on a stream before we took any of it.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all streams together. Never equal to the other, or two streams that wait for each other could stand still.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
