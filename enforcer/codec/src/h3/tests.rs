//! Streams of HTTP/3 as a caller or an endpoint would write them, cut anywhere.

use proptest::prelude::*;

use super::*;
use crate::h2::{huffman, integer};

/// A line with a name and a value of its own.
fn literal(name: &str, value: &str, is_coded: bool, out: &mut Vec<u8>) {
    let mut coded = Vec::new();
    let (name, mark) = match is_coded {
        true => {
            huffman::encode(name.as_bytes(), &mut coded);
            (&coded[..], 0x28)
        }
        false => (name.as_bytes(), 0x20),
    };
    integer::put(mark, 3, name.len(), out);
    out.extend_from_slice(name);
    integer::put(0, 7, value.len(), out);
    out.extend_from_slice(value.as_bytes());
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap() | 0x4000;
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

fn section(fields: &[(&str, &str)], is_coded: bool) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    fields.iter().for_each(|(name, value)| literal(name, value, is_coded, &mut bytes));
    frame(1, &bytes)
}

fn all(mut sections: Sections, stream: &[u8], part: usize) -> Result<(), Malformed> {
    stream.chunks(part).try_for_each(|part| sections.look(part))
}

const M: (&str, &str) = (":method", "GET");
const S: (&str, &str) = (":scheme", "https");
const A: (&str, &str) = (":authority", "a");
const P: (&str, &str) = (":path", "/x");

#[test]
fn h3_01_pseudo_header_fields_come_first_once_and_of_the_right_kind() {
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[M, S, A, P, ("x", "y"), (":not", "")], false),
        (&[M, S, A, P, ("x", "y"), ("x", "y")], true),
        (&[P, A, S, M], true),
        (&[M, S, A, P, P], false),
        (&[M, M, S, A, P], false),
        (&[M, S, A, P, (":status", "200")], false),
        (&[M, S, A, ("x", "y"), P], false),
        (&[M, S, A, P, (":seen", "1")], false),
        (&[M, S, A, (":path", "/a#b")], false),
        (&[(":method", "CONNECT"), A, (":protocol", "websocket"), S, P], true),
    ];
    for (fields, is_well) in cases {
        for is_coded in [false, true] {
            let stream = [section(fields, is_coded), frame(0, b"body")].concat();
            for part in [1, 2, 3, 7, 1000] {
                assert_eq!(
                    all(Sections::of_request(), &stream, part).is_ok(),
                    *is_well,
                    "{fields:?} by {part}"
                );
            }
        }
    }
}

#[test]
fn h3_01_fields_of_the_static_table_are_known_by_their_place() {
    // :method GET, :scheme https, :path /, :authority by its name.
    let request = [0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, b'a'];
    let with = |more: &[u8]| frame(1, &[&request[..], more].concat());
    assert!(all(Sections::of_request(), &with(&[]), 100).is_ok());
    // :status 200, :path / again, :method POST, :authority again, :path by its name with a fragment.
    for more in [&[0xd9][..], &[0xc1], &[0xd4], &[0x50, 1, b'b'], &[0x51, 2, b'/', b'#']] {
        assert!(all(Sections::of_request(), &with(more), 100).is_err(), "{more:?}");
    }
    // accept */*, then :path /.
    assert!(all(Sections::of_request(), &frame(1, &[0, 0, 0xd1, 0xdd, 0xc1]), 100).is_err());
    // What the library refuses: dynamic table, behind the static one, cut off.
    for odd in [&[0, 0, 0x80][..], &[2, 0, 0xd9], &[0, 0, 0xff, 0x7f], &[0, 0, 0x23, b'a'], &[0], &[]] {
        assert!(all(Sections::of_request(), &frame(1, odd), 100).is_ok(), "{odd:?}");
    }
}

#[test]
fn h3_01_trailers_have_no_pseudo_header_fields_and_answers_have_a_status() {
    let request = section(&[M, S, A, P], false);
    let trailers = |fields: &[(&str, &str)]| {
        [request.clone(), frame(0, b"x"), frame(0x21, b"grease"), section(fields, false)].concat()
    };
    assert!(all(Sections::of_request(), &trailers(&[("x", "y")]), 5).is_ok());
    assert!(all(Sections::of_request(), &trailers(&[("x", "y"), P]), 5).is_err());
    assert!(all(Sections::of_request(), &trailers(&[P]), 5).is_err());
    let status = |code: &'static str| section(&[(":status", code), ("x", "y")], true);
    let answer =
        [status("103"), status("200"), frame(0, b"x"), section(&[("grpc-status", "0")], false)].concat();
    assert!(all(Sections::of_answer(), &answer, 4).is_ok());
    assert!(
        all(Sections::of_answer(), &section(&[(":status", "200"), (":status", "204")], false), 9).is_err()
    );
    assert!(all(Sections::of_answer(), &section(&[(":status", "200"), P], false), 9).is_err());
    let late = [status("200"), frame(0, b"x"), status("200")].concat();
    assert!(all(Sections::of_answer(), &late, 9).is_err());
}

proptest! {
    #[test]
    fn any_bytes_in_any_parts_are_judged_alike(bytes in proptest::collection::vec(any::<u8>(), 0..300), part in 1_usize..40) {
        let whole = all(Sections::of_request(), &bytes, 1000);
        prop_assert_eq!(all(Sections::of_request(), &bytes, part), whole);
    }
}
