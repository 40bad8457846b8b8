//! `[decisions]`: what of calls is recorded, how long it is kept, and who may ask how often.

use std::time::Duration;

use policies_decisions::{DropList, Keep, Options, People};

use super::super::meant::Decisions;
use super::super::read::Table;
use super::super::value::print_size;
use super::Meaning;

/// The smallest ledger: the segment that is written, those that a checkpoint or a crash still needs, and some to read.
const SMALLEST: u64 = 512 << 20;

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Meaning<'_> {
    /// `None` when a key is missing, which was said already.
    pub(super) fn decisions(&mut self, section: &Table) -> Option<Decisions> {
        Some(Decisions {
            name: section.text("name")?.clone(),
            keep: self.keep(section.table("keep")?)?,
            commit_interval: *section.duration("commit_interval")?,
            reveal_decision_id: section.text("reveal_decision_id")?.clone(),
            dropped: self.dropped(section),
            people: people(section.text("people")?),
            clear: section.integer("clear_days").map(|days| DAY * u32::try_from(*days).unwrap_or(u32::MAX)),
            collector: self.logs(section),
            reads: Options {
                require_purpose: *section.flag("require_purpose")?,
                per_minute: usize::try_from(*section.integer("questions_per_minute")?).unwrap_or(usize::MAX),
                ..Options::default()
            },
        })
    }

    fn keep(&mut self, section: &Table) -> Option<Keep> {
        let (days, size) = (*section.integer("days")?, *section.size("size")?);
        if size < SMALLEST {
            let (written, least) = (print_size(size), print_size(SMALLEST));
            let fault = self.fault("PC0104", section, "size", format!("{written} is less than {least}"));
            let help = format!("records are packed into files of 128MiB; write {least} or more");
            self.messages.push(fault.help(&help));
        }
        Some(Keep { age: DAY * u32::try_from(days).unwrap_or(u32::MAX), size })
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

fn people(word: &str) -> People {
    match word {
        "hashed" => People::Hashed,
        "clear" => People::Clear,
        _ => People::Committed,
    }
}
