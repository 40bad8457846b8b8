//! What a route does with a call besides forwarding it: rewrites, header fields, answers of its own, the longest body.

use enforcer_codec::canonical::Kept;
use enforcer_codec::{FieldEdit, FieldEdits, Scheme};
use enforcer_traffic::{HandlingSpec, PathMode, ReplySpec, RewriteSpec};

use super::super::read::Table;
use super::Meaning;

impl Meaning<'_> {
    /// The handling of the route; what only the compiled route can tell is looked at later.
    pub(super) fn handling(&mut self, route: &Table) -> HandlingSpec {
        let (redirect, respond) = (route.table("redirect"), route.table("respond"));
        for (key, other) in [("redirect", "respond"), ("redirect", "rewrite"), ("respond", "rewrite")] {
            if route.table(key).is_some() && route.table(other).is_some() {
                self.wrong(route, other, format!("`{key}` and `{other}` exclude each other"));
            }
        }
        let changed = redirect.or(route.table("rewrite"));
        HandlingSpec {
            reply: redirect.and_then(redirected).or(respond.and_then(direct)),
            path: changed.and_then(|table| self.changed_path(table)),
            host: changed.and_then(|table| table.text("host").cloned()),
            request: self.edits(route, "request_header", "request_header_remove"),
            response: self.edits(route, "response_header", "response_header_remove"),
            max_body: self.max_body(route),
            keeps: Kept {
                slash: is(route, "encoded_slash", "keep"),
                params: is(route, "path_params", "keep"),
            },
            path_mode: match route.text("path_mode").map(String::as_str) {
                Some("redirect") => PathMode::Redirect,
                Some("rewrite") => PathMode::Rewrite,
                _ => PathMode::Refuse,
            },
            bars_websocket: route.entries.contains_key("upgrades") && route.texts("upgrades").is_empty(),
        }
    }

    pub(super) fn max_body(&mut self, route: &Table) -> Option<u32> {
        let most = *route.size("max_body")?;
        let fits = u32::try_from(most).ok().filter(|most| *most < u32::MAX);
        if fits.is_none() {
            self.wrong(route, "max_body", "`max_body` is below 4GiB; leave it out for any length".to_owned());
        }
        fits
    }

    fn changed_path(&mut self, table: &Table) -> Option<RewriteSpec> {
        match (table.text("prefix"), table.text("path")) {
            (Some(_), Some(_)) => {
                self.wrong(table, "path", "`prefix` and `path` exclude each other".to_owned());
                None
            }
            (Some(prefix), None) => Some(RewriteSpec::Prefix(prefix.clone())),
            (None, path) => path.cloned().map(RewriteSpec::Template),
        }
    }

    fn edits(&mut self, route: &Table, key: &str, removed: &str) -> FieldEdits {
        let mut edits = FieldEdits::default();
        for table in route.tables(key) {
            let Some(name) = table.text("name") else { continue };
            let edit = match (table.text("set"), table.text("add")) {
                (Some(value), None) => FieldEdit::Set(value.clone()),
                (None, Some(value)) => FieldEdit::Add(value.clone()),
                _ => {
                    self.wrong(table, "name", format!("write either `set` or `add` for `{name}`"));
                    continue;
                }
            };
            if let Err(cause) = edits.push(name, &edit) {
                self.wrong(table, "name", cause);
            }
        }
        for name in route.texts(removed) {
            if let Err(cause) = edits.push(&name, &FieldEdit::Remove) {
                self.wrong(route, removed, cause);
            }
        }
        edits
    }
}

fn is(table: &Table, key: &str, word: &str) -> bool {
    table.text(key).is_some_and(|written| written == word)
}

fn redirected(table: &Table) -> Option<ReplySpec> {
    let scheme =
        table.text("scheme").map(|scheme| if scheme == "http" { Scheme::Http } else { Scheme::Https });
    Some(ReplySpec::Redirect { status: status(table)?, scheme })
}

fn direct(table: &Table) -> Option<ReplySpec> {
    Some(ReplySpec::Direct {
        status: status(table)?,
        content_type: table.text("content_type")?.clone(),
        body: table.text("body")?.clone(),
    })
}

fn status(table: &Table) -> Option<u16> {
    u16::try_from(*table.integer("status")?).ok()
}
