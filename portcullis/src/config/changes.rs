//! What differs between two configurations, key by key: what a reload can change in a running process, and what waits
//! for a restart (CF9). Compared are the checked values with every default, so comments and order of writing are nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use super::keys;

/// Keys whose values differ, as people write them: `enforcer.route[shop-web].timeout`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// A reload brings them into force.
    pub(crate) live: Vec<String>,
    /// They need a restart.
    pub(crate) restart: Vec<String>,
}

/// Compares what runs with what shall run.
pub(crate) fn changes(old: &Json, new: &Json) -> Changes {
    let mut found = Changes::default();
    found.compare("", "", Some(old), Some(new));
    found
}

impl Changes {
    /// `path` is the key, `shown` says which of several.
    fn compare(&mut self, path: &str, shown: &str, old: Option<&Json>, new: Option<&Json>) {
        if old == new {
            return;
        }
        match (old, new) {
            (Some(Json::Object(old)), Some(Json::Object(new))) => {
                let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
                for name in names {
                    self.compare(&join(path, name), &join(shown, name), old.get(name), new.get(name));
                }
            }
            _ if keys::is_repeated(path) => self.items(path, shown, tables(old), tables(new)),
            _ if keys::is_live(path) => self.live.push(shown.to_owned()),
            _ => self.restart.push(shown.to_owned()),
        }
    }

    /// What a reload changes has names and no order; the rest is known by its place.
    fn items(&mut self, path: &str, shown: &str, old: Vec<&Map<String, Json>>, new: Vec<&Map<String, Json>>) {
        let is_named = |item: &&Map<String, Json>| name(item).is_some();
        if keys::is_live(path) && !old.iter().chain(&new).all(is_named) {
            self.live.push(shown.to_owned());
            return;
        }
        let pairs: Vec<_> = if keys::is_live(path) {
            let names: BTreeSet<_> = old.iter().chain(&new).filter_map(|item| name(item)).collect();
            let of = |items: &[&Map<String, Json>], wanted: &str| {
                items.iter().find(|item| name(item) == Some(wanted)).copied().cloned()
            };
            names.into_iter().map(|name| (name.to_owned(), of(&old, name), of(&new, name))).collect()
        } else {
            let of = |items: &[&Map<String, Json>], at: usize| items.get(at).copied().cloned();
            let called = |at: usize| {
                let item = new.get(at).or(old.get(at));
                item.and_then(|item| name(item)).map_or_else(|| at.to_string(), str::to_owned)
            };
            let count = old.len().max(new.len());
            (0..count).map(|at| (called(at), of(&old, at), of(&new, at))).collect()
        };
        for (name, old, new) in pairs {
            let shown = format!("{shown}[{name}]");
            match (old.map(Json::Object), new.map(Json::Object)) {
                (Some(old), Some(new)) => self.compare(path, &shown, Some(&old), Some(&new)),
                _ if keys::is_live(path) => self.live.push(shown),
                _ => self.restart.push(shown),
            }
        }
    }
}

fn tables(list: Option<&Json>) -> Vec<&Map<String, Json>> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_object).collect()
}

fn name(item: &Map<String, Json>) -> Option<&str> {
    item.get("name").and_then(Json::as_str)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
