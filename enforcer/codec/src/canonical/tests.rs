//! The path rules CC-01 to CC-08 and the authority rule, by example and by property.

use proptest::prelude::*;

use super::{Kept, Path, authority, path, spelled};
use crate::Scheme;

/// `Ok(None)` = canonical, `Ok(Some(form))` = another spelling of it, `Err(rule)` = refused always.
fn judge(text: &str) -> Result<Option<String>, &'static str> {
    match path(text.as_bytes()) {
        Ok(Path::Canonical(same)) => {
            assert_eq!(same, text);
            Ok(None)
        }
        Ok(Path::Other { canonical, .. }) => Ok(Some(canonical)),
        Err(flaw) => Err(flaw.rule),
    }
}

fn rule(text: &str) -> &'static str {
    match path(text.as_bytes()) {
        Ok(Path::Other { rule, .. }) => rule,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn cc_01_a_path_starts_with_a_slash() {
    assert_eq!(judge("/"), Ok(None));
    assert_eq!(judge("/shop.Orders/Get"), Ok(None));
    for bad in ["", "a", "a/b", "*", "?q", "http://h/"] {
        assert_eq!(judge(bad), Err("CC-01"), "{bad}");
    }
}

#[test]
fn cc_02_bytes_outside_visible_ascii_are_refused_and_delimiters_encoded() {
    for bad in ["/a b", "/a\tb", "/\u{e9}", "/a#b", "/a\\b", "/a\0", "/a\u{7f}", "/a?b"] {
        assert_eq!(judge(bad), Err("CC-02"), "{bad:?}");
    }
    assert_eq!(judge("/a\"b<c>d^e`f{g|h}"), Ok(Some("/a%22b%3Cc%3Ed%5Ee%60f%7Bg%7Ch%7D".into())));
    assert_eq!(rule("/a{b"), "CC-02");
    assert_eq!(judge("/!$&'()*+,-.:=@_~09azAZ"), Ok(None));
}

#[test]
fn cc_03_encoded_controls_slashes_and_bad_encodings_are_refused() {
    for bad in [
        "/%00",
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/%1f",
        "/%7F",
        "/%",
        "/%4",
        "/%zz",
        "/%4g",
        "/%0d%0a",
        "/%C0%AF",
        "/%FF",
        "/%ED%A0%80",
        "/%E2%82",
    ] {
        assert_eq!(judge(bad), Err("CC-03"), "{bad}");
    }
    assert_eq!(judge("/%C3%A9"), Ok(None));
    assert_eq!(judge("/a%20b"), Ok(None));
}

#[test]
fn cc_04_unreserved_bytes_stay_plain_and_hex_is_upper_case() {
    assert_eq!(judge("/%41"), Ok(Some("/A".into())));
    assert_eq!(judge("/%7Eme"), Ok(Some("/~me".into())));
    assert_eq!(judge("/%c3%a9"), Ok(Some("/%C3%A9".into())));
    assert_eq!(rule("/%41"), "CC-04");
}

#[test]
fn cc_05_dot_and_empty_segments_are_not_canonical() {
    for (given, canonical) in [
        ("//", "/"),
        ("/a//b", "/a/b"),
        ("/a//", "/a/"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../b", "/b"),
        ("/../../etc", "/etc"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/%2e", "/a/"),
        ("/a/./../b/", "/b/"),
    ] {
        assert_eq!(judge(given), Ok(Some(canonical.into())), "{given}");
    }
    for same in ["/.well-known/x", "/..a", "/a/...", "/a.b/.c", "/a/"] {
        assert_eq!(judge(same), Ok(None), "{same}");
    }
    for bad in ["/..;/a", "/.;x", "/a/%2e%2e;b"] {
        assert_eq!(judge(bad), Err("CC-05"), "{bad}");
    }
}

#[test]
fn cc_06_path_parameters_are_refused() {
    for bad in ["/a;b", "/;", "/a/b;c=d/e"] {
        assert_eq!(judge(bad), Err("CC-06"), "{bad}");
    }
    assert_eq!(judge("/a%3Bb"), Ok(None));
}

#[test]
fn cc_07_decoding_happens_once_and_case_and_trailing_slash_count() {
    assert_eq!(judge("/%2541"), Ok(None));
    assert_eq!(judge("/%252e%252e/"), Ok(None));
    assert_eq!(judge("/A/"), Ok(None));
    assert_eq!(judge("/a"), Ok(None));
}

/// As `judge`, with what the path has that only some routes keep.
fn leniently(text: &str) -> Result<(Option<String>, Kept), &'static str> {
    match spelled(text.as_bytes()) {
        Ok((Path::Canonical(same), kept)) => {
            assert_eq!(same, text);
            Ok((None, kept))
        }
        Ok((Path::Other { canonical, .. }, kept)) => Ok((Some(canonical), kept)),
        Err(flaw) => Err(flaw.rule),
    }
}

#[test]
fn cc_03_an_encoded_slash_that_is_kept_is_no_separator() {
    let slash = Kept { slash: true, params: false };
    for same in ["/a%2Fb", "/%2F", "/a%2F", "/a%2F%2Fb", "/a%2F.b/c", "/a%252F..%252Fb"] {
        let kept = if same.contains("252F") { Kept::default() } else { slash };
        assert_eq!(leniently(same), Ok((None, kept)), "{same}");
    }
    assert_eq!(leniently("/a%2fb"), Ok((Some("/a%2Fb".into()), slash)));
    assert_eq!(leniently("/x/a%2Fb/../c"), Ok((Some("/x/c".into()), slash)), "what it was, not what is left");
    for bad in ["/a%2F../b", "/..%2Fb", "/a%2F..%2Fb", "/a%2f%2e%2e%2fb", "/a%2F.", "/.%2F", "/a%2F..;x"] {
        assert_eq!(leniently(bad), Err("CC-05"), "{bad}");
    }
    for bad in ["/a%5Cb", "/a%00b", "/%C0%AF", "/a%2"] {
        assert_eq!(leniently(bad), Err("CC-03"), "{bad}");
    }
}

#[test]
fn cc_06_path_parameters_that_are_kept_stand_as_they_are() {
    let params = Kept { slash: false, params: true };
    for same in ["/a;b", "/;", "/a/b;c=d/e", "/a;..", "/a;b;c=%20"] {
        assert_eq!(leniently(same), Ok((None, params)), "{same}");
    }
    assert_eq!(leniently("/a;b/./c"), Ok((Some("/a;b/c".into()), params)));
    for bad in ["/..;/a", "/.;x", "/a/%2e%2e;b", "/a/%2E;"] {
        assert_eq!(leniently(bad), Err("CC-05"), "{bad}");
    }
    assert_eq!(Kept { slash: true, params: true }.beyond(params).map(|flaw| flaw.rule), Some("CC-03"));
    assert_eq!(Kept { slash: true, params: true }.beyond(Kept { slash: true, params: true }), None);
}

#[test]
fn an_authority_has_one_form() {
    let form = |text: &str| authority(text.as_bytes(), Scheme::Https).map(|a| a.into_owned()).ok();
    for (given, canonical) in [
        ("example.org", "example.org"),
        ("EXAMPLE.org", "example.org"),
        ("example.org.", "example.org"),
        ("example.org:443", "example.org"),
        ("example.org.:443", "example.org"),
        ("example.org:80", "example.org:80"),
        ("EXAMPLE.org:8443", "example.org:8443"),
        ("10.0.0.1:8443", "10.0.0.1:8443"),
        ("[::1]", "[::1]"),
        ("[0:0:0:0:0:0:0:1]:443", "[::1]"),
        ("[2001:DB8::1]:8443", "[2001:db8::1]:8443"),
        ("_a.b", "_a.b"),
    ] {
        assert_eq!(form(given).as_deref(), Some(canonical), "{given}");
    }
    let long = format!("{}.org", "a".repeat(64));
    let longer = format!("{}a", "a.".repeat(128));
    for bad in [
        "", ".", "a..b", ".a", "a b", "a,b", "user@a", "a/b", "a:", "a:0", "a:00443", "a:65536", "a:1:2",
        "a:x", "[::1", "[::1]x", "[::1]:", "[g::1]", "[]", "::1", "a%41", "\u{e9}", "a\0", "a?b", "a#b",
        "a\tb", &long, &longer,
    ] {
        assert_eq!(form(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn cc_08_canonicalisation_is_idempotent(text in "(/|//|/[.]|/[.][.]|/%2e|[a-zA-Z0-9.~_!-]|%[0-9a-fA-F]{2}|[{}|^\"]){0,24}") {
        let text = format!("/{text}");
        if let Ok(Some(canonical)) = judge(&text) {
            prop_assert_ne!(&canonical, &text);
            prop_assert_eq!(judge(&canonical), Ok(None), "{} -> {}", text, canonical);
        }
    }

    #[test]
    fn cc_08_what_is_kept_changes_nothing_else(text in "(/|//|/[.]|/[.][.]|/%2e|[a-z.;]|%2[fF]|%3[bB]|%25|%[0-9a-fA-F]{2}|[{\"]){0,24}") {
        let text = format!("/{text}");
        let (strict, lenient) = (judge(&text), leniently(&text));
        match &lenient {
            Ok((form, kept)) => {
                let canonical = form.as_ref().unwrap_or(&text);
                if *kept == Kept::default() {
                    prop_assert_eq!(&strict, &Ok(form.clone()), "{}", text);
                } else {
                    prop_assert!(matches!(strict, Err("CC-03" | "CC-06")), "{} {:?}", text, strict);
                }
                let again = leniently(canonical);
                prop_assert!(matches!(&again, Ok((None, left)) if left.beyond(*kept).is_none()), "{} -> {}", text, canonical);
                // Whoever decodes the slashes, or cuts the parameters off, walks to no other place.
                for read in [canonical.replace("%2F", "/"), canonical.split('/').map(|part| part.split(';').next().unwrap()).collect::<Vec<_>>().join("/")] {
                    let parts = || read.split('/');
                    prop_assert!(!parts().any(|part| part == "." || part == ".."), "{} -> {}", text, read);
                }
            }
            Err(rule) => prop_assert_eq!(&strict.as_ref().err().is_some(), &true, "{} {}", text, rule),
        }
    }

    #[test]
    fn a_canonical_path_has_no_dot_segments_and_no_second_spelling(text in "/[ -~]{0,40}") {
        if let Ok(None) = judge(&text) {
            prop_assert!(text.bytes().all(|b| (0x21..=0x7e).contains(&b)));
            prop_assert!(!text.split('/').any(|s| s == "." || s == ".."));
            prop_assert!(!text.contains("//") && !text.contains(';') && !text.contains('\\'));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut rooted = vec![b'/'];
        rooted.extend(&bytes);
        prop_assert!(path(&bytes).is_err() || bytes.first() == Some(&b'/'));
        if let Ok(Path::Canonical(text)) = path(&rooted) {
            prop_assert_eq!(text.as_bytes(), &rooted[..]);
        }
        if let Ok(text) = authority(&bytes, Scheme::Http) {
            let again = authority(text.as_bytes(), Scheme::Http).unwrap().into_owned();
            prop_assert_eq!(again, text.into_owned());
        }
    }
}
