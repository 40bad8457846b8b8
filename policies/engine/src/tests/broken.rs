//! Broken input: each is refused at the right place with words that help.

use super::*;

/// The findings about one site file, as `line:column code message | label | help`.
fn findings(text: &str) -> Vec<String> {
    match snapshot_of(&[("a.cedar", text)], shop()) {
        Ok(snapshot) => snapshot.warnings().iter().map(told).collect(),
        Err(found) => found.iter().map(told).collect(),
    }
}

fn told(found: &Diagnostic) -> String {
    let Diagnostic { line, column, code, message, label, help, .. } = found;
    format!("{line}:{column} {code} {message} | {label} | {}", help.as_deref().unwrap_or("-"))
}

fn refused(text: &str) -> String {
    let found = findings(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn assert_refused(text: &str, start: &str, parts: &[&str]) {
    let found = refused(text);
    assert!(found.starts_with(start), "{found}");
    for part in parts {
        assert!(found.contains(part), "{found}\nlacks {part}");
    }
}

const P: &str = "permit (principal, action, resource)";

#[test]
fn syntax_errors_keep_cedars_own_place() {
    assert_refused(
        "@id(\"a\")\npermit (principal, action resource);",
        "2:27 PC2001 unexpected token `resource`",
        &["a comma stands between `principal`, `action` and `resource`"],
    );
    assert_refused(
        "@id(\"a\")\npermit (principal, action, resource)",
        "2:37 PC2001 unexpected end of input",
        &[],
    );
    assert_refused("@id(\"a\")\n// why\n\npermt (principal, action, resource);", "4:1 PC2001", &["permt"]);
    assert_refused(
        "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.connection.mtls = true };",
        "3:8 PC2001",
        &["=="],
    );
    assert_refused(
        "@id(\"a\")\npermit (principal, action, resource) when { \"unfinished };",
        "2:45 PC2001",
        &[],
    );
    let swapped = findings("@id(\"a\")\npermit (principal, resource, action);");
    assert!(swapped[0].starts_with("2:20 PC2001 found the variable `resource` where"), "{swapped:?}");
    assert!(
        swapped[1].contains("`principal`, `action`, and `resource` element in that order"),
        "{swapped:?}"
    );
    assert_refused(";", "1:1 PC2001", &[]);
}

#[test]
fn the_place_is_that_of_the_file_not_of_the_policy() {
    let text = format!(
        "@id(\"fine\") {P};\n\n// é\n@id(\"b\") permit (principal, action == Action::\"nope\", resource);"
    );
    assert_refused(&text, "4:39 PC2002", &["nope"]);
}

#[test]
fn type_errors_say_what_was_meant() {
    let of = |scope: &str, condition: &str| format!("@id(\"a\")\npermit ({scope})\nwhen {{ {condition} }};");
    let grpc = "principal is Workload, action == Action::\"grpc\", resource is Method";
    assert_refused(
        "@id(\"a\")\npermit (principal == Worklod::\"x\", action, resource);",
        "2:",
        &["PC2002", "`Worklod`", "did you mean `Workload`?"],
    );
    assert_refused(
        "@id(\"a\")\npermit (principal, action == Action::\"http:GOT\", resource);",
        "2:",
        &["PC2002", "did you mean `Action::\"http:GET\"`?"],
    );
    assert_refused(&of(grpc, "context.conection.mtls"), "3:8 PC2111", &["conection", "connection"]);
    assert_refused(&of(grpc, "context.connection.sni == \"x\""), "3:8 PC2107", &["sni", "has"]);
    assert_refused(&of(grpc, "context.connection.tls == \"13\""), "3:8 PC2002", &["Long", "String"]);
    assert_refused(&of(grpc, "principal.trust_domain == 5"), "3:8 PC2002", &[]);
    assert_refused(&of(grpc, "context.connection.protocol == Protocol::\"grcp\""), "3:", &["PC2002", "grcp"]);
    assert_refused(&of(grpc, "context.change.widens"), "3:8 PC2111", &["change"]);
    assert_refused(&of(grpc, "ip(\"10.0.0.300\").isLoopback()"), "3:", &["PC2002"]);
    assert_refused(
        &of(grpc, "context has jwt && context.jwt.user.email == \"x\""),
        "3:27 PC2107",
        &["email", "has"],
    );
    assert_refused(
        &of(grpc, "Service::\"site\" in Namespace::\"front\""),
        "3:8 PC2002 entity literals cannot be dereferenced",
        &[],
    );
    // Cedar lets this pass as a warning: nothing can match it.
    let found = findings(&of("principal, action == Action::\"grpc\", resource is Route", "true"));
    assert!(found[0].starts_with("2:1 PC2003 no action of this policy goes with"), "{found:?}");
}

#[test]
fn va1_policies_are_read_one_by_one_and_checked_strictly_to_level_1() {
    let of = |id: &str, condition: &str| {
        format!(
            "@id(\"{id}\")\npermit (principal is Workload, action == Action::\"grpc\", resource is Method)\nwhen {{ {condition} }};\n"
        )
    };
    // Cedar's permissive mode lets sets of several types pass, and without a level entities of entities are read.
    assert_refused(&of("a", "[1, \"a\"].contains(context.connection.tls)"), "3:", &["PC2002"]);
    assert_refused(&of("a", "Service::\"site\".name == \"site\""), "3:8 PC2002", &["not loaded"]);
    // A policy that cannot be read hides nothing of the others, and each has its own name.
    let found = findings(&[of("a", "1 +"), of("b", "context.nothing"), of("c", "true")].concat());
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("3:") && found[1].starts_with("6:8 PC2111"), "{found:#?}");
    // The schema is whole or refused.
    let incomplete = with_teams("namespace A { entity Thing in [B::Thing]; }", "").unwrap_err();
    assert!(incomplete.contains("PC2009"), "{incomplete}");
}

#[test]
fn every_finding_is_reported_at_once() {
    let text = format!(
        "@id(\"a\") permit (principal, action == Action::\"x\", resource);\n{P};\n@id(\"c\") permit (;\n@id(\"d\") {P};"
    );
    let found = findings(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("1:") && found[1].starts_with("2:1 PC2101") && found[2].starts_with("3:"),
        "{found:#?}"
    );
}

#[test]
fn an_id_is_required_valid_and_used_once() {
    assert_refused(
        &format!("\n{P};"),
        "2:1 PC2101 this policy has no `@id` | needs an id above | write `@id(",
        &[],
    );
    assert_refused(
        &format!("@id(\"Orders Read\") {P};"),
        "1:1 PC2101 `Orders Read` is not a policy id",
        &["a-z"],
    );
    assert_refused(&format!("@id {P};"), "1:1 PC2101 `@id` has no value", &[]);
    assert_refused(
        &format!("@id(\"twice\") {P};\n\n@owner(\"x\")\n@id(\"twice\") {P};"),
        "4:1 PC2102 `twice` is already the id of another policy | first used at a.cedar:1:1",
        &["choose another"],
    );
    assert_refused(&format!("@id(\"role-operator\") {P};"), "1:1 PC2102", &["baseline/roles.cedar:"]);
}

#[test]
fn va5_annotations_that_are_nearly_reserved_do_not_go_live() {
    let with = |annotation: &str| format!("@id(\"a\")\n{annotation}\n{P};");
    assert_refused(
        &with("@moed(\"shadow\")"),
        "2:1 PC2007 unknown annotation `@moed` | did you mean `@mode`?",
        &[],
    );
    assert_refused(&with("@Audit(\"durable\")"), "2:1 PC2007", &["did you mean `@audit`?"]);
    assert_refused(
        &with("@mode(\"shadw\")"),
        "2:1 PC2007 `shadw` is not a value of `@mode` | did you mean `shadow`?",
        &["`live`"],
    );
    assert_refused(
        &with("@audit(\"always\")"),
        "2:1 PC2007 `always` is not a value of `@audit` |  | values are `durable`",
        &[],
    );
    assert_refused(
        &with("@expires(\"tomorrow\")"),
        "2:1 PC2007 `tomorrow` is not a time",
        &["2027-01-31T00:00:00Z"],
    );
    assert_refused(&with("@owner(\"\")"), "2:1 PC2007 `@owner` is empty", &[]);
    assert_refused(&with(&format!("@advice(\"{}\")", "x".repeat(513))), "2:1 PC2007", &["512"]);
    assert_refused(
        "@id(\"a\") @expires(\"2027-01-31T00:00:00Z\")\nforbid (principal, action, resource);",
        "1:10 PC2008 a forbid cannot expire",
        &[],
    );
    assert_eq!(
        findings(&with("@ticket(\"SEC-12\") @severity(\"high\") @memo(\"free\") @team(\"x\")")),
        Vec::<String>::new()
    );
}

#[test]
fn va4_what_is_too_big_names_the_cap() {
    let condition = |text: &str| format!("@id(\"a\")\n{P}\nwhen {{ {text} }};");
    assert_refused(&"/".repeat(300 << 10), "0:0 PC2010 file has 307200 bytes; at most 262144", &[]);
    assert_refused(
        &condition(&format!("\"{}\" == \"\"", "x".repeat(11 << 10))),
        "2:1 PC2010 policy has",
        &["10240"],
    );
    assert_refused(
        &condition(&format!("{}true{}", "(".repeat(70), ")".repeat(70))),
        "2:1 PC2010 brackets are nested 71 deep; at most 64",
        &[],
    );
    assert_refused(
        &condition(&format!("\"x\" like \"{}\"", "*a".repeat(17))),
        "2:1 PC2010 a pattern has 17 wildcards; at most 16",
        &[],
    );
    let many: String = (0..33).map(|n| format!("@memo{n}(\"x\")\n")).collect();
    assert_refused(&format!("@id(\"a\")\n{many}{P};"), "35:1 PC2010 more than 32 annotations", &[]);
    assert_refused(
        &format!("@id(\"a\")\n@memo(\"{}\")\n{P};", "x".repeat(1025)),
        "2:1 PC2010 annotation `@memo` has 1025 bytes",
        &[],
    );
}

#[test]
fn va2_a_condition_that_can_never_hold_is_a_warning() {
    let found = refused(
        "@id(\"a\")\npermit (principal is User, action == Action::\"grpc\", resource) when { false };",
    );
    assert!(found.contains("PC2003"), "{found}");
}

#[test]
fn a_site_schema_is_checked_against_what_facts_can_be() {
    let with = |site: &str| {
        let schema = SchemaText::with_site("site.cedarschema", site);
        let found = Snapshot::compile(SnapshotInput { schema, ..input(&[], shop()) }).unwrap_err();
        assert_eq!(found.len(), 1, "{found:?}");
        told(&found[0])
    };
    let site = |headers: &str| {
        format!(
            "type SiteHeaders = {{ {headers} }};\ntype SiteQuery = {{}};\ntype SiteParams = {{}};\ntype SiteClaims = {{}};\n"
        )
    };
    let starts = |site: &str, start: &str| {
        let found = with(site);
        assert!(found.starts_with(start), "{found}");
    };
    starts(&site("authorization?: Set<String>"), "1:22 PC2006 `authorization` carries credentials");
    starts(
        &site("\"x-a\": Set<String>"),
        "1:23 PC2009 `x-a` of `SiteHeaders` is not an optional Set<String>",
    );
    starts(&site("\"x-a\"?: String"), "1:23 PC2009 `x-a` of `SiteHeaders` is not an optional Set<String>");
    starts(&site("\"X-A\"?: Set<String>"), "1:23 PC2009 header `X-A` must be written in lower case");
    starts(&(site("") + "entity Workload;\n"), "5:8 PC2005 `Workload` belongs to part 1");
    starts("type SiteHeaders = {};\n", "0:0 PC2009 type `SiteQuery` is missing");
    starts(&(site("") + "entity Thing { size: Lnog };\n"), "5:22 PC2009");
    starts(&(site("") + "entity Thing in;\n"), "5:16 PC2009");
    let own = site("\"x-a\"?: Set<String>") + "namespace Team { entity Thing; }\n";
    let schema = SchemaText::with_site("site.cedarschema", &own);
    let snapshot = Snapshot::compile(SnapshotInput { schema, ..input(&[], shop()) }).unwrap();
    assert!(snapshot.versions().declared.headers.contains("x-a"));
}

/// The schema of the site with the fragments of two teams.
fn with_teams(first: &str, second: &str) -> Result<(), String> {
    let mut schema = SchemaText::default();
    schema.add("policies/a.cedarschema", first);
    schema.add("policies/b.cedarschema", second);
    let found = match compile::schema::build(&schema) {
        Ok(_) => return Ok(()),
        Err(found) => *found,
    };
    Err(format!("{} {}", found.file, told(&found)))
}

#[test]
fn pc2005_a_team_declares_in_its_own_namespaces_and_shadows_nothing() {
    let refused = |text: &str, start: &str| {
        let found = with_teams(text, "namespace B { entity Thing; }").unwrap_err();
        assert!(found.starts_with(start), "{found}");
    };
    assert_eq!(
        with_teams(
            "namespace A { entity Thing in [B::Thing]; type T = { x: Long }; }",
            "namespace B { entity Thing; action go appliesTo { principal: [Workload], resource: [Thing] }; }"
        ),
        Ok(())
    );
    assert_eq!(with_teams("", "namespace A::Deep { entity Thing; }"), Ok(()));
    refused("entity Thing;", "policies/a.cedarschema 1:8 PC2005 `Thing` stands in no namespace");
    refused(
        "namespace Portcullis { entity Thing; }",
        "policies/a.cedarschema 1:31 PC2005 `Thing` stands in namespace `Portcullis`",
    );
    refused("namespace Portcullis::A { entity Thing; }", "policies/a.cedarschema 1:34 PC2005");
    refused(
        "namespace A { entity Workload; }",
        "policies/a.cedarschema 1:22 PC2005 `Workload` belongs to part 1",
    );
    refused(
        "namespace A { type Service = Long; }",
        "policies/a.cedarschema 1:20 PC2005 `Service` belongs to part 1",
    );
    refused("namespace A { action grpc; }", "policies/a.cedarschema 1:22 PC2005 `grpc` belongs to part 1");
    let twice = with_teams("namespace B { entity X; }", "namespace B { entity Thing; }").unwrap_err();
    assert!(
        twice.starts_with(
            "policies/b.cedarschema 1:22 PC2005 namespace `B` belongs to `policies/a.cedarschema`"
        ),
        "{twice}"
    );
    // What does not fit together is shown in the file without which it would.
    let wrong = with_teams("namespace A { entity Thing in [B::Other]; }", "namespace B { entity Thing; }")
        .unwrap_err();
    assert!(
        wrong.starts_with("policies/a.cedarschema ") && wrong.contains("PC2009") && wrong.contains("Other"),
        "{wrong}"
    );
}

#[test]
fn va4_a_set_has_caps_for_policies_bytes_and_entities() {
    let policy = |n: usize| format!("@id(\"{n}\")permit(principal,action,resource);\n");
    let file: String = (0..100).map(policy).collect();
    let many =
        |count: usize| (0..count).map(|n| PolicySource::new(format!("{n}.cedar"), file.clone())).collect();
    let found = |sources: Vec<PolicySource>| {
        let mut found = Vec::new();
        let judge = compile::validate::Judge::new(&SCHEMA.0, &SchemaText::default());
        compile::policies::check(&sources, &[], &judge, &mut found);
        found.into_iter().next().map(|found| found.to_string()).unwrap_or_default()
    };
    let big = "/".repeat(256 << 10);
    let all = (0..257).map(|n| PolicySource::new(format!("{n}.cedar"), big.clone())).collect();
    assert!(found(all).contains("PC2010: 67371008 bytes of policies; at most 67108864"));
    assert!(found(many(2)).contains("PC2102"), "no cap is near");
    let entities = |count: usize| {
        let extra =
            (0..count).map(|n| serde_json::json!({ "uid": { "type": "Group", "id": n.to_string() } }));
        let set = EntitySet { extra: Some(extra.collect()), ..EntitySet::default() };
        snapshot_of(&[], set).unwrap_err()[0].to_string()
    };
    assert!(entities(200_001).contains("PC2010: 200001 entities; at most 200000"));
    let long = EntitySet { extra: Some(serde_json::json!(["x".repeat(64 << 20)])), ..EntitySet::default() };
    assert!(snapshot_of(&[], long).unwrap_err()[0].to_string().contains("bytes; at most 67108864"));
    let hidden = EntitySet {
        extra: Some(
            serde_json::json!([{ "uid": { "type": "Group", "id": "a\u{202e}b" }, "attrs": {}, "parents": [] }]),
        ),
        ..EntitySet::default()
    };
    assert_eq!(snapshot_of(&[], hidden).unwrap_err()[0].code, "PC2121", "VA2");
}

#[test]
fn va4_nesting_without_brackets_counts_too() {
    let nested = (0..70).fold("true".to_owned(), |inner, _| format!("if true then {inner} else false"));
    let found = refused(&format!("@id(\"a\")\n{P} when {{ {nested} }};"));
    assert!(found.starts_with("2:1 PC2010 expressions are nested 71 deep; at most 64"), "{found}");
    let chain = vec!["context has x"; 100].join(" || ");
    assert!(!findings(&format!("@id(\"a\")\n{P} when {{ {chain} }};")).join("").contains("PC2010"));
}

#[test]
fn entities_that_contradict_each_other_or_the_schema_are_refused() {
    let told = |change: &dyn Fn(&mut EntitySet)| {
        let mut set = shop();
        change(&mut set);
        let found = snapshot_of(&[], set).unwrap_err();
        found.iter().map(|found| format!("{} {}", found.code, found.message)).collect::<Vec<_>>().join("\n")
    };
    let twice = told(&|set| set.routes.push(set.routes[0].clone()));
    assert_eq!(twice, "PC2012 `Route::\"home\"` comes from two sources: a route and a route");
    let extra = serde_json::json!([{ "uid": { "type": "Route", "id": "home" }, "attrs": { "service": "x", "name": "home" }, "parents": [] }]);
    let both = told(&|set| set.extra = Some(extra.clone()));
    assert_eq!(both, "PC2012 `Route::\"home\"` comes from two sources: a route and entities.json");
    let shared = told(&|set| {
        set.methods.push(MethodEntity {
            id: "shop.Orders/Cancel".into(),
            service: "site".into(),
            ..MethodEntity::default()
        });
    });
    assert_eq!(shared, "PC2004 services `orders` and `site` both offer `shop.Orders`");
    assert!(
        told(&|set| set.methods[0].id = "nonsense".into()).starts_with("PC2003 `nonsense` is not a method")
    );
    assert!(
        told(&|set| set.workloads[0].id = "web".into())
            .starts_with("PC2003 workload `web` is not a SPIFFE id")
    );
    let wrong =
        serde_json::json!([{ "uid": { "type": "Group", "id": "g" }, "attrs": { "size": 3 }, "parents": [] }]);
    assert!(told(&|set| set.extra = Some(wrong.clone())).contains("size"));
    assert!(told(&|set| set.extra = Some(serde_json::json!({}))).contains("entities.json is not a list"));
    let group =
        serde_json::json!([{ "uid": { "type": "Namespace", "id": "shop" }, "attrs": {}, "parents": [] }]);
    assert!(
        snapshot_of(&[], EntitySet { extra: Some(group), ..shop() }).is_ok(),
        "a described namespace replaces a mentioned one"
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_refused_or_compiled_without_a_panic(text in "(@id\\(\"[a-c]\"\\)|permit|forbid|\\(|\\)|principal|action|resource|,|==|when|\\{|\\}|;|\"|é| |\n){0,24}") {
        let (schema, _) = &*SCHEMA;
        let mut found = Vec::new();
        let judge = compile::validate::Judge::new(schema, &SchemaText::default());
        let files = compile::policies::check(&[PolicySource::new("a.cedar", text)], &[], &judge, &mut found);
        for finding in &found {
            assert!(finding.line > 0 && !finding.to_string().is_empty());
        }
        assert!(files.len() == 1 && files[0].rules().count() < 9);
    }
}
