//! Authority names of gRPC clients on Unix sockets are made readable, and nothing else is touched.

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

use super::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
}

fn read(bytes: &[u8]) -> Vec<u8> {
    let mut frames = Frames::default();
    bytes.iter().map(|byte| frames.take(*byte)).collect()
}

/// A connection whose first header block is `block`, and the block as h2 would see it.
fn seen(block: &[u8]) -> Vec<u8> {
    let bytes = [PREFACE, frame(4, 0, &[]).as_slice(), &frame(HEADERS, 4, block)].concat();
    let read = read(&bytes);
    let (head, seen) = read.split_at(read.len() - block.len());
    assert_eq!(head, &bytes[..head.len()]);
    seen.to_vec()
}

#[test]
fn the_authority_that_grpcio_sends_is_rewritten_and_nothing_else() {
    let sent =
        b"@\x05:path\x06/a%2FC@\n:authority\x14work%2Ftmp%2Fd2.sock\x83\x86@\x02te\x08trailers@\x01x\x03a%b";
    let wanted =
        b"@\x05:path\x06/a%2FC@\n:authority\x14work-2Ftmp-2Fd2.sock\x83\x86@\x02te\x08trailers@\x01x\x03a%b";
    assert_eq!(seen(sent), wanted);
}

#[test]
fn every_way_to_write_the_field_is_understood() {
    for (before, after) in [
        (&b"\x41\x03/a%"[..], &b"\x41\x03-a-"[..]),
        (b"\x01\x03/a%", b"\x01\x03-a-"),
        (b"\x11\x03/a%", b"\x11\x03-a-"),
        (b"\x00\n:authority\x02//", b"\x00\n:authority\x02--"),
        // A size update and indexed fields before it, one with an index of two bytes.
        (b"\x3f\xe1\x1f\x82\xff\x01\x41\x01%", b"\x3f\xe1\x1f\x82\xff\x01\x41\x01-"),
        // Other names: by index, longer, shorter, empty; a value in Huffman code.
        (b"\x44\x03/a%\x40\x0b:authorityx\x01%", b"\x44\x03/a%\x40\x0b:authorityx\x01%"),
        (b"\x40\x09:authorit\x01%\x40\x00\x01%", b"\x40\x09:authorit\x01%\x40\x00\x01%"),
        (b"\x41\x82%%\x41\x00\x41\x01%", b"\x41\x82%%\x41\x00\x41\x01-"),
    ] {
        assert_eq!(seen(before), after, "{}", before.escape_ascii());
    }
}

#[test]
fn a_long_value_has_a_length_of_two_bytes() {
    let value = vec![b'%'; 200];
    let block = [b"\x41\x7f\x49".as_slice(), &value, b"\x44\x01%"].concat();
    let wanted = [b"\x41\x7f\x49".as_slice(), &[b'-'; 200], b"\x44\x01%"].concat();
    assert_eq!(seen(&block), wanted);
}

#[test]
fn padding_priority_and_continuations_are_not_taken_for_fields() {
    let headers = frame(HEADERS, PADDED | PRIORITY, b"\x02\x00\x00\x00\x00%\x41\x04a%\x00\x00");
    let rest = frame(CONTINUATION, 4, b"%b\x44\x01%");
    let bytes = [PREFACE.as_slice(), &headers, &rest, &frame(0, 0, b"\x41\x01%")].concat();
    let wanted = [
        PREFACE.as_slice(),
        &frame(HEADERS, PADDED | PRIORITY, b"\x02\x00\x00\x00\x00%\x41\x04a-\x00\x00"),
        &frame(CONTINUATION, 4, b"-b\x44\x01%"),
        &frame(0, 0, b"\x41\x01%"),
    ]
    .concat();
    assert_eq!(read(&bytes), wanted);
}

#[test]
fn what_is_not_http_2_passes_as_it_is() {
    let bytes = b"GET /%2F HTTP/1.1\r\nhost: a%b\r\n\r\n";
    assert_eq!(read(bytes), bytes);
}

#[tokio::test]
async fn a_stream_is_rewritten_whatever_the_pieces_it_arrives_in() {
    let bytes = [PREFACE.as_slice(), &frame(HEADERS, 4, b"\x41\x05/a/b%\x44\x02/%")].concat();
    let wanted = [PREFACE.as_slice(), &frame(HEADERS, 4, b"\x41\x05-a-b-\x44\x02/%")].concat();
    for size in [1, 2, 7, 64] {
        let mut stream = LocalStream::new(bytes.as_slice());
        let mut read = Vec::new();
        let mut piece = vec![0; size];
        loop {
            let count = stream.read(&mut piece).await.unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&piece[..count]);
        }
        assert_eq!(read, wanted, "pieces of {size}");
    }
}

proptest! {
    #[test]
    fn any_bytes_keep_their_length_and_change_only_into_hyphens(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let sent = [PREFACE.as_slice(), &frame(HEADERS, 4, &bytes), &bytes].concat();
        let read = read(&sent);
        prop_assert_eq!(read.len(), sent.len());
        for (read, sent) in read.iter().zip(&sent) {
            prop_assert!(read == sent || *read == b'-');
        }
    }
}
