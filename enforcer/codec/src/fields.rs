//! End-to-end header fields in either form: an offset table over one HTTP/1 head, or an HTTP/2 header map.
//!
//! Read by [`Call`](crate::Call) and [`Answer`](crate::Answer). Names are lower-case, values trimmed;
//! hop-by-hop, framing and reserved fields were taken out before a value of this type was made.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::{Extra, HOP, is_value};

/// A range of a head buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    /// From offsets below 4 GiB, which the head limits guarantee.
    pub(crate) fn new(start: usize, len: usize) -> Self {
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), len: u32::try_from(len).unwrap_or(0) }
    }

    /// Where the range ends.
    pub(crate) const fn end(self) -> u32 {
        self.start.saturating_add(self.len)
    }

    /// The bytes of the range; empty when it lies outside.
    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer.get(start..start.saturating_add(self.len as usize)).unwrap_or_default()
    }
}

/// One field line of a head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

impl Field {
    /// True when name and value stand in the head with exactly `: ` between them.
    fn is_printed_form(self, head: &[u8]) -> bool {
        let colon = self.name.end();
        let gap = Span { start: colon, len: self.value.start.saturating_sub(colon) };
        gap.of(head) == b": "
    }
}

/// Fields that a message may get besides: `content-length`, `te`, `grpc-timeout`.
const OWN: usize = 3;

/// The end-to-end fields of a message.
#[derive(Debug, Clone)]
pub(crate) enum Fields {
    Wire { head: Bytes, table: Vec<Field> },
    Map(HeaderMap),
}

impl Fields {
    /// All fields in order; repeated names are repeated.
    pub(crate) fn iter(&self) -> FieldIter<'_> {
        FieldIter(match self {
            Self::Wire { head, table } => Inner::Wire { head, table: table.iter() },
            Self::Map(map) => Inner::Map(map.iter()),
        })
    }

    /// Prints `name: value` lines. Cookie crumbs of HTTP/2 become one line (RFC 9113 8.2.3).
    pub(crate) fn write_h1(&self, out: &mut BytesMut) {
        match self {
            Self::Wire { head, table } => write_table(out, head, table),
            Self::Map(map) => {
                for (name, value) in map {
                    if name != http::header::COOKIE {
                        put_field(out, name.as_str().as_bytes(), value.as_bytes());
                    }
                }
                let mut crumbs = map.get_all(http::header::COOKIE).iter();
                if let Some(first) = crumbs.next() {
                    out.put_slice(b"cookie: ");
                    out.put_slice(first.as_bytes());
                    for crumb in crumbs {
                        out.put_slice(b"; ");
                        out.put_slice(crumb.as_bytes());
                    }
                    out.put_slice(b"\r\n");
                }
            }
        }
    }

    /// A header map for HTTP/2, with the proxy's own fields in place of equal names; its mark stands beside others.
    pub(crate) fn to_map(&self, extra: &[Extra<'_>]) -> HeaderMap {
        let mut map = match self {
            Self::Map(map) => map.clone(),
            Self::Wire { head, table } => {
                let mut map =
                    HeaderMap::with_capacity(table.len().saturating_add(extra.len()).saturating_add(OWN));
                for field in table {
                    let name = HeaderName::from_bytes(field.name.of(head));
                    let value = HeaderValue::from_maybe_shared(slice(head, field.value));
                    if let (Ok(name), Ok(value)) = (name, value) {
                        map.append(name, value);
                    }
                }
                map
            }
        };
        for (name, value) in extra {
            let told = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = told {
                if name == HOP {
                    map.append(name, value);
                } else {
                    map.insert(name, value);
                }
            }
        }
        map
    }
}

/// Names (lower-case) and values of a message, in order.
#[derive(Debug)]
pub struct FieldIter<'a>(Inner<'a>);

#[derive(Debug)]
enum Inner<'a> {
    Wire { head: &'a Bytes, table: std::slice::Iter<'a, Field> },
    Map(http::header::Iter<'a, HeaderValue>),
}

impl<'a> FieldIter<'a> {
    /// The values of one name.
    pub(crate) fn named(mut self, wanted: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        std::iter::from_fn(move || {
            loop {
                let (name, value) = self.next_raw()?;
                if name == wanted.as_bytes() {
                    return Some(value);
                }
            }
        })
    }

    fn next_raw(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        match &mut self.0 {
            Inner::Wire { head, table } => {
                table.next().map(|field| (field.name.of(head), field.value.of(head)))
            }
            Inner::Map(map) => map.next().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        }
    }
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_raw().map(|(name, value)| (str::from_utf8(name).unwrap_or_default(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Inner::Wire { table, .. } => table.size_hint(),
            Inner::Map(map) => map.size_hint(),
        }
    }
}

/// Prints the lines of a table. Neighbours that already stand in the head in the printed form, byte by byte,
/// are copied in one piece; every other line is put together from its parts.
fn write_table(out: &mut BytesMut, head: &Bytes, table: &[Field]) {
    let mut fields = table.iter().peekable();
    while let Some(first) = fields.next() {
        if !first.is_printed_form(head) {
            put_field(out, first.name.of(head), first.value.of(head));
            continue;
        }
        let mut last = first;
        // A name right after the CRLF of the last value: nothing was trimmed or left out in between.
        while let Some(next) = fields.next_if(|next| {
            next.name.start == last.value.end().saturating_add(2) && next.is_printed_form(head)
        }) {
            last = next;
        }
        let run = last.value.end().saturating_sub(first.name.start);
        out.put_slice(Span { start: first.name.start, len: run }.of(head));
        out.put_slice(b"\r\n");
    }
}

/// One field line.
pub(crate) fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The proxy's own fields. A value with a control byte is left out: no line can be injected.
pub(crate) fn put_extra(out: &mut BytesMut, extra: &[Extra<'_>]) {
    for (name, value) in extra {
        if is_value(value) {
            put_field(out, name.as_bytes(), value);
        }
    }
}

/// `content-length: N`.
pub(crate) fn put_length(out: &mut BytesMut, length: u64) {
    out.put_slice(b"content-length: ");
    out.put_slice(itoa::Buffer::new().format(length).as_bytes());
    out.put_slice(b"\r\n");
}

/// The value of `content-length`, with one allocation less than `http` makes.
pub(crate) fn length_value(length: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(length))
        .unwrap_or_else(|_none| HeaderValue::from(length))
}

fn slice(head: &Bytes, span: Span) -> Bytes {
    let bytes = span.of(head);
    if bytes.is_empty() { Bytes::new() } else { head.slice_ref(bytes) }
}
