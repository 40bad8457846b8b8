//! Writes an expression from Cedar's JSON form back as Cedar text, with no more brackets than needed.
//! What this version does not know is shown as JSON rather than guessed.

use crate::uid::format_uid;
use serde_json::{Map, Value};

/// How tightly an expression binds; looser ones get brackets inside tighter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    If,
    Or,
    And,
    Compare,
    Add,
    Multiply,
    Unary,
    Member,
}

/// The expression on one line.
pub(crate) fn to_text(expression: &Value) -> String {
    text(expression, Binds::If)
}

fn text(node: &Value, within: Binds) -> String {
    let (binds, text) = write(node).unwrap_or_else(|| (Binds::Member, node.to_string()));
    if binds < within { format!("({text})") } else { text }
}

fn write(node: &Value) -> Option<(Binds, String)> {
    let members = node.as_object()?;
    let (operator, operand) = members.iter().next().filter(|_| members.len() == 1)?;
    let side = |name: &str, within| operand.get(name).map(|side| text(side, within));
    let binary = |binds: Binds, right: Binds, sign: &str| {
        Some((binds, format!("{} {sign} {}", side("left", binds)?, side("right", right)?)))
    };
    match operator.as_str() {
        "Var" => Some((Binds::Member, operand.as_str()?.to_owned())),
        "Value" => Some((Binds::Member, literal(operand)?)),
        "&&" => binary(Binds::And, Binds::And, "&&"),
        "||" => binary(Binds::Or, Binds::Or, "||"),
        "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" => Some((
            Binds::Compare,
            format!("{} {operator} {}", side("left", Binds::Add)?, side("right", Binds::Add)?),
        )),
        "+" | "-" => binary(Binds::Add, Binds::Multiply, operator),
        "*" => binary(Binds::Multiply, Binds::Unary, operator),
        "!" => Some((Binds::Unary, format!("!{}", side("arg", Binds::Unary)?))),
        "neg" => Some((Binds::Unary, format!("-{}", side("arg", Binds::Unary)?))),
        "contains" | "containsAll" | "containsAny" | "getTag" | "hasTag" => {
            let (of, argument) = (side("left", Binds::Member)?, side("right", Binds::If)?);
            Some((Binds::Member, format!("{of}.{operator}({argument})")))
        }
        "isEmpty" => Some((Binds::Member, format!("{}.isEmpty()", side("arg", Binds::Member)?))),
        "." => {
            let (of, name) = (side("left", Binds::Member)?, operand.get("attr")?.as_str()?);
            let access =
                if is_word(name) { format!("{of}.{name}") } else { format!("{of}[{}]", quoted(name)) };
            Some((Binds::Member, access))
        }
        "has" => Some((
            Binds::Compare,
            format!("{} has {}", side("left", Binds::Add)?, path(operand.get("attr")?)?),
        )),
        "like" => Some((
            Binds::Compare,
            format!("{} like {}", side("left", Binds::Add)?, pattern(operand.get("pattern")?)?),
        )),
        "is" => {
            let within =
                operand.get("in").map(|uids| format!(" in {}", text(uids, Binds::Add))).unwrap_or_default();
            Some((
                Binds::Compare,
                format!("{} is {}{within}", side("left", Binds::Add)?, operand.get("entity_type")?.as_str()?),
            ))
        }
        "if-then-else" => {
            let part = |name: &str| side(name, Binds::If);
            Some((Binds::If, format!("if {} then {} else {}", part("if")?, part("then")?, part("else")?)))
        }
        "Set" => Some((Binds::Member, format!("[{}]", list(operand.as_array()?)))),
        "Record" => Some((Binds::Member, record(operand.as_object()?))),
        function => Some((Binds::Member, call(function, operand.as_array()?))),
    }
}

/// `ip("..")`, or `x.isInRange(y)`: functions that make values stand alone, all others are methods.
fn call(function: &str, arguments: &[Value]) -> String {
    match (function, arguments.split_first()) {
        ("ip" | "decimal" | "datetime" | "duration", _) | (_, None) => {
            format!("{function}({})", list(arguments))
        }
        (_, Some((of, rest))) => format!("{}.{function}({})", text(of, Binds::Member), list(rest)),
    }
}

fn list(items: &[Value]) -> String {
    items.iter().map(to_text).collect::<Vec<_>>().join(", ")
}

fn record(members: &Map<String, Value>) -> String {
    let member = |(name, value): (&String, &Value)| {
        let name = if is_word(name) { name.clone() } else { quoted(name) };
        format!("{name}: {}", to_text(value))
    };
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
}

fn literal(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quoted(text)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => {
            Some(format!("[{}]", items.iter().map(literal).collect::<Option<Vec<_>>>()?.join(", ")))
        }
        Value::Object(members) => {
            let entity = members.get("__entity")?;
            Some(format_uid(entity.get("type")?.as_str()?, entity.get("id")?.as_str()?))
        }
        Value::Null => None,
    }
}

fn path(attribute: &Value) -> Option<String> {
    match attribute {
        Value::String(name) if is_word(name) => Some(name.clone()),
        Value::String(name) => Some(quoted(name)),
        Value::Array(names) => Some(names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(".")),
        _ => None,
    }
}

fn pattern(parts: &Value) -> Option<String> {
    let part = |part: &Value| match part.get("Literal").and_then(Value::as_str) {
        Some(text) => escaped(text).replace('*', "\\*"),
        None => "*".to_owned(),
    };
    Some(format!("\"{}\"", parts.as_array()?.iter().map(part).collect::<String>()))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn is_word(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn body(condition: &str) -> Value {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        let policy = Policy::parse(None, &text).unwrap_or_else(|e| panic!("{condition}: {e:?}"));
        policy.to_json().unwrap().pointer("/conditions/0/body").unwrap().clone()
    }

    #[test]
    fn what_people_write_reads_back_as_they_wrote_it() {
        for text in [
            r#"context.connection.mtls"#,
            r#"context.a == "x" || context.b > 5 && !(context.c < -3)"#,
            r#"(context.a || context.b) && context.c"#,
            r#"context.a + 2 * (context.b - 1) >= 10"#,
            r#"context has request && context.request.path like "/a\*b*""#,
            r#"context has request.path"#,
            r#"context.request.segments["0"] == "shop""#,
            r#"context.request.headers["x-tenant"] == ["a", "b"]"#,
            r#"principal is Workload in Group::"g" && resource in [Method::"a/B", Method::"a/C"]"#,
            r#"context.connection.source_ip.isInRange(ip("10.0.0.0/8"))"#,
            r#"principal.hasTag("team") && principal.getTag("team") == "a\"b""#,
            r#"context.request.query_names.containsAll(["a"]) && !context.x.isEmpty()"#,
            r#"if context.a then context.b else context.c"#,
            r#"{a: 1, "b-c": true} == context"#,
            r#"context.time.now < datetime("2026-01-01")"#,
        ] {
            assert_eq!(to_text(&body(text)), text);
        }
    }

    #[test]
    fn an_unknown_node_is_shown_as_it_is() {
        let node = serde_json::json!({ "future": { "a": 1 } });
        assert_eq!(to_text(&node), node.to_string());
    }
}
