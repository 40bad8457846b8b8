//! `[decisions]`: what of calls is recorded, and who may ask how often.

use policies_decisions::{DropList, Options};

use super::super::meant::Decisions;
use super::super::read::Table;
use super::Meaning;

impl Meaning<'_> {
    /// `None` when a key is missing, which was said already.
    pub(super) fn decisions(&mut self, section: &Table) -> Option<Decisions> {
        Some(Decisions {
            name: section.text("name")?.clone(),
            commit_interval: *section.duration("commit_interval")?,
            reveal_decision_id: section.text("reveal_decision_id")?.clone(),
            dropped: self.dropped(section),
            reads: Options {
                require_purpose: *section.flag("require_purpose")?,
                per_minute: usize::try_from(*section.integer("questions_per_minute")?).unwrap_or(usize::MAX),
                ..Options::default()
            },
        })
    }

    fn dropped(&mut self, section: &Table) -> DropList {
        let names = section.texts("drop");
        DropList::read(names.iter().map(String::as_str)).unwrap_or_else(|error| {
            let fields: Vec<_> = DropList::fields().collect();
            let fault = self.fault("PC0104", section, "drop", error.to_string());
            let help =
                format!("fields are {}; of headers, params and query also one by name", fields.join(", "));
            self.messages.push(fault.help(&help));
            DropList::default()
        })
    }
}
