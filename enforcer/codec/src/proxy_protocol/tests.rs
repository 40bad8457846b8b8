//! PX-01: headers as forwarders write them, as hostile ones write them, and byte by byte.

use proptest::prelude::*;

use super::*;

/// Feeds a header as a socket would, never more than was asked for; the rest is what nobody took.
fn fed(bytes: &[u8]) -> Result<(Option<Header>, usize), NoHeader> {
    let mut held = 0;
    loop {
        match read(&bytes[..held])? {
            Step::Done(header) => return Ok((Some(header), held)),
            Step::More(count) => {
                assert!(count > 0 && held + count <= LONGEST_V2);
                if held + count > bytes.len() {
                    return Ok((None, held));
                }
                held += count;
            }
        }
    }
}

fn forwarded(source: &str, destination: &str) -> Header {
    Header::Forwarded { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, body].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x04, 0x57, 0x01, 0xbb];

#[test]
fn px_01_headers_of_version_1_are_read_and_nothing_behind_them() {
    for (line, wanted) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1111 443\r\n", forwarded("192.0.2.1:1111", "192.0.2.2:443")),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", forwarded("255.255.255.255:65535", "0.0.0.0:0")),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", forwarded("[2001:db8::1]:1", "[::1]:2")),
        ("PROXY UNKNOWN\r\n", Header::Local),
        ("PROXY UNKNOWN ffff:f::1 ffff:f::2 65535 65535\r\n", Header::Local),
    ] {
        let bytes = [line.as_bytes(), b"\x16\x03\x01"].concat();
        assert_eq!(fed(&bytes), Ok((Some(wanted), line.len())), "{line}");
    }
}

#[test]
fn px_01_what_is_no_header_of_version_1_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 1111 443\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1111\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1111 443 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1111 443 x\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1111 443\r\n",
        "PROXY TCP4 192.0.2.1\t192.0.2.2 1111 443\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1111 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01111 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +111 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY  UNKNOWN\r\n",
        "PROXY TCP4 localhost localhost 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}ab",
    ] {
        assert!(fed(line.as_bytes()).is_err(), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_V1));
    assert_eq!(fed(long.as_bytes()), Err(NoHeader("its line is too long")));
    let fits = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_V1 - 16));
    assert_eq!(fed(fits.as_bytes()), Ok((Some(Header::Local), LONGEST_V1)));
}

#[test]
fn px_01_headers_of_version_2_are_read_and_nothing_behind_them() {
    let mut six = [0; 36];
    six[15] = 1;
    six[16..20].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    six[33] = 7;
    six[35] = 9;
    let mapped =
        [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1], &[0; 10], &[0xff, 0xff, 192, 0, 2, 2], &V4[8..]].concat();
    let entries = [&V4[..], &[tlv::AUTHORITY, 0, 1, b'h', 0x04, 0, 2, 9, 9, 0xEF, 0, 0]].concat();
    for (bytes, wanted) in [
        (v2(0x21, 0x11, &V4), forwarded("192.0.2.1:1111", "192.0.2.2:443")),
        (v2(0x21, 0x11, &entries), forwarded("192.0.2.1:1111", "192.0.2.2:443")),
        (v2(0x21, 0x21, &six), forwarded("[::1]:7", "[2001:db8::]:9")),
        (v2(0x21, 0x21, &mapped), forwarded("192.0.2.1:1111", "192.0.2.2:443")),
        (v2(0x20, 0x00, &[]), Header::Local),
        (v2(0x20, 0x11, &V4), Header::Local),
        (v2(0x20, 0x11, &[1, 2, 3]), Header::Local),
        (v2(0x21, 0x00, &[]), Header::Local),
        (v2(0x21, 0x31, &[7; 216]), Header::Local),
    ] {
        let length = bytes.len();
        let bytes = [&bytes[..], b"\x16\x03\x01"].concat();
        assert_eq!(fed(&bytes), Ok((Some(wanted), length)), "{bytes:?}");
    }
}

#[test]
fn px_01_what_is_no_header_of_version_2_is_refused() {
    let with = |entries: &[u8]| v2(0x21, 0x11, &[&V4[..], entries].concat());
    for bytes in [
        v2(0x11, 0x11, &V4),
        v2(0x22, 0x11, &V4),
        v2(0x21, 0x12, &V4),
        v2(0x21, 0x22, &[0; 36]),
        v2(0x21, 0x13, &V4),
        v2(0x21, 0x41, &V4),
        v2(0x21, 0x11, &V4[..11]),
        v2(0x21, 0x21, &V4),
        v2(0x21, 0x31, &[0; 215]),
        with(&[1]),
        with(&[1, 0]),
        with(&[1, 0, 1]),
        with(&[1, 0xff, 0xff, 1]),
        with(&[tlv::CRC32C, 0, 4, 1, 2, 3, 4]),
        with(&[tlv::CRC32C, 0, 3, 1, 2, 3]),
        v2(0x21, 0x11, &[0; LONGEST_V2 - FIXED + 1]),
    ] {
        assert!(fed(&bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn px_01_a_checksum_that_is_there_must_hold() {
    let mut out = BytesMut::new();
    let addresses = ("192.0.2.1:1111".parse().unwrap(), "192.0.2.2:443".parse().unwrap());
    write_v2(
        &mut out,
        addresses.0,
        addresses.1,
        &[(tlv::AUTHORITY, b"db.test"), (tlv::SPIFFE_ID, b"spiffe://a/b")],
    );
    assert_eq!(fed(&out), Ok((Some(forwarded("192.0.2.1:1111", "192.0.2.2:443")), out.len())));
    // Its own type aside: without that there is none.
    for at in (FIXED..out.len()).filter(|at| *at != out.len() - 7) {
        let mut bad = out.to_vec();
        bad[at] ^= 1;
        assert!(fed(&bad).is_err() || fed(&bad).unwrap().0.is_none(), "byte {at}");
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_canonical());
    (prop_oneof![v4, v6], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn px_03_what_is_written_is_read_back(
        source in address(), destination in address(), values in proptest::collection::vec((4_u8.., proptest::collection::vec(any::<u8>(), 0..900)), 0..5), before: Vec<u8>,
    ) {
        let tlvs: Vec<_> = values.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        let mut out = BytesMut::from(&before[..]);
        write_v2(&mut out, source, destination, &tlvs);
        let header = &out[before.len()..];
        prop_assert!(header.len() <= LONGEST_V2);
        prop_assert_eq!(fed(header), Ok((Some(Header::Forwarded { source, destination }), header.len())));
    }

    #[test]
    fn px_01_a_damaged_header_is_refused_or_read_as_what_it_says(
        source in address(), destination in address(), value: Vec<u8>, damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut out = BytesMut::new();
        write_v2(&mut out, source, destination, &[(tlv::AUTHORITY, &value)]);
        for (at, byte) in damage {
            let at = at.index(out.len());
            out[at] = byte;
        }
        if let Ok((Some(Header::Forwarded { source, destination }), taken)) = fed(&out) {
            let mut again = BytesMut::new();
            write_v2(&mut again, source, destination, &[]);
            prop_assert_eq!(fed(&again).unwrap().0, Some(Header::Forwarded { source, destination }));
            prop_assert!(taken <= out.len());
        }
    }

    #[test]
    fn px_01_no_bytes_are_read_past_a_header_or_break_the_reader(start in 0_usize..4, mut bytes: Vec<u8>) {
        let starts: [&[u8]; 4] = [b"", SIGNATURE, b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"];
        bytes.splice(0..0, starts[start].iter().copied());
        let first = fed(&bytes);
        if let Ok((Some(_), taken)) = first {
            prop_assert_eq!(fed(&bytes[..taken]), first, "it depends on what follows");
            prop_assert!((0..taken).all(|cut| matches!(fed(&bytes[..cut]), Ok((None, _)))));
        }
    }
}
