//! The rows of docs/threat-model.md: each attack of the list with the tests that show what holds.

use std::fs;

use crate::{ids, reference, workspace::Workspace};

const PAGE: &str = "docs/threat-model.md";
const MARK: &str = "<!-- rows -->\n";
const CHAPTER: &str = "# Under attack and fault";
const HEAD: &str = "\n| id | attack or fault | tests |\n|---|---|---|\n";

/// The rows are what list and tests say. `PORTCULLIS_WRITE_REFERENCE=1` writes them.
pub fn page(workspace: &Workspace) -> Vec<String> {
    let file = workspace.root.join(PAGE);
    let Ok(written) = fs::read_to_string(&file) else { return vec![format!("`{PAGE}` cannot be read")] };
    let Some((told, _)) = written.split_once(MARK) else {
        return vec![format!("`{PAGE}` has no line `{}`", MARK.trim())];
    };
    let page = format!("{told}{MARK}{HEAD}{}", rows(workspace));
    reference::hold(workspace, PAGE, &page)
}

fn rows(workspace: &Workspace) -> String {
    let names = ids::test_names(&workspace.sources);
    let mut is_in = false;
    let lines = workspace.requirements.lines().filter(|line| {
        if line.starts_with("# ") {
            is_in = *line == CHAPTER;
        }
        is_in || line.split(' ').nth(1).is_some_and(|id| id.starts_with("threat-"))
    });
    lines
        .filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let (state, id, meaning) = (words.next()?, words.next()?, words.next()?);
            if !["done", "open"].contains(&state) {
                return None;
            }
            let named = ids::named_after(id, &names);
            let tests = match named.first() {
                None => "none yet".to_owned(),
                Some(first) => format!("{}: `{first}`", named.len()),
            };
            let state = if state == "done" { "" } else { " (open)" };
            Some(format!(
                "| {}{state} | {} | {tests} |\n",
                id.trim_start_matches("threat-"),
                meaning.replace('|', "\\|")
            ))
        })
        .collect()
}
