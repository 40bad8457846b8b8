//! Small grammars: paths, authorities, the PROXY protocol, client hellos, gRPC, names.

use enforcer_codec::grpc::{self, Frames, parse_timeout, print_timeout};
use enforcer_codec::proxy_protocol::{self, Step};
use enforcer_codec::{Scheme, canonical, client_hello};

use super::{Target, pieces, rule};

fn all(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.to_vec()).collect()
}

pub(super) const PATH: Target = Target {
    name: "path",
    run: path,
    seeds: || all(&[b"/", b"/a/b", b"/a%20b/%C3%A9", b"/a/../b/./c//d", b"/%2e%2e/%61", b"/a;b=c"]),
    words: &[
        "/", "//", "/.", "/..", "%", "%2e", "%2F", "%5c", "%00", "%61", "%C3%A9", "%c0%af", "%e2%82", ";",
        "..;", "?", "#", "\\", "~", "\"", "\u{ff}",
    ],
};

fn path(input: &[u8]) -> String {
    let strict = canonical::path(input);
    if let Ok((path, kept)) = canonical::spelled(input) {
        let text = match path {
            canonical::Path::Canonical(text) => text.to_owned(),
            canonical::Path::Other { canonical, .. } => canonical,
        };
        assert!(!text.replace("%2F", "/").split('/').any(|part| matches!(part, "." | "..")), "{text}");
        assert!(strict.is_ok() == (kept == canonical::Kept::default()), "{text} {kept:?}");
        let again = canonical::spelled(text.as_bytes());
        assert!(matches!(again, Ok((canonical::Path::Canonical(_), _))), "not canonical: {text:?}");
    }
    match strict {
        Ok(canonical::Path::Canonical(text)) => {
            assert_eq!(text.as_bytes(), input, "a canonical path is itself");
            assert!(!text.split('/').any(|segment| segment == "." || segment == ".."), "{text}");
            assert!(!text.contains("//"), "{text}");
            "canonical".to_owned()
        }
        Ok(canonical::Path::Other { canonical, rule }) => {
            assert!(
                matches!(canonical::path(canonical.as_bytes()), Ok(canonical::Path::Canonical(_))),
                "the canonical form is not canonical: {canonical:?}"
            );
            rule.to_owned()
        }
        Err(flaw) => rule(flaw),
    }
}

pub(super) const AUTHORITY: Target = Target {
    name: "authority",
    run: authority,
    seeds: || all(&[b"a", b"A.example.org:443", b"a.b.:8443", b"[::1]:80", b"127.0.0.1"]),
    words: &[".", ":", "[", "]", "::", "@", ",", " ", ":443", ":0", "%", "\u{ff}", "_", "-"],
};

fn authority(input: &[u8]) -> String {
    match canonical::authority(input, Scheme::Https) {
        Ok(text) => {
            let again = canonical::authority(text.as_bytes(), Scheme::Https);
            assert_eq!(again.as_deref(), Ok(&*text), "the canonical form is not canonical");
            format!("{} {}", text.contains(':'), text.starts_with('['))
        }
        Err(flaw) => rule(flaw),
    }
}

pub(super) const PROXY: Target = Target {
    name: "proxy_protocol",
    run: proxy,
    seeds: || {
        let (source, destination) = (([10, 0, 0, 1], 1000).into(), ([10, 0, 0, 2], 2000).into());
        let mut second = bytes::BytesMut::new();
        let tlvs: [(u8, &[u8]); 2] =
            [(proxy_protocol::tlv::AUTHORITY, b"a"), (proxy_protocol::tlv::SPIFFE_ID, b"spiffe://a/b")];
        proxy_protocol::write_v2(&mut second, source, destination, &tlvs);
        let mut all = all(&[
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 2000\r\n",
            b"PROXY TCP6 ::1 ::2 1 2\r\n",
            b"PROXY UNKNOWN a b c\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        ]);
        all.push(second.to_vec());
        all
    },
    words: &[
        "PROXY ",
        "TCP4 ",
        "TCP6 ",
        "UNKNOWN",
        "\r\n",
        " ",
        "::1",
        "255.255.255.255",
        "65535",
        "\r\n\r\n\0\r\nQUIT\n",
        "\u{21}\u{11}\0\u{c}",
        "\u{21}\u{21}\0\u{24}",
        "\u{20}\0\0\0",
        "\u{21}\u{31}\0\u{d8}",
    ],
};

/// Read as a socket is: no byte more than was asked for.
fn proxy(input: &[u8]) -> String {
    let mut length = 0;
    loop {
        match proxy_protocol::read(&input[..length]) {
            Ok(Step::More(0)) => panic!("it asks for nothing"),
            Ok(Step::More(more)) => {
                length += more;
                assert!(length < 70_000, "no header is that long");
                if length > input.len() {
                    return "more".to_owned();
                }
            }
            Ok(Step::Done(header)) => return format!("{}", matches!(header, proxy_protocol::Header::Local)),
            Err(error) => return error.to_string(),
        }
    }
}

pub(super) const CLIENT_HELLO: Target = Target {
    name: "client_hello",
    run: client_hello,
    seeds: || {
        let name = b"\0\0\0\x0b\0\x09\0\0\x06a.test";
        let versions = b"\0\x2b\0\x03\x02\x03\x04";
        let mut message = b"\x01\0\0\x41\x03\x03".to_vec();
        message.extend([7; 32]);
        message.extend(b"\0\0\x02\x13\x01\x01\0\0\x16");
        message.extend(name);
        message.extend(versions);
        let record = |part: &[u8]| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap_or(0)], part].concat();
        let (one, two) = message.split_at(20);
        vec![record(&message), [record(one), record(two)].concat()]
    },
    words: &[
        "\u{16}\u{3}\u{1}\0",
        "\u{1}\0\0",
        "\0\0\0\u{b}\0\u{9}\0\0\u{6}a.test",
        "\0\u{2b}\0\u{3}\u{2}\u{3}\u{4}",
        "\u{14}\u{3}\u{3}\0\u{1}\u{1}",
        "\u{13}\u{1}",
        "127.0.0.1",
        "*.",
    ],
};

/// However the bytes arrive, they are read alike.
fn client_hello(input: &[u8]) -> String {
    let whole = client_hello::read(input);
    let mut length = 0;
    for piece in pieces(input) {
        length += piece.len();
        let now = client_hello::read(&input[..length]);
        if now != Ok(client_hello::Step::More) {
            assert_eq!(now, whole, "another reading when it comes in pieces");
            break;
        }
    }
    match whole {
        Ok(client_hello::Step::More) => "more".to_owned(),
        Ok(client_hello::Step::Done(name)) => {
            let name = name.unwrap_or_default();
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{name}");
            format!("asks {}", name.len())
        }
        Err(error) => error.to_string(),
    }
}

pub(super) const GRPC: Target = Target {
    name: "grpc",
    run: grpc,
    seeds: || {
        all(&[
            b"1S",
            b"99999999H",
            b"/pkg.Svc/Get",
            b"\0\0\0\0\x02ab\x01\0\0\0\0",
            b"application/grpc+proto; a=b",
        ])
    },
    words: &[
        "S",
        "m",
        "u",
        "n",
        "H",
        "M",
        "/",
        ".",
        "application/grpc",
        "+proto",
        "\0\0\0\0\0",
        "\u{1}\0\0\0\u{1}",
        "\0\u{ff}\u{ff}\u{ff}\u{ff}",
    ],
};

fn grpc(input: &[u8]) -> String {
    let mut told = String::new();
    if let Some(timeout) = parse_timeout(input) {
        let printed = print_timeout(timeout);
        let again = parse_timeout(printed.as_str().as_bytes());
        assert!(
            again.is_some_and(|again| again <= timeout),
            "a printed timeout is longer: {}",
            printed.as_str()
        );
        told.push_str("timeout ");
    }
    if let Ok(text) = str::from_utf8(input) {
        told.push_str(&format!("{:?} ", grpc::service_and_method(text).is_some()));
        let encoded = grpc::percent_encode(text);
        assert!(encoded.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{encoded}");
    }
    told.push_str(&format!("{} ", grpc::is_grpc(input)));
    let watch = |parts: &[&[u8]]| {
        let mut frames = Frames::new(Some(1000));
        parts.iter().try_for_each(|part| frames.observe(part)).map(|()| frames.is_between())
    };
    let whole = watch(&[input]);
    assert_eq!(whole, watch(&pieces(input)), "another reading when it comes in pieces");
    told + &whole.map_or_else(rule, |between| between.to_string())
}

pub(super) const NAMES: Target = Target {
    name: "headers",
    run: |input| {
        use enforcer_codec::headers::{
            is_forbidden_trailer, is_hop_by_hop, is_judged, is_reserved, is_value,
        };
        let told = [
            is_reserved(input),
            is_judged(input),
            is_hop_by_hop(input),
            is_forbidden_trailer(input),
            is_value(input),
        ];
        // What only we may say is never judged, and never a trailer.
        assert!(!told[0] || (!told[1] && told[3]), "{:?}", String::from_utf8_lossy(input));
        format!("{told:?}")
    },
    seeds: || all(&[b"host", b"x-forwarded-for", b"portcullis-peer", b"te", b"my_name", b"x-envoy-a"]),
    words: &[
        "x-",
        "portcullis-",
        "forwarded",
        "_",
        "-",
        "content-length",
        "transfer-encoding",
        "x-forwarded-",
        "x-envoy-",
    ],
};
