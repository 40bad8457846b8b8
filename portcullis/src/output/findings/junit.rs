//! JUnit XML: a test case for each thing that was looked at; it fails with the findings about it. A finding about
//! something else is a failing case of its own.

use super::{Finding, Findings, LookedAt};

/// The document.
pub(super) fn document(findings: &Findings) -> String {
    let mut left: Vec<&Finding> = findings.findings.iter().collect();
    let mut cases = Vec::new();
    for looked_at in &findings.looked_at {
        let (of_this, others): (Vec<&Finding>, Vec<&Finding>) =
            left.into_iter().partition(|finding| is_about(finding, looked_at));
        cases.push(case(&looked_at.file, looked_at.name.as_deref().unwrap_or("policies"), &of_this));
        left = others;
    }
    cases.extend(left.iter().map(|finding| {
        let file = finding.message.place.as_ref().map_or("-", |place| &place.file);
        case(file, finding.message.code, std::slice::from_ref(finding))
    }));
    let failed = cases.iter().filter(|case| case.contains("<failure")).count();
    let name = format!("portcullis {}", findings.command);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\">\n{}\n</testsuite>\n</testsuites>",
        escaped(&name),
        cases.len(),
        cases.join("\n"),
    )
}

fn is_about(finding: &Finding, looked_at: &LookedAt) -> bool {
    let file = finding.message.place.as_ref().map(|place| &place.file);
    let is_named =
        looked_at.name.as_ref().is_none_or(|name| finding.message.text.starts_with(&format!("`{name}`")));
    file == Some(&looked_at.file) && is_named
}

fn case(file: &str, name: &str, findings: &[&Finding]) -> String {
    let head = format!("<testcase classname=\"{}\" name=\"{}\"", escaped(file), escaped(name));
    if findings.is_empty() {
        return format!("{head}/>");
    }
    let failure = |finding: &&Finding| {
        let message = &finding.message;
        format!(
            "<failure type=\"{}\" message=\"{}\">{}</failure>",
            message.code,
            escaped(&message.text),
            escaped(&message.to_string())
        )
    };
    format!("{head}>{}</testcase>", findings.iter().map(failure).collect::<String>())
}

/// Text and attribute values; what XML 1.0 has no way to write becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            c if u32::from(c) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
