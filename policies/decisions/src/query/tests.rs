//! What is not known is refused with the nearest thing that is.

use super::*;
use crate::{leaf::View, testing::NOON};

fn parse(pairs: &[(&str, &str)]) -> Result<Query, QueryError> {
    let pairs: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Query::parse(&pairs, NOON)
}

fn refusal(name: &str, value: &str) -> String {
    parse(&[(name, value)]).unwrap_err().to_string()
}

#[test]
fn qy1_an_unknown_filter_or_value_is_refused_with_a_suggestion() {
    assert_eq!(refusal("efect", "deny"), "unknown filter `efect`, did you mean `effect`?");
    assert_eq!(refusal("princpal", "x"), "unknown filter `princpal`, did you mean `principal`?");
    assert_eq!(refusal("path", "x"), "unknown filter `path`, did you mean `path~`?");
    assert_eq!(refusal("sql", "x"), "unknown filter `sql`");
    assert_eq!(refusal("effect", "dney"), "`dney` is no effect: `allow` or `deny`, did you mean `deny`?");
    assert_eq!(
        refusal("reason", "no_permitt"),
        "`no_permitt` is no reason: see the list of reasons, did you mean `no_permit`?"
    );
    assert_eq!(
        refusal("kind", "gaps"),
        "`gaps` is no kind: see the list of record kinds, did you mean `gap`?"
    );
    assert_eq!(refusal("order", "up"), "`up` is no order: `desc` or `asc`");
}

#[test]
fn qy1_values_that_cannot_be_read_are_refused() {
    for (name, values) in [
        ("limit", &["0", "1001", "-1", "ten", ""][..]),
        ("since", &["yesterday", "15", "m", "1w", "2026-11-22", "é"]),
        ("until", &["99999999999999999999d", "-1h"]),
        ("version", &["", "-", "v", "5-3", "x-y", "1-2-3"]),
        ("trace", &["", "4bf9", "zz", "4bf92f3577b34da6a3ce929d0e0e47360"]),
        ("effect", &["", "DENY"]),
        ("source_ip", &["", "10.0.0.1/8", "10.0.0.0/33", "localhost"]),
    ] {
        for value in values {
            assert!(
                matches!(parse(&[(name, value)]), Err(QueryError::Value { name: refused, .. }) if refused == name),
                "{name}={value}"
            );
        }
    }
    assert_eq!(
        parse(&[("effect", "deny"), ("effect", "allow")]),
        Err(QueryError::Twice("effect".to_owned()))
    );
}

#[test]
fn times_are_absolute_or_ago_and_the_default_is_the_last_hour() {
    let query = parse(&[]).unwrap();
    assert_eq!(query.since, NOON - Duration::from_secs(3_600));
    assert_eq!((query.limit, query.order), (100, Order::Newest));
    let query = parse(&[("since", "15m"), ("until", "90s"), ("limit", "1000"), ("order", "asc")]).unwrap();
    assert_eq!((query.since, query.until), (NOON - Duration::from_secs(900), NOON - Duration::from_secs(90)));
    assert_eq!((query.limit, query.order), (1_000, Order::Oldest));
    let query = parse(&[("until", "2026-11-01T00:00:00Z")]).unwrap();
    assert_eq!(query.since, query.until - Duration::from_secs(3_600));
    assert_eq!(parse(&[("since", "7d")]).unwrap().since, NOON - Duration::from_secs(7 * 86_400));
}

#[test]
fn a_cursor_is_bound_to_what_decides_the_rows_and_not_to_the_limit() {
    let canonical = |pairs: &[(&str, &str)]| parse(pairs).unwrap().canonical;
    let base = canonical(&[("effect", "deny"), ("service", "orders")]);
    assert_eq!(base, canonical(&[("service", "orders"), ("limit", "7"), ("effect", "deny")]));
    assert_ne!(base, canonical(&[("effect", "deny")]));
    assert_ne!(base, canonical(&[("effect", "deny"), ("service", "orders"), ("order", "asc")]));
    // No value can pose as another filter.
    assert_ne!(canonical(&[("service", "a"), ("policy", "b")]), canonical(&[("service", "a;6:policy=1:b")]));
}

#[test]
fn an_empty_view_matches_only_an_empty_filter() {
    let view = View::default();
    assert!(parse(&[]).unwrap().filter.matches(&view));
    for pair in [
        ("effect", "deny"),
        ("would", "deny"),
        ("principal", "prefix:"),
        ("service", "x"),
        ("action", "grpc"),
        ("resource", ""),
        ("namespace", "prefix:"),
        ("ticket", ""),
        ("source_ip", "0.0.0.0/0"),
        ("serial", ""),
        ("policy", "p"),
        ("reason", "forbid"),
        ("version", "0-"),
        ("enforcer", "x"),
        ("kind", "gap"),
        ("path~", ""),
        ("trace", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ] {
        assert!(!parse(&[pair]).unwrap().filter.matches(&view), "{pair:?}");
    }
}
