//! Files of policies between a directory and versions: `policy pull`, `export`, `import`, and what `push` and `diff`
//! read. Only names that the watched directory reads count; nothing is overwritten without being told so.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use policies_engine::PolicySource;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{Answer, Exit};

use super::shown::number;

/// Largest file that is read, bytes; the store names its own caps.
const FILE_BYTES: u64 = 64 << 20;
/// Files that replace shipped ones stand here.
const SHIPPED: &str = "baseline";
const FORMAT: &str = "portcullis-policies/1";

/// Texts by name.
pub(super) type Files = BTreeMap<String, String>;

#[derive(Debug, Args)]
pub(crate) struct PullOptions {
    /// Directory to write
    dir: PathBuf,
    /// Version to write [default: the newest]
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// Overwrite what differs and delete what the version does not have
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// File to write; - for stdout
    file: PathBuf,
    /// Version to export [default: the newest]
    #[arg(long, value_name = "V", conflicts_with = "snapshot")]
    version: Option<String>,
    /// The signed snapshot in force, with everything in it: what a follower may begin with
    #[arg(long)]
    snapshot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// File that export wrote; - for stdin
    file: PathBuf,
    #[command(flatten)]
    change: super::push::About,
}

pub(super) fn pull(options: PullOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let (version, wanted) = version(&client, options.version.as_deref()).await?;
        let there = if options.dir.is_dir() { read(&options.dir)? } else { Files::new() };
        let differs: Vec<_> = there
            .iter()
            .filter(|(name, text)| wanted.get(*name) != Some(text))
            .map(|(name, _)| name.clone())
            .collect();
        if !differs.is_empty() && !options.yes {
            let text = format!("`{}` has other files: {}", options.dir.display(), differs.join(", "));
            let fault = Message::error("PC0150", text)
                .help("--yes overwrites them, and deletes what the version does not have");
            return Err(Fault::new(
                Exit::Usage,
                fault.next(format!("portcullis policy diff v{version} {}", options.dir.display())),
            ));
        }
        write(&options.dir, &wanted, &there).map_err(|error| unreadable(&options.dir, &error))?;
        let names: Vec<_> = wanted.keys().cloned().collect();
        let text = format!("{} files of policies v{version} in {}", names.len(), options.dir.display());
        let answer = json!({ "version": version, "dir": options.dir.display().to_string(), "files": names });
        Ok((Answer::object("Pull", answer, text), Exit::Done))
    })
}

pub(super) fn export(options: ExportOptions, global: &Global) -> Exit {
    if options.snapshot {
        return super::snapshot::export(options.file, global);
    }
    global.ask(|client| async move {
        let (version, files) = version(&client, options.version.as_deref()).await?;
        let about = client.get(&format!("/v1/policies/versions/{version}")).await?;
        let document = json!({ "format": FORMAT, "version": about, "files": files });
        let text = format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default());
        if options.file.as_os_str() == "-" {
            return Ok((Answer { json: document, text: text.trim_end().to_owned() }, Exit::Done));
        }
        fs::write(&options.file, text).map_err(|error| unreadable(&options.file, &error))?;
        let text = format!("policies v{version} in {}", options.file.display());
        let answer = json!({ "version": version, "file": options.file.display().to_string() });
        Ok((Answer::object("Export", answer, text), Exit::Done))
    })
}

pub(super) fn import(options: ImportOptions, global: &Global) -> Exit {
    let files = match exported(&options.file) {
        Ok(files) => files,
        Err(fault) => return global.fail(&fault),
    };
    let source = super::push::Source {
        again: format!("portcullis policy import {}", options.file.display()),
        dir: None,
    };
    super::push::send(files, source, options.change, global)
}

fn exported(path: &Path) -> Result<Files, Fault> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_BYTES).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| unreadable(path, &error))?;
    let bad = |text: String| {
        let text = format!("`{}` is no export of policies: {text}", path.display());
        Fault::new(Exit::Invalid, Message::error("PC0107", text).next("portcullis policy export FILE"))
    };
    let document: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if document.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(bad(format!("`format` is not `{FORMAT}`")));
    }
    let files = document.get("files").cloned().unwrap_or_default();
    serde_json::from_value(files).map_err(|error| bad(format!("files: {error}")))
}

/// The files of a version and its number; of the newest unless one is named.
pub(super) async fn version(client: &Client, named: Option<&str>) -> Result<(u64, Files), Fault> {
    let number = match named {
        Some(named) => super::shown::version_number(named)?,
        None => newest(client).await?,
    };
    if number == 0 {
        return Ok((0, Files::new()));
    }
    let found = client.get(&format!("/v1/policies/versions/{number}/files")).await?;
    let of = |file: &Value, name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
    let files = found.get("items").and_then(Value::as_array).into_iter().flatten();
    Ok((number, files.filter_map(|file| Some((of(file, "file")?, of(file, "text")?))).collect()))
}

/// The number of the newest version; 0 when there is none.
pub(super) async fn newest(client: &Client) -> Result<u64, Fault> {
    let found = client.get("/v1/policies/versions?limit=1").await?;
    Ok(found.pointer("/items/0").map_or(0, |version| number(version, "version")))
}

/// The files of a directory that policies are read from.
pub(super) fn read(dir: &Path) -> Result<Files, Fault> {
    let mut files = Files::new();
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for (below, prefix) in [(dir.to_owned(), ""), (dir.join(SHIPPED), "baseline/")] {
        if !prefix.is_empty() && !below.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&below).map_err(|error| unreadable(&below, &error))? {
            let entry = entry.map_err(|error| unreadable(&below, &error))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if is_read(&name) && entry.path().is_file() {
                found.push((format!("{prefix}{name}"), entry.path()));
            }
        }
    }
    for (name, path) in found {
        let mut text = String::new();
        let read = fs::File::open(&path).and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text));
        read.map_err(|error| unreadable(&path, &error))?;
        files.insert(name, text);
    }
    Ok(files)
}

fn is_read(name: &str) -> bool {
    PolicySource::is_named(name)
        || name.ends_with(".cedarschema")
        || name.ends_with("_test.json")
        || name == "entities.json"
}

fn write(dir: &Path, wanted: &Files, there: &Files) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(dir.join(name))?;
    }
    for (name, text) in wanted.iter().filter(|(name, text)| there.get(*name) != Some(text)) {
        // INVARIANT: names of a version are flat, or below `baseline/`; anything else is not ours to write.
        let is_flat =
            !name.strip_prefix("baseline/").unwrap_or(name).contains(['/', '\0']) && !name.starts_with('.');
        if !is_flat || !is_read(name) {
            return Err(std::io::Error::other(format!("`{name}` is no name of a policy file")));
        }
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let fresh = path.with_extension("portcullis-new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &path)?;
    }
    Ok(())
}

/// The files that turn `base` into `wanted`; a text that is gone is none.
pub(super) fn edits<'a>(base: &'a Files, wanted: &'a Files) -> BTreeMap<&'a str, Option<&'a str>> {
    let gone = base.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.as_str(), None));
    let other = wanted.iter().filter(|(name, text)| base.get(*name) != Some(text));
    gone.chain(other.map(|(name, text)| (name.as_str(), Some(text.as_str())))).collect()
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let message = Message::error("PC0107", format!("`{}`: {error}", path.display()));
    Fault::new(Exit::Invalid, message.next(format!("ls -l {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn edits_are_what_differs_and_what_is_gone() {
        let base = files(&[("a.cedar", "1"), ("b.cedar", "2"), ("c.cedar", "3")]);
        let wanted = files(&[("a.cedar", "1"), ("b.cedar", "4"), ("d.cedar", "5")]);
        let expected: BTreeMap<_, _> =
            [("b.cedar", Some("4")), ("c.cedar", None), ("d.cedar", Some("5"))].into_iter().collect();
        assert_eq!(edits(&base, &wanted), expected);
    }

    #[test]
    fn a_directory_reads_back_as_it_was_written_and_strangers_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("policies");
        let wanted = files(&[
            ("a.cedar", "1"),
            ("baseline/roles.cedar", "2"),
            ("a_test.json", "[]"),
            ("entities.json", "[]"),
        ]);
        write(&dir, &wanted, &Files::new()).unwrap();
        fs::write(dir.join("README.md"), "mine").unwrap();
        assert_eq!(read(&dir).unwrap(), wanted);
        let less = files(&[("a.cedar", "9")]);
        write(&dir, &less, &wanted).unwrap();
        assert_eq!(read(&dir).unwrap(), less);
        assert!(dir.join("README.md").exists());
        for bad in ["../a.cedar", "x/a.cedar", ".a.cedar", "a.txt", "baseline/../a.cedar"] {
            assert!(write(&dir, &files(&[(bad, "1")]), &Files::new()).is_err(), "{bad}");
        }
        assert!(read(&home.path().join("none")).is_err());
    }
}
