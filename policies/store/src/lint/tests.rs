//! Findings, edits and formatted files of a directory.

use super::*;
use crate::{
    format_path,
    testing::{READ, STOP, Site, shop},
    write_formatted,
};
use std::{fs, os::unix::fs::PermissionsExt};

const WIDE: &str = "@id(\"wide\")\npermit (principal, action, resource);\n";
const SNI: &str = "@id(\"sni\") // why\npermit (principal in Group::\"g\", action == Action::\"grpc\", resource)\nwhen { context.connection.sni == \"x\" };\n";

fn ask() -> LintAsk<'static> {
    LintAsk { now: UnixTime::parse_rfc3339("2026-11-22T12:00:00Z").unwrap(), usage: None, threshold: 80 }
}

fn codes(report: &LintReport) -> Vec<&str> {
    report.diagnostics.iter().map(|finding| finding.code).collect()
}

#[test]
fn a_directory_is_linted_and_what_was_not_asked_is_said() {
    let site = Site::new(&[("a.cedar", READ), ("b.cedar", WIDE)]);
    let report = lint_path(&site.dir(), &shop(), ask());
    assert_eq!(codes(&report), ["PC2103"]);
    assert_eq!((&*report.diagnostics[0].file, report.diagnostics[0].line), ("policies/b.cedar", 2));
    assert_eq!(report.files.len(), 2);
    let silent: Vec<_> = report.silent.iter().map(|(code, _)| *code).collect();
    assert_eq!(silent, ["PC2105", "PC2117", "PC2114"]);
}

#[test]
fn one_file_is_linted_with_its_schema_and_without_its_neighbours() {
    let schema = "type SiteHeaders = { \"x-own\"?: Set<String> };\ntype SiteQuery = {};\ntype SiteParams = {};\ntype SiteClaims = {};\n";
    let own = "@id(\"own\")\npermit (principal in Group::\"g\", action == Action::\"grpc\", resource)\nwhen { context.request.headers has \"x-own\" };\n";
    let site = Site::new(&[("a.cedar", own), ("b.cedar", "broken"), ("site.cedarschema", schema)]);
    assert_eq!(codes(&lint_path(&site.dir().join("a.cedar"), &shop(), ask())), [] as [&str; 0]);
    assert_eq!(codes(&lint_path(&site.dir(), &shop(), ask())), ["PC2001"]);
    let neighbour = lint_path(&site.dir().join("b.cedar"), &shop(), ask());
    assert_eq!((codes(&neighbour), neighbour.is_valid), (vec!["PC2001"], false));
}

#[test]
fn pc2114_cases_of_the_directory_are_counted() {
    let case = r#"[{"name":"x","request":{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"grpc\"","resource":"Method::\"shop.Orders/Get\"",
  "context":{"connection":{"mtls":true,"tls":13,"source_ip":{"fn":"ip","arg":"10.0.0.7"},"listener":"public","protocol":{"type":"Protocol","id":"grpc"}},
   "request":{"method":"POST","host":"orders","path":"/x","segments":{},"segment_count":0,"params":{},"query":{},"query_names":[],"headers":{}},
   "time":{"now":{"fn":"datetime","arg":"2026-11-22T07:00:00Z"},"weekday":7,"minute":420},"rpc":{"service":"shop.Orders","method":"Get"}}},
  "entities":[],"decision":"allow","reason":[],"num_errors":0}]"#;
    let never = STOP.replace("resource)", "resource == Method::\"shop.Orders/Refund\")");
    let site = Site::new(&[("a.cedar", READ), ("b.cedar", &never), ("a_test.json", case)]);
    let report = lint_path(&site.dir(), &shop(), ask());
    assert_eq!(codes(&report), ["PC2114"], "{report:#?}");
    assert_eq!(report.diagnostics[0].message, "cases cover 0 % of `stop`; at least 80 % are asked for");
}

#[test]
fn an_edit_is_written_with_the_mode_of_the_file_and_leaves_the_rest() {
    let site = Site::new(&[("a.cedar", SNI), ("b.cedar", READ)]);
    site.chmod("a.cedar", 0o600);
    let before = fs::metadata(site.dir().join("b.cedar")).unwrap().modified().unwrap();
    let fixed = fix_path(&site.dir(), &shop(), ask(), &|_| true).unwrap();
    assert_eq!(fixed, [(Arc::from("policies/a.cedar"), 1)]);
    let text = fs::read_to_string(site.dir().join("a.cedar")).unwrap();
    assert_eq!(
        text,
        SNI.replace("context.connection.sni ==", "context.connection has sni && context.connection.sni ==")
    );
    assert_eq!(fs::metadata(site.dir().join("a.cedar")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(site.dir().join("b.cedar")).unwrap().modified().unwrap(), before);
    assert_eq!(codes(&lint_path(&site.dir(), &shop(), ask())), [] as [&str; 0]);
    assert_eq!(fs::read_dir(site.dir()).unwrap().count(), 2, "nothing is left behind");
    assert_eq!(fix_path(&site.dir(), &shop(), ask(), &|_| true).unwrap(), []);
}

#[test]
fn nothing_is_written_when_nothing_is_wanted_or_the_file_is_a_link() {
    let site = Site::new(&[("a.cedar", SNI)]);
    assert_eq!(fix_path(&site.dir(), &shop(), ask(), &|finding| finding.code == "PC2112").unwrap(), []);
    fs::rename(site.dir().join("a.cedar"), site.dir().join("real")).unwrap();
    std::os::unix::fs::symlink("real", site.dir().join("a.cedar")).unwrap();
    let refused = fix_path(&site.dir(), &shop(), ask(), &|_| true).unwrap_err();
    assert!(refused.to_string().contains("is a link"), "{refused}");
    assert_eq!(fs::read_to_string(site.dir().join("real")).unwrap(), SNI);
}

#[test]
fn a_directory_is_formatted_once_and_stays() {
    let ugly = "@id(\"a\") permit(principal,action==Action::\"grpc\",resource);// why";
    let site = Site::new(&[("a.cedar", ugly), ("b.cedar", "// nothing\n")]);
    let formatted = format_path(&site.dir()).unwrap();
    let changed: Vec<_> = formatted.iter().map(|file| file.text.is_some()).collect();
    assert_eq!(changed, [true, false]);
    write_formatted(&site.dir(), &formatted).unwrap();
    let text = fs::read_to_string(site.dir().join("a.cedar")).unwrap();
    assert!(text.starts_with("@id(\"a\")\npermit (") && text.contains("// why"), "{text}");
    assert!(format_path(&site.dir()).unwrap().iter().all(|file| file.text.is_none()));
    site.write("b.cedar", "permit (principal action, resource);");
    let found = format_path(&site.dir()).unwrap_err();
    assert_eq!((found.len(), &*found[0].file, found[0].line), (1, "policies/b.cedar", 1));
    assert!(format_path(&site.dir().join("a.cedar")).is_ok(), "one file alone");
}
