//! Which facts the conditions of each policy read, by name: `connection.sni`, `request.headers.x-tenant`.
//!
//! Looked up once per candidate. A record as a whole (`context.request.headers == {}`) reads all of its members.

use crate::{Action, Declared, Snapshot, rule::Rule, scope::Lineage, uid::cedar_uid};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, sync::Arc};

/// The facts of a call that its policies read, for each action of traffic: by name, as in a context. The clock is not
/// among them, and neither are facts of entities; a policy in shadow is left out.
#[must_use]
pub fn needs(snapshot: &Snapshot) -> Vec<(Action, BTreeSet<Arc<str>>)> {
    let (needs, parts) = (Needs::of(snapshot), snapshot.parts());
    let of = |action: Action| {
        let uid = cedar_uid(action.entity_type(), action.as_str());
        let up: Vec<_> = parts.entities.ancestors(&uid).into_iter().flatten().cloned().collect();
        let lineage = Lineage::new(uid, up);
        let scope = |need: &&Need| {
            parts.rules.get(need.rule).is_some_and(|rule| lineage.matches_action(&rule.scope.action))
        };
        (action, needs.iter().filter(scope).flat_map(|need| need.facts.iter().cloned()).collect())
    };
    Action::CALLS.iter().map(|action| of(*action)).collect()
}

/// Facts that are one name in every request.
const FIXED: [&str; 16] = [
    "connection.mtls",
    "connection.tls",
    "connection.source_ip",
    "connection.sni",
    "connection.listener",
    "connection.protocol",
    "request.method",
    "request.host",
    "request.path",
    "request.segments",
    "request.segment_count",
    "request.query_names",
    "request.media_type",
    "request.length",
    "rpc.service",
    "rpc.method",
];

/// Rules of a candidate that read facts.
#[derive(Debug)]
pub(super) struct Needs(Vec<Need>);

/// One rule, by its place in the snapshot, and what it reads.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) rule: usize,
    pub(super) facts: BTreeSet<Arc<str>>,
}

impl Needs {
    /// Of every rule that takes part in verdicts.
    pub(super) fn of(snapshot: &Snapshot) -> Needs {
        let declared = &*snapshot.versions().declared;
        let rules = snapshot.parts().rules.iter().enumerate();
        let live = rules.filter(|(_, rule)| !rule.notes.is_shadow && rule.has_conditions());
        let need = |(at, rule): (usize, &Rule)| {
            let mut facts = Reader { declared, facts: BTreeSet::new() };
            match rule.json().get("conditions") {
                Some(conditions) => facts.visit(conditions),
                None => facts.read(&[]),
            }
            Need { rule: at, facts: facts.facts }
        };
        let needs = live.map(|(at, rule)| need((at, rule)));
        Needs(needs.filter(|need| !need.facts.is_empty()).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Need> {
        self.0.iter()
    }
}

struct Reader<'a> {
    declared: &'a Declared,
    facts: BTreeSet<Arc<str>>,
}

impl Reader<'_> {
    fn visit(&mut self, node: &Value) {
        if let Some(path) = path(node) {
            return self.read(&path);
        }
        match node {
            Value::Object(members) => members.values().for_each(|value| self.visit(value)),
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            _ => {}
        }
    }

    /// Notes the facts below a path of the context.
    fn read(&mut self, path: &[&str]) {
        match path {
            [] => ["connection", "request", "rpc", "jwt", "forwarded_by"]
                .iter()
                .for_each(|name| self.read(&[name])),
            ["time", ..] => {}
            ["request"] => {
                ["headers", "query", "params"].iter().for_each(|name| self.read(&["request", name]));
                self.fixed("request.");
            }
            ["connection"] => self.fixed("connection."),
            ["rpc"] => self.fixed("rpc."),
            ["request", map @ ("headers" | "query" | "params")] => {
                let declared = self.declared;
                let names = match *map {
                    "headers" => &declared.headers,
                    "query" => &declared.query,
                    _ => &declared.params,
                };
                for name in names {
                    self.facts.insert(format!("request.{map}.{name}").into());
                }
            }
            ["request", map @ ("headers" | "query" | "params"), name, ..] => {
                self.facts.insert(format!("request.{map}.{name}").into());
            }
            [part @ ("connection" | "request" | "rpc"), name, ..] => {
                self.facts.insert(format!("{part}.{name}").into());
            }
            [other, ..] => {
                self.facts.insert((*other).into());
            }
        }
    }

    fn fixed(&mut self, prefix: &str) {
        let below = FIXED.iter().filter(|name| name.starts_with(prefix));
        self.facts.extend(below.map(|name| Arc::from(*name)));
    }
}

/// `[a, b]` of `context.a.b` and of `context.a has b`; the longest chain that begins with the context.
fn path(node: &Value) -> Option<Vec<&str>> {
    let Value::Object(members) = node else { return None };
    if members.get("Var").and_then(Value::as_str) == Some("context") {
        return Some(Vec::new());
    }
    let access = access(members)?;
    let mut path = path(access.get("left")?)?;
    match access.get("attr")? {
        Value::String(name) => path.push(name),
        // `context has a.b` is written as a list of names.
        Value::Array(names) => path.extend(names.iter().filter_map(Value::as_str)),
        _ => return None,
    }
    Some(path)
}

fn access(members: &Map<String, Value>) -> Option<&Value> {
    members.get(".").or_else(|| members.get("has"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests;

    fn facts(condition: &str) -> Vec<String> {
        let text = format!(
            r#"@id("p") permit (principal, action == Action::"grpc", resource) when {{ {condition} }};"#
        );
        let snapshot = tests::shop_with(&text);
        let needs = Needs::of(&snapshot);
        let rule = *snapshot.parts().by_id.get("p").unwrap();
        let need = needs.iter().find(|need| need.rule == rule);
        need.into_iter().flat_map(|need| &need.facts).map(ToString::to_string).collect()
    }

    #[test]
    fn im2_conditions_say_which_facts_they_read() {
        assert_eq!(facts("principal in TrustDomain::\"example.org\""), [""; 0]);
        assert_eq!(facts("context.time.weekday == 7"), [""; 0]);
        assert_eq!(facts("context.connection.mtls"), ["connection.mtls"]);
        assert_eq!(
            facts("context.connection has sni && context.connection.sni == \"x\""),
            ["connection.sni"]
        );
        assert_eq!(
            facts(
                r#"context.request.headers has "x-tenant" && context.request.headers["x-tenant"].contains("a")"#
            ),
            ["request.headers.x-tenant"]
        );
        assert_eq!(
            facts(r#"context.request.segments has "0" && context.request.segments["0"] == "a""#),
            ["request.segments"]
        );
        assert_eq!(facts("context has jwt && context.jwt.scopes.contains(\"a\")"), ["jwt"]);
        assert_eq!(
            facts("[context.rpc.method].contains(context.request.path)"),
            ["request.path", "rpc.method"]
        );
    }

    #[test]
    fn needs_are_told_for_each_action_that_a_policy_is_about() {
        let text = r#"@id("p") permit (principal, action == Action::"grpc", resource) when { context.connection.mtls };
@id("q") permit (principal, action in Action::"http:read", resource) when { context.request.host == "a" };
@id("r") @mode("shadow") permit (principal, action == Action::"tcp:connect", resource) when { context.connection.tls == 13 };"#;
        let needs = needs(&tests::shop_with(text));
        let of = |action: Action| {
            let found = needs.iter().find(|(of, _)| *of == action).unwrap();
            found.1.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(Action::Grpc), ["connection.mtls"]);
        assert_eq!((of(Action::HttpGet), of(Action::HttpPost)), (vec!["request.host".to_owned()], vec![]));
        assert_eq!(of(Action::TcpConnect), [""; 0]);
    }

    #[test]
    fn im2_a_record_as_a_whole_reads_all_its_members() {
        assert_eq!(facts("context.request.query == context.request.query"), ["request.query.tenant"]);
        assert_eq!(facts("context.rpc == {service: \"a\", method: \"b\"}"), ["rpc.method", "rpc.service"]);
        let all = facts("context.request == context.request");
        assert!(
            all.contains(&"request.headers.user-agent".to_owned())
                && all.contains(&"request.length".to_owned())
        );
    }
}
