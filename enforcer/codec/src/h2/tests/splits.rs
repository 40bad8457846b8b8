//! Properties: any split of the input gives the same events and the same answers; random bytes never panic.

use proptest::prelude::*;

use super::super::frame::{Head, PREFACE, put};
use super::peer::{Peer, Seen, get};
use super::*;

/// Data in one piece, however it came.
fn joined(seen: Vec<Seen>) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for one in seen {
        if let (
            Seen::Data { stream, bytes, over },
            Some(Seen::Data { stream: before, bytes: held, over: ended }),
        ) = (&one, all.last_mut())
            && stream == before
            && !*ended
        {
            held.extend_from_slice(bytes);
            *ended = *over;
        } else {
            all.push(one);
        }
    }
    all
}

fn told(bytes: &[u8], piece: usize) -> (Vec<Seen>, Vec<u8>) {
    let mut client = Peer::new(true);
    let mut seen = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        seen.extend(client.feed(part));
        if matches!(seen.last(), Some(Seen::Ended(_))) {
            break;
        }
    }
    (joined(seen), client.ours.pending().to_vec())
}

/// Frames that are nearly a conversation.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0_u8..11, any::<u8>(), 0_u32..8, proptest::collection::vec(any::<u8>(), 0..20), 0_u8..8);
    proptest::collection::vec(frame, 0..20).prop_map(|frames| {
        let mut client = Peer::new(true);
        client.sent.extend_from_slice(PREFACE);
        client.send(kind::SETTINGS, 0, 0, &[]);
        let mut stream = 1;
        for (kind, flags, any_stream, payload, choice) in frames {
            match choice {
                0 | 1 => {
                    client.request(stream, &get("/a"), flags & 1 == 1);
                    stream += 2;
                }
                2 | 3 => client.data(any_stream | 1, &payload, flags & 1 == 1),
                4 => client.send(kind::DATA, flags & 9, any_stream | 1, &payload),
                5 => client.window(any_stream | 1, u32::from(flags)),
                _ => put(kind, flags, any_stream, &payload, &mut client.sent),
            }
        }
        client.sent
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_split_gives_the_same_events_and_the_same_words(bytes in nearly(), piece in 1_usize..40) {
        prop_assert_eq!(told(&bytes, piece), told(&bytes, bytes.len()));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..20) {
        let all = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &bytes].concat();
        prop_assert_eq!(told(&all, piece), told(&all, all.len()));
        told(&bytes, piece);
    }

    #[test]
    fn a_printed_frame_head_is_parsed_the_same(length in 0_u32..1 << 24, kind: u8, flags: u8, stream in 0_u32..1 << 31) {
        let head = Head { length, kind, flags, stream };
        prop_assert_eq!(Head::parse(head.print()), head);
    }
}
