//! The parsers, each as a function of bytes, with the properties that must hold of what they make.

mod http1;
mod http2;
mod http3;
mod identity;
mod stored;
mod tokens;
mod words;

use enforcer_codec::NotCanonical;

use super::Target;

/// Every parser that reads bytes of the network, or of a file that others may have written.
pub(super) const ALL: &[Target] = &[
    http1::REQUEST,
    http1::ANSWER,
    http1::BODY,
    http2::CONNECTION,
    http2::ENDPOINT,
    http2::CALL,
    http3::SECTIONS,
    words::PATH,
    words::AUTHORITY,
    words::PROXY,
    words::CLIENT_HELLO,
    words::GRPC,
    words::NAMES,
    identity::CHAIN,
    identity::REQUEST,
    identity::BUNDLE,
    identity::NAME,
    tokens::TOKEN,
    stored::RECORD,
    stored::NOTE,
    stored::ANSWERS,
];

/// Cuts input at places that it chooses itself, so that each split is found again.
fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut state = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rest = input;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let most = if state & 0x700 == 0 { 2000 } else { 9 };
        let length = 1 + usize::try_from(state % most).unwrap_or_default();
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

fn rule(flaw: NotCanonical) -> String {
    format!("{} {} {}", flaw.rule, flaw.status, flaw.detail)
}
