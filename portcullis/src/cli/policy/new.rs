//! `policy new`: a policy to begin with, and its first case, as files that are valid as they stand.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::Global;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// Its @id, which is also the name of its file
    #[arg(required_unless_present = "test")]
    id: Option<String>,
    /// A case of `policy test` from a recorded decision instead: its id, or PREFIX…SUFFIX
    #[arg(long, value_name = "DECISION", conflicts_with = "id")]
    test: Option<String>,
    /// Add that case to recorded_test.json of this directory
    #[arg(long, value_name = "DIR", requires = "test")]
    write: Option<PathBuf>,
    /// Directory [default: policies.dir of the configuration]
    #[arg(long, conflicts_with = "test")]
    dir: Option<PathBuf>,
}

pub(super) fn new(options: NewOptions, global: &Global) -> Exit {
    let id = match (options.test, options.id) {
        (Some(decision), _) => return super::case::case(decision, options.write, global),
        (None, id) => id.unwrap_or_default(),
    };
    let (dir, _) = match super::place(options.dir, global) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    match write(&dir, &id) {
        Ok(files) => {
            let text = format!("{}\nnext: portcullis policy test {}", files.join("\n"), dir.display());
            Answer::object("NewPolicy", json!({ "id": id, "files": files }), text).print(global.format());
            Exit::Done
        }
        Err(fault) => global.fail(&fault),
    }
}

pub(super) fn write(dir: &Path, id: &str) -> Result<Vec<String>, Fault> {
    let is_id = id.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && id.len() <= 128
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
    if !is_id {
        let text = format!("`{id}` is no policy id");
        let fault = Message::error("PC2101", text).help("an id is a-z, 0-9, ., _ and -, such as orders-read");
        return Err(Fault::new(Exit::Usage, fault.next("portcullis policy new orders-read")));
    }
    let files = [(format!("{id}.cedar"), POLICY), (format!("{id}_test.json"), CASES)];
    let mut written = Vec::new();
    for (name, text) in files {
        let path = dir.join(&name);
        let create = || fs::OpenOptions::new().write(true).create_new(true).open(&path);
        let fault = |error: std::io::Error| {
            let code = if error.kind() == std::io::ErrorKind::AlreadyExists { "PC0150" } else { "PC0107" };
            Fault::new(
                Exit::Invalid,
                Message::error(code, format!("`{}`: {error}", path.display()))
                    .next("portcullis policy new --help"),
            )
        };
        fs::create_dir_all(dir)
            .and_then(|()| create())
            .and_then(|mut file| file.write_all(text.replace("ID", id).as_bytes()))
            .map_err(fault)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

const POLICY: &str = r#"// What this is for, and who asked for it.
@id("ID")
@owner("your-team")
permit (
  principal == Workload::"spiffe://example.org/web",
  action in Action::"http:read",
  resource
)
when { context.request.path == "/ID" };
"#;

const CASES: &str = r#"[
  {
    "name": "web may read /ID",
    "request": {
      "principal": "Workload::\"spiffe://example.org/web\"",
      "action": "Action::\"http:GET\"",
      "resource": "Route::\"site\"",
      "context": {
        "connection": { "mtls": true, "tls": 13, "source_ip": { "fn": "ip", "arg": "10.0.0.7" }, "listener": "public", "protocol": { "type": "Protocol", "id": "h2" } },
        "request": { "method": "GET", "host": "localhost", "path": "/ID", "segments": { "0": "ID" }, "segment_count": 1, "params": {}, "query": {}, "query_names": [], "headers": {} },
        "time": { "now": { "fn": "datetime", "arg": "2026-11-22T07:00:00Z" }, "weekday": 7, "minute": 420 }
      }
    },
    "entities": [],
    "decision": "allow",
    "reason": ["ID"],
    "num_errors": 0
  },
  {
    "name": "web may not read what is beside it",
    "request": {
      "principal": "Workload::\"spiffe://example.org/web\"",
      "action": "Action::\"http:GET\"",
      "resource": "Route::\"site\"",
      "context": {
        "connection": { "mtls": true, "tls": 13, "source_ip": { "fn": "ip", "arg": "10.0.0.7" }, "listener": "public", "protocol": { "type": "Protocol", "id": "h2" } },
        "request": { "method": "GET", "host": "localhost", "path": "/", "segments": {}, "segment_count": 0, "params": {}, "query": {}, "query_names": [], "headers": {} },
        "time": { "now": { "fn": "datetime", "arg": "2026-11-22T07:00:00Z" }, "weekday": 7, "minute": 420 }
      }
    },
    "entities": [],
    "decision": "deny",
    "reason": [],
    "num_errors": 0
  }
]
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_policy_is_valid_and_its_case_passes() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "orders-read").unwrap();
        assert_eq!(files.len(), 2);
        let report = policies_store::run_cases(dir.path(), &policies_engine::EntitySet::default());
        assert!(report.diagnostics.is_empty(), "{:?}", report.diagnostics);
        assert_eq!(report.cases.len(), 2);
        assert!(report.cases.iter().all(|case| case.failure.is_none()), "{:?}", report.cases);
    }

    #[test]
    fn nothing_is_overwritten_and_a_bad_id_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a").unwrap();
        assert_eq!(write(dir.path(), "a").unwrap_err().message.code, "PC0150");
        for bad in ["", "A", "a/b", "../a", "a b", "-a", &"a".repeat(129)] {
            assert_eq!(write(dir.path(), bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
