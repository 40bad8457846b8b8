//! Metrics: the page that lists them, and that alerts and dashboards name none that does not exist (OB2, OB7).

use std::{collections::BTreeMap, fs, path::Path};

use libtest_mimic::Trial;

use crate::{
    breaks, reference,
    workspace::{Source, Workspace},
};

const PREFIX: &str = "portcullis_";
const OVERFLOW: &str = "portcullis_metrics_overflow";
const PAGE: &str = "docs/reference/metrics.md";
/// What names metrics besides.
const USERS: [&str; 2] = ["deploy/alerts", "deploy/dashboards"];

const HEAD: &str = "# Metrics\n\nEvery family of `/metrics`. A family appears when something of it happened. Names of SPIFFE ids, paths and decisions are never\nlabels; a family has at most 10,000 series, and what is beyond stands under the label value `other`.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n";

/// A family as the source registers it.
#[derive(Debug, PartialEq, Eq)]
struct Metric {
    kind: &'static str,
    labels: Vec<String>,
    help: String,
}

/// The page is what the sources register. `PORTCULLIS_WRITE_REFERENCE=1` writes it.
pub fn page(workspace: &Workspace) -> Vec<String> {
    let page = registered(&workspace.sources).iter().fold(HEAD.to_owned(), |page, (name, metric)| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = metric.help.trim_end_matches('.');
        page + &format!(
            "| `{}` | {} | {} | {help} |\n",
            shown(name, metric.kind),
            metric.kind,
            labels.join(", ")
        )
    });
    reference::hold(workspace, PAGE, &page)
}

/// Alerts and dashboards name metrics that exist.
pub fn users(workspace: &Workspace) -> Vec<String> {
    let known: Vec<_> =
        registered(&workspace.sources).iter().flat_map(|(name, metric)| series(name, metric.kind)).collect();
    let mut files = Vec::new();
    USERS.iter().for_each(|folder| collect(&workspace.root.join(folder), &mut files));
    let texts: Vec<_> =
        files.iter().filter_map(|file| fs::read_to_string(file).ok().map(|text| (file, text))).collect();
    if texts.is_empty() {
        return vec![format!("nothing in {USERS:?} names a metric")];
    }
    let named = texts.iter().flat_map(|(file, text)| named(text).into_iter().map(move |name| (file, name)));
    named
        .filter(|(_, name)| !known.iter().any(|known| known == name))
        .map(|(file, name)| format!("`{}` names `{name}`, which no source registers", file.display()))
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, files),
            path if path.extension().is_some_and(|kind| kind == "json" || kind == "yaml") => files.push(path),
            _ => {}
        }
    }
}

/// How a family is called in a scrape.
fn shown(name: &str, kind: &str) -> String {
    if kind == "counter" { format!("{name}_total") } else { name.to_owned() }
}

/// The series of a family.
fn series(name: &str, kind: &str) -> Vec<String> {
    match kind {
        "histogram" => ["bucket", "sum", "count"].map(|part| format!("{name}_{part}")).to_vec(),
        _ => vec![shown(name, kind)],
    }
}

/// Words of a text that are names of metrics.
fn named(text: &str) -> Vec<&str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_word(letter));
    words.filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX)).collect()
}

fn registered(sources: &[Source]) -> BTreeMap<String, Metric> {
    let product =
        sources.iter().filter(|source| source.path.contains("/src/") && !source.path.contains("/tests"));
    let mut all: BTreeMap<_, _> = product.flat_map(in_source).collect();
    // Made by the registry itself.
    let help = "Label sets beyond the cap of a family, counted as other".to_owned();
    if !all.is_empty() {
        all.insert(OVERFLOW.to_owned(), Metric { kind: "counter", labels: vec!["family".to_owned()], help });
    }
    all
}

/// What a source registers: `kind(NAME, HELP, LABELS)`, where the help may stand in a `let` above.
fn in_source(source: &Source) -> Vec<(String, Metric)> {
    // Test modules stand last.
    let text = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let starts = text.match_indices("\"portcullis_").map(|(at, _)| at);
    starts.filter_map(|at| registration(text, at)).collect()
}

fn registration(text: &str, at: usize) -> Option<(String, Metric)> {
    let (name, rest) = literal(text.get(at..)?)?;
    let opening = text.get(..at)?.trim_end();
    let kind =
        match opening.strip_suffix('(')?.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next()? {
            "counter" => "counter",
            "gauge" => "gauge",
            "histogram" => "histogram",
            _ => return None,
        };
    let rest = rest.trim_start().strip_prefix(',')?.trim_start();
    let (help, rest) = match literal(rest) {
        Some((help, rest)) => (help.to_owned(), rest),
        None => {
            let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))?;
            let (variable, rest) = rest.split_at_checked(end)?;
            let given = text.get(..at)?.rsplit_once(&format!("let {variable} = "))?.1;
            (literal(given)?.0.to_owned(), rest)
        }
    };
    let labels = rest.trim_start().strip_prefix(',').unwrap_or_default().trim_start();
    let labels = labels.strip_prefix("&[").and_then(|list| list.split_once(']')).map_or("", |(list, _)| list);
    let labels =
        labels.split(',').filter_map(|label| literal(label.trim())).map(|(label, _)| label.to_owned());
    Some((name.to_owned(), Metric { kind, labels: labels.collect(), help }))
}

/// The text literal that `text` begins with, and what follows it. None of ours has an escape.
fn literal(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

pub fn broken() -> Vec<Trial> {
    let of = |text: &str| Source { path: "a/src/meter.rs".to_owned(), text: text.to_owned() };
    let source = of(
        "let help = \"What was refused.\";\nmetrics.counter(\"portcullis_shed\", help, &[\"reason\"]);\n\
         metrics\n.histogram(\n\"portcullis_wait_seconds\",\n\"How long.\",\n&[],\n);\nconst X: &str = \"portcullis_other\";\n\
         #[cfg(test)]\nmod tests { gauge(\"portcullis_of_a_test\", \"No.\") }",
    );
    vec![breaks(
        "metrics_are_read_as_they_are_registered",
        move || {
            registered(&[source])
                .iter()
                .map(|(name, metric)| {
                    format!("{} {:?} {}", shown(name, metric.kind), metric.labels, metric.help)
                })
                .collect()
        },
        &[
            "portcullis_metrics_overflow_total",
            "portcullis_shed_total [\"reason\"] What was refused.",
            "portcullis_wait_seconds [] How long.",
        ],
    )]
}
