//! Counts against counts made by hand.

use std::sync::Arc;

use base_ports::MemoryDisk;
use policies_engine::{Audit, Effect, Principal, Resource};

use super::*;
use crate::{
    Sight,
    testing::{NOON, Namespaces, at, clock, config, decision, eventually, open_with, placed, query},
};

fn grouping(by: &[&str], bucket: Option<&str>, limit: Option<usize>) -> Grouping {
    let by: Vec<_> = by.iter().map(|name| (*name).to_owned()).collect();
    Grouping::read(&by, bucket, limit).unwrap()
}

fn filled() -> Ledger {
    let ledger = open_with(config(), Arc::new(MemoryDisk::new()), clock()).unwrap();
    let mut lane = ledger.lane(0);
    lane.record(placed());
    for n in 0..30_i64 {
        let effect = if n % 3 == 0 { Effect::Deny } else { Effect::Allow };
        let mut record = decision(effect, Audit::BestEffort, at(-60 * n));
        record.principal = Principal::workload(&format!("spiffe://example.org/w{}", n % 5));
        record.resource = Resource::route("orders").within("orders", Some("other"));
        record.determining = ["a".into(), "b".into()].into();
        if n % 10 == 0 {
            record.would = Some(Box::new(policies_engine::Would {
                effect: Effect::Deny,
                reason: policies_engine::Reason::Forbid,
                determining: Arc::new([]),
                errors: Vec::new(),
                version: None,
            }));
        }
        lane.record(record);
    }
    eventually("written", || ledger.stats().next_index == 32);
    ledger
}

fn aggregate(ledger: &Ledger, query: &Query, grouping: &Grouping) -> Value {
    let begun = ledger.inner().clock.mono();
    ledger.aggregate(query, grouping, Caps::READER, begun).unwrap().to_json(grouping).into()
}

fn counts(group: &Value) -> (u64, u64, u64, u64) {
    let number = |name: &str| group[name].as_u64().unwrap();
    (number("count"), number("allow"), number("deny"), number("would_deny"))
}

#[test]
fn aggregates_count_by_field_and_by_time() {
    let ledger = filled();
    let asked = query(&[("kind", "decision"), ("until", "2100-01-01T00:00:00Z"), ("since", "2h")], NOON);
    let by = grouping(&["principal", "effect"], None, None);
    let whole = aggregate(&ledger, &asked, &by);
    assert_eq!(counts(&whole["total"]), (31, 20, 11, 3));
    assert_eq!(whole["groups"].as_array().unwrap().len(), 11, "{whole}");
    assert_eq!(whole["groups"][0]["key"]["effect"], "allow");
    assert!(whole.get("other").is_none());

    // The largest groups are told, the rest is exact.
    let top = aggregate(&ledger, &asked, &grouping(&["principal"], None, Some(2)));
    assert_eq!(top["groups"].as_array().unwrap().len(), 2);
    assert_eq!(counts(&top["other"]).0 + 12, 31);

    // A row counts in the group of each policy that decided it; without one, in none.
    let policies = aggregate(&ledger, &asked, &grouping(&["policy"], None, None));
    let told: Vec<_> = policies["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["key"]["policy"].clone(), group["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [(json!("a"), 30), (json!("b"), 30), (Value::Null, 1)]);

    // Buckets stand in time and hold everything once.
    let timed = aggregate(&ledger, &asked, &grouping(&[], Some("10m"), None));
    let groups = timed["groups"].as_array().unwrap();
    assert_eq!(groups.iter().map(|group| counts(group).0).sum::<u64>(), 31);
    assert_eq!(groups.last().unwrap()["bucket"], "2026-11-22T07:00:00Z");
    assert!(groups.array_windows::<2>().all(|[a, b]| a["bucket"].as_str() < b["bucket"].as_str()));
}

#[test]
fn rr1_aggregates_count_visible_rows_only_and_group_by_what_is_seen() {
    let ledger = filled();
    let count = |eyes: &'static [&'static str], by: &[&str]| {
        let asked =
            query(&[("kind", "decision"), ("since", "2h")], NOON).seen_by(Sight::new(Namespaces(eyes)), "r");
        aggregate(&ledger, &asked, &grouping(by, None, None))
    };
    assert_eq!(counts(&count(&["other"], &["service"])["total"]).0, 30);
    assert_eq!(counts(&count(&["shop"], &["service"])["total"]).0, 1);
    assert_eq!(counts(&count(&[""], &["service"])["total"]).0, 0);
    let outbound = count(&["front"], &["service", "principal"]);
    assert_eq!(counts(&outbound["total"]), (1, 0, 1, 0));
    assert_eq!(
        outbound["groups"][0]["key"],
        json!({"service": null, "principal": "spiffe://example.org/web"})
    );
}

#[test]
fn groups_beyond_the_most_are_counted_together() {
    let by = grouping(&["resource"], None, None);
    let mut tally = Tally::new(&by);
    let mut leaf = Vec::new();
    for n in 0..(GROUPS + 500) {
        leaf.clear();
        let name = format!("r{n}");
        crate::cbor::Writer::new(&mut leaf).int_map(|map| {
            map.key(0).uint(1);
            map.key(1).uint(1);
            map.key(4).int(n as i64);
            map.key(14).text_map(|map| map.key("id").text(&name));
        });
        tally.see(&View::of(&leaf).unwrap(), Seen::Whole);
    }
    let aggregate = tally.finish();
    assert_eq!((aggregate.len(), aggregate.other.count, aggregate.total.count), (GROUPS, 500, 10_500));
}

#[test]
fn what_cannot_be_grouped_is_refused() {
    let read = |by: &[&str], bucket, limit| {
        let by: Vec<_> = by.iter().map(|name| (*name).to_owned()).collect();
        Grouping::read(&by, bucket, limit).unwrap_err().to_string()
    };
    assert_eq!(
        read(&["principle"], None, None),
        "`principle` is no group_by: a field that rows can be grouped by, did you mean `principal`?"
    );
    assert!(read(&["action", "effect", "reason", "service"], None, None).contains("at most three"));
    assert!(read(&["action", "action"], None, None).contains("twice"));
    for bucket in ["30s", "90s", "2d", "0m", "x", ""] {
        assert!(read(&[], Some(bucket), None).contains("no bucket"), "{bucket}");
    }
    assert!(read(&[], None, Some(10_001)).contains("no limit"));
}
