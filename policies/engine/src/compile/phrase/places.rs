//! Where in the text of a policy Cedar's words point: names in backticks, marks, and the access a message is about.

use crate::{Diagnostic, compile::text::tokens};

/// Cedar gives names in scopes no place of their own: looks for the name on the line of the effect.
pub(super) fn at_name(found: Diagnostic) -> Diagnostic {
    let name = quoted(&found.message).map(|name| name.trim_matches('"')).unwrap_or_default();
    match found.source_line.split_once(name).filter(|_| !name.is_empty() && !marked(&found).contains(name)) {
        Some((before, _)) => {
            let (column, length) = (before.chars().count() + 1, name.chars().count());
            Diagnostic { column, length, ..found }
        }
        None => found,
    }
}

/// The first name in backticks.
pub(super) fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

/// The marked characters of a finding.
pub(super) fn marked(found: &Diagnostic) -> String {
    found.source_line.chars().skip(found.column.saturating_sub(1)).take(found.length).collect()
}

/// Cedar marks `context.jwt.user.email` as a whole when `jwt` is meant: marks no more than up to the end of `path`.
pub(super) fn narrowed(found: Diagnostic, path: &str) -> Diagnostic {
    let mark = marked(&found);
    let names: Vec<&str> = path.split('.').collect();
    let members = members(&mark);
    let starts = 0..(members.len() + 1).saturating_sub(names.len());
    let is_path = |at: &usize| members.iter().skip(*at).zip(&names).all(|((name, _), wanted)| name == wanted);
    let last = starts.rev().find(is_path).and_then(|at| members.get(at + names.len() - 1));
    match last.and_then(|(_, end)| mark.get(..*end)) {
        Some(kept) => Diagnostic { length: kept.chars().count(), ..found },
        None => found,
    }
}

/// The member names of an access, each with the byte where it ends.
pub(super) fn members(text: &str) -> Vec<(String, usize)> {
    let all: Vec<_> = tokens(text).filter_map(|range| Some((text.get(range.clone())?, range.end))).collect();
    let member = |at: usize| match all.get(at..all.len().min(at + 3))? {
        [(".", _), (name, end), ..] => Some(((*name).to_owned(), *end)),
        [("[", _), (name, _), ("]", end)] if name.starts_with('"') => {
            Some((name.trim_matches('"').to_owned(), *end))
        }
        _ => None,
    };
    (0..all.len()).filter_map(member).collect()
}

/// What asks for `X.a`, `X["a"]` or `X.getTag("t")`: `X has a`, `X.hasTag("t")`.
pub(crate) fn question(read: &str) -> Option<String> {
    let read = read.trim();
    if let Some((of, tag)) = read.split_once(".getTag") {
        return Some(format!("{of}.hasTag{tag}"));
    }
    if let Some(open) = read.strip_suffix(']') {
        let (of, name) = open.rsplit_once('[')?;
        return Some(format!("{} has {}", of.trim_end(), name.trim()));
    }
    let (of, name) = read.rsplit_once('.')?;
    let is_name = name.trim().chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| format!("{} has {}", of.trim_end(), name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_mark_ends_with_the_attribute_that_is_meant() {
        let file = Arc::from("a");
        let of = |text: &str, path: &str| {
            let found = Diagnostic::at("PC2107", &file, text, 0, text.len(), "");
            marked(&narrowed(found, path))
        };
        assert_eq!(of("context.jwt.user.email", "jwt"), "context.jwt");
        assert_eq!(of("context.jwt.user.email", "email"), "context.jwt.user.email");
        assert_eq!(
            of(r#"context.request.headers["x-a"].contains("b")"#, "request.headers.x-a"),
            r#"context.request.headers["x-a"]"#
        );
        assert_eq!(of("principal", "x"), "principal");
        assert_eq!(of("a.b", "a.b.c"), "a.b");
    }

    #[test]
    fn an_attribute_is_asked_for_as_it_is_read() {
        assert_eq!(question("context.jwt").as_deref(), Some("context has jwt"));
        assert_eq!(question(r#"context.a["x-b"]"#).as_deref(), Some(r#"context.a has "x-b""#));
        assert_eq!(question(r#"principal.getTag("t")"#).as_deref(), Some(r#"principal.hasTag("t")"#));
        assert_eq!(question("x"), None);
        assert_eq!(question("f(a.b)"), None);
    }
}
