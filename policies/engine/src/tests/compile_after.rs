//! A snapshot after another one is the snapshot that its input alone would give, whatever came before.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

const TEMPLATE: &str =
    "@id(\"blank\") permit (principal == ?principal, action == Action::\"grpc\", resource);";

/// Policies that files are made of; the last ones are wrong, or draw a warning.
const TEXTS: [&str; 14] = [
    "@id(\"a\") permit (principal, action == Action::\"grpc\", resource);",
    "@id(\"b\") forbid (principal, action, resource == Route::\"home\");",
    "@id(\"c\") permit (principal is Workload, action in Action::\"http\", resource) when { context.connection.mtls };",
    "@id(\"a\") permit (principal, action == Action::\"http:GET\", resource);",
    "// nothing\n",
    TEMPLATE,
    "@id(\"d\") @owner(\"x\") permit (principal == Workload::\"spiffe://example.org/web\", action, resource) unless { context.time.weekday == 7 };",
    "@id(\"e\") @mode(\"shadow\") forbid (principal, action == Action::\"tcp:connect\", resource);",
    "\n\n@id(\"f\") permit (principal in Group::\"money\", action, resource in Service::\"orders\");",
    "@id(\"w\") permit (principal is User, action == Action::\"grpc\", resource) when { false };",
    "@id(\"v\")\npermit (principal is User, action == Action::\"grpc\", resource) when { false };",
    "@id(\"x\") permit (principal, action == Action::\"nope\", resource);",
    "@id(\"y\") permit (principal, action == Action::\"nope\", resource);",
    "permit (principal",
];

const LINKS: [&str; 4] = [
    "[]",
    r#"[{ "id": "l1", "template": "blank", "principal": "Workload::\"spiffe://example.org/web\"" }]"#,
    "[\n",
    r#"[{ "id": "l1", "template": "blank", "principal": "Workload::\"spiffe://example.org/billing\"" }, { "id": "l2", "template": "blank", "principal": "Group::\"money\"" }]"#,
];

/// One state of a directory: files of picked texts, links, a service more, a schema.
#[derive(Debug, Clone)]
struct State {
    files: Vec<Vec<usize>>,
    links: usize,
    sensitivity: Option<i64>,
    /// One bit for each thing that is otherwise about workloads and routes.
    moved: u8,
    has_team: bool,
}

fn state() -> impl Strategy<Value = State> {
    // Mostly of the good ones.
    let text = prop_oneof![12 => 0_usize..11, 1 => 11_usize..14];
    let file = prop::collection::vec(text, 0..4);
    (
        prop::collection::vec(file, 0..4),
        prop_oneof![Just(0_usize), Just(1), Just(3), Just(2)],
        prop_oneof![3 => Just(None), 1 => prop::option::of(0_i64..2)],
        prop_oneof![8 => 0_u8..32, 1 => 0_u8..128],
        prop::bool::weighted(0.02),
    )
        .prop_map(|(files, links, sensitivity, moved, has_team)| State {
            files,
            links,
            sensitivity,
            moved,
            has_team,
        })
}

fn move_some(entities: &mut EntitySet, moved: u8) {
    let workload = |name: &str, namespace: Option<&str>| WorkloadEntity {
        id: format!("spiffe://example.org/{name}"),
        namespace: namespace.map(str::to_owned),
        ..WorkloadEntity::default()
    };
    let has = |bit: u8| moved & 1 << bit != 0;
    if has(0) {
        entities.workloads.pop();
    }
    if has(1) {
        entities.workloads.iter_mut().take(1).for_each(|known| known.groups.push("money".to_owned()));
    }
    if has(2) {
        entities.workloads.insert(0, workload("other", None));
    }
    if has(3) {
        entities.workloads.push(workload("new", Some("elsewhere")));
    }
    if has(4) {
        let (name, service) = ("back".to_owned(), "orders".to_owned());
        entities.routes.push(RouteEntity { name, service, sensitivity: None });
    }
    // Those are wrong.
    if has(5) {
        entities.workloads.push(workload("other", None));
    }
    if has(6) {
        entities.workloads.push(workload("caf\u{65}\u{301}", None));
    }
}

fn input_of(state: &State) -> SnapshotInput {
    let mut entities = shop();
    entities.services[0].sensitivity = state.sensitivity;
    move_some(&mut entities, state.moved);
    let file = |(at, picks): (usize, &Vec<usize>)| {
        let text: String = picks.iter().map(|pick| TEXTS[*pick]).collect::<Vec<_>>().join(" ");
        PolicySource::new(format!("{at}.cedar"), text)
    };
    let mut policies: Vec<PolicySource> = state.files.iter().enumerate().map(file).collect();
    policies.push(PolicySource::new("0.links.json", LINKS[state.links]));
    let mut schema = SchemaText::default();
    if state.has_team {
        schema.teams.push(TeamSchema {
            file: "team.cedarschema".into(),
            text: "namespace Team { entity Thing; }".into(),
        });
    }
    SnapshotInput { policies, entities: entities.into(), schema, ..input(&[], EntitySet::default()) }
}

/// Everything that can be seen of a compilation.
fn seen(compiled: &Result<Snapshot, Vec<Diagnostic>>) -> String {
    match compiled {
        Err(found) => format!("{found:#?}"),
        Ok(snapshot) => {
            let parts = snapshot.parts();
            let rule = |rule: &Arc<rule::Rule>| {
                format!(
                    "{} {:?} {:?} {} {:?} {:?} {:?} {:?}",
                    rule.text,
                    rule.scope,
                    rule.place,
                    rule.is_baseline,
                    rule.notes,
                    rule.template,
                    rule.logic,
                    rule.conditions
                )
            };
            let rules: Vec<String> = parts.rules.iter().map(rule).collect();
            let mut ids: Vec<_> = parts.by_id.iter().collect();
            ids.sort();
            format!("{rules:#?}\n{ids:?}\n{:?}\n{:#?}", snapshot.versions(), snapshot.warnings())
        }
    }
}

fn answers(snapshot: &Snapshot) -> Vec<Decision> {
    let resources = [
        (Action::Grpc, Resource::method("shop.Orders/Get")),
        (Action::HttpGet, Resource::route("home")),
        (Action::TcpConnect, Resource::service_named("orders")),
    ];
    let callers = [
        web(),
        Principal::workload("spiffe://example.org/billing"),
        Principal::workload("spiffe://example.org/other"),
    ];
    callers
        .iter()
        .flat_map(|who| resources.iter().map(|(action, resource)| ask(snapshot, who, *action, resource)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn en12_a_snapshot_after_another_is_the_one_its_input_alone_would_give(states in prop::collection::vec(state(), 2..6)) {
        let mut before: Option<Arc<Snapshot>> = None;
        for state in &states {
            let alone = alone(state);
            let after = match &before {
                Some(before) => Snapshot::compile_after(Some(before), input_of(state)),
                None => self::alone(state),
            };
            prop_assert_eq!(seen(&after), seen(&alone));
            if let (Ok(after), Ok(alone)) = (after, alone) {
                prop_assert!(after.parts().entities.deep_eq(&alone.parts().entities));
                prop_assert_eq!(&after.parts().named, &alone.parts().named);
                prop_assert!(after.parts().index.is_like(&alone.parts().index));
                prop_assert_eq!(answers(&after), answers(&alone));
                before = Some(after.into());
            }
        }
    }
}

/// A file that strings, comments and warnings make hard to cut.
fn long_file() -> String {
    let policy = |n: usize| {
        format!(
            "// é; {n}\n@id(\"p{n}\") @advice(\"see \\\"a;b\\\" // {n}\")\npermit (principal == Workload::\"w{n}\", action == Action::\"grpc\", resource)\nwhen {{ context.connection.mtls }}; // ; end\n"
        )
    };
    let all: Vec<String> = (0..4).map(policy).collect();
    format!("{}{}{}", all.concat(), TEXTS[9], (4..8).map(policy).collect::<String>())
}

/// What is written in place of something else.
const SNIPPETS: [&str; 12] = [
    "",
    ";",
    "\"",
    "//",
    "\n",
    "\r",
    "// é\n\n",
    "(",
    "x",
    "@id(\"z\") permit (principal, action == Action::\"grpc\", resource);",
    "\n@id(\"y\")\nforbid (principal, action, resource) when { context.request.path == \";\" };\n",
    TEMPLATE,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn en12_a_file_that_is_edited_is_read_as_if_it_was_new(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..300, 0..SNIPPETS.len(), prop::bool::ANY), 1..8)
    ) {
        let (schema, declared) = &*SCHEMA;
        let mut text = long_file();
        let mut before = Arc::new(compiled(input(&[("a.cedar", &text)], shop())).unwrap());
        for (at, length, snippet, is_whole) in edits {
            let place = |mut at: usize| {
                while !text.is_char_boundary(at) {
                    at += 1;
                }
                // Many edits are of whole lines, so that most of what they leave is policies.
                let line = |at| text.get(at..).and_then(|rest| rest.find('\n')).map(|length| at + length + 1);
                if is_whole { line(at).unwrap_or(text.len()) } else { at }
            };
            let start = at.index(text.len() + 1);
            let (start, end) = (place(start), place(text.len().min(start + length)));
            let mut edited = text.clone();
            edited.replace_range(start..end, SNIPPETS[snippet]);
            let next = || input(&[("a.cedar", &edited)], shop());
            let alone = compile::with_schema(schema.clone(), declared.clone(), next());
            let after = Snapshot::compile_after(Some(&before), next());
            prop_assert_eq!(seen(&after), seen(&alone));
            if let Ok(after) = after {
                (before, text) = (Arc::new(after), edited);
            }
        }
    }
}

/// Without one before; builds the schema only where it is not the shipped one.
fn alone(state: &State) -> Result<Snapshot, Vec<Diagnostic>> {
    let (schema, declared) = &*SCHEMA;
    match state.has_team {
        true => Snapshot::compile(input_of(state)),
        false => compile::with_schema(schema.clone(), declared.clone(), input_of(state)),
    }
}

/// How many rules of `after` are the very ones of `before`.
fn shared(before: &Snapshot, after: &Snapshot) -> usize {
    let of = |rule: &Arc<rule::Rule>| before.parts().rules.iter().any(|old| Arc::ptr_eq(old, rule));
    after.parts().rules.iter().filter(|rule| of(rule)).count()
}

#[test]
fn en12_what_did_not_change_is_taken_over() {
    let state = State {
        files: vec![vec![0, 1], vec![2, 6], vec![5]],
        links: 1,
        sensitivity: None,
        moved: 0,
        has_team: false,
    };
    let before = Arc::new(Snapshot::compile(input_of(&state)).unwrap());
    let again = Snapshot::compile_after(Some(&before), input_of(&state)).unwrap();
    assert_eq!(shared(&before, &again), before.policy_count());
    assert!(Arc::ptr_eq(&before.parts().index, &again.parts().index));
    assert!(Arc::ptr_eq(&before.parts().entities, &again.parts().entities));
    let changed = State { files: vec![vec![0, 8], vec![2, 6], vec![5]], ..state.clone() };
    let after = Snapshot::compile_after(Some(&before), input_of(&changed)).unwrap();
    assert_eq!(
        shared(&before, &after),
        before.policy_count() - 1,
        "one text is new, even within a changed file"
    );
    let moved = State { files: vec![vec![4, 0, 1], vec![2, 6], vec![5]], ..state.clone() };
    let after = Snapshot::compile_after(Some(&before), input_of(&moved)).unwrap();
    let scope = |snapshot: &Snapshot| Arc::clone(&snapshot.rule("a").unwrap().scope);
    assert!(Arc::ptr_eq(&scope(&before), &scope(&after)), "moved, not read again");
    assert_eq!((before.policy("a").unwrap().line, after.policy("a").unwrap().line), (1, 2));
    let told = State { sensitivity: Some(1), ..state };
    let after = Snapshot::compile_after(Some(&before), input_of(&told)).unwrap();
    assert_eq!(shared(&before, &after), before.policy_count(), "entities alone change no rule");
    assert!(!Arc::ptr_eq(&before.parts().entities, &after.parts().entities));
}

#[test]
fn policies_that_write_the_same_hold_it_once_also_across_snapshots() {
    let policy = |id: &str, who: &str, when: &str| {
        format!(
            "@id(\"{id}\")\npermit (principal == Workload::\"{who}\", action == Action::\"grpc\", resource)\nwhen {{ {when} }};\n"
        )
    };
    let one = policy("a", "x", "context.connection.mtls") + &policy("b", "y", "context.connection.mtls");
    let before = Arc::new(compiled(input(&[("a.cedar", &one)], shop())).unwrap());
    let more =
        policy("c", "x", "context.connection.mtls") + &policy("d", "x", "principal == Workload::\"z\"");
    let next = input(&[("a.cedar", &one), ("b.cedar", &more)], shop());
    let after = Snapshot::compile_after(Some(&before), next).unwrap();
    let of = |snapshot: &Snapshot, id: &str| snapshot.rule(id).unwrap().clone();
    let (a, b, c, d) = (of(&before, "a"), of(&before, "b"), of(&after, "c"), of(&after, "d"));
    let is_one = |one: &rule::Rule, other: &rule::Rule| {
        Arc::ptr_eq(one.conditions.as_ref().unwrap(), other.conditions.as_ref().unwrap())
    };
    assert!(is_one(&a, &b) && is_one(&a, &c) && !is_one(&a, &d));
    assert!(Arc::ptr_eq(&a.scope.principal, &c.scope.principal) && a.scope.principal != b.scope.principal);
    assert!(Arc::ptr_eq(&a.scope.action, &d.scope.action) && Arc::ptr_eq(&a.notes, &d.notes));
    let named = |rule: &rule::Rule| rule.literals().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(named(&d), ["Workload::\"x\"", "Action::\"grpc\"", "Workload::\"z\""]);
}

#[test]
fn a_baseline_file_that_becomes_one_of_the_site_is_no_longer_baseline() {
    let source = |is_baseline| PolicySource { is_baseline, ..PolicySource::new("a.cedar", TEXTS[0]) };
    let of = |is_baseline| SnapshotInput { policies: vec![source(is_baseline)], ..input(&[], shop()) };
    let before = Arc::new(Snapshot::compile(of(true)).unwrap());
    let after = Snapshot::compile_after(Some(&before), of(false)).unwrap();
    assert!(before.is_baseline("a") && !after.is_baseline("a"));
}

#[test]
fn en12_a_few_workloads_and_routes_change_without_the_rest_being_built_anew() {
    let set = |moved: u8| {
        let mut entities = shop();
        move_some(&mut entities, moved);
        SnapshotInput { entities: entities.into(), ..input(&[], EntitySet::default()) }
    };
    let first = Arc::new(compiled(set(0)).unwrap());
    let mut before = Arc::clone(&first);
    for moved in [1, 2, 4, 16, 23, 0, 20] {
        let after = Arc::new(Snapshot::compile_after(Some(&before), set(moved)).unwrap());
        let (old, new) = (&first.parts().entities, &after.parts().entities);
        assert!(new.is_of(old), "{moved}");
        assert!(new.deep_eq(&compiled(set(moved)).unwrap().parts().entities), "{moved}");
        before = after;
    }
    let after = Snapshot::compile_after(Some(&before), set(8)).unwrap();
    assert!(!after.parts().entities.is_of(&first.parts().entities), "a namespace that nothing named before");
}
