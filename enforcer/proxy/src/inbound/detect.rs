//! What a connection speaks, from its first bytes, where several protocols share a port and nobody said which (LT-14,
//! DT-01). Nothing is decided twice: what was taken for HTTP and is none is refused, and never carried as bytes (DT-04).

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use policies_engine::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Carries;
use crate::listening::Listening;
use crate::worker::Worker;

/// How a connection of HTTP/2 begins (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No more than so many first bytes decide.
const LOOKED_AT: usize = 24;
/// A caller that is still for so long waits for the server to speak first (DT-02); less or more a fifth.
const STALL: Duration = Duration::from_millis(250);

/// What the connection speaks; what was read to see it stays in `ahead`. None when it ends before that shows, or takes
/// too long.
pub(super) async fn spoken<S: AsyncRead + Unpin>(
    worker: &Worker,
    listening: &Listening,
    stream: &mut S,
    ahead: &mut BytesMut,
) -> Option<Protocol> {
    let decide = match listening.carries {
        Carries::Bytes => return Some(Protocol::Tcp),
        Carries::Http1 => return Some(Protocol::H1),
        Carries::Http2 => return Some(Protocol::H2),
        Carries::Http => http_version,
        Carries::Any => http_or_bytes,
    };
    let began = worker.clock.mono();
    let timer = worker.wheel.timer();
    timer.set(began + listening.timers.header);
    let found = loop {
        if let Some(protocol) = decide(ahead) {
            break Some((protocol, word(protocol)));
        }
        if listening.carries == Carries::Any {
            timer.set(worker.clock.mono() + jittered(worker.rng.share()));
        }
        match timer.within(pin!(stream.read_buf(ahead))).await {
            Some(Ok(1..)) => {}
            Some(Ok(0)) if listening.carries == Carries::Any && !ahead.is_empty() => {
                break Some((Protocol::Tcp, "tcp"));
            }
            None if listening.carries == Carries::Any => break Some((Protocol::Tcp, "silence")),
            _ => break None,
        }
    };
    let took = worker.clock.mono().saturating_since(began);
    worker.meters.detected(found.map_or("none", |(_, word)| word), took);
    found.map(|(protocol, _)| protocol)
}

fn jittered(share: f64) -> Duration {
    STALL.mul_f64(0.8 + 0.4 * share)
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::H2 => "h2",
        Protocol::Tcp => "tcp",
        _ => "http1",
    }
}

/// HTTP/2 by prior knowledge, or HTTP/1; none while that is open.
fn http_version(ahead: &[u8]) -> Option<Protocol> {
    let length = ahead.len().min(PREFACE.len());
    if ahead.get(..length) != PREFACE.get(..length) {
        return Some(Protocol::H1);
    }
    (length == PREFACE.len()).then_some(Protocol::H2)
}

/// The same where it may also be no HTTP: a method is upper-case, and a path, `*`, a URL or the target of CONNECT follows
/// it. `EHLO mail` is none.
fn http_or_bytes(ahead: &[u8]) -> Option<Protocol> {
    let ahead = ahead.get(..LOOKED_AT).unwrap_or(ahead);
    if ahead.is_empty() {
        return None;
    }
    if http_version(ahead) != Some(Protocol::H1) {
        return http_version(ahead);
    }
    // What more bytes may tell is open until there can be none.
    let open = || if ahead.len() < LOOKED_AT { None } else { Some(Protocol::Tcp) };
    let is_method = |bytes: &[u8]| {
        !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
    };
    let space = ahead.iter().position(|byte| *byte == b' ');
    match space.and_then(|space| Some((ahead.get(..space)?, ahead.get(space.saturating_add(1)..)?))) {
        None if is_method(ahead) => open(),
        Some((method, [])) if is_method(method) => open(),
        Some((method, [b'/' | b'*', ..])) if is_method(method) => Some(Protocol::H1),
        Some((b"CONNECT", _)) => Some(Protocol::H1),
        Some((method, target)) if is_method(method) && target.starts_with(b"http") => Some(Protocol::H1),
        Some((method, target)) if is_method(method) && b"http".starts_with(target) => open(),
        _ => Some(Protocol::Tcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dt_01_the_first_bytes_tell_http_2_from_http_1() {
        for length in 0..PREFACE.len() {
            assert_eq!(http_version(&PREFACE[..length]), None, "{length} bytes of the preface");
            assert_eq!(http_or_bytes(&PREFACE[..length]), None, "{length} bytes of the preface");
        }
        assert_eq!(http_version(PREFACE), Some(Protocol::H2));
        assert_eq!(http_version(&[PREFACE, b"\0\0\0"].concat()), Some(Protocol::H2));
        for first in ["G", "GET / HTTP/1.1\r\n", "PROPFIND / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "\x16\x03"]
        {
            assert_eq!(http_version(first.as_bytes()), Some(Protocol::H1), "{first}");
        }
    }

    #[test]
    fn lt_14_what_is_no_http_is_told_from_what_is() {
        for (first, protocol) in [
            ("", None),
            ("GET", None),
            ("GET ", None),
            ("GET /", Some(Protocol::H1)),
            ("OPTIONS *", Some(Protocol::H1)),
            ("GET http://a/ HTTP/1.1", Some(Protocol::H1)),
            ("CONNECT db:5432 HTTP/1.1", Some(Protocol::H1)),
            ("M-SEARCH * HTTP/1.1", Some(Protocol::H1)),
            ("EHLO mail.test\r\n", Some(Protocol::Tcp)),
            ("select 1", Some(Protocol::Tcp)),
            ("SSH-2.0-OpenSSH_9\r\n", Some(Protocol::Tcp)),
            ("\x16\x03\x01", Some(Protocol::Tcp)),
            (" GET / HTTP/1.1", Some(Protocol::Tcp)),
            ("ABCDEFGHIJKLMNOPQRSTUVWX", Some(Protocol::Tcp)),
            ("ABCDEFGHIJKLMNOPQRSTUVW /", Some(Protocol::Tcp)),
        ] {
            assert_eq!(http_or_bytes(first.as_bytes()), protocol, "{first:?}");
        }
    }

    #[test]
    fn dt_02_a_still_caller_is_given_a_quarter_of_a_second() {
        for share in [0.0, 0.1, 0.5, 0.99, 1.0] {
            let time = jittered(share).as_millis();
            assert!((200..=300).contains(&time), "{time}");
        }
    }

    proptest! {
        #[test]
        fn dt_01_at_most_24_bytes_decide_and_more_bytes_change_no_decision(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                "[A-Z]{0,8} ?[/*h]?[a-z /]{0,30}".prop_map(String::into_bytes),
                (0usize..24, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(n, rest)| [&PREFACE[..n], &rest].concat()),
            ],
        ) {
            let mut decided = None;
            for length in 0..=bytes.len() {
                let now = http_or_bytes(&bytes[..length]);
                if decided.is_some() {
                    prop_assert_eq!(now, decided);
                }
                decided = now;
            }
            prop_assert!(bytes.len() < LOOKED_AT || decided.is_some());
        }
    }
}
