//! The writer's form is the reader's form; every other form is refused.

use proptest::prelude::*;

use super::*;

fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut Writer::new(&mut out));
    out
}

#[test]
fn integers_take_their_shortest_form() {
    // RFC 8949 appendix A.
    for (value, hex) in [
        (0_u64, vec![0x00]),
        (23, vec![0x17]),
        (24, vec![0x18, 24]),
        (255, vec![0x18, 0xff]),
        (256, vec![0x19, 1, 0]),
        (65_536, vec![0x1a, 0, 1, 0, 0]),
        (4_294_967_296, vec![0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        assert_eq!(written(|w| w.uint(value)), hex);
    }
    assert_eq!(written(|w| w.int(-1)), [0x20]);
    assert_eq!(written(|w| w.int(-1000)), [0x39, 0x03, 0xe7]);
}

#[test]
fn longer_forms_and_indefinite_lengths_are_refused() {
    for bytes in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1b, 0, 0, 0, 0, 0, 0, 0, 1], &[0x5f, 0xff], &[0x1c]] {
        assert_eq!(Reader::new(bytes).skip(), Err(CborError::NotDeterministic), "{bytes:?}");
    }
}

#[test]
fn unsorted_and_repeated_keys_are_refused() {
    for bytes in [&[0xa2, 2, 0, 1, 0][..], &[0xa2, 1, 0, 1, 0]] {
        assert_eq!(Reader::new(bytes).skip(), Err(CborError::KeyOrder));
        assert_eq!(Reader::new(bytes).int_map(|_, r| r.uint().map(|_| ())), Err(CborError::KeyOrder));
    }
}

#[test]
fn a_forged_length_is_truncated_not_allocated() {
    for bytes in
        [&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[0x9a, 0xff, 0xff, 0xff, 0xff]]
    {
        assert_eq!(Reader::new(bytes).item(), Err(CborError::Truncated));
    }
}

#[test]
fn nesting_stops_at_sixteen() {
    let deep = |levels: usize| [vec![0x81; levels], vec![0]].concat();
    assert!(Reader::new(&deep(16)).item().is_ok());
    assert_eq!(Reader::new(&deep(17)).item(), Err(CborError::Depth));
    assert_eq!(Reader::new(&deep(17)).skip(), Err(CborError::Depth));
}

#[test]
fn a_map_with_more_than_23_members_gets_a_longer_head() {
    let bytes = written(|w| {
        w.int_map(|map| {
            for key in 0..30 {
                map.key(key).uint(key);
            }
        });
        w.text("after");
    });
    let mut reader = Reader::new(&bytes);
    let mut seen = 0;
    reader
        .int_map(|key, value| {
            assert_eq!(value.uint()?, key);
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, 30);
    assert_eq!(reader.text(), Ok("after"));
    assert_eq!(reader.end(), Ok(()));
}

proptest! {
    #[test]
    fn scalars_round_trip(uint: u64, int: i64, flag: bool, text: String, blob: Vec<u8>) {
        let bytes = written(|w| {
            w.uint(uint);
            w.int(int);
            w.bool(flag);
            w.text(&text);
            w.bytes(&blob);
        });
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.uint(), Ok(uint));
        prop_assert_eq!(reader.int(), Ok(int));
        prop_assert_eq!(reader.bool(), Ok(flag));
        prop_assert_eq!(reader.text(), Ok(text.as_str()));
        prop_assert_eq!(reader.bytes(), Ok(blob.as_slice()));
        prop_assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let skipped = Reader::new(&bytes).skip().map(<[u8]>::len);
        let read = Reader::new(&bytes).item().map(|_| ());
        prop_assert_eq!(skipped.map(|_| ()), read);
    }
}
