//! `policy validate` in its cases.

use super::*;
use crate::testing::{READ, STOP, Site, TYPO, shop};
use policies_engine::Severity;

fn check(files: &[(&str, &str)]) -> Report {
    check_dir(&Site::new(files).dir(), &shop())
}

fn only(report: &Report) -> &Diagnostic {
    assert_eq!(report.diagnostics.len(), 1, "{report:#?}");
    &report.diagnostics[0]
}

#[test]
fn a_valid_directory_is_counted_without_the_shipped_policies() {
    let report = check(&[("a.cedar", READ), ("b.cedar", STOP)]);
    assert_eq!((report.policies, report.diagnostics.len()), (2, 0), "{report:?}");
}

#[test]
fn er2_a_typo_shows_file_line_column_source_label_and_help() {
    let report = check(&[("orders.cedar", TYPO)]);
    let found = only(&report);
    assert_eq!((&*found.file, found.line, found.column), ("policies/orders.cedar", 7, 3));
    assert_eq!(found.source_line, "  context.conection.mtls");
    let shown = found.to_string();
    assert!(shown.starts_with("policies/orders.cedar:7:3: error PC2111:"), "{shown}");
    assert!(shown.contains("conection") && shown.contains("`connection`"), "{shown}");
    assert!(shown.contains("\n 7 |   context.conection.mtls\n   |   ^"), "{shown}");
    assert_eq!(report.policies, 0);
}

#[test]
fn a_policy_without_an_id_is_refused() {
    let report = check(&[("a.cedar", "\npermit (principal, action, resource);\n")]);
    let found = only(&report);
    assert_eq!((found.code, found.line), ("PC2101", 2));
    assert!(found.help.as_ref().unwrap().contains("@id"));
}

#[test]
fn er3_a_duplicate_id_shows_both_places() {
    let report = check(&[("a.cedar", READ), ("b.cedar", &format!("// copied\n{READ}"))]);
    let shown: Vec<String> = report.diagnostics.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert!(shown.contains("policies/b.cedar:2:1"), "{shown}");
    assert!(shown.contains("policies/a.cedar:1"), "{shown}");
    assert!(shown.contains("orders-read"), "{shown}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    let wrong = TYPO.replace("context.conection.mtls", "context.connection.tls == \"13\"");
    let report = check(&[("a.cedar", &wrong)]);
    let found = only(&report);
    assert_eq!((found.code, found.line), ("PC2002", 7));
    assert!(found.to_string().contains("Long") && found.to_string().contains("String"), "{found}");
}

#[test]
fn every_finding_of_every_file_is_told_at_once() {
    let report = check(&[
        ("a.cedar", "permit (principal, action, resource);"),
        ("b.cedar", TYPO),
        ("c.cedar", "nonsense"),
    ]);
    let files: Vec<&str> = report.diagnostics.iter().map(|found| &*found.file).collect();
    assert_eq!(files, ["policies/a.cedar", "policies/b.cedar", "policies/c.cedar"]);
}

#[test]
fn st7_one_uid_from_two_sources_is_refused_naming_both() {
    let twice = r#"[{"uid":{"type":"Service","id":"orders"},"attrs":{"name":"orders"},"parents":[]}]"#;
    let report = check(&[("entities.json", twice)]);
    let found = only(&report);
    assert_eq!(found.code, "PC2012");
    assert!(
        found.message.contains("entities.json") && found.message.contains("service"),
        "{}",
        found.message
    );
}

#[test]
fn va3_entities_against_the_schema_are_refused() {
    let wrong = r#"[{"uid":{"type":"Service","id":"other"},"attrs":{"name":7},"parents":[]}]"#;
    let report = check(&[("entities.json", wrong)]);
    assert_eq!(only(&report).code, "PC2003");
    assert!(only(&report).message.contains("other"), "{report:?}");
}

#[test]
fn templates_links_and_team_schemas_are_read_together() {
    let template = "@id(\"blank\") permit (principal == ?principal, action == Action::\"grpc\", resource);\n@id(\"own\") forbid (principal, action == Payments::Action::\"refund\", resource);";
    let team = "namespace Payments { entity Till; action refund appliesTo { principal: [Till], resource: [Till] }; }";
    let links =
        r#"[{ "id": "web", "template": "blank", "principal": "Workload::\"spiffe://example.org/web\"" }]"#;
    let files = [("a.cedar", template), ("a.links.json", links), ("payments.cedarschema", team)];
    let report = check(&files);
    assert_eq!((report.policies, report.diagnostics.as_slice()), (2, [].as_slice()));
    let broken = check(&[("a.cedar", template), ("a.links.json", "[{}]"), ("payments.cedarschema", team)]);
    assert_eq!((&*only(&broken).file, only(&broken).code), ("policies/a.links.json", "PC2015"));
    let shadowing = check(&[("payments.cedarschema", "namespace Payments { entity Workload; }")]);
    assert_eq!((&*only(&shadowing).file, only(&shadowing).code), ("policies/payments.cedarschema", "PC2005"));
}

#[test]
fn a_site_schema_is_part_of_the_check() {
    let header = "@id(\"a\")\npermit (principal, action == Action::\"grpc\", resource)\nwhen { context.request.headers has \"x-mine\" && context.request.headers[\"x-mine\"].contains(\"1\") };";
    let site = "type SiteHeaders = { \"x-mine\"?: Set<String> };\ntype SiteQuery = {};\ntype SiteParams = {};\ntype SiteClaims = {};\n";
    let without = check(&[("a.cedar", header)]);
    assert!(!without.diagnostics.is_empty());
    let with = check(&[("a.cedar", header), ("site.cedarschema", site)]);
    assert_eq!((with.policies, with.diagnostics.as_slice()), (1, [].as_slice()));
    let broken = check(&[("a.cedar", header), ("site.cedarschema", "type SiteHeaders = {")]);
    assert_eq!(
        (&*only(&broken).file, only(&broken).severity),
        ("policies/site.cedarschema", Severity::Error)
    );
}
