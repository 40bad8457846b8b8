//! Templates and their links, end to end through the compiler.

use super::*;

const TEAM: &str = r#"@id("team-call") @owner("shop")
permit (
  principal == ?principal,
  action == Action::"grpc",
  resource in ?resource
) when { context.connection.mtls };
@id("stop") forbid (principal == ?principal, action, resource);
"#;

fn link(id: &str, template: &str, values: &str) -> String {
    format!("{{ \"id\": \"{id}\", \"template\": \"{template}\"{values} }}")
}

const WEB: &str =
    r#", "principal": "Workload::\"spiffe://example.org/web\"", "resource": "RpcService::\"shop.Orders\"""#;
const BILLING: &str = r#", "principal": "Workload::\"spiffe://example.org/billing\"""#;

fn compiled(links: &[String]) -> Result<Snapshot, Vec<Diagnostic>> {
    let links = format!("[\n{}\n]", links.join(",\n"));
    snapshot_of(&[("policies/team.cedar", TEAM), ("policies/team.links.json", &links)], shop())
}

fn refused(links: &[String]) -> String {
    let found = compiled(links).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    let Diagnostic { file, line, code, message, .. } = &found[0];
    format!("{file}:{line} {code} {message}")
}

#[test]
fn a_link_is_a_policy_like_any_other() {
    let snapshot =
        compiled(&[link("web-call", "team-call", WEB), link("no-billing", "stop", BILLING)]).unwrap();
    let call = |who: &str, method: &str| {
        let principal = Principal::workload(&format!("spiffe://example.org/{who}"));
        ask(&snapshot, &principal, Action::Grpc, &Resource::method(method))
    };
    let allowed = call("web", "shop.Orders/Refund");
    assert_eq!((allowed.effect, allowed.determining.join(" ")), (Effect::Allow, "web-call".to_owned()));
    assert_eq!(call("other", "shop.Orders/Get").reason, Reason::NoPermit);
    let stopped = call("billing", "shop.Orders/Get");
    assert_eq!((stopped.reason, stopped.determining.join(" ")), (Reason::Forbid, "no-billing".to_owned()));
    let info = snapshot.policy("web-call").unwrap();
    assert_eq!((&*info.file, info.line), ("policies/team.cedar", 2), "the place is that of the template");
    assert_eq!((info.template.as_deref(), info.owner.as_deref()), (Some("team-call"), Some("shop")));
    assert!(snapshot.policy("team-call").is_none(), "a template alone says nothing");
}

#[test]
fn a_template_that_nothing_links_is_checked_too() {
    let of = |text: &str| snapshot_of(&[("a.cedar", text)], shop());
    assert_eq!(of(TEAM).unwrap().policies().filter(|policy| !policy.is_baseline).count(), 0);
    let found = of(&TEAM.replace("connection", "conection")).unwrap_err();
    assert!(found[0].line == 6 && found[0].message.contains("conection"), "{found:?}");
    assert_eq!(of(&TEAM.replace("== ?principal", "== ?nobody")).unwrap_err()[0].code, "PC2001");
    assert_eq!(
        of("@id(\"a\") permit (principal, action, resource) when { principal == ?principal };").unwrap_err()
            [0]
        .code,
        "PC2001"
    );
}

#[test]
fn pc2015_a_link_that_does_not_fill_its_template_is_refused_where_it_stands() {
    assert_eq!(
        refused(&[link("a", "team-call", WEB), link("b", "nothing", WEB)]),
        "policies/team.links.json:3 PC2015 link `b`: there is no template `nothing`"
    );
    assert!(refused(&[link("a", "team-call", BILLING)]).ends_with("template `team-call` needs a `resource`"));
    assert!(refused(&[link("a", "stop", WEB)]).ends_with("template `stop` has no slot `?resource`"));
    assert!(
        refused(&[link("a", "stop", ", \"principal\": \"nobody\"")]).contains("`nobody` is not an entity")
    );
    assert!(refused(&[link("a", "stop", ", \"princpal\": \"x\"")]).ends_with("a link has no `princpal`"));
    assert!(refused(&[link("A B", "stop", BILLING)]).ends_with("`A B` is not a policy id"));
    assert!(refused(&["{".to_owned()]).contains("PC2015 not a list of links"));
    assert!(refused(&["7".to_owned()]).ends_with("a link is an object"));
    let injected =
        r#", "principal": "Workload::\"x\", action, resource); permit (principal == Workload::\"y\"""#;
    assert!(refused(&[link("a", "stop", injected)]).contains("is not an entity"));
}

#[test]
fn a_link_whose_value_does_not_fit_the_schema_is_refused() {
    let wrong = r#", "principal": "Worklod::\"x\"""#;
    assert!(
        refused(&[link("a", "stop", wrong)])
            .contains("PC2002 link `a` of template `stop` does not fit the schema")
    );
    let hidden = ", \"principal\": \"Workload::\\\"spiffe://example.org/w\u{200b}eb\\\"\"";
    let found = refused(&[link("a", "stop", hidden)]);
    assert!(found.contains("PC2121"), "{found}");
}

#[test]
fn pc2102_links_share_the_ids_of_policies() {
    assert!(
        refused(&[link("a", "stop", BILLING), link("a", "stop", BILLING)])
            .contains(":3 PC2102 `a` is already")
    );
    assert!(refused(&[link("stop", "stop", BILLING)]).contains("PC2102 `stop`"));
    assert!(refused(&[link("role-operator", "stop", BILLING)]).contains("PC2102"));
}
