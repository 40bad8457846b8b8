//! `policy lint`: what is valid and still wrong, in the form that a person or a build reads, and its edits.

use std::path::{Path, PathBuf};

use base_ports::{Clock, SystemClock};
use clap::Args;
use policies_engine::{Diagnostic, lint};
use policies_store::LintAsk;

use super::{live, place};
use crate::cli::Global;
use crate::messages::{self, Message};
use crate::output::findings::{Finding, Findings, Level, LookedAt, Style, plural};
use crate::output::{self, Exit, Format};

#[derive(Debug, Args)]
pub(crate) struct LintOptions {
    /// Directory or *.cedar file [default: policies.dir of the configuration]
    path: Option<PathBuf>,
    /// Form of the findings
    #[arg(long, value_enum)]
    format: Option<Style>,
    /// Exit 3 from this level on
    #[arg(long, value_enum, default_value = "error")]
    fail_level: Level,
    /// Make the edits that are safe, and write the files
    #[arg(long)]
    fix: bool,
    /// Only these rules, as PC2104
    #[arg(long = "rule", value_name = "CODE")]
    rules: Vec<String>,
    /// Least coverage by cases, in percent (PC2114)
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    threshold: u8,
    /// Ask the running process what became of the policies (PC2105, PC2106, PC2117)
    #[arg(long)]
    live: bool,
}

pub(super) fn lint(options: LintOptions, global: &Global) -> Exit {
    let rules = match known(&options.rules) {
        Ok(rules) => rules,
        Err(fault) => {
            output::report(&[fault], global.format());
            return Exit::Usage;
        }
    };
    let (path, entities) = match place(options.path, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let usage = match options.live.then(|| live::usage(global)).transpose() {
        Ok(usage) => usage,
        Err(exit) => return exit,
    };
    let ask = LintAsk { now: SystemClock.now().wall, usage: usage.as_ref(), threshold: options.threshold };
    let is_asked = |finding: &Diagnostic| rules.is_empty() || rules.contains(&finding.code);
    if options.fix {
        match policies_store::fix_path(&path, &entities, ask, &is_asked) {
            Ok(fixed) => fixed.iter().for_each(|(file, count)| {
                output::talk(&format!("{}: {}", located(file, &path), plural(*count, "edit")));
            }),
            Err(cause) => {
                let fault = Message::error("PC0107", format!("`{}`: {cause}", path.display()));
                output::report(&[fault], global.format());
                return Exit::Failed;
            }
        }
    }
    let report = policies_store::lint_path(&path, &entities, ask);
    let asked = report.diagnostics.iter().filter(|finding| is_asked(finding));
    let looked_at = report.files.iter().map(|file| LookedAt { file: located(file, &path), name: None });
    let mut findings = Findings {
        command: "policy lint",
        findings: asked.map(|found| finding(found, &path)).collect(),
        looked_at: looked_at.collect(),
        summary: Vec::new(),
    };
    findings.summary = summary(&findings, &report.silent);
    findings.print(options.format.unwrap_or(style(global.format())));
    let is_failed =
        findings.findings.iter().any(|found| options.fail_level.is_reached_by(found.message.severity));
    if is_failed { Exit::Invalid } else { Exit::Done }
}

fn summary(findings: &Findings, silent: &[(&str, &str)]) -> Vec<String> {
    let mut lines = vec![format!("{} in {}", findings.count(), plural(findings.looked_at.len(), "file"))];
    let fixable = findings.findings.iter().filter(|finding| finding.fix.is_some()).count();
    if fixable > 0 {
        lines.push(format!("--fix mends {fixable} of them"));
    }
    lines.extend(silent.iter().map(|(code, why)| format!("not asked: {code} ({why})")));
    lines
}

/// The rules of `--rule`, as the registry writes them.
fn known(written: &[String]) -> Result<Vec<&'static str>, Message> {
    let codes = || lint::RULES.iter().map(|rule| rule.code).chain(lint::OTHER_CODES.iter().copied());
    let find = |word: &String| {
        codes().find(|code| code.eq_ignore_ascii_case(word)).ok_or_else(|| {
            let mut fault = Message::error("PC0104", format!("--rule: `{word}` is no rule of lint"));
            fault.label = messages::nearest(&word.to_uppercase(), codes())
                .map(|near| format!("did you mean `{near}`?"));
            fault.help("rules are PC2101 to PC2121; `portcullis code PC2104` tells what one is about")
        })
    };
    written.iter().map(find).collect()
}

/// The form of findings that goes with `-o`.
pub(super) const fn style(format: Format) -> Style {
    match format {
        Format::Table => Style::Pretty,
        Format::Json | Format::Ndjson => Style::Json,
    }
}

/// With the file as it is reached from here.
pub(super) fn finding(found: &Diagnostic, path: &Path) -> Finding {
    let mut finding = Finding::from(found);
    if let Some(place) = &mut finding.message.place {
        place.file = located(&place.file, path);
    }
    finding
}

/// A file of a finding about `path`, as a path from here: findings name a file by its directory's name only.
pub(super) fn located(file: &str, path: &Path) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let there = if path.is_dir() { path.join(name) } else { path.with_file_name(name) };
    if !there.exists() {
        return file.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let shown = there.strip_prefix("./").or_else(|_outside| there.strip_prefix(&here)).unwrap_or(&there);
    shown.display().to_string()
}
