//! The encoder: the heads and trailers that we send.
//!
//! Fields that come again are put into the table and cost one octet from then on; what differs from message to message, and
//! what is secret, is not. Strings stand as they are: they are read by machines nearby, and bits cost more than bytes.

use super::dynamic::Dynamic;
use super::{TABLE, fixed, integer};

/// The encoding side of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Dynamic,
    /// The peer asked for another size, which the next block must say.
    resized: Option<usize>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { table: Dynamic::new(TABLE), resized: None }
    }

    /// The table that the peer keeps for us is no larger than this.
    pub(crate) fn limit(&mut self, most: usize) {
        let most = most.min(TABLE);
        if most != self.table.most() || self.resized.is_some() {
            // 4.2: a smaller size in between must be said too; that everything is gone says it for all of them.
            self.table.resize(0);
            self.resized = Some(most);
        }
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(most) = self.resized.take() {
            integer::put(0x20, 5, 0, out);
            integer::put(0x20, 5, most, out);
            self.table.resize(most);
        }
    }

    /// Appends `:status`.
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        match fixed::status(status) {
            Some(index) => out.push(0x80 | index),
            None => {
                let mut text = itoa::Buffer::new();
                let text = text.format(status).as_bytes();
                self.known(b":status", text, Some(8), out);
            }
        }
    }

    /// Appends the pseudo-header fields of a request; `path` is the target, and whether it is likely to come again.
    pub(crate) fn request(
        &mut self,
        method: &str,
        scheme: Option<&str>,
        authority: &str,
        path: Option<(&str, bool)>,
        out: &mut Vec<u8>,
    ) {
        match method {
            "GET" => out.push(0x82),
            "POST" => out.push(0x83),
            other => self.known(b":method", other.as_bytes(), Some(2), out),
        }
        match scheme {
            Some("http") => out.push(0x86),
            Some(_) => out.push(0x87),
            None => {}
        }
        match path {
            Some(("/", _)) => out.push(0x84),
            Some((path, true)) if path.len() <= LONG => self.known(b":path", path.as_bytes(), Some(4), out),
            Some((path, _)) => put_literal(0, b":path", path.as_bytes(), Some(4), out),
            None => {}
        }
        match authority.len() {
            ..=LONG => self.known(b":authority", authority.as_bytes(), Some(1), out),
            _ => put_literal(0, b":authority", authority.as_bytes(), Some(1), out),
        }
    }

    /// Appends a field. The name is lower-case, the value without control bytes.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match fixed::find(name, value) {
            Some((index, true)) => integer::put(0x80, 7, index, out),
            found => {
                let index = found.map(|(index, _)| index);
                match keeping(name, value) {
                    Keeping::Table => self.known(name, value, index, out),
                    Keeping::None => put_literal(0, name, value, index, out),
                    Keeping::Never => put_literal(0x10, name, value, index, out),
                }
            }
        }
    }

    fn known(&mut self, name: &[u8], value: &[u8], index: Option<usize>, out: &mut Vec<u8>) {
        match self.table.find(name, value) {
            Some(nth) => integer::put(0x80, 7, nth.saturating_add(fixed::COUNT).saturating_add(1), out),
            None => {
                let mark = 0x40;
                put_name(mark, 6, name, index, out);
                put_string(value, out);
                self.table.add(name, value);
            }
        }
    }
}

/// What becomes of a field in the tables on the way.
enum Keeping {
    Table,
    None,
    /// Nowhere, by nobody (7.1.3).
    Never,
}

/// Longer values push out more than they save.
const LONG: usize = 256;

fn keeping(name: &[u8], value: &[u8]) -> Keeping {
    match name {
        b"set-cookie" | b"cookie" | b"authorization" | b"proxy-authorization" => Keeping::Never,
        b"content-length"
        | b"etag"
        | b"last-modified"
        | b"location"
        | b"content-range"
        | b"age"
        | b"grpc-message"
        | b"grpc-timeout"
        | b"traceparent"
        | b"tracestate"
        | b"grpc-status-details-bin" => Keeping::None,
        _ if name.ends_with(b"-id") || value.len() > LONG => Keeping::None,
        _ => Keeping::Table,
    }
}

fn put_literal(mark: u8, name: &[u8], value: &[u8], index: Option<usize>, out: &mut Vec<u8>) {
    put_name(mark, 4, name, index, out);
    put_string(value, out);
}

fn put_name(mark: u8, prefix: u32, name: &[u8], index: Option<usize>, out: &mut Vec<u8>) {
    match index {
        Some(index) => integer::put(mark, prefix, index, out),
        None => {
            out.push(mark);
            put_string(name, out);
        }
    }
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    integer::put(0, 7, text.len(), out);
    out.extend_from_slice(text);
}
