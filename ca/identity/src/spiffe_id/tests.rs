//! SPIFFE ID rules as a table, and against a recogniser that shares nothing with the parser.

use proptest::prelude::*;

use super::*;

fn domain(text: &str) -> Result<TrustDomain, IdError> {
    TrustDomain::parse(text)
}

#[test]
fn id_01_other_schemes_queries_and_fragments_are_refused() {
    for text in ["http://td/a", "spiffe:/td/a", "spiffe:td", "//td/a", "td/a", " spiffe://td/a"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::Scheme), "{text}");
    }
    for text in ["spiffe://td/a?b", "spiffe://td/a#b", "spiffe://td/a b", "spiffe://td/a\0"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::PathByte), "{text}");
    }
    for text in ["spiffe://td?b", "spiffe://td#b"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::TrustDomainByte), "{text}");
    }
}

#[test]
fn id_02_a_missing_trust_domain_is_refused() {
    for text in ["spiffe://", "spiffe:///", "spiffe:///a"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::NoTrustDomain), "{text}");
    }
    assert_eq!(SpiffeId::parse(""), Err(IdError::Empty));
    assert_eq!(domain(""), Err(IdError::Empty));
}

#[test]
fn id_03_user_info_and_ports_are_refused() {
    for text in ["spiffe://u@td/a", "spiffe://td:80/a", "spiffe://td:/a", "spiffe://:80/a"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::TrustDomainByte), "{text}");
    }
}

#[test]
fn id_04_a_trust_domain_holds_lower_case_letters_digits_and_three_marks_only() {
    for name in ["TD", "%61", "[::1]", "tü", "a/b", "spiffe://td", "a b"] {
        assert_eq!(domain(name), Err(IdError::TrustDomainByte), "{name}");
    }
    for name in ["a", "a-b_c.d", "1", "..", "-"] {
        assert_eq!(domain(name).unwrap().as_str(), name);
    }
}

#[test]
fn id_05_percent_encoding_is_refused_in_both_parts() {
    assert_eq!(SpiffeId::parse("spiffe://%61/a"), Err(IdError::TrustDomainByte));
    for text in ["spiffe://td/%2e", "spiffe://td/%61", "spiffe://td/a%2fb"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::PathByte), "{text}");
    }
}

#[test]
fn id_06_a_name_that_looks_like_an_address_is_a_name() {
    let id = SpiffeId::parse("spiffe://10.0.0.1/a").unwrap();
    assert_eq!((id.trust_domain().as_str(), id.path()), ("10.0.0.1", "/a"));
}

#[test]
fn id_07_empty_and_dot_segments_and_trailing_slashes_are_refused() {
    for text in ["spiffe://td/a//b", "spiffe://td//a"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::EmptySegment), "{text}");
    }
    for text in ["spiffe://td/.", "spiffe://td/..", "spiffe://td/a/../b", "spiffe://td/a/./b"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::DotSegment), "{text}");
    }
    for text in ["spiffe://td/", "spiffe://td/a/", "spiffe://td//"] {
        assert_eq!(SpiffeId::parse(text), Err(IdError::TrailingSlash), "{text}");
    }
    for text in ["spiffe://td", "spiffe://td/...", "spiffe://td/.a/-/_/A0"] {
        assert_eq!(SpiffeId::parse(text).unwrap().as_str(), text);
    }
}

#[test]
fn id_08_limits_are_2048_and_255_bytes() {
    let with_length = |length: usize| format!("spiffe://td/{}", "a".repeat(length.saturating_sub(12)));
    for (length, passes) in [(2047, true), (2048, true), (2049, false)] {
        let text = with_length(length);
        assert_eq!((text.len(), SpiffeId::parse(&text).is_ok()), (length, passes));
    }
    assert!(domain(&"a".repeat(255)).is_ok());
    assert_eq!(domain(&"a".repeat(256)), Err(IdError::TooLong { limit: 255 }));
    let long = format!("spiffe://{}/a", "a".repeat(256));
    assert_eq!(SpiffeId::parse(&long), Err(IdError::TooLong { limit: 255 }));
}

#[test]
fn id_09_upper_case_is_refused_where_it_would_compare_equal_and_kept_where_it_differs() {
    assert_eq!(SpiffeId::parse("spiffe://TD/a"), Err(IdError::TrustDomainByte));
    assert_eq!(SpiffeId::parse("SPIFFE://td/a"), Err(IdError::Scheme));
    assert_ne!(SpiffeId::parse("spiffe://td/A"), SpiffeId::parse("spiffe://td/a"));
}

#[test]
fn id_10_the_identity_of_a_trust_domain_has_no_path() {
    let td = domain("example.org").unwrap();
    assert_eq!((td.id().as_str(), td.id().path()), ("spiffe://example.org", ""));
    assert_eq!(td.id(), SpiffeId::parse("spiffe://example.org").unwrap());
    assert!(SpiffeId::new(&td, "web").is_err());
    assert_eq!(SpiffeId::new(&td, "/web").unwrap().path(), "/web");
}

/// SPIFFE-ID 2.1-2.3 as an automaton over single characters, written without looking at the parser.
fn recognised(text: &str) -> bool {
    enum At {
        Scheme(usize),
        Host(usize),
        Segment { length: usize, only_dots: bool },
    }
    let mut at = At::Scheme(0);
    for c in text.chars() {
        at = match at {
            At::Scheme(n) => match "spiffe://".chars().nth(n) {
                Some(wanted) if wanted == c && n == 8 => At::Host(0),
                Some(wanted) if wanted == c => At::Scheme(n.saturating_add(1)),
                _ => return false,
            },
            At::Host(n) if c == '/' && n > 0 => At::Segment { length: 0, only_dots: true },
            At::Host(n) if "abcdefghijklmnopqrstuvwxyz0123456789.-_".contains(c) => {
                At::Host(n.saturating_add(1))
            }
            At::Host(_) => return false,
            At::Segment { length, only_dots } if c == '/' => {
                if length == 0 || (only_dots && length <= 2) {
                    return false;
                }
                At::Segment { length: 0, only_dots: true }
            }
            At::Segment { length, only_dots } => {
                if !(c.is_ascii_alphanumeric() || ".-_".contains(c)) {
                    return false;
                }
                At::Segment { length: length.saturating_add(1), only_dots: only_dots && c == '.' }
            }
        };
    }
    match at {
        At::Scheme(_) => false,
        At::Host(n) => n > 0,
        At::Segment { length, only_dots } => length > 0 && !(only_dots && length <= 2),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn id_07_the_parser_agrees_with_an_independent_recogniser(
        text in prop_oneof![
            "(spiffe|SPIFFE|http)://[a-zA-Z0-9.:%@-]{0,6}(/[a-zA-Z._%?-]{0,3}){0,3}",
            "spiffe://[a-c.]{0,3}(/[A-b./_-]{0,4}){0,4}",
            "\\PC{0,24}",
        ],
    ) {
        let parsed = SpiffeId::parse(&text);
        prop_assert_eq!(parsed.is_ok(), recognised(&text), "{}", text);
        if let Ok(id) = parsed {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        }
    }
}
