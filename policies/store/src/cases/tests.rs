//! Case files of a directory, and entity files beside them.

use super::*;
use crate::testing::{READ, STOP, Site, TYPO, shop};
use std::fs;

fn case(name: &str, decision: &str, entities: &str) -> String {
    format!(
        r#"{{"name":"{name}","request":{{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"grpc\"","resource":"Method::\"shop.Orders/Get\"",
  "context":{{"connection":{{"mtls":true,"tls":13,"source_ip":{{"fn":"ip","arg":"10.0.0.7"}},"listener":"public","protocol":{{"type":"Protocol","id":"grpc"}}}},
   "request":{{"method":"POST","host":"orders","path":"/shop.Orders/Get","segments":{{"0":"shop.Orders","1":"Get"}},"segment_count":2,"params":{{}},"query":{{}},"query_names":[],"headers":{{}}}},
   "time":{{"now":{{"fn":"datetime","arg":"2026-11-22T07:00:00Z"}},"weekday":7,"minute":420}},"rpc":{{"service":"shop.Orders","method":"Get"}}}}}},
  "entities":{entities},"decision":"{decision}","reason":[],"num_errors":0}}"#
    )
}

fn run(files: &[(&str, &str)]) -> CaseReport {
    run_cases(&Site::new(files).dir(), &shop())
}

fn failures(report: &CaseReport) -> Vec<(&str, Option<&str>)> {
    report.cases.iter().map(|case| (case.name.as_str(), case.failure.as_deref())).collect()
}

#[test]
fn te1_cases_pass_and_fail_with_their_reason() {
    let cases = format!("[{},{}]", case("may read", "allow", "[]"), case("may not", "deny", "[]"));
    let report = run(&[("a.cedar", READ), ("a_test.json", &cases)]);
    assert!(report.diagnostics.is_empty(), "{report:?}");
    assert_eq!(report.cases[0].file, "policies/a_test.json");
    let [("may read", None), ("may not", Some(why))] = failures(&report)[..] else { panic!("{report:?}") };
    assert!(why.contains("expected deny, got allow") && why.contains("orders-read"), "{why}");
}

#[test]
fn cases_of_all_files_run_by_file_name() {
    let one = |name: &str, decision: &str| format!("[{}]", case(name, decision, "[]"));
    let report = run(&[
        ("a.cedar", READ),
        ("b.cedar", STOP),
        ("z_test.json", &one("last", "deny")),
        ("a_test.json", &one("first", "deny")),
    ]);
    assert_eq!(failures(&report), [("first", None), ("last", None)]);
}

#[test]
fn bad_policies_run_no_case() {
    let report = run(&[("a.cedar", TYPO), ("a_test.json", &format!("[{}]", case("x", "deny", "[]")))]);
    assert_eq!((report.diagnostics.len(), report.cases.len()), (1, 0));
}

#[test]
fn a_file_that_holds_no_cases_is_a_finding_and_the_others_run() {
    let good = format!("[{}]", case("x", "allow", "[]"));
    let report =
        run(&[("a.cedar", READ), ("a_test.json", "{}"), ("b_test.json", "[oops"), ("c_test.json", &good)]);
    let files: Vec<&str> = report.diagnostics.iter().map(|found| &*found.file).collect();
    assert_eq!(files, ["policies/a_test.json", "policies/b_test.json"]);
    assert_eq!(failures(&report), [("x", None)]);
}

#[test]
fn te1_entities_come_from_a_file_beside_the_case_and_from_nowhere_else() {
    let group = r#"[{"uid":{"type":"Workload","id":"spiffe://example.org/web"},"attrs":{"trust_domain":"example.org","path":"/web"},"parents":[{"type":"Group","id":"front"}]}]"#;
    let front =
        READ.replace("principal == Workload::\"spiffe://example.org/web\"", "principal in Group::\"front\"");
    let from = |file: &str| {
        let site = Site::new(&[("a.cedar", &front), ("group.json", group)]);
        fs::write(site.dir().parent().unwrap().join("outside.json"), group).unwrap();
        std::os::unix::fs::symlink("../outside.json", site.dir().join("link.json")).unwrap();
        site.write("a_test.json", format!("[{}]", case("x", "allow", &format!("\"{file}\""))));
        let report = run_cases(&site.dir(), &shop());
        assert!(report.diagnostics.is_empty(), "{report:?}");
        report.cases[0].failure.clone()
    };
    assert_eq!(from("group.json"), None);
    for file in ["../outside.json", "/etc/passwd", "link.json", "missing.json", "..", ""] {
        let failure = from(file).unwrap_or_default();
        assert!(failure.starts_with(&format!("entities `{file}`")), "{file}: {failure}");
    }
}

#[test]
fn fs4_an_entity_file_that_is_a_pipe_or_that_others_can_write_is_refused() {
    let site = Site::new(&[("a.cedar", READ), ("open.json", "[]")]);
    site.chmod("open.json", 0o666);
    site.pipe("pipe.json");
    let named = |file: &str| case(file, "deny", &format!("\"{file}\""));
    site.write("a_test.json", format!("[{},{}]", named("open.json"), named("pipe.json")));
    let report = run_cases(&site.dir(), &shop());
    let [("open.json", Some(open)), ("pipe.json", Some(pipe))] = failures(&report)[..] else {
        panic!("{report:?}")
    };
    assert!(open.contains("can be written by others") && pipe.contains("not a file"), "{open} {pipe}");
}
