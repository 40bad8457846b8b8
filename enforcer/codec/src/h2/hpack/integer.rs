//! Integers with a prefix (RFC 7541 5.1), up to what four more octets can say.

use super::NotHpack;

/// Takes an integer whose first octet was taken already, with so many bits of it. The input is left behind it.
pub(crate) fn take(first: u8, prefix: u32, input: &mut &[u8]) -> Result<usize, NotHpack> {
    let full = u8::MAX.wrapping_shr(8_u32.wrapping_sub(prefix));
    let low = first & full;
    if low < full {
        return Ok(usize::from(low));
    }
    let mut value = usize::from(full);
    for shift in [0_u32, 7, 14, 21] {
        let (octet, rest) = input.split_first().ok_or(NotHpack)?;
        *input = rest;
        value = value.saturating_add(usize::from(octet & 0x7f) << shift);
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotHpack)
}

/// Appends an integer; `mark` are the bits before its prefix.
pub(crate) fn put(mark: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let full = u8::MAX.wrapping_shr(8_u32.wrapping_sub(prefix));
    match u8::try_from(value) {
        Ok(small) if small < full => out.push(mark | small),
        _ => {
            out.push(mark | full);
            let mut left = value.saturating_sub(usize::from(full));
            while left >= 0x80 {
                out.push(u8::try_from(left & 0x7f).unwrap_or_default() | 0x80);
                left >>= 7;
            }
            out.push(u8::try_from(left).unwrap_or_default());
        }
    }
}
