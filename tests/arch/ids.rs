//! Requirement ids and the tests that are named after them (SETTLED S2).
//!
//! `docs/requirements.txt` has a line `done ID meaning` or `open ID meaning` for each id. A test answers an id when its
//! name starts with it, in lower case and with `_` for `-`; one name may start with several ids.

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use crate::{
    breaks,
    workspace::{Source, Workspace},
};

#[derive(Debug)]
struct Requirement<'a> {
    done: bool,
    id: &'a str,
    /// The id as it stands in test names.
    word: String,
}

/// Ids marked done without a test, and lines that cannot be read. Ids that are open and without a test are printed.
pub fn done_without_test(workspace: &Workspace) -> Vec<String> {
    let (requirements, mut found) = parse(&workspace.requirements);
    let answered = answered(&requirements, &test_names(&workspace.sources));
    let missing = requirements.iter().filter(|it| !answered.contains(it.id));
    let (done, open): (Vec<_>, Vec<_>) = missing.partition(|it| it.done);
    found.extend(
        done.iter()
            .map(|it| format!("`{}` is marked done and no test name starts with `{}`", it.id, it.word)),
    );
    if !open.is_empty() && workspace.root.is_absolute() {
        let open: Vec<&str> = open.iter().map(|it| it.id).collect();
        println!("open ids without a test: {}", open.join(" "));
    }
    found
}

fn parse(text: &str) -> (Vec<Requirement<'_>>, Vec<String>) {
    let mut seen = BTreeSet::new();
    let mut requirements = Vec::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(state @ ("done" | "open")), Some(id), Some(_)) if seen.insert(id) => {
                let word = id.to_ascii_lowercase().replace('-', "_");
                requirements.push(Requirement { done: state == "done", id, word });
            }
            (Some("done" | "open"), Some(id), Some(_)) => {
                found.push(format!("`{id}` stands twice in the list"))
            }
            _ => found.push(format!("`{line}` is not `done|open ID meaning`")),
        }
    }
    (requirements, found)
}

/// The ids that some test name starts with.
fn answered<'a>(requirements: &[Requirement<'a>], names: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let mut answered = BTreeSet::new();
    for name in names {
        let mut rest = *name;
        while let Some((it, behind)) = requirements.iter().find_map(|it| Some((it, behind(rest, &it.word)?)))
        {
            answered.insert(it.id);
            rest = behind;
        }
    }
    answered
}

/// The names that start with an id.
pub fn named_after<'a>(id: &str, names: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let word = id.to_ascii_lowercase().replace('-', "_");
    names.iter().copied().filter(|name| behind(name, &word).is_some()).collect()
}

/// What follows the id in a name that starts with it.
fn behind<'a>(name: &'a str, word: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(word)?;
    rest.strip_prefix('_').or(rest.is_empty().then_some(rest)).filter(|_| !word.is_empty())
}

/// Names of functions with a test attribute, and of every function and quoted name of the suites without harness.
pub fn test_names(sources: &[Source]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for file in sources {
        let suite = file.path.starts_with("tests/");
        let mut marked = false;
        for line in file.text.lines().map(str::trim) {
            let is_attribute = line.starts_with("#[");
            marked |= is_attribute && (line.contains("test]") || line.contains("test("));
            if let Some(name) = function_name(line) {
                if marked || suite {
                    names.insert(name);
                }
                marked = false;
            } else if !is_attribute && !line.starts_with("//") {
                marked = false;
            }
            if suite {
                names.extend(line.split('"').skip(1).step_by(2).filter(|text| is_name(text)));
            }
        }
    }
    names
}

fn function_name(line: &str) -> Option<&str> {
    let (before, behind) = line.split_once("fn ")?;
    let starts = before.split_whitespace().all(|word| matches!(word, "pub" | "async" | "pub(crate)"));
    let name = behind.split(['(', '<']).next()?;
    (starts && is_name(name)).then_some(name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

pub fn broken() -> Vec<Trial> {
    vec![
        breaks(
            "broken_a_done_id_without_test_is_found",
            || done_without_test(&made()),
            &["`WL-2` is marked", "`WL-9` is marked", "`X5-01` is marked"],
        ),
        breaks(
            "broken_an_unreadable_list_is_found",
            || done_without_test(&unreadable()),
            &["`WL-1` stands twice", "`later WL-3 x`", "`done WL-4`"],
        ),
    ]
}

fn made() -> Workspace {
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    Workspace {
        requirements: "# list\ndone WL-1 a\ndone WL-2 b\nopen WL-3 c\ndone WL-9 d\ndone X5-01 e\ndone WL-10 f\ndone E2-1 g\ndone E2-2 h\n".into(),
        sources: vec![
            file("a/src/x.rs", "#[test]\n// why\nfn wl_10_wl_1_is_met() {}\nfn wl_2_not_a_test() {}\n#[test]\nconst A: u8 = 1;\nfn x5_01_unmarked() {}\n"),
            file("a/src/y.rs", "#[test]\nfn wl_99_is_not_wl_9() {}\n"),
            file("tests/e2e/z.rs", "fn e2_1_story() {}\nTrial::test(\"e2_2_by_name\", run)\n"),
        ],
        ..Workspace::default()
    }
}

fn unreadable() -> Workspace {
    let sources = vec![Source { path: "a/src/x.rs".into(), text: "#[test]\nfn wl_1_is_met() {}\n".into() }];
    Workspace {
        requirements: "done WL-1 a\nopen WL-1 b\nlater WL-3 x\ndone WL-4\n".into(),
        sources,
        ..Workspace::default()
    }
}
