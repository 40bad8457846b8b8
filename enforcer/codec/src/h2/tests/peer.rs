//! A peer of a few lines, which says what it is told to: a client, or an endpoint where our side is the client.

use super::super::frame::{HEAD, Head, PREFACE, put};
use super::super::hpack::{Decoder, Lines};
use super::*;

/// An event that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Request { stream: u32, head: Result<String, u16>, over: bool },
    Answer { stream: u32, status: u16, over: bool },
    Data { stream: u32, bytes: Vec<u8>, over: bool },
    Trailers { stream: u32, fields: usize },
    Reset { stream: u32, reason: Reason },
    Room { stream: u32 },
    Settings,
    Leaving,
    Ended(Reason),
}

pub(super) struct Peer {
    pub(super) ours: Connection<()>,
    /// What was sent and not taken yet.
    pub(super) sent: Vec<u8>,
    pub(super) now: Duration,
    encoder: Encoder,
    decoder: Decoder,
}

impl Peer {
    pub(super) fn new(is_proved: bool) -> Self {
        Self::of(Connection::server(Limits::default(), is_proved, Duration::ZERO))
    }

    /// An endpoint whose settings are those of the standard, and that took ours.
    pub(super) fn endpoint(settings: &[u8]) -> Self {
        let mut peer = Self::of(Connection::client(Limits::default(), Duration::ZERO));
        let greeting = peer.ours.pending().to_vec();
        assert!(greeting.starts_with(PREFACE));
        peer.ours.wrote(PREFACE.len());
        let kinds: Vec<_> = peer.frames().iter().map(|(head, _)| head.kind).collect();
        assert_eq!(kinds, [kind::SETTINGS, kind::WINDOW_UPDATE]);
        peer.send(kind::SETTINGS, 0, 0, settings);
        peer.send(kind::SETTINGS, flag::ACK, 0, &[]);
        assert_eq!(peer.take(), []);
        assert_eq!(peer.frames().len(), 1, "ours are acknowledged");
        peer
    }

    /// Our side opens a stream for a GET without a body.
    pub(super) fn asked(&mut self) -> u32 {
        let open = |encoder: &mut Encoder, out: &mut Vec<u8>| {
            encoder.request("GET", Some("https"), "h.test", Some(("/a", false)), out);
        };
        self.ours.open(true, false, open).unwrap()
    }

    fn of(ours: Connection<()>) -> Self {
        Self { ours, sent: Vec::new(), now: Duration::ZERO, encoder: Encoder::new(), decoder: Decoder::new() }
    }

    /// One whose settings have been exchanged.
    pub(super) fn greeted() -> Self {
        let mut client = Self::new(false);
        client.sent.extend_from_slice(PREFACE);
        client.send(kind::SETTINGS, 0, 0, &[]);
        assert_eq!(client.take(), []);
        let kinds: Vec<_> = client.frames().iter().map(|(head, _)| head.kind).collect();
        assert_eq!(kinds, [kind::SETTINGS, kind::WINDOW_UPDATE, kind::SETTINGS]);
        client
    }

    pub(super) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        put(kind, flags, stream, payload, &mut self.sent);
    }

    pub(super) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        block
    }

    pub(super) fn send_headers(&mut self, stream: u32, fields: &[(&str, &str)], over: bool) {
        let block = self.block(fields);
        let end = if over { flag::END_STREAM } else { 0 };
        self.send(kind::HEADERS, flag::END_HEADERS | end, stream, &block);
    }

    pub(super) fn request(&mut self, stream: u32, fields: &[(&str, &str)], over: bool) {
        self.send_headers(stream, fields, over);
    }

    pub(super) fn data(&mut self, stream: u32, bytes: &[u8], over: bool) {
        self.send(kind::DATA, if over { flag::END_STREAM } else { 0 }, stream, bytes);
    }

    pub(super) fn window(&mut self, stream: u32, more: u32) {
        self.send(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    /// The next event.
    pub(super) fn event(&mut self) -> Option<Event<'static>> {
        let sent = Vec::leak(std::mem::take(&mut self.sent));
        let mut input = &*sent;
        let event = self.ours.receive(&mut input, self.now).unwrap();
        self.sent = input.to_vec();
        event
    }

    /// All events of what was sent, without those that tell of room.
    pub(super) fn take(&mut self) -> Vec<Seen> {
        let sent = std::mem::take(&mut self.sent);
        let mut seen = self.feed(&sent);
        seen.retain(|seen| !matches!(seen, Seen::Room { .. } | Seen::Settings));
        seen
    }

    /// All events of what was sent.
    pub(super) fn feed_sent(&mut self) -> Vec<Seen> {
        let sent = std::mem::take(&mut self.sent);
        self.feed(&sent)
    }

    /// All events of some bytes.
    pub(super) fn feed(&mut self, mut input: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let event = match self.ours.receive(&mut input, self.now) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    assert!(input.is_empty());
                    return seen;
                }
                Err(ended) => {
                    seen.push(Seen::Ended(ended.reason));
                    return seen;
                }
            };
            seen.push(match event {
                Event::Request { stream, head, over } => Seen::Request {
                    stream,
                    head: head.map(|head| show(&head)).map_err(|flaw| flaw.status),
                    over,
                },
                Event::Answer { stream, head, over } => Seen::Answer { stream, status: head.status(), over },
                Event::Leaving => Seen::Leaving,
                Event::Data { stream, bytes, over } => Seen::Data { stream, bytes: bytes.to_vec(), over },
                Event::Trailers { stream, fields } => Seen::Trailers { stream, fields: fields.len() },
                Event::Reset { stream } => {
                    let reason = self.ours.stream(stream).unwrap().reset().unwrap();
                    Seen::Reset { stream, reason }
                }
                Event::Room { stream } => Seen::Room { stream },
                Event::Settings => Seen::Settings,
            });
        }
    }

    /// What the server said since.
    pub(super) fn frames(&mut self) -> Vec<(Head, Vec<u8>)> {
        let mut bytes = self.ours.pending().to_vec();
        self.ours.wrote(bytes.len());
        let mut frames = Vec::new();
        while let Some(head) = bytes.first_chunk::<HEAD>() {
            let head = Head::parse(*head);
            let rest = bytes.split_off(HEAD + head.length as usize);
            frames.push((head, bytes[HEAD..].to_vec()));
            bytes = rest;
        }
        frames
    }

    /// Why the server reset a stream.
    pub(super) fn reset(&mut self, stream: u32) -> Option<Reason> {
        let frames = self.frames();
        let found = frames.iter().find(|(head, _)| head.kind == kind::RST_STREAM && head.stream == stream)?;
        Some(Reason(u32::from_be_bytes(found.1[..].try_into().unwrap())))
    }

    pub(super) fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut lines = Lines::default();
        self.decoder.decode(block, &Limits::default(), &mut lines).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pair = |field: &crate::fields::Field| {
            (text(field.name.of(&lines.bytes)), text(field.value.of(&lines.bytes)))
        };
        lines.fields.iter().map(pair).collect()
    }
}

fn show(head: &RequestHead) -> String {
    let text = |span: Option<crate::fields::Span>| {
        span.map_or_else(String::new, |span| String::from_utf8_lossy(span.of(&head.head)).into_owned())
    };
    let fields: Vec<_> = head
        .table
        .iter()
        .map(|field| {
            let (name, value) = (field.name.of(&head.head), field.value.of(&head.head));
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
        .collect();
    let (scheme, authority, path) = (text(head.scheme), text(head.authority), text(head.path));
    format!("{} {scheme} {authority} {path} {fields:?}", head.method)
}

pub(super) fn get(path: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", "h.test"), (":path", path)]
}

pub(super) fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
