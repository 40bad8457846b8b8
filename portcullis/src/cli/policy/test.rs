//! `policy test`: runs the cases of a directory; starts nothing and asks nobody.

use std::path::PathBuf;

use serde_json::json;

use super::place;
use crate::cli::Global;
use crate::messages::{Message, Severity};
use crate::output::{self, Answer, Exit};

pub(super) fn test(dir: Option<PathBuf>, global: &Global) -> Exit {
    let (dir, known) = match place(dir, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let report = policies_store::run_cases(&dir, &known);
    let messages: Vec<Message> = report.diagnostics.iter().map(Message::from).collect();
    if messages.iter().any(|message| message.severity == Severity::Error) {
        return output::report(&messages, global.format());
    }
    if report.cases.is_empty() {
        let fault = Message::error("PC2002", format!("`{}` holds no *_test.json with a case", dir.display()))
            .help("an empty run must not look like a passed one")
            .next("portcullis init shows a first case");
        return output::report(&[fault], global.format());
    }
    let items: Vec<_> = report
        .cases
        .iter()
        .map(|case| json!({ "file": case.file, "name": case.name, "passed": case.failure.is_none(), "failure": case.failure }))
        .collect();
    let failed = report.cases.iter().filter(|case| case.failure.is_some()).count();
    let mut answer = Answer::list(
        "Case",
        items,
        &[("PASSED", "/passed"), ("FILE", "/file"), ("CASE", "/name"), ("FAILURE", "/failure")],
    );
    answer.text.push_str(&format!("\n{} passed, {failed} failed", report.cases.len().saturating_sub(failed)));
    answer.print(global.format());
    if failed == 0 { Exit::Done } else { Exit::Invalid }
}
