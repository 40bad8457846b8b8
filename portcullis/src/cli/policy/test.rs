//! `policy test`: runs the cases of a directory, and tells what they show of each policy; starts nothing and asks nobody.

use std::path::{Path, PathBuf};

use clap::Args;
use policies_engine::{Coverage, PolicyCoverage};
use policies_store::{CaseReport, CaseResult};
use serde_json::{Value, json};

use super::{
    lint::{located, style},
    place,
};
use crate::cli::Global;
use crate::messages::{Message, Place, Severity};
use crate::output::findings::{Finding, Findings, LookedAt, Style};
use crate::output::{self, Answer, Exit, Format};

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Directory or *.cedar file [default: policies.dir of the configuration]
    dir: Option<PathBuf>,
    /// Tell what the cases show of each policy
    #[arg(long)]
    coverage: bool,
    /// Exit 3 when the cases show less than this of the policies; implies --coverage
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    threshold: Option<u8>,
    /// Form of the result, where builds read it
    #[arg(long, value_enum)]
    format: Option<Style>,
}

pub(super) fn test(options: TestOptions, global: &Global) -> Exit {
    let (dir, known) = match place(options.dir.clone(), global) {
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
    let is_short = options.threshold.is_some_and(|least| report.coverage.percent() < least);
    let is_failed = report.cases.iter().any(|case| case.failure.is_some());
    match options.format {
        Some(form)
            if (form, global.format()) != (Style::Pretty, Format::Table)
                && form != style(global.format()) =>
        {
            findings(&report, &dir, options.threshold).print(form);
        }
        _ => answer(&report, &options).print(global.format()),
    }
    if is_failed || is_short { Exit::Invalid } else { Exit::Done }
}

fn answer(report: &CaseReport, options: &TestOptions) -> Answer {
    let item = |case: &CaseResult| json!({ "file": case.file, "name": case.name, "passed": case.failure.is_none(), "failure": case.failure });
    let failed = report.cases.iter().filter(|case| case.failure.is_some()).count();
    let mut answer = Answer::list(
        "Case",
        report.cases.iter().map(item).collect(),
        &[("PASSED", "/passed"), ("FILE", "/file"), ("CASE", "/name"), ("FAILURE", "/failure")],
    );
    answer.text.push_str(&format!("\n{} passed, {failed} failed", report.cases.len().saturating_sub(failed)));
    if options.coverage || options.threshold.is_some() {
        answer.text.push_str(&coverage_text(&report.coverage, options.threshold));
        if let Some(members) = answer.json.as_object_mut() {
            members.insert("coverage".to_owned(), coverage_json(&report.coverage, options.threshold));
        }
    }
    answer
}

fn own(coverage: &Coverage) -> impl Iterator<Item = &PolicyCoverage> {
    coverage.policies.iter().filter(|policy| !policy.is_baseline)
}

fn coverage_text(coverage: &Coverage, threshold: Option<u8>) -> String {
    let least = threshold.map(|least| format!("; at least {least} % are asked for")).unwrap_or_default();
    let mut text = format!("\n\ncoverage {} %{least}", coverage.percent());
    for policy in own(coverage) {
        text.push_str(&format!(
            "\n  {:>3} %  {}  [{}:{}]",
            policy.percent(),
            policy.id,
            policy.file,
            policy.line
        ));
        policy.missing.iter().for_each(|missing| text.push_str(&format!("\n         {missing}")));
    }
    text
}

fn coverage_json(coverage: &Coverage, threshold: Option<u8>) -> Value {
    let of = |policy: &PolicyCoverage| {
        json!({ "id": policy.id, "file": policy.file, "line": policy.line, "percent": policy.percent(),
            "points": policy.points, "missing": policy.missing })
    };
    json!({ "percent": coverage.percent(), "threshold": threshold, "policies": own(coverage).map(of).collect::<Vec<_>>() })
}

/// Failed cases, and policies below the threshold, as findings.
fn findings(report: &CaseReport, dir: &Path, threshold: Option<u8>) -> Findings {
    let whole =
        |file: &str| Place { file: located(file, dir), line: 0, column: 0, source: String::new(), length: 1 };
    let failed = report.cases.iter().filter_map(|case| {
        let text = format!("`{}` failed: {}", case.name, case.failure.as_ref()?);
        Some(Message::error("PC2016", text).at(whole(&case.file)))
    });
    let short = threshold.filter(|least| report.coverage.percent() < *least).into_iter().flat_map(|_| {
        own(&report.coverage).filter(|policy| !policy.missing.is_empty()).map(|policy| {
            let text = format!("cases cover {} % of `{}`", policy.percent(), policy.id);
            let place = Place { line: policy.line, column: 1, ..whole(&policy.file) };
            Message::error("PC2114", text).at(place).help(policy.missing.join("; "))
        })
    });
    let looked_at = report.cases.iter();
    let looked_at =
        looked_at.map(|case| LookedAt { file: located(&case.file, dir), name: Some(case.name.clone()) });
    Findings {
        command: "policy test",
        findings: failed.chain(short).map(|message| Finding { message, fix: None }).collect(),
        looked_at: looked_at.collect(),
        summary: Vec::new(),
    }
}
