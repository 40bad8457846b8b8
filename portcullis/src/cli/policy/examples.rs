//! The policies we hand out are what we ask of others: in form, without findings, and covered by their cases.

use std::fs;
use std::path::Path;

use policies_engine::EntitySet;
use policies_store::LintAsk;

use super::new;
use crate::cli::init;
use crate::demo::{CASES, POLICY};

fn assert_exemplary(what: &str, dir: &Path) {
    let formatted = policies_store::format_path(dir).unwrap();
    for file in formatted {
        assert_eq!(file.text, None, "{what}: {} is not in form", file.file);
    }
    let ask = LintAsk { now: base_ports::UnixTime::from_secs(1_790_000_000), usage: None, threshold: 100 };
    let found = policies_store::lint_path(dir, &EntitySet::default(), ask).diagnostics;
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
    let report = policies_store::run_cases(dir, &EntitySet::default());
    assert!(report.cases.iter().all(|case| case.failure.is_none()), "{what}: {:?}", report.cases);
    let missing: Vec<_> = report
        .coverage
        .policies
        .iter()
        .filter(|policy| !policy.is_baseline)
        .flat_map(|policy| &policy.missing)
        .collect();
    assert_eq!((report.coverage.percent(), missing.len()), (100, 0), "{what}: {missing:?}");
}

#[test]
fn te4_shipped_examples_are_covered_in_form_and_without_findings() {
    let home = tempfile::tempdir().unwrap();
    init::write(home.path(), "example.org", init::Template::Gateway, false).unwrap();
    assert_exemplary("init", &home.path().join("policies"));

    let demo = home.path().join("demo");
    fs::create_dir(&demo).unwrap();
    fs::write(demo.join("orders.cedar"), POLICY).unwrap();
    fs::write(demo.join("orders_test.json"), CASES).unwrap();
    assert_exemplary("demo", &demo);

    let made = home.path().join("made");
    new::write(&made, "orders-read").unwrap();
    assert_exemplary("policy new", &made);
}
