//! What checks find besides findings of the compiler.

use super::*;
use crate::{
    content::Hash,
    outside::Outside,
    rules::Shipped,
    testing::{READ, STOP, shop},
};

fn content(files: &[(&str, &str)]) -> Content {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), Arc::from(*text))).collect();
    let rules = Rules::new(files, Shipped::here(), None, Outside::default()).unwrap();
    Content { rules, entities: Arc::new(shop()), routes: Hash([0; 32]) }
}

fn checks(files: &[(&str, &str)], before: &[(&str, &str)]) -> Checks {
    let now = UnixTime::from_secs(1_764_000_000);
    let before = content(before);
    let snapshot = compile(&before, Numbers::default(), None, now).map(Arc::new).unwrap();
    let before = Before { snapshot: Some(snapshot), rules: Some(before.rules) };
    inspect(&content(files), Numbers::default(), &before, (Depth::Check, now)).checks
}

/// `baseline/roles.cedar` as it is shipped.
fn roles() -> String {
    let shipped = policies_engine::baseline();
    shipped.iter().find(|source| &*source.file == "baseline/roles.cedar").unwrap().text.to_string()
}

#[test]
fn ps2_a_permit_widens_and_a_forbid_does_not() {
    let wider = checks(&[("a.cedar", READ)], &[]);
    assert!(wider.summary.widens && wider.summary.passed && !wider.summary.touches_baseline, "{wider:?}");
    assert!(!wider.difference.unwrap().policies.is_empty());
    let tighter = checks(&[("a.cedar", READ), ("b.cedar", STOP)], &[("a.cedar", READ)]);
    assert!(!tighter.summary.widens, "{tighter:?}");
    let same = checks(&[("a.cedar", READ)], &[("a.cedar", READ)]);
    assert!(!same.summary.widens && same.difference.unwrap().is_empty());
}

#[test]
fn ps2_replacing_a_shipped_file_touches_the_baseline_even_when_only_its_comments_differ() {
    let ours = format!("// ours\n{}", roles());
    let touched = checks(&[("baseline/roles.cedar", &ours)], &[]);
    assert!(touched.summary.passed && touched.summary.touches_baseline, "{touched:?}");
    let kept =
        checks(&[("baseline/roles.cedar", &ours), ("a.cedar", READ)], &[("baseline/roles.cedar", &ours)]);
    assert!(!kept.summary.touches_baseline, "it was replaced before");
    assert!(
        checks(&[], &[("baseline/roles.cedar", &ours)]).summary.touches_baseline,
        "going back touches it too"
    );
}

#[test]
fn ps2_who_would_lock_every_operator_out_is_refused_with_what_would_be_lost() {
    let without = roles().replace("Portcullis::Role::\"operator\"", "Portcullis::Role::\"viewer\"");
    let forbid = "@id(\"freeze\")\n@owner(\"ops\")\nforbid (principal, action == Portcullis::Action::\"policy:rollback\", resource);";
    for (files, lost) in [
        ([("baseline/roles.cedar", without.as_str())], "policy:draft"),
        ([("a.cedar", forbid)], "policy:rollback"),
    ] {
        let checks = checks(&files, &[]);
        let [found] = &checks.diagnostics[..] else { panic!("{checks:?}") };
        assert_eq!((found.code, checks.summary.errors, checks.summary.passed), ("PC2031", 1, false));
        assert!(found.message.contains("operator") && found.message.contains(lost), "{found}");
    }
    let partly = forbid.replace("principal,", "principal is Workload,");
    assert!(checks(&[("a.cedar", &partly)], &[]).summary.passed, "workloads may be kept out");
}

#[test]
fn st6_cases_are_part_of_a_check_and_one_that_fails_blocks() {
    let case = |decision: &str, entities: &str| {
        format!(
            r#"[{{"name":"web gets","request":{{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"grpc\"","resource":"Method::\"shop.Orders/Get\"",
  "context":{{"connection":{{"mtls":true,"tls":13,"source_ip":{{"fn":"ip","arg":"10.0.0.7"}},"listener":"public","protocol":{{"type":"Protocol","id":"grpc"}}}},
   "request":{{"method":"POST","host":"orders","path":"/shop.Orders/Get","segments":{{"0":"shop.Orders","1":"Get"}},"segment_count":2,"params":{{}},"query":{{}},"query_names":[],"headers":{{}}}},
   "time":{{"now":{{"fn":"datetime","arg":"2026-11-22T07:00:00Z"}},"weekday":7,"minute":420}},"rpc":{{"service":"shop.Orders","method":"Get"}}}}}},
  "entities":{entities},"decision":"{decision}","reason":[],"num_errors":0}}]"#
        )
    };
    let with = |text: &str| checks(&[("a.cedar", READ), ("a_test.json", text), ("more.json", "[]")], &[]);
    let good = with(&case("allow", "\"more.json\""));
    assert_eq!((good.summary.passed, good.summary.tests, good.summary.failed), (true, 1, 0), "{good:?}");
    for (text, why) in [(case("deny", "[]"), "fails"), (case("allow", "\"none.json\""), "none.json")] {
        let bad = with(&text);
        assert_eq!((bad.summary.passed, bad.summary.tests, bad.summary.failed), (false, 1, 1));
        let found = bad.diagnostics.iter().find(|found| found.code == "PC2030").unwrap();
        assert_eq!(&*found.file, "policies/a_test.json");
        assert!(found.message.contains("`web gets`") && found.message.contains(why), "{found}");
    }
    assert!(!with("{}").summary.passed, "what is no list of cases blocks");
}
