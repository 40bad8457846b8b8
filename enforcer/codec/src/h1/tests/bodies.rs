//! Bodies: length, chunks, trailers, early ends (H1-16 to H1-18, H1-32, HR-05, HR-07).

use http::HeaderMap;
use proptest::prelude::*;

use super::*;

type Body = (Vec<u8>, Option<HeaderMap>, bool);

/// Feeds the bytes in pieces; answers data, trailers, and whether the body ended.
fn read(mut decoder: BodyDecoder, bytes: &[u8], piece: usize) -> Result<Body, NotCanonical> {
    let (mut data, mut trailers) = (Vec::new(), None);
    let mut buffer = BytesMut::new();
    for part in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(part);
        while let Some(event) = decoder.decode(&mut buffer)? {
            match event {
                BodyEvent::Data(bytes) => data.extend(bytes),
                BodyEvent::Trailers(map) => trailers = Some(map),
                BodyEvent::End => return Ok((data, trailers, true)),
            }
        }
    }
    decoder.finish()?;
    Ok((data, trailers, decoder.is_done()))
}

fn chunked(bytes: impl AsRef<[u8]>) -> Result<Body, NotCanonical> {
    read(BodyDecoder::request(Framing::Chunked, Limits::default()), bytes.as_ref(), usize::MAX)
}

fn chunked_answer(bytes: impl AsRef<[u8]>) -> Result<Body, NotCanonical> {
    read(BodyDecoder::response(Framing::Chunked, Limits::default()), bytes.as_ref(), usize::MAX)
}

#[test]
fn h1_16_chunks_have_one_grammar() {
    assert_eq!(chunked("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n").unwrap().0, b"hello!");
    assert_eq!(chunked("0000000000000005\r\nhello\r\n0\r\n\r\n").unwrap().0, b"hello");
    assert_eq!(chunked("A\r\n0123456789\r\n00\r\n\r\n").unwrap().0, b"0123456789");
    for bad in [
        "\r\n",
        "+5\r\nhello\r\n",
        "-5\r\n",
        "0x5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        " 5\r\nhello\r\n",
        "00000000000000005\r\nhello\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "5\r\nhello5\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\rX",
        "g\r\n",
        "5,\r\nhello\r\n",
        "0\r\n\r",
        "5\r\nhel",
        "",
        "5\r\nhello\r\n",
    ] {
        let flaw = chunked(bad).map(|_| ()).expect_err(bad);
        assert_eq!((flaw.rule, flaw.status, flaw.close), ("H1-16", 400, true), "{bad:?}");
    }
    for bare in ["5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "0\r\n\n", "0\r\na: b\n\r\n"] {
        assert_eq!(chunked(bare).map(|_| ()).expect_err(bare).rule, "H1-01", "{bare:?}");
    }
    // The largest size is only ever counted down.
    assert_eq!(chunked("FFFFFFFFFFFFFFFF\r\nabc").map(|_| ()).unwrap_err().rule, "H1-16");
}

#[test]
fn h1_17_chunk_extensions_are_refused_in_requests_and_dropped_from_answers() {
    assert_eq!(chunked("5;a=b\r\nhello\r\n0\r\n\r\n").map(|_| ()).unwrap_err().rule, "H1-17");
    assert_eq!(chunked("5;\r\nhello\r\n0\r\n\r\n").map(|_| ()).unwrap_err().rule, "H1-17");
    let answer = |n: usize| chunked_answer(format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(n)));
    assert_eq!(answer(64).unwrap().0, b"hello");
    assert_eq!(answer(65).map(|_| ()).unwrap_err().status, 502);
    assert_eq!(chunked_answer("5;\n\r\n").map(|_| ()).unwrap_err().status, 502);
}

#[test]
fn h1_18_trailers_are_few_and_harmless() {
    let (_, trailers, ended) = chunked("0\r\nX-Sum: 1\r\ngrpc-status: 0\r\n\r\n").unwrap();
    let trailers = trailers.unwrap();
    assert_eq!((trailers["x-sum"].as_bytes(), trailers.len(), ended), (&b"1"[..], 2, true));
    for name in [
        "content-length",
        "transfer-encoding",
        "host",
        "authorization",
        "cookie",
        "set-cookie",
        "te",
        "trailer",
        "connection",
        "portcullis-peer",
        "x-forwarded-for",
        "content-type",
        "proxy-authorization",
        "upgrade",
        "portcullis_peer",
        "X_Forwarded_Client_Cert",
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "x_method-override",
        "set_cookie",
    ] {
        let flaw = chunked(format!("0\r\n{name}: 1\r\n\r\n")).map(|_| ()).unwrap_err();
        assert_eq!((flaw.rule, flaw.status), ("H1-18", 400), "{name}");
    }
    assert_eq!(chunked("0\r\n:path: /\r\n\r\n").map(|_| ()).unwrap_err().rule, "H1-09");
    let many = |n: usize| chunked(format!("0\r\n{}\r\n", "a: b\r\n".repeat(n))).map(|_| ());
    assert!(many(32).is_ok());
    assert_eq!(many(33).map_err(|flaw| (flaw.rule, flaw.status)), Err(("H1-18", 431)));
    let long = |n: usize| chunked(format!("0\r\na: {}\r\n\r\n", "b".repeat(n))).map(|_| ());
    assert!(long(8000).is_ok());
    assert_eq!(long(8200).map_err(|flaw| (flaw.rule, flaw.status)), Err(("H1-18", 431)));
    assert_eq!(long(40_000).map_err(|flaw| (flaw.rule, flaw.status)), Err(("H1-18", 431)));
}

#[test]
fn h1_32_a_short_body_never_ends_cleanly() {
    let decoder = || BodyDecoder::request(Framing::Length(5), Limits::default());
    assert_eq!(read(decoder(), b"hello", 2).unwrap(), (b"hello".to_vec(), None, true));
    assert_eq!(read(decoder(), b"hell", 2).unwrap_err().rule, "H1-16");
}

#[test]
fn h1_29_bytes_after_a_body_belong_to_the_next_message() {
    let mut decoder = BodyDecoder::request(Framing::Length(2), Limits::default());
    let mut buffer = BytesMut::from(&b"abGET"[..]);
    assert_eq!(decoder.decode(&mut buffer).unwrap(), Some(BodyEvent::Data("ab".into())));
    assert_eq!(decoder.decode(&mut buffer).unwrap(), Some(BodyEvent::End));
    assert_eq!(&buffer[..], b"GET");
    let mut none = BodyDecoder::request(Framing::Empty, Limits::default());
    assert!(none.is_done());
    assert_eq!(none.decode(&mut buffer).unwrap(), Some(BodyEvent::End));
}

#[test]
fn hr_05_truncated_answers_are_bad_gateway() {
    let short = read(BodyDecoder::response(Framing::Length(5), Limits::default()), b"hell", 1);
    assert_eq!(short.map_err(|flaw| (flaw.rule, flaw.status)), Err(("HR-05", 502)));
    for cut in ["5\r\nhell", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "", "5"] {
        let flaw = chunked_answer(cut).map(|_| ()).expect_err(cut);
        assert_eq!((flaw.rule, flaw.status), ("HR-05", 502), "{cut:?}");
    }
}

#[test]
fn hr_07_a_close_delimited_answer_ends_with_the_connection() {
    let body = read(BodyDecoder::response(Framing::UntilClose, Limits::default()), b"all of it", 4);
    assert_eq!(body.unwrap(), (b"all of it".to_vec(), None, true));
}

fn encode(chunks: &[Vec<u8>], trailers: Option<&HeaderMap>) -> BytesMut {
    let mut out = BytesMut::new();
    for chunk in chunks {
        write_chunk(&mut out, chunk);
    }
    write_last_chunk(&mut out, trailers);
    out
}

#[test]
fn chunk_sizes_are_printed_in_hex() {
    let mut out = BytesMut::new();
    for n in [1, 9, 10, 15, 16, 255, 256, 65_535, usize::MAX] {
        write_chunk_start(&mut out, n);
    }
    assert_eq!(&out[..], b"1\r\n9\r\na\r\nf\r\n10\r\nff\r\n100\r\nffff\r\nffffffffffffffff\r\n");
    assert_eq!(&encode(&[vec![]], None)[..], b"0\r\n\r\n");
}

proptest! {
    #[test]
    fn any_split_of_a_chunked_body_gives_the_same_data(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5),
        trailer in proptest::option::of("[a-z]{1,8}"),
        piece in 1_usize..20,
    ) {
        let trailers = trailer.map(|value| {
            let mut map = HeaderMap::new();
            map.insert("x-sum", value.parse().unwrap());
            map
        });
        let bytes = encode(&chunks, trailers.as_ref());
        let body = read(BodyDecoder::request(Framing::Chunked, Limits::default()), &bytes, piece).unwrap();
        prop_assert_eq!(body, (chunks.concat(), trailers, true));
    }

    #[test]
    fn any_split_of_random_chunk_bytes_gives_the_same_result(
        bytes in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'1'), Just(b'3'), Just(b';'), Just(b':'), Just(b'a'),
            any::<u8>(),
        ], 0..40),
        piece in 1_usize..8,
        upstream in any::<bool>(),
    ) {
        let decoder = || if upstream {
            BodyDecoder::response(Framing::Chunked, Limits::default())
        } else {
            BodyDecoder::request(Framing::Chunked, Limits::default())
        };
        prop_assert_eq!(read(decoder(), &bytes, usize::MAX), read(decoder(), &bytes, piece));
    }
}
