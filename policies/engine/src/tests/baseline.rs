//! The shipped policies do what their cases say.

use super::*;

#[test]
fn te2_every_baseline_case_holds_on_the_engine_and_on_stock_cedar() {
    let snapshot = snapshot_of(&[], EntitySet::default()).unwrap();
    assert!(snapshot.warnings().is_empty(), "{:?}", snapshot.warnings());
    let mut count = 0;
    for (file, text) in baseline_cases() {
        for outcome in run_cases(&snapshot, text, &|file| Err(format!("no file {file}"))).unwrap() {
            assert_eq!(outcome.failure, None, "{file}: {}", outcome.name);
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}
