//! Client hellos as they come, in pieces and in records, and what is none.

use proptest::prelude::*;

use super::*;

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(data)].concat()
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<_> = names.iter().flat_map(|(kind, name)| [vec![*kind], long(name)].concat()).collect();
    extension(SERVER_NAME, &long(&list))
}

/// A message with these extensions, without records.
fn message(extensions: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &long(&[0x13, 0x01]), &[1, 0], &long(extensions)].concat();
    handshake(CLIENT_HELLO, &body)
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

fn record(part: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE, 3, 1][..], &long(part)].concat()
}

fn asks(name: &str) -> Vec<u8> {
    record(&message(&[extension(43, &[2, 3, 4]), names(&[(0, name.as_bytes())])].concat()))
}

fn cause(bytes: &[u8]) -> &'static str {
    read(bytes).expect_err("it was read").0
}

#[test]
fn lt_16_the_name_that_is_asked_for_is_read_in_lower_case() {
    for (name, read_as) in [
        ("db.example.org", Some("db.example.org")),
        ("DB.Example.ORG", Some("db.example.org")),
        ("localhost", Some("localhost")),
        ("_srv.a-b.c", Some("_srv.a-b.c")),
        ("10.0.0.1", None),
        ("::1", None),
    ] {
        assert_eq!(read(&asks(name)), Ok(Step::Done(read_as.map(str::to_owned))), "{name}");
    }
    assert_eq!(read(&record(&message(&extension(43, &[2, 3, 4])))), Ok(Step::Done(None)));
    let old = [&[3, 1][..], &[7; 32], &[0], &long(&[0, 47]), &[1, 0]].concat();
    assert_eq!(read(&record(&handshake(CLIENT_HELLO, &old))), Ok(Step::Done(None)), "no extensions at all");
    let followed = [asks("a.test"), vec![20, 3, 3, 0, 1, 1]].concat();
    assert_eq!(read(&followed), Ok(Step::Done(Some("a.test".into()))), "what follows in other records");
}

#[test]
fn lt_16_what_is_no_client_hello_is_refused_at_its_first_wrong_byte() {
    for (bytes, part) in [
        (&b"GET / HTTP/1.1"[..], "another kind"),
        (&[HANDSHAKE, 2], "version of TLS"),
        (&[HANDSHAKE, 3, 9], "version of TLS"),
        (&[21, 3, 3, 0, 2, 2, 40], "another kind"),
        (&[HANDSHAKE, 3, 1, 0, 0], "empty"),
        (&[HANDSHAKE, 3, 1, 0x40, 1], "too long"),
        (&[HANDSHAKE, 3, 1, 0, 9, 2], "another one"),
        (&[HANDSHAKE, 3, 1, 0x40, 0, 1, 0, 0x40, 0], "it is too long"),
    ] {
        assert!(cause(bytes).contains(part), "{bytes:?}: {}", cause(bytes));
        for length in 0..bytes.len() - 1 {
            assert_ne!(read(&bytes[..length]).ok(), Some(Step::Done(None)), "{bytes:?} at {length}");
        }
    }
}

#[test]
fn lt_16_what_has_two_readings_is_refused() {
    let name: (u8, &[u8]) = (0, b"a.test");
    let twice = [names(&[name]), names(&[(0, b"b.test")])].concat();
    let rows: &[(Vec<u8>, &str)] = &[
        (twice, "twice"),
        (names(&[name, (0, b"b.test")]), "several"),
        (names(&[(1, b"a.test")]), "another kind of name"),
        (names(&[(0, b"")]), "server name is none"),
        (names(&[(0, b"a.test.")]), "server name is none"),
        (names(&[(0, b"a..test")]), "server name is none"),
        (names(&[(0, b"-a.test")]), "server name is none"),
        (names(&[(0, b"*.test")]), "server name is none"),
        (names(&[(0, b"a.test\0.b.test")]), "server name is none"),
        (names(&[(0, "b\u{fc}cher.test".as_bytes())]), "server name is none"),
        (names(&[(0, "a".repeat(64).as_bytes())]), "server name is none"),
        (names(&[(0, "a.".repeat(130).as_bytes())]), "server name is none"),
        (extension(SERVER_NAME, &[]), "beyond its end"),
        (extension(SERVER_NAME, &[0, 9, 0]), "beyond its end"),
        (extension(SERVER_NAME, &[&long(&[&[0][..], &long(b"a")].concat())[..], b"x"].concat()), "several"),
        (vec![0, 43, 0], "beyond its end"),
        ((0..200).flat_map(|kind| extension(kind + 100, &[])).collect(), "too many"),
    ];
    for (extensions, part) in rows {
        let found = cause(&record(&message(extensions)));
        assert!(found.contains(part), "{part}: {found}");
    }
    let bodies: &[(Vec<u8>, &str)] = &[
        ([&[2, 0][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat(), "version"),
        ([&[3, 3][..], &[7; 32], &[33], &[0; 33], &[0, 2, 0x13, 1, 1, 0]].concat(), "session id"),
        ([&[3, 3][..], &[7; 32], &[0, 0, 0, 1, 0]].concat(), "cipher suites"),
        ([&[3, 3][..], &[7; 32], &[0, 0, 3, 1, 2, 3, 1, 0]].concat(), "cipher suites"),
        ([&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 0]].concat(), "compression"),
        ([&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, 0, 9]].concat(), "follow"),
        (vec![3, 3, 7], "beyond its end"),
    ];
    for (body, part) in bodies {
        let found = cause(&record(&handshake(CLIENT_HELLO, body)));
        assert!(found.contains(part), "{part}: {found}");
    }
    let two = [message(&names(&[name])), message(&names(&[(0, b"b.test")]))].concat();
    assert!(cause(&record(&two)).contains("another message follows"));
    let cut = record(&two);
    assert!(cause(&cut[..cut.len() - 40]).contains("another message follows"), "before all of it is there");
}

#[test]
fn lt_16_a_hello_may_be_16_kib_and_no_byte_longer() {
    let padded = |count: usize| {
        let name = names(&[(0, b"a.test")]);
        message(&[name, extension(21, &vec![0; count])].concat())
    };
    let most = LONGEST - padded(0).len();
    assert_eq!(padded(most).len(), LONGEST);
    assert_eq!(read(&record(&padded(most))), Ok(Step::Done(Some("a.test".into()))));
    let longer = padded(most + 1);
    let (one, two) = longer.split_at(1000);
    assert!(cause(&[record(one), record(two)].concat()).contains("it is too long"));
    let crumbs: Vec<u8> = padded(most).chunks(40).flat_map(record).collect();
    assert!(cause(&crumbs).contains("too many records"));
}

proptest! {
    #[test]
    fn lt_16_records_and_arrival_change_no_reading(
        name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}",
        sizes in proptest::collection::vec(1usize..60, 1..40),
        noise in proptest::option::of((0usize..100, any::<u8>())),
    ) {
        let mut whole = message(&names(&[(0, name.as_bytes())]));
        if let Some((at, byte)) = noise && let Some(slot) = whole.get_mut(at) {
            *slot = byte;
        }
        let (mut carried, mut rest, mut sizes) = (Vec::new(), &whole[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (part, next) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            carried.extend(record(part));
            rest = next;
        }
        let told = read(&carried);
        if noise.is_none() {
            prop_assert_eq!(&told, &Ok(Step::Done(Some(name))));
        }
        for length in 0..carried.len() {
            let early = read(&carried[..length]);
            prop_assert!(early == Ok(Step::More) || early.is_err() && early == told, "{} {:?} {:?}", length, early, told);
        }
    }

    #[test]
    fn lt_16_any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes).ok();
        read(&record(&handshake(CLIENT_HELLO, &bytes))).ok();
    }
}
