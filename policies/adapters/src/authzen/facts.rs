//! From the context of a question to the facts that policies read. Nothing that the schema requires is made up.

use super::body::{Asked, Entity};
use policies_engine::{Action, OwnedFacts, Reason};
use serde_json::{Map, Value};

/// What a context may say.
const PARTS: [&str; 3] = ["connection", "request", "rpc"];
/// What the schema requires of each part.
const CONNECTION: [&str; 5] = ["mtls", "tls", "source_ip", "listener", "protocol"];
const REQUEST: [&str; 3] = ["method", "host", "path"];

/// The facts, and why they do not suffice, and what of the question was not used.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) facts: OwnedFacts,
    pub(super) refusal: Option<(Reason, String)>,
    pub(super) ignored: Vec<String>,
}

/// `action.properties` and `context` together, where both say something the context.
pub(super) fn read(asked: &Asked, action: Action) -> Read {
    let mut said = Map::new();
    let mut ignored = Vec::new();
    for (prefix, members) in [("action.properties", &asked.action_properties), ("context", &asked.context)] {
        for (name, value) in members {
            if PARTS.contains(&name.as_str()) {
                said.insert(name.clone(), value.clone());
            } else {
                ignored.push(format!("{prefix}.{name}"));
            }
        }
    }
    let properties = |part: &str, entity: &Entity| -> Vec<String> {
        entity.properties.keys().map(|name| format!("{part}.properties.{name}")).collect()
    };
    ignored.extend(properties("subject", &asked.subject));
    ignored.extend(properties("resource", &asked.resource));
    ignored.sort();
    let nothing = OwnedFacts::local("authzen");
    if let Some(fact) = missing(&said, action) {
        let refusal = Some((Reason::ContextIncomplete, format!("`{fact}` is missing")));
        return Read { facts: nothing, refusal, ignored };
    }
    let read = OwnedFacts::from_json(&said);
    let (facts, refusal) = match read {
        Ok(facts) => (named(facts, asked, action), None),
        Err(error) => (nothing, Some((Reason::ContextInvalid, error.to_string()))),
    };
    Read { facts, refusal, ignored }
}

/// The first fact that the schema requires for such an action and that was not said.
fn missing(said: &Map<String, Value>, action: Action) -> Option<String> {
    let has_request = action.is_http() || action == Action::Grpc;
    let request: &[&str] = if has_request { &REQUEST } else { &[] };
    let lacks = |part: &str, members: &[&str]| {
        let known = said.get(part);
        let absent = |member: &&&str| known.is_none_or(|known| known.get(**member).is_none());
        members.iter().find(absent).map(|member| format!("context.{part}.{member}"))
    };
    lacks("connection", &CONNECTION).or_else(|| lacks("request", request))
}

/// A method's service and name are in its id; what the question says of them must not differ from what is judged.
fn named(facts: OwnedFacts, asked: &Asked, action: Action) -> OwnedFacts {
    let id = asked.resource.id.rsplit(':').next().unwrap_or_default();
    match id.rsplit_once('/') {
        Some((service, method)) if action == Action::Grpc => facts.with_rpc(service, method),
        _ => facts,
    }
}
