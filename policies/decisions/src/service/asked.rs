//! Who asks and what for, and the record of every read (RR4).
//!
//! `portcullis` puts a [`Reader`] into each request that it has let through; without one there is no answer.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use policies_engine::{Credential, Principal, ReadRecord, Record};

use super::{Problem, Service};
use crate::{Ledger, Query, Sight};

/// Longest purpose, bytes.
const PURPOSE: usize = 256;

/// Somebody who may read, and what he sees.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Who.
    pub principal: Principal,
    /// What he sees, by the policies in force when he asked.
    pub sight: Sight,
    /// The rows in which he may have commitments opened: those that this shows whole.
    pub reveals: Sight,
    /// What he proved himself with.
    pub credential: Option<Arc<Credential>>,
}

impl Reader {
    /// The question as he may ask it.
    #[must_use]
    pub fn asks(&self, query: Query) -> Query {
        query.seen_by(self.sight.clone(), &self.principal.to_string()).revealing(self.reveals.clone())
    }
}

/// The asker of one call.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) reader: Reader,
    /// `portcullis-purpose`.
    pub(super) purpose: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let reader = parts.extensions.get::<Reader>().cloned().ok_or_else(nobody)?;
        let purpose = match parts.headers.get("portcullis-purpose") {
            None => None,
            Some(value) => {
                let text = std::str::from_utf8(value.as_bytes()).ok().map(str::trim);
                let fit = text.filter(|text| !text.is_empty() && text.len() <= PURPOSE);
                let bad = || {
                    let detail = format!("portcullis-purpose: 1 to {PURPOSE} bytes of text are expected");
                    Problem::new(StatusCode::BAD_REQUEST, "bad-purpose", detail)
                };
                Some(fit.ok_or_else(bad)?.to_owned())
            }
        };
        Ok(Self { reader, purpose })
    }
}

/// The answer to a caller of whom nothing was said.
pub(super) fn nobody() -> Problem {
    let detail = "nobody has said who is asking".to_owned();
    Problem::new(StatusCode::UNAUTHORIZED, "unknown-reader", detail)
}

/// Puts a read on record; without that there is no answer.
pub(super) fn put(ledger: &Ledger, read: ReadRecord) -> Result<(), Problem> {
    match ledger.append(Record::Read(read)) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", error.to_string()))
        }
    }
}

/// What a read gave out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) is_partial: bool,
}

impl Asked {
    /// The same asker, of rows that he sees whole alone.
    pub(super) fn whole_only(mut self) -> Self {
        self.reader.sight = self.reader.sight.whole_only();
        self
    }

    /// Puts a read on record.
    pub(super) fn note(
        &self,
        ledger: &Ledger,
        call: &'static str,
        query: &str,
        given: Given,
        failed: Option<&str>,
    ) -> Result<(), Problem> {
        let time = ledger.inner().clock.now();
        let principal = self.reader.principal.clone();
        let read = ReadRecord {
            count: given.rows as u64,
            bytes: given.bytes as u64,
            is_partial: given.is_partial,
            failed: failed.map(str::to_owned),
            purpose: self.purpose.clone(),
            credential: self.reader.credential.clone(),
            ..ReadRecord::new(principal, call, query.to_owned(), time)
        };
        put(ledger, read)
    }
}

impl Service {
    /// Refuses what needs a purpose here and has none.
    pub(super) fn needs_purpose(&self, asked: &Asked, what: &str, hint: &str) -> Result<(), Problem> {
        if !self.options.require_purpose || asked.purpose.is_some() {
            return Ok(());
        }
        let detail = format!("this installation wants to know what {what} is for: send portcullis-purpose");
        Err(Problem::new(StatusCode::BAD_REQUEST, "purpose-required", detail).with("hint", hint))
    }

    /// Lets an answer out once it is on record; a refusal is put on record too. Without a record there is no answer.
    pub(super) fn told<T>(
        &self,
        asked: &Asked,
        call: &'static str,
        query: &str,
        answer: Result<(T, Given), Problem>,
    ) -> Result<T, Problem> {
        match answer {
            Ok((answer, given)) => {
                asked.note(&self.ledger, call, query, given, None)?;
                self.ledger.count_read(call, if given.is_partial { "partial" } else { "ok" });
                Ok(answer)
            }
            Err(problem) => {
                self.ledger.count_read(call, "failed");
                asked.note(&self.ledger, call, query, Given::default(), Some(problem.code()))?;
                Err(problem)
            }
        }
    }
}
