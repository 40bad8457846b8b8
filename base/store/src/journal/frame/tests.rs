//! Records and headers read back, and nothing else reads as one.

use proptest::prelude::*;

use super::*;

const SALT: u32 = 99;

fn records() -> impl Strategy<Value = Record> {
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    let change = (proptest::collection::vec(any::<u8>(), 0..20), value);
    let commits = proptest::collection::vec(proptest::collection::vec(change, 0..4), 1..4);
    (1..u64::MAX / 2, any::<i64>(), commits).prop_map(|(first, time, commits)| Record {
        first: first.into(),
        time,
        commits,
    })
}

proptest! {
    #[test]
    fn a_sealed_record_reads_back(record in records(), chain in any::<[u8; 32]>()) {
        let (bytes, next) = seal(&record, chain, SALT, 0);
        let found = read(&bytes, 0, SALT).unwrap();
        prop_assert_eq!((found.end, found.chain), (bytes.len(), next));
        prop_assert_eq!(link(chain, found.payload), next);
        prop_assert_eq!(decode(found.payload), Some(record));
    }

    #[test]
    fn a_flipped_bit_is_found(record in records(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let (mut bytes, _) = seal(&record, [7; 32], SALT, 0);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(read(&bytes, 0, SALT), None);
    }

    #[test]
    fn a_record_at_another_offset_or_of_another_segment_is_none(
        record in records(), shift in 1usize..200, salt in 100u32..,
    ) {
        let (bytes, _) = seal(&record, [7; 32], SALT, 0);
        let moved = [vec![0; shift], bytes.clone()].concat();
        prop_assert_eq!(begun(&moved, shift, SALT), None);
        prop_assert_eq!(begun(&bytes, 0, salt), None);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..300) {
        let _found = (read(&bytes, at, SALT), read_header(&bytes), is_tail(&bytes, at, SALT));
        let _record = decode(&bytes);
    }
}

#[test]
fn the_layout_of_format_1_does_not_move() {
    let changes = vec![(b"k".to_vec(), Some(Bytes::from_static(b"v")))];
    let record = Record { first: 1.into(), time: 2, commits: vec![changes] };
    let head = header((Revision::ZERO, [0; 32]));
    let (bytes, chain) = seal(&record, [0; 32], head.salt, HEADER.try_into().unwrap());
    assert_eq!((head.bytes.len(), &head.bytes[..8]), (HEADER, b"PCJRNL\0\x01".as_slice()));
    assert_eq!(&bytes[..8], b"\x8fPCR\0\0\0\x23");
    assert_eq!(&bytes[16..48], &chain);
    let payload = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\x01k\x01\0\0\0\x01v";
    assert_eq!(&bytes[48..], payload);
}

#[test]
fn a_header_of_a_newer_format_is_told_apart_from_damage() {
    let good = header((9.into(), [1; 32]));
    assert_eq!(read_header(&good.bytes), Beginning::Good { before: (9.into(), [1; 32]), salt: good.salt });
    let mut newer = good.bytes.clone();
    newer[7] = 9;
    assert_eq!(read_header(&newer), Beginning::Bad);
    let crc = crc32c::crc32c(&newer[..HEADER - 4]);
    newer[HEADER - 4..].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(read_header(&newer), Beginning::Newer(9));
    for at in 0..HEADER {
        let mut damaged = good.bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(read_header(&damaged), Beginning::Bad, "byte {at}");
        assert_eq!(read_header(&good.bytes[..at]), Beginning::Bad, "cut at {at}");
    }
}

#[test]
fn a_bad_record_is_the_tail_only_with_nothing_begun_behind_it() {
    let record = Record { first: 1.into(), time: 0, commits: vec![vec![(b"k".to_vec(), None)]] };
    let (first, chain) = seal(&record, [0; 32], SALT, 0);
    let (second, _) = seal(&record, chain, SALT, first.len().try_into().unwrap());
    let damage = |at: usize, bytes: &[u8]| {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        damaged
    };
    for at in 0..first.len() {
        assert!(is_tail(&damage(at, &first), 0, SALT), "byte {at} alone");
        let both = [first.as_slice(), &second].concat();
        assert!(!is_tail(&damage(at, &both), 0, SALT), "byte {at} with a record behind");
        let torn = [first.as_slice(), &second[..12]].concat();
        assert!(!is_tail(&damage(at, &torn), 0, SALT), "byte {at} with the head of a record behind");
    }
    let cut_short = [damage(PREFIX, &first), vec![0]].concat();
    assert!(!is_tail(&cut_short, 0, SALT), "a whole record with anything behind it had been synced");
}
