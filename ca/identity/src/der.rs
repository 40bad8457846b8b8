//! The few bytes of DER that we read ourselves: outer frames, depth and exact ends, before a full parser runs.
//!
//! Called by the certificate and request parsers. Accepts definite, minimal lengths and single-byte tags only.

/// One tag-length-value: its tag byte, its content, and tag plus length plus content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const INTEGER: u8 = 0x02;
const CONSTRUCTED: u8 = 0x20;
/// Deepest nesting that a certificate or request may have (VS-01).
const DEPTH_LIMIT: usize = 16;

/// Why bytes are not one well-formed element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed,
    Trailing,
    TooDeep,
}

/// Takes the first element off `input`.
pub(crate) fn take<'a>(input: &mut &'a [u8]) -> Result<Tlv<'a>, Fault> {
    let start = *input;
    let (&[tag, first], mut rest) = start.split_first_chunk::<2>().ok_or(Fault::Malformed)?;
    if tag & 0x1f == 0x1f {
        return Err(Fault::Malformed);
    }
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x83 => {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Fault::Malformed)?;
            rest = after;
            long_length(digits)?
        }
        _ => return Err(Fault::Malformed),
    };
    let (content, after) = rest.split_at_checked(length).ok_or(Fault::Malformed)?;
    let used = start.len().saturating_sub(after.len());
    *input = after;
    Ok(Tlv { tag, content, whole: start.get(..used).unwrap_or_default() })
}

fn long_length(digits: &[u8]) -> Result<usize, Fault> {
    let length = digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
    let minimal = digits.first() != Some(&0) && length > 0x7f;
    if minimal { Ok(length) } else { Err(Fault::Malformed) }
}

/// Takes the first element off `input` and insists on its tag.
pub(crate) fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Result<Tlv<'a>, Fault> {
    let tlv = take(input)?;
    if tlv.tag == tag { Ok(tlv) } else { Err(Fault::Malformed) }
}

/// The bytes of a BIT STRING without unused bits.
pub(crate) fn bits<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    match expect(input, BIT_STRING)?.content.split_first() {
        Some((0, bits)) => Ok(bits),
        _ => Err(Fault::Malformed),
    }
}

/// Checks that `bytes` are exactly one element, well-formed at every level and at most sixteen levels deep.
pub(crate) fn check_one(bytes: &[u8]) -> Result<(), Fault> {
    let mut rest = bytes;
    let outer = take(&mut rest)?;
    if !rest.is_empty() {
        return Err(Fault::Trailing);
    }
    let mut open = Vec::new();
    if outer.tag & CONSTRUCTED != 0 {
        open.push(outer.content);
    }
    while let Some(level) = open.last_mut() {
        if level.is_empty() {
            open.pop();
            continue;
        }
        let inner = take(level)?;
        if inner.tag & CONSTRUCTED != 0 {
            if open.len() >= DEPTH_LIMIT {
                return Err(Fault::TooDeep);
            }
            open.push(inner.content);
        }
    }
    Ok(())
}

/// A signed object of X.509: what is signed, under which algorithm, and the signature (RFC 5280 4.1.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) body: Tlv<'a>,
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

/// Splits certificate or request into its three parts.
pub(crate) fn signed(bytes: &[u8]) -> Result<Signed<'_>, Fault> {
    let mut inner = expect(&mut { bytes }, SEQUENCE)?.content;
    let body = expect(&mut inner, SEQUENCE)?;
    let algorithm = expect(&mut inner, SEQUENCE)?.content;
    let signature = bits(&mut inner)?;
    if inner.is_empty() { Ok(Signed { body, algorithm, signature }) } else { Err(Fault::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        (1..depth).fold(vec![SEQUENCE, 0], |inner, _| {
            let mut outer = vec![SEQUENCE, u8::try_from(inner.len()).unwrap()];
            outer.extend(inner);
            outer
        })
    }

    #[test]
    fn vs_01_sixteen_levels_pass_and_seventeen_are_refused() {
        assert_eq!(check_one(&nested(16)), Ok(()));
        assert_eq!(check_one(&nested(17)), Err(Fault::TooDeep));
    }

    #[test]
    fn vs_01_a_byte_too_many_or_too_few_is_refused() {
        assert_eq!(check_one(&[SEQUENCE, 2, INTEGER, 0]), Ok(()));
        assert_eq!(check_one(&[BIT_STRING, 2, 1, 6]), Ok(()));
        assert_eq!(check_one(&[SEQUENCE, 2, INTEGER, 0, 0]), Err(Fault::Trailing));
        assert_eq!(check_one(&[SEQUENCE, 3, INTEGER, 0]), Err(Fault::Malformed));
        assert_eq!(check_one(&[SEQUENCE, 1, INTEGER]), Err(Fault::Malformed));
        assert_eq!(check_one(&[]), Err(Fault::Malformed));
    }

    #[test]
    fn indefinite_overlong_and_oversized_lengths_are_refused() {
        for bytes in [
            &[SEQUENCE, 0x80, 0, 0][..],
            &[SEQUENCE, 0x81, 0x01, 0],
            &[SEQUENCE, 0x82, 0x00, 0x80],
            &[SEQUENCE, 0x84, 0, 0, 0, 1, 0],
            &[SEQUENCE, 0x83, 0xff, 0xff, 0xff],
            &[0x1f, 0x81, 0x01, 0],
        ] {
            assert_eq!(check_one(bytes), Err(Fault::Malformed), "{bytes:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes: Vec<u8>) {
            let checked = check_one(&bytes);
            if checked.is_ok() {
                proptest::prop_assert!(take(&mut bytes.as_slice()).is_ok());
            }
        }
    }
}
