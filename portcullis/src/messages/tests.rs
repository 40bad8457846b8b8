//! The registry against the sources, and how messages look.

use super::*;

impl Message {
    fn labelled(self, label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..self }
    }
}

#[test]
fn codes_are_unique_and_in_order() {
    for pair in codes().collect::<Vec<_>>().windows(2) {
        assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
    }
    assert!(find("pc0103").is_some());
}

#[test]
fn er1_every_code_of_every_crate_is_in_the_registry() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for area in ["base", "ca", "enforcer", "policies", "portcullis"] {
        collect(&workspace.join(area), &mut found);
    }
    assert!(found.contains(&"PC2001".to_owned()), "the search finds nothing");
    let unknown: Vec<_> = found.iter().filter(|code| find(code).is_none()).collect();
    assert!(unknown.is_empty(), "codes that `portcullis code` does not know: {unknown:?}");
    let unused: Vec<_> =
        codes().map(|code| code.code).filter(|code| !found.contains(&(*code).to_owned())).collect();
    assert!(unused.is_empty(), "codes that nothing uses: {unused:?}");
}

/// The codes in string literals of the sources below `dir`, without the registry itself and without tests.
fn collect(dir: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap_or_default());
        if path.is_dir() && name != "tests" && name != "codes" {
            collect(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "codes.rs" {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split_once("#[cfg(test)]\nmod tests {").map_or(text.as_str(), |(code, _)| code);
            let literals = code.split("\"PC").skip(1).filter_map(|rest| rest.get(..5)?.strip_suffix('"'));
            found.extend(
                literals
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .map(|digits| format!("PC{digits}")),
            );
        }
    }
}

#[test]
fn a_message_shows_the_line_and_points_at_it() {
    let text = "version = 1\n[[ca.entry]]\nselector = [\"unix:user:web\"]\n";
    let start = text.find("selector").unwrap();
    let shown = Message::error("PC0103", "unknown key `selector` in [[ca.entry]]")
        .at(Place::of("portcullis.toml", text, start..start + 8))
        .labelled("did you mean `selectors`?")
        .help("keys are a, b")
        .next("portcullis config explain ca.entry")
        .to_string();
    assert_eq!(
        shown,
        "error[PC0103]: unknown key `selector` in [[ca.entry]]\n --> portcullis.toml:3:1\n3 | selector = [\"unix:user:web\"]\n  | ^^^^^^^^ did you mean `selectors`?\nhelp: keys are a, b\nnext: portcullis config explain ca.entry"
    );
}

#[test]
fn ou6_hostile_text_reaches_no_terminal_and_the_mark_stays_below_its_word() {
    let text = "\t\tname\u{1b}[2J = 1";
    let shown = Message::error("PC0103", "unknown key `\u{202e}`")
        .at(Place::of("a\nb", text, 2..6))
        .help("\u{7}")
        .to_string();
    assert_eq!(
        shown,
        "error[PC0103]: unknown key `\\u{202e}`\n --> a\\nb:1:3\n1 |   name\\u{1b}[2J = 1\n  |   ^^^^\nhelp: \\u{7}"
    );
}

#[test]
fn a_long_line_is_shown_around_the_mark() {
    let text = format!("{}\u{7}here{}", "a".repeat(100_000), "b".repeat(100_000));
    let shown = Message::error("PC0101", "no")
        .at(Place::of("f", &text, 100_001..100_005))
        .labelled("this")
        .to_string();
    let lines: Vec<_> = shown.lines().skip(1).collect();
    assert_eq!(lines[0], " --> f:1:100002");
    assert_eq!(lines[1], format!("1 | …{}\\u{{7}}here{}", "a".repeat(79), "b".repeat(40)));
    assert_eq!(lines[2], format!("  | {}^^^^ this", " ".repeat(1 + 79 + 5)));
}

#[test]
fn a_file_as_a_whole_has_no_line() {
    let whole =
        Place { file: "orders.cedar".to_owned(), line: 0, column: 0, source: String::new(), length: 1 };
    let message = Message::error("PC2001", "twice").at(whole).labelled("here");
    assert_eq!(message.to_string(), "error[PC2001]: twice\n --> orders.cedar\n  here");
    assert_eq!(message.to_json()["line"], serde_json::Value::Null);
}

#[test]
fn did_you_mean_takes_near_words_only() {
    let known = ["selectors", "spiffe_id", "hint"];
    assert_eq!(nearest("selector", known.into_iter()), Some("selectors"));
    assert_eq!(nearest("spifeid", known.into_iter()), Some("spiffe_id"));
    assert_eq!(nearest("banana", known.into_iter()), None);
}
