//! The reading half: a cursor over bytes that accepts the deterministic form and nothing else.
//!
//! Lengths are compared with what is left before anything is taken, so a forged length costs nothing.

use super::MAX_DEPTH;

/// Why bytes are not the deterministic CBOR that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The input ends inside a value.
    #[error("value is truncated")]
    Truncated,
    /// Bytes follow the value.
    #[error("bytes follow the value")]
    Trailing,
    /// An integer or a length is written longer than needed, or with an indefinite length.
    #[error("value is not in deterministic form")]
    NotDeterministic,
    /// Map keys are not strictly ascending.
    #[error("map keys are unsorted or repeated")]
    KeyOrder,
    /// Another type was expected.
    #[error("value has another type, expected {expected}")]
    Type {
        /// What was expected.
        expected: &'static str,
    },
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// Values nest deeper than 16.
    #[error("values nest too deep")]
    Depth,
    /// A number does not fit where it stands.
    #[error("number is out of range")]
    Range,
}

/// One value seen without knowing its type; used to show members that this version does not know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item<'a> {
    Uint(u64),
    Negative(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Item<'a>>),
    Map(Vec<(Item<'a>, Item<'a>)>),
    Simple(u8),
}

/// A cursor over deterministic CBOR.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    depth: u8,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    /// Refuses bytes after the last value.
    pub(crate) fn end(&self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    pub(crate) fn uint(&mut self) -> Result<u64, CborError> {
        self.expect(0, "an unsigned integer")
    }

    pub(crate) fn int(&mut self) -> Result<i64, CborError> {
        match self.head()? {
            (0, value) => i64::try_from(value).or(Err(CborError::Range)),
            (1, value) => i64::try_from(value).map(|v| !v).or(Err(CborError::Range)),
            _ => Err(CborError::Type { expected: "an integer" }),
        }
    }

    pub(crate) fn bool(&mut self) -> Result<bool, CborError> {
        match self.head()? {
            (7, 20) => Ok(false),
            (7, 21) => Ok(true),
            _ => Err(CborError::Type { expected: "a boolean" }),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.expect(2, "bytes")?;
        self.take(length)
    }

    pub(crate) fn byte_array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        self.bytes()?.try_into().or(Err(CborError::Range))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.expect(3, "text")?;
        std::str::from_utf8(self.take(length)?).or(Err(CborError::Utf8))
    }

    /// Reads an array; `each` must take exactly one value.
    pub(crate) fn array(
        &mut self,
        each: impl FnMut(&mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let count = self.expect(4, "an array")?;
        self.elements(count, each)
    }

    /// Reads a map with integer keys; `each` must take exactly the value.
    pub(crate) fn int_map(
        &mut self,
        mut each: impl FnMut(u64, &mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let count = self.expect(5, "a map")?;
        let mut last = None;
        self.elements(count, |reader| {
            // Shortest forms have the order of the numbers.
            let key = reader.uint()?;
            if last.replace(key).is_some_and(|last| last >= key) {
                return Err(CborError::KeyOrder);
            }
            each(key, reader)
        })
    }

    /// Reads a map with text keys; `each` must take exactly the value.
    pub(crate) fn text_map(
        &mut self,
        each: impl FnMut(&'a str, &mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let count = self.expect(5, "a map")?;
        self.members(count, Self::text, each)
    }

    /// Passes over one value and returns its bytes.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], CborError> {
        let before = self.rest;
        self.pass()?;
        taken(before, self.rest)
    }

    /// Passes over one value by its lengths and returns its bytes; what stands inside is not looked at. For bytes that
    /// were checked once, and for those that whoever reads further checks.
    pub(crate) fn leap(&mut self) -> Result<&'a [u8], CborError> {
        let before = self.rest;
        let mut values = 1_u64;
        while values > 0 {
            values -= 1;
            let (major, value) = self.head()?;
            let inside = match major {
                2 | 3 => self.take(value).map(|_| 0)?,
                4 => value,
                5 => value.checked_mul(2).ok_or(CborError::Truncated)?,
                6 => 1,
                7 if value >= 24 => return Err(CborError::Type { expected: "no float" }),
                _ => 0,
            };
            values = values.checked_add(inside).ok_or(CborError::Truncated)?;
        }
        taken(before, self.rest)
    }

    /// The value of one member of a map with text keys, found by lengths alone. `None` also for what is no map.
    pub(crate) fn member(mut self, name: &str) -> Option<Self> {
        let count = self.expect(5, "a map").ok()?;
        for _ in 0..count {
            let length = self.expect(3, "text").ok()?;
            if self.take(length).ok()? == name.as_bytes() {
                return Some(self);
            }
            self.leap().ok()?;
        }
        None
    }

    /// Reads one value of any type.
    pub(crate) fn item(&mut self) -> Result<Item<'a>, CborError> {
        let (major, value) = self.head()?;
        Ok(match major {
            0 => Item::Uint(value),
            1 => Item::Negative(value),
            2 => Item::Bytes(self.take(value)?),
            3 => Item::Text(std::str::from_utf8(self.take(value)?).or(Err(CborError::Utf8))?),
            4 => {
                let mut items = Vec::new();
                self.elements(value, |reader| {
                    items.push(reader.item()?);
                    Ok(())
                })?;
                Item::Array(items)
            }
            5 => {
                let mut items = Vec::new();
                self.members(value, Self::item, |key, reader| {
                    items.push((key, reader.item()?));
                    Ok(())
                })?;
                Item::Map(items)
            }
            6 => {
                self.nest()?;
                let inner = self.item()?;
                self.depth -= 1;
                inner
            }
            _ => match u8::try_from(value) {
                Ok(simple) if simple < 24 => Item::Simple(simple),
                _ => return Err(CborError::Type { expected: "no float" }),
            },
        })
    }

    fn pass(&mut self) -> Result<(), CborError> {
        let (major, value) = self.head()?;
        match major {
            2 => self.take(value).map(|_| ()),
            3 => std::str::from_utf8(self.take(value)?).map(|_| ()).or(Err(CborError::Utf8)),
            4 => self.elements(value, Self::pass),
            5 => self.members(value, Self::pass, |(), reader| reader.pass()),
            6 => self.elements(1, Self::pass),
            7 if value >= 24 => Err(CborError::Type { expected: "no float" }),
            _ => Ok(()),
        }
    }

    fn elements(
        &mut self,
        count: u64,
        mut each: impl FnMut(&mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        self.nest()?;
        for _ in 0..count {
            each(self)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn members<K>(
        &mut self,
        count: u64,
        key: impl Fn(&mut Self) -> Result<K, CborError>,
        mut each: impl FnMut(K, &mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let mut last: Option<&[u8]> = None;
        self.elements(count, |reader| {
            let before = reader.rest;
            let name = key(reader)?;
            let encoded = taken(before, reader.rest)?;
            if last.replace(encoded).is_some_and(|last| last >= encoded) {
                return Err(CborError::KeyOrder);
            }
            each(name, reader)
        })
    }

    fn nest(&mut self) -> Result<(), CborError> {
        if self.depth >= MAX_DEPTH {
            return Err(CborError::Depth);
        }
        self.depth += 1;
        Ok(())
    }

    fn expect(&mut self, major: u8, expected: &'static str) -> Result<u64, CborError> {
        match self.head()? {
            (found, value) if found == major => Ok(value),
            _ => Err(CborError::Type { expected }),
        }
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let (&first, rest) = self.rest.split_first().ok_or(CborError::Truncated)?;
        self.rest = rest;
        let (major, info) = (first >> 5, first & 0x1f);
        let (value, least) = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24 => (u64::from(u8::from_be_bytes(self.chunk()?)), 24),
            25 => (u64::from(u16::from_be_bytes(self.chunk()?)), 0x100),
            26 => (u64::from(u32::from_be_bytes(self.chunk()?)), 0x1_0000),
            27 => (u64::from_be_bytes(self.chunk()?), 0x1_0000_0000),
            _ => return Err(CborError::NotDeterministic),
        };
        if value < least {
            return Err(CborError::NotDeterministic);
        }
        Ok((major, value))
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).or(Err(CborError::Truncated))?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// The bytes between two positions of one cursor.
fn taken<'a>(before: &'a [u8], after: &[u8]) -> Result<&'a [u8], CborError> {
    before.get(..before.len().saturating_sub(after.len())).ok_or(CborError::Truncated)
}
