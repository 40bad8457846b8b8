//! What a library of HTTP/3 does not look at: the order, number and kind of pseudo-header fields (RFC 9114, 4.3).
//!
//! A library that decodes field sections into a map keeps one of two paths and forgets which came last, so what was sent
//! can be read in two ways. [`Sections`] sees the bytes of a request stream on their way to the library, whatever way they
//! are cut, and finds the first section that is malformed. It knows field sections that use no dynamic table, which is
//! all that may come; what cannot be decoded, and every other frame, is left to the library. It keeps no section longer
//! than [`MOST`], and copies one only when it arrives in parts.

mod section;

use section::{ANSWER, REQUEST, TRAILERS, is_well_formed};

/// The longest section that is looked at; the library refuses one of that size.
const MOST: u64 = 80 * 1024;
const DATA: u64 = 0;
const HEADERS: u64 = 1;
/// WEBTRANSPORT_STREAM has no length, and nothing follows it that is ours.
const ENDLESS: u64 = 0x41;

/// A field section breaks the rules for pseudo-header fields: the message is malformed (RFC 9114, 4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pseudo-header fields out of place")]
pub struct Malformed;

/// The field sections of one direction of a request stream.
#[derive(Debug)]
pub struct Sections {
    state: State,
    /// What may stand in the next section.
    allowed: u8,
    is_answer: bool,
}

#[derive(Debug)]
enum State {
    /// Type and length of a frame, as far as they have arrived.
    Head { bytes: [u8; 16], length: u8 },
    /// So much of a frame that is not looked at.
    Other(u64),
    /// A section that arrives in parts.
    Section { left: usize, bytes: Vec<u8> },
    /// Nothing is looked at any more.
    Over,
}

const START: State = State::Head { bytes: [0; 16], length: 0 };

impl Sections {
    /// Of what a caller sends.
    #[must_use]
    pub const fn of_request() -> Self {
        Self { state: START, allowed: REQUEST, is_answer: false }
    }

    /// Of what an endpoint sends; each of its interim answers is a section.
    #[must_use]
    pub const fn of_answer() -> Self {
        Self { state: START, allowed: ANSWER, is_answer: true }
    }

    /// Looks at what arrived next.
    ///
    /// # Errors
    /// A section that is whole by now is malformed.
    pub fn look(&mut self, mut arrived: &[u8]) -> Result<(), Malformed> {
        while !arrived.is_empty() {
            match &mut self.state {
                State::Over => return Ok(()),
                State::Other(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
                    arrived = arrived.get(here..).unwrap_or_default();
                    *left = left.saturating_sub(here as u64);
                    if *left == 0 {
                        self.state = START;
                    }
                }
                State::Section { left, bytes } => {
                    let (here, rest) = arrived.split_at((*left).min(arrived.len()));
                    arrived = rest;
                    bytes.extend_from_slice(here);
                    *left = left.saturating_sub(here.len());
                    if *left == 0 {
                        let section = std::mem::take(bytes);
                        self.state = START;
                        self.take(&section)?;
                    }
                }
                State::Head { bytes, length } => {
                    let Some((&first, rest)) = arrived.split_first() else { return Ok(()) };
                    arrived = rest;
                    if let Some(slot) = bytes.get_mut(usize::from(*length)) {
                        *slot = first;
                    }
                    *length = length.saturating_add(1);
                    let so_far = bytes.get(..usize::from(*length)).unwrap_or_default();
                    let Some((kind, size)) = head(so_far) else { continue };
                    arrived = self.enter(kind, size, arrived)?;
                }
            }
        }
        Ok(())
    }

    /// A frame begins; what is left of `arrived` behind what was looked at.
    fn enter<'a>(&mut self, kind: u64, size: u64, arrived: &'a [u8]) -> Result<&'a [u8], Malformed> {
        self.state = match (kind, size) {
            (ENDLESS, _) => State::Over,
            (HEADERS, MOST..) => State::Over,
            (_, 0) => START,
            (HEADERS, _) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if let Some((section, rest)) = arrived.split_at_checked(size) {
                    self.state = START;
                    self.take(section)?;
                    return Ok(rest);
                }
                State::Section { left: size, bytes: Vec::with_capacity(size) }
            }
            (_, size) => State::Other(size),
        };
        if kind == DATA {
            self.allowed = TRAILERS;
        }
        Ok(arrived)
    }

    fn take(&mut self, section: &[u8]) -> Result<(), Malformed> {
        let is_well = is_well_formed(section, self.allowed);
        if !self.is_answer {
            self.allowed = TRAILERS;
        }
        if is_well { Ok(()) } else { Err(Malformed) }
    }
}

/// Type and length of a frame, once both are there.
fn head(bytes: &[u8]) -> Option<(u64, u64)> {
    let (kind, rest) = varint(bytes)?;
    Some((kind, varint(rest)?.0))
}

/// A number of variable length (RFC 9000, 16), and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = 1_usize << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    let start = u64::from(number.first()? & 0x3f);
    let rest_of_it = number.get(1..)?.iter();
    Some((rest_of_it.fold(start, |value, byte| (value << 8) | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests;
