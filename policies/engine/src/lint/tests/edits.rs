//! Edits that do what they say and change nothing else.

use super::*;
use crate::{
    AccessRequest, Action, ConnectionFacts, Effect, Facts, OwnedFacts, OwnedRequest, Principal, Resource,
};

/// Edits until nothing of `code` is left; compiles in between.
fn fixed(code: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..8 {
        let found: Vec<_> = told(&text).into_iter().filter(|finding| finding.code == code).collect();
        if found.is_empty() {
            return text;
        }
        let (next, count) = apply(FILE, &text, &found);
        assert!(count > 0, "no edit for:\n{}", shown(&found));
        text = next;
    }
    panic!("never clean: {text}")
}

fn effect(text: &str, sni: Option<&str>, tenants: &[&str]) -> Effect {
    let (snapshot, _) = compiled(text).unwrap_or_else(|found| panic!("{text}\n{}", shown(&found)));
    let (action, resource) = (Action::HttpGet, Resource::route("home"));
    let assumed = OwnedFacts::assumed(action, &resource);
    let connection = ConnectionFacts { sni: sni.map(Into::into), ..assumed.connection().clone() };
    let values = tenants.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let headers = (!tenants.is_empty()).then(|| ("x-tenant".to_owned(), values));
    let request = OwnedRequest {
        method: "GET".into(),
        path: "/".into(),
        headers: headers.into_iter().collect(),
        ..OwnedRequest::default()
    };
    let facts = OwnedFacts::new(connection).with_request(request);
    let principal = Principal::workload("spiffe://example.org/web");
    let request = AccessRequest {
        principal: &principal,
        action,
        resource: &resource,
        facts: &facts,
        now: noon(),
        extra: None,
    };
    snapshot.decide(&request).effect
}

#[test]
fn pc2107_the_edit_of_a_permit_grants_what_was_meant_and_nothing_without_the_attribute() {
    let clean =
        fixed("PC2107", &permit("context.connection.mtls && context.connection.sni == \"x\" && true"));
    assert!(
        clean.contains(
            "context.connection.mtls && context.connection has sni && context.connection.sni == \"x\" && true"
        ),
        "{clean}"
    );
    let effects = [Some("x"), Some("y"), None].map(|sni| effect(&clean, sni, &[]));
    assert_eq!(effects, [Effect::Allow, Effect::Deny, Effect::Deny]);
    let deep = fixed("PC2107", &permit("context.jwt.user.email == \"a@b\""));
    assert!(
        deep.contains("context has jwt && context.jwt.user has email && context.jwt.user.email"),
        "{deep}"
    );
    let header = fixed("PC2107", &permit("context.request.headers[\"x-tenant\"] == [\"a\"]"));
    assert!(
        header.contains(
            "context.request.headers has \"x-tenant\" && context.request.headers[\"x-tenant\"] == [\"a\"]"
        ),
        "{header}"
    );
}

#[test]
fn pc2107_the_edit_of_a_forbid_denies_without_the_attribute_as_an_error_does() {
    let open = scope("principal in Group::\"frontends\"", "action in Action::\"http:read\"", "resource")
        .replace("\"a\"", "\"b\"");
    let clean = fixed("PC2107", &format!("{}\n{open}", forbid("context.connection.sni == \"x\"")));
    let effects = [Some("x"), Some("y"), None].map(|sni| effect(&clean, sni, &[]));
    assert_eq!(effects, [Effect::Deny, Effect::Allow, Effect::Deny], "{clean}");
}

#[test]
fn pc2107_no_edit_is_offered_where_it_could_change_what_is_decided() {
    for condition in [
        "context.connection.mtls || context.connection.sni == \"x\"",
        "if context.connection.sni == \"x\" then true else false",
    ] {
        let found = told(&permit(condition));
        assert_eq!((codes(&found), &found[0].fix), (vec!["PC2107"], &None), "{condition}");
    }
    let unless = format!("@id(\"a\")\npermit ({SCOPE})\nunless {{ context.connection.sni == \"x\" }};");
    assert_eq!(told(&unless)[0].fix, None);
}

#[test]
fn pc2116_the_edit_asks_for_the_tag_first() {
    let clean = fixed("PC2116", &forbid("principal is Workload && principal.getTag(\"team\") == \"blue\""));
    assert!(
        clean.contains(
            "(if principal.hasTag(\"team\") then principal.getTag(\"team\") == \"blue\" else true)"
        ),
        "{clean}"
    );
}

#[test]
fn pc2112_the_edit_decides_the_same_for_one_value_and_refuses_a_second() {
    let tenant = "context.request.headers has \"x-tenant\" && context.request.headers[\"x-tenant\"]";
    let before = permit(&format!("{tenant}.contains( \"a\" ) && context.connection.mtls"));
    let clean = fixed("PC2112", &before);
    assert!(clean.contains("headers[\"x-tenant\"] == [\"a\"] && context.connection.mtls"), "{clean}");
    for tenants in [&["a"][..], &["b"], &[]] {
        assert_eq!(effect(&before, None, tenants), effect(&clean, None, tenants), "{tenants:?}");
    }
    assert_eq!(
        (effect(&before, None, &["a", "b"]), effect(&clean, None, &["a", "b"])),
        (Effect::Allow, Effect::Deny)
    );
}

#[test]
fn edits_that_overlap_wait_for_the_next_round() {
    let file = Arc::from("a.cedar");
    let fix = |range, text: &str| Diagnostic::about("PC2107", &file, "").fix(range, text);
    assert_eq!(
        apply("a.cedar", "abcdef", &[fix(3..5, "X"), fix(0..2, "Y"), fix(1..4, "Z")]),
        ("YcXf".to_owned(), 2)
    );
    assert_eq!(apply("a.cedar", "abc", &[fix(2..9, "X")]), ("abc".to_owned(), 0));
    assert_eq!(apply("other", "abc", &[fix(0..1, "X")]), ("abc".to_owned(), 0));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn lint_and_its_edits_take_any_condition(condition in "(context|principal|\\.connection|\\.sni|\\.path|\\.contains\\(|\\)|\\(| == | && | \\|\\| |\"a\"|\\[|\\]| has |!| like |if | then | else |1|é){0,9}") {
        let text = permit(&condition);
        for finding in told(&text) {
            let (edited, _) = apply(FILE, &text, std::slice::from_ref(&finding));
            proptest::prop_assert!(finding.fix.is_none() || edited != text);
        }
    }
}
