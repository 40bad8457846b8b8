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

const CASE: &str = r#"[{"name":"web may not refund","request":{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"grpc\"","resource":"Method::\"shop.Orders/Refund\"",
  "context":{"connection":{"mtls":true,"tls":13,"source_ip":{"fn":"ip","arg":"10.0.0.7"},"listener":"public","protocol":{"type":"Protocol","id":"grpc"}},
   "request":{"method":"POST","host":"orders","path":"/shop.Orders/Refund","segments":{"0":"shop.Orders","1":"Refund"},"segment_count":2,"params":{},"query":{},"query_names":[],"headers":{}},
   "time":{"now":{"fn":"datetime","arg":"2026-11-22T07:00:00Z"},"weekday":7,"minute":420},"rpc":{"service":"shop.Orders","method":"Refund"}}},
  "entities":[],"decision":"deny","reason":[],"num_errors":0,"reason_code":"no_permit"}]"#;

#[test]
fn te1_the_case_of_the_specification_runs_and_a_wrong_one_says_what_came() {
    let failure = |text: &str| {
        let no_file = |file: &str| Err(format!("no file {file}"));
        run_cases(&snapshot_of(&[], EntitySet::default()).unwrap(), text, &no_file).unwrap().remove(0).failure
    };
    assert_eq!(failure(CASE), None);
    let wrong = [
        ("\"deny\"", "\"allow\"", "expected allow, got deny (no_permit)"),
        ("no_permit", "forbid", "expected reason forbid, got no_permit"),
        ("\"reason\":[]", "\"reason\":[\"x\"]", "expected `x` to decide; it was []"),
        ("\"num_errors\":0", "\"num_errors\":2", "expected 2 errors, got 0"),
        ("\"entities\":[]", "\"entities\":\"e.json\"", "no file e.json"),
        ("\"listener\":\"public\",", "", "context: `connection.listener` is missing"),
        ("\"mtls\":true", "\"mtls\":1", "context: `connection.mtls` is not true or false"),
        ("Action::\\\"grpc\\\"", "Action::\\\"grcp\\\"", "`Action::\"grcp\"` is no action of the schema"),
    ];
    for (from, to, expected) in wrong {
        let text = CASE.replace(from, to);
        assert_ne!(text, CASE, "{from}");
        assert!(failure(&text).unwrap().starts_with(expected), "{:?}", failure(&text));
    }
    let snapshot = snapshot_of(&[], EntitySet::default()).unwrap();
    assert!(run_cases(&snapshot, "{}", &|_| Err(String::new())).is_err());
    assert!(run_cases(&snapshot, "nope", &|_| Err(String::new())).is_err());
}
