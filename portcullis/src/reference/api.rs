//! Every path of the REST API.

use serde_json::Value;

use super::{cell, hold};

const HEAD: &str = "# REST API\n\nEvery path of the API, on the admin socket and for callers with an SVID at `[ca] listen`. The running process serves the whole\ndocument at `/openapi.json` and shows it at `/docs`. Which right a call needs is in docs/guide.md; every call is judged by Cedar\nand on record.\n\n| call | what it does | answers |\n|---|---|---|\n";

#[test]
fn the_reference_of_the_api_has_every_path() {
    let document = serde_json::to_value(crate::admin::document()).unwrap();
    let mut rows = Vec::new();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let said =
                |name: &str| call[name].as_str().unwrap_or_default().trim().trim_end_matches('.').to_owned();
            let (summary, more) = (said("summary"), said("description"));
            let text = if more.is_empty() { summary } else { format!("{summary}. {more}") };
            let answers = call["responses"].as_object().into_iter().flatten().map(|(status, answer)| {
                format!("{status}: {}", cell(answer["description"].as_str().unwrap_or_default()))
            });
            let answers = answers.collect::<Vec<_>>().join("; ");
            rows.push(format!("| `{} {path}` | {} | {answers} |\n", method.to_uppercase(), cell(&text)));
        }
    }
    rows.sort_by(|a, b| a.split('/').skip(1).cmp(b.split('/').skip(1)));
    check(&document);
    hold("api.md", &rows.into_iter().fold(HEAD.to_owned(), |page, row| page + &row));
}

/// What a reader of the document expects: each call says what it does and what it answers.
fn check(document: &Value) {
    let paths = document["paths"].as_object().unwrap().iter();
    let calls =
        paths.flat_map(|(path, calls)| calls.as_object().unwrap().iter().map(move |call| (path, call)));
    let says = |call: &Value| {
        (call["summary"].is_string() || call["description"].is_string()) && call["responses"].is_object()
    };
    let silent: Vec<_> =
        calls.filter(|(_, (_, call))| !says(call)).map(|(path, (method, _))| (method, path)).collect();
    assert!(silent.is_empty(), "these say nothing in the document: {silent:?}");
}
