//! `policy suggest --since`: permits and cases from all denials of a range, as the running process proposes them (EX8).
//! The file of permits goes to stdout, what it would do to stderr; with `--write` both files into a directory, and
//! nothing that stands there is overwritten.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::impact::{RangeOptions, rest};
use super::shown::text;
use crate::cli::Global;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

const POLICIES: &str = "suggested.cedar";
const CASES: &str = "suggested_test.json";

/// Mines `range`. Exit 4 when not all of it was looked at.
pub(super) fn mine(range: RangeOptions, write: Option<PathBuf>, global: &Global) -> Exit {
    let body = match range.body() {
        Ok(body) => body,
        Err(fault) => return global.fail(&fault),
    };
    // Two walks: one that mines, one that tells the effect.
    let patience = range.time_limit() * 2;
    global.ask(|client| async move {
        let mined = client.ask("/v1/policies:suggest", &body, patience).await?;
        let is_partial = mined.get("partial").and_then(Value::as_bool).unwrap_or(false);
        let told = format!("{}{}", text(&mined, "text"), rest(&mined));
        told.trim_end().lines().for_each(|line| output::talk(&format!("# {line}")));
        let exit = if is_partial { Exit::Partial } else { Exit::Done };
        let policies = text(&mined, "policies").to_owned();
        let shown = match &write {
            Some(dir) if !policies.is_empty() => self::write(dir, &policies, mined.get("cases"))?.join("\n"),
            Some(_) => "nothing to write".to_owned(),
            None => policies.trim_end().to_owned(),
        };
        Ok((Answer::object("Mining", mined, shown), exit))
    })
}

/// Writes both files; gives what was written.
fn write(dir: &Path, policies: &str, cases: Option<&Value>) -> Result<Vec<String>, Fault> {
    let cases = serde_json::to_string_pretty(&cases.cloned().unwrap_or_default()).unwrap_or_default();
    let texts = [(dir.join(POLICIES), policies.to_owned()), (dir.join(CASES), format!("{cases}\n"))];
    if let Some((path, _)) = texts.iter().find(|(path, _)| path.exists()) {
        let message = Message::error("PC0150", format!("`{}` stands there already", path.display()))
            .help("move it, or write into another directory");
        return Err(Fault::new(
            Exit::Invalid,
            message.next("portcullis policy suggest --since 24h --write DIR"),
        ));
    }
    let mut written = Vec::new();
    for (path, text) in texts {
        let create = || fs::OpenOptions::new().write(true).create_new(true).open(&path);
        fs::create_dir_all(dir)
            .and_then(|()| create())
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| {
                Fault::new(Exit::Failed, Message::error("PC0107", format!("`{}`: {error}", path.display())))
            })?;
        written.push(format!("wrote {}", path.display()));
    }
    written.push(format!("next: portcullis policy impact {}", dir.display()));
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ex8_both_files_are_written_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("new");
        let written = write(&below, "// permits\n", Some(&json!([{ "name": "a" }]))).unwrap();
        assert_eq!(written.len(), 3);
        assert_eq!(fs::read_to_string(below.join(POLICIES)).unwrap(), "// permits\n");
        assert!(fs::read_to_string(below.join(CASES)).unwrap().contains("\"name\": \"a\""));
        fs::remove_file(below.join(POLICIES)).unwrap();
        assert_eq!(write(&below, "// others\n", None).unwrap_err().message.code, "PC0150");
        assert!(!below.join(POLICIES).exists(), "half of it was written");
    }
}
