//! A random installation: what the site declares, and entities of which much is absent.

use crate::{support::dice::Dice, words};
use policies_engine::{
    EntitySet, MethodEntity, Role, RouteEntity, SchemaText, ServiceEntity, TeamSchema, WorkloadEntity,
};
use serde_json::{Value, json};

/// Names of the site's part of the schema.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) headers: Vec<&'static str>,
    pub(crate) query: Vec<&'static str>,
    pub(crate) params: Vec<&'static str>,
    pub(crate) claims: Vec<&'static str>,
    pub(crate) schema: SchemaText,
}

impl Site {
    /// What is shipped.
    pub(crate) fn shipped() -> Site {
        Site {
            headers: vec!["user-agent", "origin", "x-tenant"],
            query: vec!["tenant"],
            params: vec!["id"],
            claims: vec!["department"],
            schema: SchemaText::default(),
        }
    }

    /// Another site's, with types and actions in a namespace of its own beside.
    pub(crate) fn random(dice: &mut Dice) -> Site {
        let mut some = |names: &[&'static str]| -> Vec<&'static str> {
            names.iter().copied().filter(|_| dice.below(2) == 0).collect()
        };
        let headers = some(&["user-agent", "origin", "x-tenant", "x~z", "accept", "x.y", "has", "x_under"]);
        let query = some(&["tenant", "q", "page size", "a.b", "in", "__x"]);
        let params = some(&["id", "name", "order-id", "if", "Id"]);
        let claims = some(&["department", "team", "a.b", "if"]);
        let record = |names: &[&str], kind: &str| {
            let members: Vec<String> = names.iter().map(|name| format!("\"{name}\"?: {kind}")).collect();
            format!("{{ {} }}", members.join(", "))
        };
        let text = format!(
            "type SiteHeaders = {};\ntype SiteQuery = {};\ntype SiteParams = {};\ntype SiteClaims = {};\n",
            record(&headers, "Set<String>"),
            record(&query, "Set<String>"),
            record(&params, "String"),
            record(&claims, "Set<String>")
        );
        let mut schema = SchemaText::with_site("site.cedarschema", &text);
        for name in ["Team", "Other::Team"].into_iter().filter(|_| dice.below(2) == 0) {
            let text = format!(
                "namespace {name} {{ entity Board in [Board] {{ size?: Long }} tags Long;
                 action look appliesTo {{ principal: [Workload], resource: [Board], context: {{ at: datetime }} }}; }}"
            );
            schema.teams.push(TeamSchema { file: format!("{name}.cedarschema").into(), text: text.into() });
        }
        Site { headers, query, params, claims, schema }
    }
}

fn maybe<T>(dice: &mut Dice, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
    (dice.below(2) == 0).then(|| value(dice))
}

fn one_of(dice: &mut Dice, from: &[&str]) -> String {
    from[dice.below(from.len())].to_owned()
}

fn some(dice: &mut Dice, from: &[&str]) -> Vec<String> {
    from.iter().filter(|_| dice.below(3) == 0).map(|name| (*name).to_owned()).collect()
}

fn labels(dice: &mut Dice) -> Vec<(String, String)> {
    let names = some(dice, &["team", "tier", "public"]);
    names.into_iter().map(|name| (name, words::text(dice).to_owned())).collect()
}

const GROUPS: [&str; 3] = ["frontends", "money", "all"];

fn workload(dice: &mut Dice, id: &str) -> WorkloadEntity {
    WorkloadEntity {
        id: format!("spiffe://{id}"),
        namespace: maybe(dice, |dice| one_of(dice, &["shop", "back"])),
        groups: some(dice, &GROUPS),
        attested_by: some(dice, &["unix", "join_token", "k8s_psat"]),
        labels: labels(dice),
        roles: if dice.below(5) == 0 { vec![Role::ALL[dice.below(Role::ALL.len())]] } else { Vec::new() },
    }
}

/// Entities of the configuration, the registry and `entities.json`.
pub(crate) fn entities(dice: &mut Dice) -> EntitySet {
    let services = ["orders", "site", "db"].map(|name| ServiceEntity {
        name: name.to_owned(),
        namespace: maybe(dice, |dice| one_of(dice, &["shop", "front"])),
        owner: maybe(dice, |dice| words::text(dice).to_owned()),
        sensitivity: maybe(dice, level),
        groups: some(dice, &GROUPS),
        labels: labels(dice),
    });
    let methods =
        [("shop.Orders/Get", "orders"), ("shop.Orders/Refund", "orders"), ("eu:shop.Orders/Get", "db")].map(
            |(id, service)| MethodEntity {
                id: id.to_owned(),
                service: service.to_owned(),
                read_only: maybe(dice, |dice| dice.below(2) == 0),
                sensitivity: maybe(dice, level),
            },
        );
    let routes = [("home", "site"), ("admin", "site"), ("static", "db")].map(|(name, service)| RouteEntity {
        name: name.to_owned(),
        service: service.to_owned(),
        sensitivity: maybe(dice, level),
    });
    let workloads =
        ["example.org/web", "example.org/api", "example.org/batch/nightly", "other.org/web", "example.org"];
    let workloads: Vec<&str> = workloads.into_iter().filter(|_| dice.below(4) > 0).collect();
    let workloads: Vec<_> = workloads.into_iter().map(|id| workload(dice, id)).collect();
    EntitySet {
        trust_domain: maybe(dice, |_| "example.org".to_owned()),
        workloads,
        services: services.into(),
        methods: methods.into(),
        routes: routes.into(),
        extra: maybe(dice, extra),
    }
}

fn level(dice: &mut Dice) -> i64 {
    [0, 1, 2, 3, i64::MAX, -1][dice.below(6)]
}

/// Groups within groups, namespaces of other domains, people, targets with tags.
fn extra(dice: &mut Dice) -> Value {
    let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let mut all = Vec::new();
    let mut add = |kind: &str, id: &str, attrs: Value, parents: Vec<Value>, tags: Value| {
        let is_tagged = tags.as_object().is_some_and(|tags| !tags.is_empty());
        let mut entity = json!({ "uid": uid(kind, id), "attrs": attrs, "parents": parents });
        if is_tagged {
            entity["tags"] = tags;
        }
        all.push(entity);
    };
    let none = || json!({});
    // Each group only within later ones, so that nothing is within itself.
    let groups = ["frontends", "money", "all", "empty"];
    for (at, group) in groups.iter().enumerate() {
        let mut parents: Vec<Value> =
            groups[at + 1..].iter().filter(|_| dice.below(3) == 0).map(|over| uid("Group", over)).collect();
        parents.extend(maybe(dice, |_| uid("Namespace", "back")));
        parents.extend((dice.below(4) == 0).then(|| uid("TrustDomain", "other.org")));
        parents.extend((dice.below(4) == 0).then(|| uid("Portcullis::Role", "auditor")));
        add("Group", group, none(), parents, none());
    }
    if dice.below(2) == 0 {
        add(
            "Namespace",
            "back",
            none(),
            maybe(dice, |_| uid("TrustDomain", "other.org")).into_iter().collect(),
            none(),
        );
    }
    if dice.below(2) == 0 {
        let mut attrs = json!({ "issuer": "corp", "subject": "alice" });
        if dice.below(2) == 0 {
            attrs["email"] = json!(words::text(dice));
        }
        let parents = vec![uid("UserGroup", "corp/staff"), uid("Portcullis::Role", "author")];
        let tags = json!({ "team": [words::text(dice), words::text(dice)], "tier": [words::text(dice)] });
        add("User", "corp/alice", attrs, parents, tags);
        add(
            "UserGroup",
            "corp/staff",
            none(),
            maybe(dice, |_| uid("Portcullis::Role", "viewer")).into_iter().collect(),
            none(),
        );
    }
    if dice.below(2) == 0 {
        let attrs = json!({ "trust_domain": "example.org", "path": "/placed", "application": words::text(dice), "unit": "u1" });
        add(
            "Workload",
            "spiffe://example.org/placed",
            attrs,
            vec![uid("Group", "frontends")],
            json!({ "team": "blue" }),
        );
    }
    if dice.below(2) == 0 {
        add(
            "Portcullis::LocalUser",
            "4711",
            json!({ "uid": 4711 }),
            vec![uid("Portcullis::Role", "operator")],
            none(),
        );
        add(
            "Portcullis::Enforcer",
            "spiffe://example.org/gw",
            none(),
            vec![uid("Namespace", "back")],
            none(),
        );
        let attrs = json!({ "service": "site", "name": "tagged" });
        add(
            "Route",
            "tagged",
            attrs,
            vec![uid("Service", "site")],
            json!({ "team": words::text(dice), "public": "a" }),
        );
        let attrs =
            json!({ "service": "orders", "rpc_service": "shop.Tagged", "name": "Get", "read_only": true });
        add(
            "Method",
            "shop.Tagged/Get",
            attrs,
            vec![uid("RpcService", "shop.Orders")],
            json!({ "tier": words::text(dice) }),
        );
    }
    all.into()
}
