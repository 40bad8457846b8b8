//! Lines and fields of a head: the part that requests, answers and trailers share.
//!
//! A line is judged once it is complete; what was read is never read again when more bytes arrive.

use memchr::memchr;

use crate::fields::{Field, Span};
use crate::token::lower;
use crate::{Limits, NotCanonical};

/// One complete line, without its CRLF, as offsets of the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Line {
    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// What is wrong with a line.
pub(super) enum Flaw {
    TooLong,
    Refused(NotCanonical),
}

/// A cursor over the lines of a head.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Where the next line starts.
    pub(super) at: usize,
    /// Up to here there is no end of line.
    seen: usize,
    fields: usize,
    bytes: usize,
}

impl Reader {
    /// The next complete line of at most `limit` bytes, or none yet.
    pub(super) fn line(&mut self, buffer: &[u8], limit: usize) -> Result<Option<Line>, Flaw> {
        let from = self.at.max(self.seen);
        let start = self.at;
        let Some(offset) = memchr(b'\n', buffer.get(from..).unwrap_or_default()) else {
            self.seen = buffer.len();
            // The byte beyond the limit may be the CR of a line that just fits.
            return if buffer.len().saturating_sub(start) > limit.saturating_add(1) {
                Err(Flaw::TooLong)
            } else {
                Ok(None)
            };
        };
        let feed = from.saturating_add(offset);
        self.at = feed.saturating_add(1);
        let text = buffer.get(start..feed).unwrap_or_default();
        let line = text.strip_suffix(b"\r");
        if line.unwrap_or(text).len() > limit {
            return Err(Flaw::TooLong);
        }
        match line {
            Some(line) => Ok(Some(Line { start, end: start.saturating_add(line.len()) })),
            None => Err(Flaw::Refused(NotCanonical::bad("H1-01", "a line ends in a bare lf"))),
        }
    }

    /// The next field line, or the end of the head: `Ok(Some(None))`.
    pub(super) fn field(
        &mut self,
        buffer: &mut [u8],
        limits: &Limits,
    ) -> Result<Option<Option<(Field, bool)>>, NotCanonical> {
        const LARGE: NotCanonical = NotCanonical::closing("H1-19", 431, "a field or the head is too large");
        let line = match self.line(buffer, limits.field.saturating_add(1)) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(None),
            Err(Flaw::TooLong) => return Err(LARGE),
            Err(Flaw::Refused(flaw)) => return Err(flaw),
        };
        if line.is_empty() {
            return Ok(Some(None));
        }
        self.fields = self.fields.saturating_add(1);
        if self.fields > limits.fields {
            return Err(NotCanonical::closing("H1-19", 431, "too many fields"));
        }
        // Name and value, without the colon, and the overhead of a table entry.
        let size = line.end.saturating_sub(line.start).saturating_sub(1);
        self.bytes = self.bytes.saturating_add(size).saturating_add(32);
        if self.bytes > limits.head {
            return Err(LARGE);
        }
        let text = buffer.get_mut(line.start..line.end).unwrap_or_default();
        let (name, value, underscore) = split(text)?;
        let field = Field {
            name: Span::new(line.start, name),
            value: Span::new(line.start.saturating_add(value.start), value.end.saturating_sub(value.start)),
        };
        Ok(Some(Some((field, underscore))))
    }
}

/// Splits `name: value`, lower-casing the name in place.
fn split(line: &mut [u8]) -> Result<(usize, std::ops::Range<usize>, bool), NotCanonical> {
    let mut underscore = false;
    let mut colon = None;
    for (at, byte) in line.iter_mut().enumerate() {
        match lower(*byte) {
            0 => {
                colon = (*byte == b':' && at > 0).then_some(at);
                break;
            }
            lower => {
                *byte = lower;
                underscore |= lower == b'_';
            }
        }
    }
    let Some(name) = colon else {
        return Err(name_flaw(line));
    };
    let from = name.saturating_add(1);
    let value = line.get(from..).unwrap_or_default();
    if let Some(control) = first_control(value) {
        return Err(if control == b'\r' {
            NotCanonical::bad("H1-01", "a bare cr")
        } else {
            NotCanonical::bad("H1-10", "a control byte in a value")
        });
    }
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let lead = value.iter().take_while(|b| is_space(b)).count();
    let kept = value.get(lead..).unwrap_or_default();
    let trail = kept.iter().rev().take_while(|b| is_space(b)).count();
    let start = from.saturating_add(lead);
    let end = line.len().saturating_sub(trail);
    Ok((name, start..end, underscore))
}

/// Why a line has no name.
#[cold]
fn name_flaw(line: &[u8]) -> NotCanonical {
    match line.iter().find(|&&byte| lower(byte) == 0) {
        Some(b'\r') => NotCanonical::bad("H1-01", "a bare cr"),
        Some(byte) if *byte >= 0x80 => NotCanonical::bad("H1-10", "a byte outside ascii in a name"),
        _ => NotCanonical::bad("H1-09", "a field line without a token and a colon"),
    }
}

/// The first control byte other than HTAB, eight bytes at a time.
fn first_control(value: &[u8]) -> Option<u8> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let is_control = |b: &&u8| (**b < 0x20 && **b != b'\t') || **b == 0x7f;
    let (words, tail) = value.as_chunks::<8>();
    for word in words {
        let v = u64::from_le_bytes(*word);
        let low = v.wrapping_sub(ONES.wrapping_mul(0x20)) & !v & HIGH;
        let del = v ^ ONES.wrapping_mul(0x7f);
        let del = del.wrapping_sub(ONES) & !del & HIGH;
        if (low | del) != 0
            && let Some(control) = word.iter().find(is_control)
        {
            return Some(*control);
        }
    }
    tail.iter().find(is_control).copied()
}

/// A content-length that has one reading: digits, no leading zero, at most 19 (H1-13).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || (value.len() > 1 && value.first() == Some(&b'0')) {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
