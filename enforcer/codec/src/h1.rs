//! HTTP/1 bytes behind the strict gate (hardening.md 3): heads, bodies and their encoders, sans I/O.
//!
//! The proxy owns the sockets and the buffers; nothing else reads raw HTTP/1 bytes. Every parser takes what
//! has arrived so far, says so when it needs more, and judges complete lines only, so the result does not
//! depend on how the input was split. Each refusal names its row.

mod body;
mod encode;
mod reader;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyEvent};
pub use encode::{
    CONTINUE, write_chunk, write_chunk_end, write_chunk_start, write_connected, write_last_chunk,
    write_response_head,
};
pub(crate) use encode::{SWITCH, put_framing, put_status};
pub(crate) use reader::content_length;
pub use request::{RequestHead, RequestParser, parse_request_head};
pub use response::{ResponseHead, ResponseParser, leftover};

/// The longest method that is served (H1-05).
pub(crate) const MAX_METHOD: usize = 32;

/// The state of a head after the bytes so far.
#[derive(Debug)]
pub enum Parse<T> {
    /// More bytes are needed.
    Incomplete,
    /// The head is complete and was taken out of the buffer; what follows stays there.
    Done(T),
    /// The connection must not be read further.
    Refused(crate::NotCanonical),
}

/// The protocol version of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: answered, never kept alive, never chunked.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the body of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection (answers only).
    UntilClose,
}

/// Facts of a message that concern this hop only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// The version.
    pub version: Version,
    /// The framing of the body that follows.
    pub framing: Framing,
    /// The connection may serve another message after this one.
    pub keep_alive: bool,
    /// The client waits for `100 Continue`; send it only after the permit (PA-03).
    pub expects_continue: bool,
}
