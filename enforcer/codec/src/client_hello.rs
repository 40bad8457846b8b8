//! The first message of TLS, as far as a bystander needs it (LT-16, DT-01): which server name its caller asks for.
//!
//! [`read`] takes the first bytes of a connection as they are on the wire, over as many records as they come in, and
//! keeps nothing. What has two readings, or is no ClientHello at all, is refused: whoever ends the TLS would read it in
//! its own way. The answer depends on the bytes alone, never on how they arrived.

use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// A message is never longer, with its own head; RFC 8446 allows more, and nobody needs it.
pub const LONGEST: usize = 16 * 1024;
/// Nor is what carries it, with the heads of its records.
pub const LONGEST_CARRIED: usize = LONGEST + 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const LONGEST_RECORD: usize = 1 << 14;
/// No client sends as many.
const MOST_EXTENSIONS: usize = 128;

/// How far a message was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is not whole yet.
    More,
    /// All of it is there, and asks for that name, lower-case; none = for nobody by name.
    Done(Option<String>),
}

/// Bytes that are no ClientHello, or one with two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no client hello: {0}")]
pub struct NoHello(&'static str);

const CUT: NoHello = NoHello("a length in it reaches beyond its end");

/// Reads the name from the first bytes of a connection, which may be followed by others.
///
/// # Errors
/// When they cannot become a ClientHello, or one that is not exactly as RFC 8446 4.1.2 says.
pub fn read(bytes: &[u8]) -> Result<Step, NoHello> {
    let mut records = Records { rest: bytes, carried: 0 };
    let (mut head, mut held) = (Vec::with_capacity(4), 0_usize);
    while let Some(record) = records.next()? {
        let missing = 4_usize.saturating_sub(head.len());
        head.extend(record.part.iter().take(missing));
        held = held.saturating_add(record.part.len());
        let Some(length) = length(&head)? else { continue };
        if held.saturating_add(record.missing) > length {
            return Err(NoHello("another message follows in its record"));
        }
        if held == length {
            return body(&gathered(bytes, length)?).map(Step::Done);
        }
    }
    Ok(Step::More)
}

/// How long the message is, as its first four bytes say; none while they are not there.
fn length(head: &[u8]) -> Result<Option<usize>, NoHello> {
    if head.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NoHello("its first message is another one"));
    }
    let Some([_, high, middle, low]) = head.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([0, *high, *middle, *low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4);
    if length > LONGEST { Err(NoHello("it is too long")) } else { Ok(Some(length)) }
}

/// The message, without the heads of its records and its own.
fn gathered(bytes: &[u8], length: usize) -> Result<Vec<u8>, NoHello> {
    let mut records = Records { rest: bytes, carried: 0 };
    let mut message = Vec::with_capacity(length);
    while message.len() < length
        && let Some(record) = records.next()?
    {
        message.extend_from_slice(record.part);
    }
    message.drain(..message.len().min(4));
    Ok(message)
}

/// The records at the start of a connection.
struct Records<'a> {
    rest: &'a [u8],
    carried: usize,
}

/// What is there of one.
struct Record<'a> {
    part: &'a [u8],
    missing: usize,
}

impl<'a> Records<'a> {
    fn next(&mut self) -> Result<Option<Record<'a>>, NoHello> {
        if self.rest.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Err(NoHello("a record of another kind stands where it should be"));
        }
        if self.rest.get(1).is_some_and(|major| *major != 3)
            || self.rest.get(2).is_some_and(|minor| *minor > 4)
        {
            return Err(NoHello("its record has no version of TLS"));
        }
        let Some((&[_, _, _, high, low], after)) = self.rest.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > LONGEST_RECORD {
            return Err(NoHello("its record is empty or too long"));
        }
        let (part, rest) = after.split_at_checked(length).unwrap_or((after, &[]));
        self.rest = rest;
        self.carried = self.carried.saturating_add(5).saturating_add(length);
        if self.carried > LONGEST_CARRIED {
            return Err(NoHello("it comes in too many records"));
        }
        Ok(Some(Record { part, missing: length.saturating_sub(part.len()) }))
    }
}

/// The name in a whole message.
fn body(message: &[u8]) -> Result<Option<String>, NoHello> {
    let mut hello = Cursor(message);
    if hello.u16()? >> 8 != 3 {
        return Err(NoHello("it has no version of TLS"));
    }
    hello.take(32)?;
    if hello.short()?.len() > 32 {
        return Err(NoHello("its session id is too long"));
    }
    let suites = hello.long()?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err(NoHello("its cipher suites are malformed"));
    }
    if hello.short()?.is_empty() {
        return Err(NoHello("it names no compression, not even none"));
    }
    if hello.is_over() {
        return Ok(None);
    }
    let mut extensions = Cursor(hello.long()?);
    if !hello.is_over() {
        return Err(NoHello("bytes follow its extensions"));
    }
    let (mut seen, mut name) = (Vec::new(), None);
    while !extensions.is_over() {
        let (kind, data) = (extensions.u16()?, extensions.long()?);
        if seen.contains(&kind) || seen.len() >= MOST_EXTENSIONS {
            return Err(NoHello("an extension stands twice, or there are too many"));
        }
        seen.push(kind);
        if kind == SERVER_NAME {
            name = server_name(data)?;
        }
    }
    Ok(name)
}

/// RFC 6066 3: a list of exactly one host name. An address is none, and asks for nobody, as TLS libraries have it.
fn server_name(data: &[u8]) -> Result<Option<String>, NoHello> {
    const ODD: NoHello = NoHello("its server name is none");
    let mut outer = Cursor(data);
    let mut list = Cursor(outer.long()?);
    let (kind, name) = (list.take(1)?, list.long()?);
    if kind != [0] || !list.is_over() || !outer.is_over() {
        return Err(NoHello("it asks for several server names, or by another kind of name"));
    }
    let name = str::from_utf8(name).map_err(|_cause| ODD)?;
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= 253 && name.split('.').all(is_label);
    if is_name { Ok(Some(name.to_ascii_lowercase())) } else { Err(ODD) }
}

/// Takes bytes from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NoHello> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, NoHello> {
        let (number, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*number))
    }

    /// What one byte says the length of.
    fn short(&mut self) -> Result<&'a [u8], NoHello> {
        let (length, rest) = self.0.split_first().ok_or(CUT)?;
        self.0 = rest;
        self.take(usize::from(*length))
    }

    /// What two bytes say the length of.
    fn long(&mut self) -> Result<&'a [u8], NoHello> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
