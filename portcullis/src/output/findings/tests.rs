//! The forms of findings, as the tools that read them ask for.

use super::*;
use crate::messages::Place;

fn finding(file: &str, severity: Severity, text: &str) -> Finding {
    let place =
        Place { file: file.to_owned(), line: 3, column: 5, source: "    permit (".to_owned(), length: 6 };
    let message = Message {
        severity,
        ..Message::error("PC2103", text).at(place).help("say <who> & \"what\", 100%\nnow")
    };
    Finding { message, fix: None }
}

fn findings() -> Findings {
    let mut one = finding("a dir/a:b.cedar", Severity::Error, "everybody\u{1b}[31m");
    one.fix = Some(Fix { range: 4..9, text: "x".to_owned() });
    let looked_at =
        ["a dir/a:b.cedar", "ok.cedar"].map(|file| LookedAt { file: file.to_owned(), name: None });
    let elsewhere = finding("gone.cedar", Severity::Note, "note");
    Findings {
        command: "policy lint",
        findings: vec![one, elsewhere],
        looked_at: looked_at.into(),
        summary: Vec::new(),
    }
}

#[test]
fn github_annotations_stay_on_one_line_and_escape_what_has_a_meaning() {
    let found = findings();
    let line = annotation(&found.findings[0].message);
    assert_eq!(
        line,
        "::error file=a dir/a%3Ab.cedar,line=3,col=5,endColumn=11,title=PC2103::everybody\\u{1b}[31m%0Asay <who> & \"what\", 100%25%0Anow"
    );
    assert!(annotation(&found.findings[1].message).starts_with("::notice file=gone.cedar,"));
    let mut whole = found.findings[0].message.clone();
    whole.place = Some(Place { file: "a".to_owned(), line: 0, column: 0, source: String::new(), length: 1 });
    assert!(annotation(&whole).starts_with("::error file=a,title=PC2103::"));
}

#[test]
fn sarif_names_the_rule_the_place_and_the_edit() {
    let log = sarif::log(&findings());
    assert_eq!(
        (&log["version"], &log["runs"][0]["tool"]["driver"]["name"]),
        (&json!("2.1.0"), &json!("portcullis"))
    );
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!((rules.len(), &rules[0]["id"]), (1, &json!("PC2103")));
    assert_eq!(rules[0]["shortDescription"]["text"], messages_title("PC2103"));
    let results = log["runs"][0]["results"].as_array().unwrap();
    assert_eq!(
        (&results[0]["ruleIndex"], &results[0]["level"], &results[1]["level"]),
        (&json!(0), &json!("error"), &json!("note"))
    );
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20dir/a%3Ab.cedar");
    assert_eq!(place["region"], json!({ "startLine": 3, "startColumn": 5, "endColumn": 11 }));
    let change = &results[0]["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(change["deletedRegion"], json!({ "byteOffset": 4, "byteLength": 5 }));
    assert_eq!(results[1].get("fixes"), None);
}

fn messages_title(code: &str) -> &'static str {
    crate::messages::find(code).unwrap().title
}

#[test]
fn junit_is_well_formed_and_counts_what_failed() {
    let text = junit::document(&findings());
    assert!(text.contains("tests=\"3\" failures=\"2\""), "{text}");
    assert!(text.contains("<testcase classname=\"ok.cedar\" name=\"policies\"/>"), "{text}");
    assert!(text.contains("say &lt;who&gt; &amp; &quot;what&quot;") && !text.contains('\u{1b}'), "{text}");
    let opened = text.matches("<testcase").count();
    assert_eq!(opened, text.matches("</testcase>").count() + text.matches("\"/>").count());
}

#[test]
fn cases_of_one_file_fail_on_their_own() {
    let looked_at =
        ["one", "two"].map(|name| LookedAt { file: "t.json".to_owned(), name: Some(name.to_owned()) });
    let failed = finding("t.json", Severity::Error, "`two` failed: expected allow");
    let all = Findings {
        command: "policy test",
        findings: vec![failed],
        looked_at: looked_at.into(),
        summary: Vec::new(),
    };
    let text = junit::document(&all);
    assert!(text.contains("name=\"one\"/>") && text.contains("name=\"two\"><failure"), "{text}");
}

#[test]
fn a_level_is_reached_by_what_is_as_bad_or_worse() {
    let reached = |level: Level| {
        [Severity::Note, Severity::Warning, Severity::Error].map(|severity| level.is_reached_by(severity))
    };
    assert_eq!(reached(Level::Note), [true, true, true]);
    assert_eq!(reached(Level::Warning), [false, true, true]);
    assert_eq!(reached(Level::Error), [false, false, true]);
}

#[test]
fn what_was_found_is_counted_in_words() {
    assert_eq!(findings().count(), "2 findings: 1 error, 1 note");
    assert_eq!(Findings::default().count(), "no findings");
}
