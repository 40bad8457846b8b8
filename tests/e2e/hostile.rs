//! Attacks on the shipped gateway, as tables: id, what it must do, what it did. A row that differs fails its table, after
//! the whole of it has been tried. `just hostile` prints the tables and runs the floods at length.

mod good;
mod h1;
mod h2;
mod h3;
mod origin;
mod tls;

use libtest_mimic::Trial;
use tests::Result;

pub(crate) fn trials() -> Vec<Trial> {
    [h1::trials(), origin::trials(), h2::trials(), h3::trials(), tls::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// What a table has seen so far.
pub(crate) struct Table {
    name: &'static str,
    rows: Vec<(String, String, String)>,
}

impl Table {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rows: Vec::new() }
    }

    /// Takes a row down.
    pub(crate) fn row(
        &mut self,
        id: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) {
        self.rows.push((id.into(), expected.into(), seen.into()));
    }

    /// Prints the table; fails with the rows that differ, or when there are fewer than `least`.
    pub(crate) fn end(self, least: usize) -> Result {
        let print = |(id, expected, seen): &(String, String, String)| format!("{id} -> {expected} -> {seen}");
        let lines: Vec<_> = self.rows.iter().map(print).collect();
        println!("hostile {}: {} rows\n  {}", self.name, lines.len(), lines.join("\n  "));
        if lines.len() < least {
            return Err(format!("{} rows, at least {least} are due", lines.len()).into());
        }
        let wrong = self.rows.iter().filter(|(_, expected, seen)| expected != seen);
        let wrong: Vec<_> = wrong.map(print).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{} of {} rows of {}:\n  {}", wrong.len(), lines.len(), self.name, wrong.join("\n  "))
            .into())
    }
}
