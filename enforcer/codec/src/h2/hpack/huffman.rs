//! The Huffman code of RFC 7541 appendix B. It is canonical: the lengths alone give every code.
//!
//! Codes of up to eight bits, which is all that common text has, are found with one look; longer ones by their length.

/// Bits of the code of each octet, and of the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
    28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6,
    7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13,
    19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11,
    14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23,
    23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22,
    21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26,
    24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The symbol that ends a string; it must not stand in one.
const END: u16 = 256;

/// Made once, by the compiler.
static CODE: Code = Code::of(&LENGTHS);

struct Code {
    /// By the next eight bits: octet and length of a code that short, or length 0.
    short: [(u8, u8); 256],
    /// By length: the codes of that length that are too large.
    ends: [u32; 31],
    /// By length: what a code is less than its place in `symbols`.
    starts: [u32; 31],
    /// By length, then by value.
    symbols: [u16; 257],
    #[cfg(test)]
    codes: [u32; 257],
}

/// The string is no Huffman code of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotHuffman;

/// Appends what `coded` stands for.
pub(crate) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), NotHuffman> {
    // The shortest code has five bits.
    out.reserve(coded.len().wrapping_mul(8).wrapping_div(5));
    let mut rest = coded.iter();
    let (mut bits, mut held) = (0_u64, 0_u32);
    loop {
        while held <= 56
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << 56_u32.wrapping_sub(held);
            held = held.wrapping_add(8);
        }
        let next = usize::try_from(bits >> 56).unwrap_or_default();
        let (octet, length) = CODE.short.get(next).copied().unwrap_or_default();
        let length = if length > 0 && u32::from(length) <= held {
            out.push(octet);
            u32::from(length)
        } else if held < 8 {
            // Padding: the most significant bits of the end of a string, fewer than eight.
            return if bits == !(u64::MAX >> held) { Ok(()) } else { Err(NotHuffman) };
        } else {
            let (octet, length) = CODE.long(bits, held).ok_or(NotHuffman)?;
            out.push(octet);
            length
        };
        bits <<= length;
        held = held.wrapping_sub(length);
    }
}

impl Code {
    /// The octet and length of the code that the bits begin with, of more than eight.
    #[inline(never)]
    fn long(&self, bits: u64, held: u32) -> Option<(u8, u32)> {
        for length in 9..=held.min(30) {
            let code = u32::try_from(bits >> 64_u32.wrapping_sub(length)).ok()?;
            if code < *self.ends.get(length as usize)? {
                let place = code.wrapping_sub(*self.starts.get(length as usize)?);
                let symbol = *self.symbols.get(place as usize)?;
                return u8::try_from(symbol).ok().map(|octet| (octet, length));
            }
        }
        None
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "INVARIANT: runs in the compiler alone, which checks it"
    )]
    #[expect(clippy::cast_possible_truncation, reason = "INVARIANT: as above")]
    const fn of(lengths: &[u8; 257]) -> Self {
        let mut made = Self {
            short: [(0, 0); 256],
            ends: [0; 31],
            starts: [0; 31],
            symbols: [0; 257],
            #[cfg(test)]
            codes: [0; 257],
        };
        let (mut code, mut place, mut length) = (0_u32, 0_u32, 1_usize);
        while length <= 30 {
            code <<= 1;
            made.starts[length] = code.wrapping_sub(place);
            let mut symbol = 0_u16;
            while symbol <= END {
                if lengths[symbol as usize] as usize == length {
                    made.symbols[place as usize] = symbol;
                    #[cfg(test)]
                    {
                        made.codes[symbol as usize] = code;
                    }
                    if length <= 8 {
                        let (from, count) = ((code as usize) << (8 - length), 1_usize << (8 - length));
                        let mut at = from;
                        while at < from + count {
                            made.short[at] = (symbol as u8, length as u8);
                            at += 1;
                        }
                    }
                    code += 1;
                    place += 1;
                }
                symbol += 1;
            }
            made.ends[length] = code;
            length += 1;
        }
        made
    }
}

/// Appends the code of a text. Only tests write it: what we say is short, and bits cost more than bytes.
#[cfg(test)]
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut held) = (0_u64, 0_u32);
    for byte in text {
        let length = u32::from(LENGTHS[usize::from(*byte)]);
        bits = bits << length | u64::from(CODE.codes[usize::from(*byte)]);
        held += length;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    if held > 0 {
        out.push(((bits << (8 - held) | 0xff >> held) & 0xff) as u8);
    }
}
