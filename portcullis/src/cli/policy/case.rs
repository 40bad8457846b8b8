//! `policy new --test ID`: a case that expects what was decided then, as JSON or added to a directory (TE3).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::Global;
use crate::cli::decisions::encode;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

/// Where recorded cases are gathered.
const CASES: &str = "recorded_test.json";

/// The case of decision `id`; with `write` added to the cases of that directory.
pub(super) fn case(id: String, write: Option<PathBuf>, global: &Global) -> Exit {
    global.ask(|client| async move {
        let found = client.get(&format!("/v1/decisions/{}/case", encode(&id))).await?;
        let case = found.get("case").cloned().unwrap_or_default();
        let text = match write {
            Some(dir) => {
                let path = add(&dir, case)?;
                format!("added to {}\nnext: portcullis policy test {}", path.display(), dir.display())
            }
            None => serde_json::to_string_pretty(&[case]).unwrap_or_default(),
        };
        Ok((Answer::object("Case", found, text), Exit::Done))
    })
}

/// Adds a case to the recorded ones, unless one of that name is there.
fn add(dir: &Path, case: Value) -> Result<PathBuf, Fault> {
    let path = dir.join(CASES);
    let fault = |code, cause: String| {
        Fault::new(Exit::Invalid, Message::error(code, format!("`{}`: {cause}", path.display())))
    };
    let mut cases: Vec<Value> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| fault("PC0107", format!("not a list of cases: {error}")))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(fault("PC0107", error.to_string())),
    };
    if let Some(name) =
        case.get("name").filter(|name| cases.iter().any(|known| known.get("name") == Some(name)))
    {
        return Err(fault("PC0150", format!("a case {name} stands there already")));
    }
    cases.push(case);
    let text = serde_json::to_string_pretty(&cases).map_err(|error| fault("PC0107", error.to_string()))?;
    // Beside and renamed: whoever reads the directory meanwhile reads all of the old or all of the new.
    let beside = path.with_extension("tmp");
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&beside, format!("{text}\n")))
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|error| fault("PC0107", error.to_string()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn te3_cases_are_added_once_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("new");
        add(&below, json!({ "name": "a" })).unwrap();
        let path = add(&below, json!({ "name": "b" })).unwrap();
        assert_eq!(add(&below, json!({ "name": "a", "x": 1 })).unwrap_err().message.code, "PC0150");
        let cases: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(cases, json!([{ "name": "a" }, { "name": "b" }]));
        fs::write(&path, "{}").unwrap();
        assert!(
            add(&below, json!({ "name": "c" })).unwrap_err().message.text.contains("not a list of cases")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(fs::read_dir(&below).unwrap().count(), 1);
    }
}
