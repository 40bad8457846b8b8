//! `[authzen]`: where the API is known to be, and how askers name types.

use policies_adapters::authzen::Options;
use policies_engine::{Principal, Resource};

use super::super::read::Table;
use super::Meaning;

impl Meaning<'_> {
    /// `None` when the URL is missing, which was said already.
    pub(super) fn authzen(&mut self, section: &Table) -> Option<Options> {
        let mut options =
            Options { url: section.text("url")?.trim_end_matches('/').to_owned(), ..Options::default() };
        if !options.url.starts_with("https://") && !options.url.starts_with("http://") {
            self.wrong(section, "url", format!("`{}` is no http or https URL", options.url));
        }
        for table in section.tables("type") {
            let (Some(name), Some(entity)) = (table.text("name").cloned(), table.text("entity").cloned())
            else {
                continue;
            };
            let is_known =
                Principal::from_parts(&entity, "x").is_some() || Resource::from_parts(&entity, "x").is_some();
            if !is_known {
                self.wrong(table, "entity", format!("`{entity}` is no type of caller or target"));
            }
            if options.types.insert(name.clone(), entity).is_some() {
                self.push("PC0106", table, "name", format!("type `{name}` is defined twice"));
            }
        }
        Some(options)
    }
}
