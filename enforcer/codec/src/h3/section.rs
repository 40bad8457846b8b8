//! One field section of QPACK without its dynamic table (RFC 9204, 4.5), as far as pseudo-header fields go.

use crate::h2::{huffman, integer, string};

/// Pseudo-header fields, a bit for each.
const NAMES: [(&[u8], u8); 6] = [
    (b":method", METHOD),
    (b":scheme", SCHEME),
    (b":authority", AUTHORITY),
    (b":path", PATH),
    (b":protocol", 16),
    (b":status", ANSWER),
];
const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
/// Those of requests.
pub(super) const REQUEST: u8 = 31;
/// Those of answers.
pub(super) const ANSWER: u8 = 32;
/// Trailers have none.
pub(super) const TRAILERS: u8 = 0;

/// The octet with which a coded `:` begins: seven bits of it (RFC 7541, appendix B).
const COLON: u8 = 0b101_1100;

enum Line {
    /// Any other field.
    Field,
    /// A pseudo-header field by its bit, 0 for one that is not known, and its value when it is the path.
    Pseudo(u8, Option<Vec<u8>>),
}

/// Pseudo-header fields come first, once each, and only those that are allowed; a path has no fragment. A section that
/// cannot be decoded counts as well formed: who decodes it knows the error for that.
pub(super) fn is_well_formed(section: &[u8], allowed: u8) -> bool {
    let Some(mut rest) = lines(section) else { return true };
    let (mut seen, mut is_late) = (0_u8, false);
    while !rest.is_empty() {
        match line(&mut rest) {
            None => return true,
            Some(Line::Field) => is_late = true,
            Some(Line::Pseudo(name, path)) => {
                let is_odd = path.is_some_and(|path| path.contains(&b'#'));
                if is_late || is_odd || seen & name != 0 || allowed & name == 0 {
                    return false;
                }
                seen |= name;
            }
        }
    }
    true
}

/// What follows the prefix of a section that refers to nothing.
fn lines(section: &[u8]) -> Option<&[u8]> {
    let mut rest = section;
    let inserts = integer::take(octet(&mut rest)?, 8, &mut rest).ok()?;
    integer::take(octet(&mut rest)?, 7, &mut rest).ok()?;
    (inserts == 0).then_some(rest)
}

fn octet(rest: &mut &[u8]) -> Option<u8> {
    let (&first, tail) = rest.split_first()?;
    *rest = tail;
    Some(first)
}

/// The next line; none when it refers to the dynamic table or is cut off.
fn line(rest: &mut &[u8]) -> Option<Line> {
    let first = octet(rest)?;
    let name = match first {
        // Name and value of the static table.
        0xc0.. => {
            let name = of_static(integer::take(first, 6, rest).ok()?)?;
            return Some(name.map_or(Line::Field, |name| Line::Pseudo(name, None)));
        }
        // The name of the static table.
        0x50..=0x5f | 0x70..=0x7f => of_static(integer::take(first, 4, rest).ok()?)?,
        // A name of its own.
        0x20..=0x3f => {
            let length = integer::take(first, 3, rest).ok()?;
            let (name, tail) = rest.split_at_checked(length)?;
            *rest = tail;
            of_literal(name, first & 0x08 != 0)?
        }
        // The dynamic table.
        _ => return None,
    };
    let mut value = Vec::new();
    match name {
        Some(PATH) => string(rest, &mut value).ok()?,
        _ => {
            let length = integer::take(octet(rest)?, 7, rest).ok()?;
            *rest = rest.get(length..)?;
        }
    }
    Some(match name {
        None => Line::Field,
        Some(name) => Line::Pseudo(name, (name == PATH).then_some(value)),
    })
}

/// The pseudo-header field at a place of the static table (RFC 9204, appendix A), if it is one; none behind its end.
fn of_static(index: usize) -> Option<Option<u8>> {
    Some(match index {
        0 => Some(AUTHORITY),
        1 => Some(PATH),
        15..=21 => Some(METHOD),
        22 | 23 => Some(SCHEME),
        24..=28 | 63..=71 => Some(ANSWER),
        2..=98 => None,
        _ => return None,
    })
}

/// The same for a name as it was written.
fn of_literal(name: &[u8], is_coded: bool) -> Option<Option<u8>> {
    let known = |name: &[u8]| NAMES.iter().find(|(known, _)| *known == name).map_or(0, |(_, bit)| *bit);
    Some(match (name.first()?, is_coded) {
        (b':', false) => Some(known(name)),
        (first, true) if first >> 1 == COLON => {
            let mut plain = Vec::new();
            huffman::decode(name, &mut plain).ok()?;
            Some(known(&plain))
        }
        _ => None,
    })
}
