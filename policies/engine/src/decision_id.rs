//! The id of a decision (`decisions.md` SQ1): known before the record is written, sorts by time, names its stream.

use std::{fmt, str::FromStr};

/// 48-bit Unix milliseconds, 40-bit stream tag, 40-bit sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionId([u8; 16]);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 26;
const FORTY_BITS: u64 = (1 << 40) - 1;

impl DecisionId {
    /// Puts an id together; each part keeps its low bits (48, 40, 40).
    #[must_use]
    pub fn new(unix_millis: u64, stream_tag: u64, seq: u64) -> DecisionId {
        let millis = u128::from(unix_millis) << 80;
        let tag = u128::from(stream_tag & FORTY_BITS) << 40;
        DecisionId((millis | tag | u128::from(seq & FORTY_BITS)).to_be_bytes())
    }

    /// From its sixteen bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> DecisionId {
        DecisionId(bytes)
    }

    /// Its sixteen bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Unix milliseconds of the decision.
    #[must_use]
    pub fn millis(&self) -> u64 {
        u64::try_from(self.bits() >> 80).unwrap_or_default()
    }

    /// Tag of the stream that made it.
    #[must_use]
    pub fn stream_tag(&self) -> u64 {
        u64::try_from(self.bits() >> 40 & u128::from(FORTY_BITS)).unwrap_or_default()
    }

    /// Its number in the stream.
    #[must_use]
    pub fn seq(&self) -> u64 {
        u64::try_from(self.bits() & u128::from(FORTY_BITS)).unwrap_or_default()
    }

    fn bits(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits();
        let mut text = [b'0'; LENGTH];
        for (place, digit) in text.iter_mut().rev().enumerate() {
            let value = usize::try_from((bits >> (5 * place)) & 31).unwrap_or_default();
            *digit = ALPHABET.get(value).copied().unwrap_or(b'0');
        }
        // INVARIANT: the alphabet is ASCII, so this is text.
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DecisionId {
    type Err = DecisionIdError;

    /// Reads 26 characters, either case; `I` and `L` are read as 1, `O` as 0 (Crockford).
    fn from_str(text: &str) -> Result<Self, DecisionIdError> {
        if text.chars().count() != LENGTH {
            return Err(DecisionIdError::Length(text.chars().count()));
        }
        let mut bits: u128 = 0;
        for c in text.chars() {
            let upper = match c.to_ascii_uppercase() {
                'I' | 'L' => '1',
                'O' => '0',
                other => other,
            };
            let is_it = |digit: &u8| char::from(*digit) == upper;
            let value = ALPHABET.iter().position(is_it).ok_or(DecisionIdError::Character(c))?;
            let value = u128::try_from(value).unwrap_or_default();
            bits = bits.checked_mul(32).ok_or(DecisionIdError::TooLarge)? | value;
        }
        Ok(DecisionId(bits.to_be_bytes()))
    }
}

/// A text that is no decision id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionIdError {
    /// Not 26 characters.
    #[error("a decision id has 26 characters, this one has {0}")]
    Length(usize),
    /// Not a character of Crockford base32.
    #[error("`{0}` cannot stand in a decision id")]
    Character(char),
    /// More than 128 bits.
    #[error("a decision id starts with a digit from 0 to 7")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sq1_an_id_reads_back_and_keeps_its_parts(millis in 0u64..1 << 48, tag in 0u64..1 << 40, seq in 0u64..1 << 40) {
            let id = DecisionId::new(millis, tag, seq);
            let text = id.to_string();
            prop_assert_eq!(text.len(), 26);
            prop_assert_eq!(text.parse::<DecisionId>().unwrap(), id);
            prop_assert_eq!(text.to_lowercase().parse::<DecisionId>().unwrap(), id);
            prop_assert_eq!((id.millis(), id.stream_tag(), id.seq()), (millis, tag, seq));
        }

        #[test]
        fn sq1_the_text_sorts_as_the_id_and_by_time_first(a in any::<[u8; 16]>(), b in any::<[u8; 16]>()) {
            let (a, b) = (DecisionId::from_bytes(a), DecisionId::from_bytes(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            if a.millis() < b.millis() {
                prop_assert!(a < b);
            }
        }
    }

    #[test]
    fn what_is_no_id_is_refused_with_the_reason() {
        assert_eq!("01JD".parse::<DecisionId>().unwrap_err(), DecisionIdError::Length(4));
        assert_eq!(
            "U1JD8Z6N4T0B7K3Q5XW2M9E47Q".parse::<DecisionId>().unwrap_err(),
            DecisionIdError::Character('U')
        );
        assert_eq!(
            "81JD8Z6N4T0B7K3Q5XW2M9E47Q".parse::<DecisionId>().unwrap_err(),
            DecisionIdError::TooLarge
        );
        assert!("ZZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<DecisionId>().is_err());
        assert_eq!(
            "01JD8Z6N4T0B7K3Q5XW2M9E47Q".parse::<DecisionId>().unwrap().to_string(),
            "01JD8Z6N4T0B7K3Q5XW2M9E47Q"
        );
    }
}
