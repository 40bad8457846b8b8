//! Every key of the configuration file, by section.

use super::{cell, hold};
use crate::config::keys::{self, Key, Kind};

const HEAD: &str = "# Configuration\n\nEvery key of `portcullis.toml`. `portcullis config explain KEY` tells the same at the prompt, `portcullis config validate` reads\na file without starting anything, and unknown keys refuse to start. Sections in double brackets may be there several times.\nA key with a variable can be set by it instead. What takes effect at a reload does so by `portcullis config reload` or SIGHUP.\n";

fn page() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Top level", "");
    for key in keys::all().filter(|key| matches!(key.kind, Kind::Table | Kind::Tables)) {
        let name = match key.kind {
            Kind::Tables => format!("`[[{}]]`", key.path),
            _ => format!("`[{}]`", key.path),
        };
        section(&mut page, &name, key.path);
    }
    page
}

fn section(page: &mut String, name: &str, path: &str) {
    let below: Vec<&Key> = keys::children(path)
        .map(|(_, key)| key)
        .filter(|key| !matches!(key.kind, Kind::Table | Kind::Tables))
        .collect();
    page.push_str(&format!("\n## {name}\n"));
    if let Some(key) = keys::find(path) {
        page.push_str(&format!("\n{}.\n", capital(key.text)));
    }
    if below.is_empty() {
        return;
    }
    page.push_str("\n| key | holds | default | from | meaning |\n|---|---|---|---|---|\n");
    for key in below {
        let name = key.path.rsplit('.').next().unwrap_or(key.path);
        let default = match (key.required, key.default) {
            (true, _) => "required".to_owned(),
            (false, None | Some("")) => "-".to_owned(),
            (false, Some(default)) => format!("`{default}`"),
        };
        let when = if keys::is_live(key.path) { "reload" } else { "start" };
        let variable = key.variable().map(|variable| format!(" Variable: `{variable}`.")).unwrap_or_default();
        page.push_str(&format!(
            "| `{name}` | {} | {} | {when} | {}. Example: `{}`.{variable} |\n",
            cell(&key.kind.wanted()),
            cell(&default),
            cell(&capital(key.text)),
            cell(key.example),
        ));
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[test]
fn the_reference_of_the_configuration_has_every_key() {
    hold("configuration.md", &page());
}
