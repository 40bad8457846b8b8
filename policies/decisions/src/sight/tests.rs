//! Which side of a call a reader sees.

use policies_engine::Effect;

use super::*;
use crate::{
    leaf::json_text,
    testing::{Namespaces, allow, clock, config, eventually, open_with, pattern, placed, query},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

struct Counting(Arc<AtomicUsize>);

impl Visibility for Counting {
    fn may_read(&self, _: Option<&str>) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }
}

#[test]
fn rr1_each_namespace_is_asked_for_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let sight = Sight::new(Counting(Arc::clone(&count)));
    for _ in 0..10 {
        for namespace in [None, Some("shop"), Some("front")] {
            assert_eq!(sight.between(namespace, None), Seen::Whole);
        }
    }
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

#[test]
fn rr1_a_row_is_seen_through_its_callee_else_its_caller_else_not() {
    let seen =
        |eyes: &'static [&'static str], callee, caller| Sight::new(Namespaces(eyes)).between(callee, caller);
    let (shop, front) = (Some("shop"), Some("front"));
    for (eyes, expected) in [
        (&["shop"][..], [Seen::Whole, Seen::Whole, Seen::Hidden, Seen::Hidden]),
        (&["front"], [Seen::Outbound, Seen::Hidden, Seen::Outbound, Seen::Hidden]),
        (&[""], [Seen::Hidden, Seen::Hidden, Seen::Whole, Seen::Whole]),
        (&["shop", "front"], [Seen::Whole, Seen::Whole, Seen::Outbound, Seen::Hidden]),
        (&[], [Seen::Hidden; 4]),
    ] {
        let rows = [(shop, front), (shop, None), (None, front), (None, None)];
        assert_eq!(rows.map(|(callee, caller)| seen(eyes, callee, caller)), expected, "{eyes:?}");
    }
}

#[test]
fn rr2_who_judges_rows_again_sees_whole_rows_only() {
    let sight = Sight::new(Namespaces(&["front"]));
    assert_eq!(sight.between(Some("shop"), Some("front")), Seen::Outbound);
    let whole = sight.whole_only();
    assert_eq!(whole.between(Some("shop"), Some("front")), Seen::Hidden);
    assert_eq!(whole.between(Some("front"), None), Seen::Whole);
}

#[test]
fn rr2_the_outbound_view_tells_what_the_caller_knows_and_no_filter_looks_behind_it() {
    let ledger = open_with(config(), Arc::new(base_ports::MemoryDisk::new()), clock()).unwrap();
    let mut record = placed();
    record.determining = ["carts-write".into()].into();
    record.detail = Some("secret detail".to_owned());
    let (id, _) = ledger.lane(0).record(record);
    eventually("written", || ledger.stats().next_index == 2);

    let sight = Sight::new(Namespaces(&["front"]));
    let stored = ledger.get_seen(&pattern(&id.to_string()), &sight).unwrap();
    let shown = stored.to_json_seen(&crate::LogView::named("o"), sight.of(&stored));
    let members: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "apiVersion",
            "kind",
            "id",
            "time",
            "effect",
            "reason",
            "principal",
            "action",
            "resource",
            "trace",
            "view",
            "log"
        ]
    );
    let text = json_text(&shown);
    for hidden in ["carts-write", "SEC-12", "secret", "10.0.0.7", "shop.Orders/Refund\"}", "5b0c", "gateway"]
    {
        let in_resource = hidden.starts_with("shop.");
        assert_eq!(text.contains(hidden), in_resource, "{hidden} in {text}");
    }

    let rows = |eyes: &'static [&'static str], pairs: &[(&str, &str)]| {
        let query = query(pairs, crate::testing::NOON).seen_by(Sight::new(Namespaces(eyes)), "r");
        ledger.query(&query).unwrap().rows.len()
    };
    for pair in [
        ("policy", "carts-write"),
        ("ticket", "SEC-12"),
        ("source_ip", "10.0.0.0/8"),
        ("serial", "5b0c"),
        ("path~", "Refund"),
        ("service", "orders"),
        ("namespace", "shop"),
        ("version", "41"),
        ("enforcer", "prefix:"),
    ] {
        assert_eq!((rows(&["shop"], &[pair]), rows(&["front"], &[pair])), (1, 0), "{pair:?}");
    }
    for pair in [("effect", "deny"), ("resource", "shop.Orders"), ("action", "grpc"), ("reason", "no_permit")]
    {
        assert_eq!((rows(&["front"], &[pair]), rows(&["other"], &[pair])), (1, 0), "{pair:?}");
    }
}

#[test]
fn rr1_an_id_that_is_not_seen_is_not_there_and_no_candidate() {
    let ledger = open_with(config(), Arc::new(base_ports::MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    let (hidden, _) = lane.record(placed());
    let (open, _) = lane.record(allow());
    assert_eq!(allow().effect, Effect::Allow);
    eventually("written", || ledger.stats().next_index == 3);
    let sight = Sight::new(Namespaces(&[""]));
    let found = |text: &str| ledger.get_seen(&pattern(text), &sight);
    assert!(matches!(found(&hidden.to_string()), Err(crate::GetError::NotFound(_))));
    assert_eq!(found(&open.to_string()).unwrap().id, open);
    // Both ids are of one millisecond: the start alone fits both, and only one is told of.
    let start = open.to_string();
    let found = found(&format!("{}..", start.get(..18).unwrap())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.id, open);
}
