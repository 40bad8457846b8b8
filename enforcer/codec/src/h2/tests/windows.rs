//! Flow control, both ways (RFC 9113 6.9).

use super::peer::{Peer, Seen, get};
use super::*;

fn asked(window: u32) -> Peer {
    let mut client = Peer::greeted();
    let [a, b, c, d] = window.to_be_bytes();
    client.send(kind::SETTINGS, 0, 0, &[0, 4, a, b, c, d]);
    client.request(1, &get("/"), true);
    client.take();
    client.ours.answer(1, 200, false, |_, _| {}).unwrap();
    client.frames();
    client
}

#[test]
fn no_more_is_sent_than_stream_connection_and_buffer_take() {
    let mut client = asked(100);
    assert_eq!(client.ours.room(1), Room::Free(100));
    client.ours.data(1, &[0; 100], false).unwrap();
    assert_eq!(client.ours.room(1), Room::Stream);
    client.window(1, 1 << 20);
    assert_eq!(client.feed_sent(), [Seen::Room { stream: 1 }]);
    let mut sent = 100;
    loop {
        match client.ours.room(1) {
            Room::Free(room) => {
                client.ours.data(1, &vec![0; room], false).unwrap();
                sent += room;
            }
            Room::Connection if client.ours.pending().is_empty() => break,
            Room::Connection => {
                assert!(client.ours.pending().len() <= 65 * 1024 + 100);
                client.frames();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, 65_535, "the window of the connection");
    client.window(0, 5);
    assert_eq!(client.feed_sent(), [Seen::Room { stream: 0 }]);
    assert_eq!(client.ours.room(1), Room::Free(5));
}

#[test]
fn a_window_that_settings_make_smaller_is_owed() {
    let mut client = asked(1000);
    client.ours.data(1, &[0; 800], false).unwrap();
    client.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]);
    client.take();
    assert_eq!(client.ours.room(1), Room::Stream);
    client.window(1, 700);
    client.take();
    assert_eq!(client.ours.room(1), Room::Stream);
    client.window(1, 1);
    client.take();
    assert_eq!(client.ours.room(1), Room::Free(1));
}

#[test]
fn who_sends_more_than_its_window_is_reset_and_of_the_connection_cut() {
    let mut client = Peer::greeted();
    client.request(1, &get("/"), false);
    for _ in 0..64 {
        client.data(1, &[0; 16 * 1024], false);
    }
    assert_eq!(client.take().len(), 65);
    client.data(1, b"x", false);
    assert_eq!(client.take(), [Seen::Reset { stream: 1, reason: Reason::FLOW_CONTROL_ERROR }]);
    // Four streams fill the connection; what one did not take is free again when it is removed.
    client.ours.remove(1);
    for stream in [3, 5, 7, 9] {
        client.request(stream, &get("/"), false);
        for _ in 0..64 {
            client.data(stream, &[0; 16 * 1024], false);
        }
    }
    let seen = client.take();
    assert!(matches!(seen.last(), Some(Seen::Ended(Reason::FLOW_CONTROL_ERROR))), "{:?}", seen.len());
}

#[test]
fn padding_counts_and_is_given_back_at_once() {
    let mut client = Peer::greeted();
    client.request(1, &get("/"), false);
    client.take();
    for _ in 0..10_000 {
        let mut payload = vec![200_u8];
        payload.extend([b'x'; 7]);
        payload.extend([0; 200]);
        client.send(kind::DATA, flag::PADDED, 1, &payload);
        assert_eq!(client.take(), [Seen::Data { stream: 1, bytes: vec![b'x'; 7], over: false }]);
        client.ours.release(1, 7);
        client.frames();
    }
    client.send(kind::DATA, flag::PADDED | flag::END_STREAM, 1, &[3, 0, 0, 0]);
    assert_eq!(client.take(), [Seen::Data { stream: 1, bytes: vec![], over: true }]);
}
