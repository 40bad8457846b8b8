//! Walks over a policy in Cedar's JSON form: what its conditions read, and how costly they are to look at.

use serde_json::{Map, Value};

/// Top-level members of the context that a set of conditions reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reads {
    pub(crate) connection: bool,
    pub(crate) request: bool,
    pub(crate) rpc: bool,
    pub(crate) time: bool,
    pub(crate) extra: bool,
}

impl Reads {
    pub(crate) const ALL: Reads =
        Reads { connection: true, request: true, rpc: true, time: true, extra: true };

    /// What `conditions` of a policy read. A context that is used as a whole reads everything.
    pub(crate) fn of(policy: &Value) -> Reads {
        let mut reads = Reads::default();
        if let Some(conditions) = policy.get("conditions") {
            reads.visit(conditions);
        }
        reads
    }

    pub(crate) fn and(self, other: Reads) -> Reads {
        Reads {
            connection: self.connection | other.connection,
            request: self.request | other.request,
            rpc: self.rpc | other.rpc,
            time: self.time | other.time,
            extra: self.extra | other.extra,
        }
    }

    fn visit(&mut self, node: &Value) {
        match node {
            Value::Object(members) => match context_attribute(members) {
                Some("connection") => self.connection = true,
                Some("request") => self.request = true,
                Some("rpc") => self.rpc = true,
                Some("time") => self.time = true,
                Some(_) => self.extra = true,
                None if is_context(node) => *self = Reads::ALL,
                None => members.values().for_each(|value| self.visit(value)),
            },
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            _ => {}
        }
    }
}

/// `X` of `context.X` and `context has X`.
fn context_attribute(members: &Map<String, Value>) -> Option<&str> {
    let access = members.get(".").or_else(|| members.get("has"))?;
    if !access.get("left").is_some_and(is_context) {
        return None;
    }
    match access.get("attr")? {
        Value::String(name) => Some(name),
        // `context has a.b` is written as a list of names.
        Value::Array(path) => path.first()?.as_str(),
        _ => None,
    }
}

fn is_context(node: &Value) -> bool {
    node.get("Var").and_then(Value::as_str) == Some("context")
}

/// Largest number of wildcards in one `like` pattern.
pub(crate) fn wildcards(node: &Value) -> usize {
    match node {
        Value::Object(members) => {
            let pattern = members.get("like").and_then(|like| like.get("pattern")).and_then(Value::as_array);
            let here = pattern
                .map_or(0, |parts| parts.iter().filter(|part| part.as_str() == Some("Wildcard")).count());
            members.values().map(wildcards).fold(here, usize::max)
        }
        Value::Array(items) => items.iter().map(wildcards).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn json(condition: &str) -> Value {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        Policy::parse(None, text).unwrap().to_json().unwrap()
    }

    #[test]
    fn only_what_conditions_read_is_noted() {
        let none = Reads::default();
        assert_eq!(Reads::of(&json("principal == resource")), none);
        assert_eq!(Reads::of(&json("context.connection.mtls")), Reads { connection: true, ..none });
        assert_eq!(Reads::of(&json("context has request")), Reads { request: true, ..none });
        assert_eq!(Reads::of(&json("context has request.path")), Reads { request: true, ..none });
        assert_eq!(
            Reads::of(&json("[context.time.minute].contains(3) || context.rpc.method like \"G*\"")),
            Reads { time: true, rpc: true, ..none }
        );
        assert_eq!(Reads::of(&json("context.change.widens")), Reads { extra: true, ..none });
        assert_eq!(Reads::of(&json("context == {}")), Reads::ALL);
    }

    #[test]
    fn wildcards_are_counted_per_pattern() {
        assert_eq!(
            wildcards(&json(r#"context.request.path like "*a*" || context.request.host like "*""#)),
            2
        );
        assert_eq!(wildcards(&json(r#"context.request.path like "\*""#)), 0);
    }
}
