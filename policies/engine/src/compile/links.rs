//! Reads `*.links.json`: a list of links, each a template with values for its slots. A link is a policy of its own,
//! with an id of its own; what it says stands in its template.
//!
//! Refuses members it does not know, templates that are not there, and values that do not fill exactly the slots
//! (PC2015); whether the filled policy fits the schema is asked like for any other policy.

use super::{
    draft::{Blank, Values, placed},
    letters::unfit_id,
    notes::policy_id,
    validate::Judge,
};
use crate::{
    Diagnostic, PolicySource,
    rule::{Place, Rule},
    uid::parse_uid,
};
use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use serde_json::{Map, Value};
use std::{ops::Range, sync::Arc};

/// One link as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) id: Arc<str>,
    template: String,
    /// As Cedar writes it.
    principal: Option<String>,
    resource: Option<String>,
    /// Bytes of its object in the file.
    pub(crate) range: Range<usize>,
}

impl Link {
    /// Id of its template.
    pub(crate) fn template(&self) -> &str {
        &self.template
    }
}

/// A link with what it became.
#[derive(Debug, Clone)]
pub(crate) struct Linked {
    pub(crate) link: Link,
    blank: Arc<Blank>,
    pub(crate) rule: Arc<Rule>,
}

/// A template of the set, and where it stands.
pub(crate) type Template<'a> = (&'a Arc<Blank>, Place);

/// The links of a file; findings go to `found`.
pub(crate) fn read(source: &PolicySource, found: &mut Vec<Diagnostic>) -> Vec<Link> {
    let items: Vec<Value> = match serde_json::from_str(&source.text) {
        Ok(items) => items,
        Err(cause) => {
            let at = offset(&source.text, cause.line(), cause.column());
            let message = format!("not a list of links: {cause}");
            let finding = Diagnostic::at("PC2015", &source.file, &source.text, at, 1, message);
            found.push(finding.label("here").help(SHAPE));
            return Vec::new();
        }
    };
    let ranges = objects(&source.text).into_iter().chain(std::iter::repeat(0..0));
    let mut links = Vec::new();
    for (item, range) in items.into_iter().zip(ranges) {
        match link(item, range.clone()) {
            Ok(link) => links.push(link),
            Err(message) => found.push(at(source, &range, "PC2015", message).help(SHAPE)),
        }
    }
    links
}

const SHAPE: &str = r#"write `[{ "template": "team-read", "id": "web-read", "principal": "Workload::\"spiffe://example.org/web\"" }]`"#;

fn link(item: Value, range: Range<usize>) -> Result<Link, String> {
    let Value::Object(mut members) = item else { return Err("a link is an object".to_owned()) };
    let id = text(&mut members, "id")?.ok_or("this link has no `id`")?;
    let template = text(&mut members, "template")?.ok_or("this link has no `template`")?;
    let principal = uid(&mut members, "principal")?;
    let resource = uid(&mut members, "resource")?;
    if let Some(name) = members.keys().next() {
        return Err(format!("a link has no `{name}`"));
    }
    policy_id(&id)?;
    Ok(Link { id: id.into(), template, principal, resource, range })
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

/// Parsed and written again, so that nothing but an entity can get into a policy.
fn uid(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    let Some(text) = text(members, name)? else { return Ok(None) };
    let entity = parse_uid(&text).and_then(|(kind, id)| {
        let kind: EntityTypeName = kind.parse().ok()?;
        Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
    });
    match entity {
        Some(entity) => Ok(Some(entity.to_string())),
        None => {
            Err(format!("`{text}` is not an entity; write it like `Workload::\"spiffe://example.org/web\"`"))
        }
    }
}

/// The rule of `link`. `before` is what the same id became in the snapshot before.
pub(crate) fn resolve(
    source: &PolicySource,
    link: &Link,
    template: Option<&Template<'_>>,
    before: Option<&Linked>,
    judge: &Judge,
) -> Result<Linked, Diagnostic> {
    let refuse = |code, message: String| Err(at(source, &link.range, code, message));
    let Link { id, template: name, principal, resource, .. } = link;
    let Some((blank, place)) = template else {
        let found = refuse("PC2015", format!("link `{id}`: there is no template `{name}`"));
        return found.map_err(|found| {
            found.help("a template is a policy with `?principal` or `?resource` in its scope")
        });
    };
    for (slot, value) in [("principal", principal), ("resource", resource)] {
        match (blank.has(&format!("?{slot}")), value) {
            (true, None) => {
                return refuse("PC2015", format!("link `{id}`: template `{name}` needs a `{slot}`"));
            }
            (false, Some(_)) => {
                return refuse("PC2015", format!("link `{id}`: template `{name}` has no slot `?{slot}`"));
            }
            _ => {}
        }
    }
    if let Some(before) = before
        && Arc::ptr_eq(&before.blank, blank)
        && (&before.link.principal, &before.link.resource) == (principal, resource)
    {
        let rule = placed(&before.rule, place.clone(), source.is_baseline);
        return Ok(Linked { link: link.clone(), blank: Arc::clone(blank), rule });
    }
    let values = Values { principal: principal.as_deref(), resource: resource.as_deref() };
    let rule = match blank.link(id, values, place.clone(), (source.is_baseline, &judge.shared)) {
        Ok(rule) => rule,
        Err(cause) => {
            return refuse("PC2015", format!("link `{id}` of template `{name}` is no policy: {cause}"));
        }
    };
    if let Some((message, help)) = rule.literals().find_map(|uid| unfit_id(uid.id().as_ref())) {
        return refuse("PC2121", format!("link `{id}`: {message}")).map_err(|found| found.help(help));
    }
    match judge.first_error(&rule) {
        Ok(None) => Ok(Linked { link: link.clone(), blank: Arc::clone(blank), rule: Arc::new(rule) }),
        Ok(Some(cause)) => {
            refuse("PC2002", format!("link `{id}` of template `{name}` does not fit the schema: {cause}"))
        }
        Err(cause) => refuse("PC2011", cause),
    }
}

/// At the object of a link: its first line.
pub(crate) fn at(
    source: &PolicySource,
    range: &Range<usize>,
    code: &'static str,
    message: impl Into<String>,
) -> Diagnostic {
    Diagnostic::at(code, &source.file, &source.text, range.start, range.len(), message)
}

/// Ranges of the objects directly within the outermost list. Only for text that is JSON.
fn objects(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth == 2 {
                    start = at;
                }
            }
            b']' | b'}' => {
                if depth == 2 {
                    ranges.push(start..at + 1);
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    ranges
}

/// Offset of a line and column, both from 1, columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before.saturating_add(column.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_where_they_stand() {
        let text = r#"[ {"a": "}\"{", "b": [{}]} ,
            {"c": {}} ]"#;
        let found: Vec<&str> = objects(text).into_iter().map(|range| text.get(range).unwrap()).collect();
        assert_eq!(found, [r#"{"a": "}\"{", "b": [{}]}"#, r#"{"c": {}}"#]);
        assert!(objects("[]").is_empty());
    }
}
