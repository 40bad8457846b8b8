//! Kept HTTP/1 connections of an endpoint.
//!
//! A connection comes back only after a complete answer that left nothing behind (PL-06, HR-06). Before it is lent
//! again it is looked at without a system call: one that the endpoint closed meanwhile is dropped.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use base_ports::Mono;
use bytes::BytesMut;
use ca_identity::SpiffeId;
use enforcer_codec::h1::{self, Parse, ResponseHead, ResponseParser};
use enforcer_codec::{Asked, Limits};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::{ReadHalf, WriteHalf};
use super::{Endpoint, Opened, Terms, Wire};
use crate::fault::{Broken, Fault};
use crate::worker::Worker;

/// Kept per endpoint and worker at most.
const KEPT: usize = 512;
/// An idle connection is not used for longer than this (PL-05).
const IDLE: Duration = Duration::from_secs(55);

/// The idle connections of one endpoint, the latest used last.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<(Mono, H1Link)>>);

/// One connection, lent to one call.
#[derive(Debug)]
pub(crate) struct H1Link {
    pub(crate) stream: Wire,
    pub(crate) buffer: BytesMut,
    parser: ResponseParser,
    /// It has served before, so the endpoint may have closed it without our knowledge.
    pub(crate) is_used: bool,
    _opened: Opened,
}

impl Idle {
    fn take(&self, now: Mono, generation: u64) -> Option<H1Link> {
        let mut idle = self.0.lock();
        while let Some((since, mut link)) = idle.pop() {
            if now.saturating_since(since) < IDLE && link.is_good(generation) {
                return Some(link);
            }
        }
        None
    }

    pub(super) fn sweep(&self, now: Mono, generation: u64) {
        self.0
            .lock()
            .retain_mut(|(since, link)| now.saturating_since(*since) < IDLE && link.is_good(generation));
    }
}

impl Endpoint {
    /// A kept connection for one call.
    pub(crate) fn kept_h1(&self, worker: &Worker, now: Mono) -> Option<H1Link> {
        self.h1.take(now, self.generation(worker))
    }

    /// A new connection for one call.
    pub(crate) async fn dial_h1(&self, worker: &Worker, terms: Terms) -> Result<H1Link, Fault> {
        let opened = self.open(&terms)?;
        let stream = self.dial(worker, terms.limit).await;
        let stream = stream.map_err(|source| Fault::of_dial(&self.address, source))?;
        Ok(H1Link {
            stream,
            buffer: BytesMut::new(),
            parser: ResponseParser::new(Limits::default()),
            is_used: false,
            _opened: opened,
        })
    }

    /// Takes a connection back after a complete answer.
    pub(crate) fn keep_h1(&self, mut link: H1Link, now: Mono) {
        if h1::leftover(&link.buffer).is_ok() {
            link.buffer = BytesMut::new();
            link.is_used = true;
            let mut idle = self.h1.0.lock();
            if idle.len() < KEPT {
                idle.push((now, link));
            }
        }
    }
}

impl H1Link {
    /// Opened under the trust in force, and nothing arrived while nobody asked.
    fn is_good(&mut self, generation: u64) -> bool {
        let opened = self.stream.standing().map_or(0, |standing| standing.generation);
        opened == generation && self.stream.is_quiet()
    }

    /// Who the endpoint is, as it has proved.
    pub(crate) fn identity(&self) -> Option<&SpiffeId> {
        self.stream.standing().map(|standing| standing.identity())
    }

    /// Writes the whole of it.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) fn write<'a>(&'a mut self, mut bytes: &'a [u8]) -> impl Future<Output = io::Result<()>> + 'a {
        poll_fn(move |context| {
            let mut stream = Pin::new(&mut self.stream);
            while !bytes.is_empty() {
                match ready!(stream.as_mut().poll_write(context, bytes))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => bytes = bytes.get(written..).unwrap_or_default(),
                }
            }
            stream.poll_flush(context)
        })
    }

    /// The head of the answer to a request that has been written. Interim answers are dropped.
    pub(crate) async fn head(&mut self, worker: &Worker, asked: Asked) -> Result<ResponseHead, Broken> {
        let Self { stream, buffer, parser, .. } = self;
        read_head(worker, stream, buffer, parser, asked).await
    }

    /// Halves for a body that goes up while the answer comes down.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>, &mut BytesMut, &mut ResponseParser) {
        let Self { stream, buffer, parser, .. } = self;
        let (read, write) = stream.split();
        (read, write, buffer, parser)
    }
}

/// Reads until a final head is there.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(
    worker: &Worker,
    io: &mut R,
    buffer: &mut BytesMut,
    parser: &mut ResponseParser,
    asked: Asked,
) -> Result<ResponseHead, Broken> {
    loop {
        if !buffer.is_empty() {
            match parser.parse(buffer, asked) {
                Parse::Done(head) if head.is_interim() => continue,
                Parse::Done(head) => return Ok(head),
                Parse::Refused(flaw) => return Err(Broken::Gate(flaw)),
                Parse::Incomplete => {}
            }
        }
        if poll_fn(|context| worker.scratch.poll_fill(io, buffer, context)).await? == 0 {
            return Err(Broken::Ended);
        }
    }
}
