//! Exports: whole records in the order of the ledger, as NDJSON or CSV, or as they were signed with their proofs, in pieces
//! that a cursor joins (decisions.md 12).
//!
//! A piece is at most 10,000 rows or 8 MiB of text, so that neither side holds more; it is on record before it leaves.
//! Columns of CSV are fixed: a column is added at the end, never moved.

mod csv;
mod proofs;

use std::ops::ControlFlow;

use base_ports::Mono;
use bytes::Bytes;

use self::proofs::Proofs;
use crate::{
    budget::Caps,
    error::LedgerError,
    leaf::{StoredRecord, json_text},
    ledger::Ledger,
    proof::LogView,
    query::{Query, QueryError},
    scan::Damage,
    sight::Seen,
    sweep::Swept,
};

/// Rows of a piece at most, and by default.
pub(crate) const ROWS: usize = 10_000;

/// Text of a piece after which no row is added, bytes.
const TEXT: usize = 8 << 20;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    #[default]
    Ndjson,
    Csv,
    /// Leaves with what proves them: lines of a [`crate::Bundle`].
    Proofs,
}

impl Form {
    pub(crate) fn read(word: &str) -> Result<Form, QueryError> {
        match word {
            "ndjson" => Ok(Form::Ndjson),
            "csv" => Ok(Form::Csv),
            "proofs" => Ok(Form::Proofs),
            other => Err(QueryError::Value {
                name: "format",
                value: other.to_owned(),
                expected: "`ndjson`, `csv` or `proofs`",
                suggestion: crate::query::nearest(other, ["ndjson", "csv", "proofs"]),
            }),
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Form::Ndjson => "ndjson",
            Form::Csv => "csv",
            Form::Proofs => "proofs",
        }
    }

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Form::Ndjson | Form::Proofs => "application/x-ndjson",
            Form::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

/// One piece.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) rows: usize,
    /// Rows that no checkpoint covers yet.
    pub(crate) unproved: usize,
    pub(crate) swept: Swept,
}

impl Ledger {
    /// The next piece of an export that was asked for at `asked`. Reads files: call it from a thread that may block.
    pub(crate) fn export(
        &self,
        query: &Query,
        form: Form,
        rows: usize,
        caps: Caps,
        asked: Mono,
    ) -> Result<Piece, LedgerError> {
        let mut piece = Piece::default();
        let mut unreadable = Vec::new();
        if form == Form::Csv && query.after.is_none() {
            csv::header(&mut piece.text);
        }
        let log = self.log();
        let proofs = match form {
            Form::Proofs => Some(Proofs::begin(self, &mut piece.text)?),
            Form::Ndjson | Form::Csv => None,
        };
        let mut failed = None;
        piece.swept = self.sweep(query, caps, asked, |row| {
            match (&proofs, StoredRecord::decode(row.index, Bytes::copy_from_slice(row.leaf))) {
                (_, Err(error)) => unreadable.push(Damage {
                    file: std::path::PathBuf::new(),
                    first: row.index,
                    last: row.index,
                    problem: error.to_string(),
                }),
                (None, Ok(record)) => {
                    put(&record, &log, query.filter.seen(row.view), form, &mut piece.text);
                    piece.rows += 1;
                }
                (Some(proofs), Ok(_)) => match proofs.put(row.index, row.leaf, &mut piece.text) {
                    Ok(true) => piece.rows += 1,
                    Ok(false) => piece.unproved += 1,
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                },
            }
            let is_full = piece.rows >= rows || piece.text.len() >= TEXT;
            if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = failed {
            return Err(LedgerError::Tree(error));
        }
        piece.swept.damaged.append(&mut unreadable);
        Ok(piece)
    }
}

fn put(record: &StoredRecord, log: &LogView, seen: Seen, form: Form, out: &mut String) {
    match form {
        Form::Ndjson => {
            out.push_str(&json_text(&record.to_json_seen(log, seen)));
            out.push('\n');
        }
        Form::Csv => csv::row(record, seen, out),
        Form::Proofs => {}
    }
}

#[cfg(test)]
mod tests;
