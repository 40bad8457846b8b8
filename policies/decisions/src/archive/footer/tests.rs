//! A footer says what the index in memory says, and nothing else is taken for one.

use proptest::prelude::*;

use super::*;
use crate::archive::index::trace_hash;

/// An index of blocks with terms from a small alphabet.
fn index(blocks: &[(u64, i64, Vec<u8>, Vec<u32>)]) -> Index {
    let mut index = Index::default();
    let (mut first, mut offset) = (7, 4_096);
    for (count, from, terms, traces) in blocks {
        for term in terms {
            index.term(Field::Principal, &[b'a' + term % 7]);
            index.term(Field::Version, &u64::from(term % 5).to_be_bytes());
        }
        index.fresh.extend(traces.iter().map(|trace| trace_hash(&trace.to_be_bytes())));
        let span = Span { from: *from, to: from.saturating_add(1_000_000) };
        index.block(Entry { first, count: *count, offset, len: 50 + count, span });
        first += count;
        offset += 50 + count;
    }
    index
}

fn parts<'a>(footer: &'a [u8], trailer: &Trailer, part: Part) -> &'a [u8] {
    let (offset, len) = trailer.place(part);
    let at = (offset - trailer.start) as usize;
    &footer[at..at + len]
}

fn blocks() -> impl Strategy<Value = Vec<(u64, i64, Vec<u8>, Vec<u32>)>> {
    let terms = prop::collection::vec(any::<u8>(), 0..6);
    let traces = prop::collection::vec(0..40_u32, 0..4);
    prop::collection::vec((1..=256_u64, any::<i32>().prop_map(i64::from), terms, traces), 1..90)
}

proptest! {
    #[test]
    fn a_footer_finds_what_its_index_finds(blocks in blocks(), term in 0..8_u8, version in 0..5_u64) {
        let index = index(&blocks);
        let start = index.blocks.last().map(|last| last.offset + last.len).unwrap();
        let (bytes, trailer) = encode(&index, start);
        let len = start + bytes.len() as u64;
        let (_, tail) = bytes.split_last_chunk::<TRAILER>().unwrap();
        prop_assert_eq!(Trailer::decode(tail, len), Some(trailer));
        prop_assert_eq!(Trailer::decode(tail, len + 1), None);
        for part in [Part::Blocks, Part::Terms, Part::Traces] {
            prop_assert!(trailer.fits(part, parts(&bytes, &trailer, part)));
        }
        prop_assert_eq!(read_blocks(parts(&bytes, &trailer, Part::Blocks), &trailer), Some(index.blocks.clone()));
        let text = String::from_utf8(vec![b'a' + term]).unwrap();
        let trace = 3_u32.to_be_bytes();
        for wants in [
            vec![],
            vec![Want::Text(Field::Principal, &text)],
            vec![Want::Prefix(Field::Principal, ""), Want::Number(Field::Version, version, version + 1)],
            vec![Want::Trace(&trace)],
        ] {
            let from_footer = candidates(
                &trailer,
                &wants,
                parts(&bytes, &trailer, Part::Terms),
                parts(&bytes, &trailer, Part::Traces),
            );
            prop_assert_eq!(from_footer.unwrap().to_vec(), index.candidates(&wants).to_vec());
        }
        // Against the blocks themselves.
        let expected: Vec<_> = (0..blocks.len())
            .filter(|at| blocks[*at].2.iter().any(|known| known % 7 == term))
            .collect();
        prop_assert_eq!(index.candidates(&[Want::Text(Field::Principal, &text)]).to_vec(), expected);
    }

    #[test]
    fn random_bytes_are_no_footer_and_never_panic(bytes: Vec<u8>, blocks in 0..300_usize) {
        Trailer::decode(&bytes, bytes.len() as u64);
        let trailer = Trailer {
            first: 0,
            count: 1,
            span: Span::ALL,
            blocks,
            start: 4_096,
            sections: [Section::default(); 3],
        };
        read_blocks(&bytes, &trailer);
        candidates(&trailer, &[Want::Text(Field::Kind, "x"), Want::Trace(&[1])], &bytes, &bytes);
    }

    #[test]
    fn numbers_read_back(number: u64, signed: i64) {
        let mut bytes = Vec::new();
        varint(&mut bytes, number);
        let mut rest = bytes.as_slice();
        prop_assert_eq!((take_varint(&mut rest), rest.len()), (Some(number), 0));
        prop_assert_eq!(unzigzag(zigzag(signed)), signed);
    }
}
