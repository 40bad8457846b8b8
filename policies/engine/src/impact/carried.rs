//! What a record holds of the facts of its call, and what it lacks.

use crate::{Declared, Facts};
use std::sync::Arc;

/// Names are cut at 64 bytes in a record, so a long one stands for all that begin as it does.
const LONG: usize = 60;

/// What a record holds of the facts of its call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carried<'a> {
    /// The names of headers, query members and captures that the site declared when the call was recorded; `None`
    /// when that version is no longer known. Of undeclared ones a record tells nothing.
    pub declared: Option<&'a Arc<Declared>>,
    /// Which of the record's fields are cut, dropped or hidden, as its member `truncated` names them.
    pub cut: &'a [&'a str],
}

impl Carried<'_> {
    /// Whether a site with those names recorded that fact at all.
    pub(super) fn is_declared(declared: Option<&Declared>, fact: &str) -> bool {
        let Some((map, name)) = fact.strip_prefix("request.").and_then(|rest| rest.split_once('.')) else {
            return true;
        };
        let Some(declared) = declared else { return false };
        match map {
            "headers" => declared.headers.contains(name),
            "query" => declared.query.contains(name),
            "params" => declared.params.contains(name),
            _ => true,
        }
    }

    /// Whether caller or target are not known by their full name.
    pub(super) fn nameless(&self) -> Option<&'static str> {
        let is_cut = |name: &&&'static str| self.cut.iter().any(|cut| **cut == ***name);
        ["principal.id", "resource.id"].iter().find(is_cut).copied()
    }

    /// Whether what is cut touches that fact.
    pub(super) fn is_cut(&self, fact: &str) -> bool {
        self.cut.iter().any(|field| touches(field, fact))
    }
}

/// Whether a cut field takes `fact` with it.
fn touches(field: &str, fact: &str) -> bool {
    let is_at_or_below = |field: &str| {
        fact.strip_prefix(field)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || field.len() >= LONG)
    };
    match field {
        "*" => true,
        // Segments are derived from the path.
        "request.path" => fact == "request.path" || fact.starts_with("request.segment"),
        _ => is_at_or_below(field),
    }
}

/// Whole parts of the context that are absent, for an action that has them.
pub(super) fn absent(facts: Option<&dyn Facts>, has_request: bool, has_rpc: bool) -> &'static [&'static str] {
    let Some(facts) = facts else { return &["connection", "request", "rpc"] };
    let is_short = (has_request && facts.request().is_none(), has_rpc && facts.rpc().is_none());
    match is_short {
        (false, false) => &[],
        (true, false) => &["request"],
        (false, true) => &["rpc"],
        (true, true) => &["request", "rpc"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im2_a_cut_value_takes_what_is_derived_from_it() {
        for (field, fact, expected) in [
            ("request.path", "request.path", true),
            ("request.path", "request.segments", true),
            ("request.path", "request.segment_count", true),
            ("request.path", "request.host", false),
            ("request.query", "request.query.tenant", true),
            ("request.query", "request.query_names", false),
            ("request.headers.origin", "request.headers.origin", true),
            ("request.headers.origin", "request.headers.origin2", false),
            ("*", "connection.sni", true),
            ("determining", "request.path", false),
        ] {
            assert_eq!(touches(field, fact), expected, "{field} {fact}");
        }
        let long = format!("request.headers.{}", "x".repeat(60));
        assert!(touches(long.get(..64).unwrap(), &long));
    }

    #[test]
    fn im2_undeclared_names_are_not_on_record() {
        let declared = Declared { headers: ["origin".into()].into(), ..Declared::default() };
        let of = |declared, fact| Carried::is_declared(declared, fact);
        assert!(of(Some(&declared), "request.headers.origin"));
        assert!(!of(Some(&declared), "request.headers.x-tenant"));
        assert!(!of(None, "request.headers.origin"));
        assert!(of(None, "request.path") && of(None, "connection.sni"));
    }
}
