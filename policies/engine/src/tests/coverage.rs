//! What cases show of policies (TE4), and that the shipped cases show all of the shipped policies.

use super::*;

const POLICY: &str = r#"@id("read")
permit (principal in Group::"frontends", action == Action::"grpc", resource is Method)
when { context.connection.mtls && context.connection.tls == 13 }
unless { context.request.path == "/closed" };

@id("plain")
permit (principal, action == Action::"http:GET", resource == Route::"home");
"#;

fn case(mtls: bool, tls: i64, path: &str) -> String {
    format!(
        r#"{{"name":"x","request":{{"principal":"Workload::\"spiffe://example.org/web\"","action":"Action::\"grpc\"","resource":"Method::\"shop.Orders/Get\"",
  "context":{{"connection":{{"mtls":{mtls},"tls":{tls},"source_ip":{{"fn":"ip","arg":"10.0.0.7"}},"listener":"public","protocol":{{"type":"Protocol","id":"grpc"}}}},
   "request":{{"method":"POST","host":"orders","path":"{path}","segments":{{}},"segment_count":0,"params":{{}},"query":{{}},"query_names":[],"headers":{{}}}},
   "time":{{"now":{{"fn":"datetime","arg":"2026-11-22T07:00:00Z"}},"weekday":7,"minute":420}},"rpc":{{"service":"shop.Orders","method":"Get"}}}}}},
  "decision":"deny","reason":[],"num_errors":0}}"#
    )
}

/// Percent, and what is missing, of policy `id` after those cases.
fn covered(id: &str, cases: &[String]) -> (u8, Vec<String>) {
    let snapshot = shop_with(POLICY);
    let mut tally = CoverageTally::default();
    let text = format!("[{}]", cases.join(","));
    run_cases_seen(&snapshot, &text, &|_| Err(String::new()), &mut tally).unwrap();
    let coverage = tally.finish(&snapshot);
    let policy = coverage.policies.into_iter().find(|policy| *policy.id == *id).unwrap();
    (policy.percent(), policy.missing)
}

#[test]
fn te4_a_policy_that_no_case_asks_is_not_covered() {
    let (percent, missing) = covered("read", &[]);
    assert_eq!((percent, missing.len()), (0, 8), "{missing:?}");
    assert_eq!(missing[0], "no case asks a question that its scope matches");
    assert_eq!(covered("plain", &[case(true, 13, "/")]).0, 0);
}

#[test]
fn te4_each_clause_is_seen_true_and_false() {
    let (percent, missing) = covered("read", &[case(true, 13, "/")]);
    assert_eq!(
        missing,
        [
            "never seen false: context.connection.mtls",
            "never seen false: context.connection.tls == 13",
            "never seen false: unless context.request.path == \"/closed\"",
        ]
    );
    assert_eq!(percent, 62, "5 of 8");
    let (percent, missing) = covered("read", &[case(false, 12, "/closed")]);
    assert!(missing.contains(&"no case matches all of its conditions".to_owned()), "{missing:?}");
    assert_eq!(percent, 50, "candidate and three clauses seen false");
    let all = [case(true, 13, "/"), case(false, 13, "/"), case(true, 12, "/"), case(true, 13, "/closed")];
    assert_eq!(covered("read", &all), (100, Vec::new()));
}

#[test]
fn te4_shipped_cases_cover_shipped_policies() {
    let snapshot = snapshot_of(&[], EntitySet::default()).unwrap();
    let mut tally = CoverageTally::default();
    for (_, text) in baseline_cases() {
        run_cases_seen(&snapshot, text, &|file| Err(file.to_owned()), &mut tally).unwrap();
    }
    let coverage = tally.finish(&snapshot);
    let missing: Vec<_> = coverage
        .policies
        .iter()
        .flat_map(|policy| policy.missing.iter().map(move |missing| format!("{}: {missing}", policy.id)))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert_eq!((coverage.percent(), coverage.policies.len() > 5), (100, true));
}
