//! Tokens (RFC 9110 5.6.2): methods, names of fields, options.

/// Whether these bytes are a token (RFC 9110 5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| lower(*byte) != 0)
}

/// The lower-case form of a token byte (RFC 9110 5.6.2); 0 for every other byte.
pub(crate) fn lower(byte: u8) -> u8 {
    TOKENS.get(usize::from(byte)).copied().unwrap_or(0)
}

static TOKENS: [u8; 256] = tokens();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "INVARIANT: at < 256, at build time"
)]
const fn tokens() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let byte = at as u8;
        table[at] = match byte {
            b'A'..=b'Z' => byte | 0x20,
            b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' => byte,
            b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => byte,
            _ => 0,
        };
        at += 1;
    }
    table
}
