//! Reads one directory: `*.cedar`, `*.links.json`, `site.cedarschema` and the `*.cedarschema` of teams,
//! `entities.json`, `*_test.json`.
//!
//! Deterministic (sorted by name), bounded before it reads (VA4), and all findings at once. A file is never read
//! halfway: what changes while it is being read is read again.

use crate::{fingerprint::Fingerprint, open, outside::Outside};
use policies_engine::{Diagnostic, PolicySource, SchemaText, baseline};
use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{self, Read},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

const FILE_BYTES: u64 = 256 << 10;
const SCHEMA_BYTES: u64 = 256 << 10;
const SET_BYTES: u64 = 64 << 20;
const ENTITIES_BYTES: u64 = 64 << 20;
const CASES_BYTES: u64 = 16 << 20;
const FILES: usize = 100_000;

/// What people write: rules, their vocabulary, and what they say exists.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    /// The shipped policies first, then the files by name.
    pub(crate) policies: Vec<PolicySource>,
    pub(crate) schema: SchemaText,
    /// `entities.json`.
    pub(crate) extra: Option<Value>,
    /// Files whose text no finding shows.
    pub(crate) outside: Outside,
}

impl Rules {
    /// The shipped policies alone.
    pub(crate) fn shipped() -> Rules {
        Rules {
            policies: baseline(),
            schema: SchemaText::default(),
            extra: None,
            outside: Outside::default(),
        }
    }
}

/// One directory, read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The rules, or every reason why there are none.
    pub(crate) rules: Result<Rules, Vec<Diagnostic>>,
    /// Case files: name and text.
    pub(crate) cases: Vec<(String, String)>,
    /// What the directory looked like; none when it could not be listed.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// Reads `dir`, again when it changes meanwhile. Blocks.
pub(crate) fn load(dir: &Path) -> Loaded {
    read(dir, |reading, name| reading.file(name))
}

/// Reads the files of `dir` that `is_wanted` takes.
pub(crate) fn load_some(dir: &Path, is_wanted: impl Fn(&OsStr) -> bool) -> Loaded {
    read(dir, |reading, name| {
        if is_wanted(name) {
            reading.file(name);
        }
    })
}

fn read(dir: &Path, mut file: impl FnMut(&mut Reading<'_>, &OsStr)) -> Loaded {
    const TRIES: usize = 5;
    const PAUSE: Duration = Duration::from_millis(20);
    let mut before = match Fingerprint::of(dir) {
        Ok(fingerprint) => fingerprint,
        Err(cause) => return failed(dir, &cause),
    };
    for _ in 0..TRIES {
        let mut reading = Reading::new(dir);
        reading.directory();
        before.names().for_each(|name| file(&mut reading, name));
        let after = match Fingerprint::of(dir) {
            Ok(fingerprint) => fingerprint,
            Err(cause) => return failed(dir, &cause),
        };
        if after == before {
            return reading.finish(after);
        }
        before = after;
        thread::sleep(PAUSE);
    }
    let moving = about(dir, "PC2013", "the directory changes faster than it can be read");
    Loaded { rules: Err(vec![moving]), cases: Vec::new(), fingerprint: None }
}

fn failed(dir: &Path, cause: &io::Error) -> Loaded {
    let found = about(dir, "PC2013", format!("directory `{}` cannot be read: {cause}", dir.display()));
    let found = found.help("set `dir` in [policies] to a directory of *.cedar files");
    Loaded { rules: Err(vec![found]), cases: Vec::new(), fingerprint: None }
}

fn about(dir: &Path, code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::about(code, &Arc::from(dir.display().to_string()), message)
}

struct Reading<'a> {
    dir: &'a Path,
    /// Name of the directory, which stands before file names in findings.
    prefix: String,
    policies: Vec<PolicySource>,
    schema: SchemaText,
    schema_left: u64,
    extra: Option<Value>,
    cases: Vec<(String, String)>,
    outside: Outside,
    left: u64,
    found: Vec<Diagnostic>,
}

impl<'a> Reading<'a> {
    fn new(dir: &'a Path) -> Reading<'a> {
        let prefix = dir.file_name().map(|name| format!("{}/", name.to_string_lossy())).unwrap_or_default();
        Reading {
            dir,
            prefix,
            policies: Vec::new(),
            schema: SchemaText::default(),
            schema_left: SCHEMA_BYTES,
            extra: None,
            cases: Vec::new(),
            outside: Outside::default(),
            left: SET_BYTES,
            found: Vec::new(),
        }
    }

    /// Whoever can put files into the directory, or take them away, makes the policies.
    fn directory(&mut self) {
        if let Err(cause) = open::directory(self.dir) {
            self.found.push(cause.finding(&Arc::from(self.dir.display().to_string())));
        }
    }

    fn file(&mut self, name: &OsStr) {
        let shown: Arc<str> = format!("{}{}", self.prefix, name.to_string_lossy()).into();
        let Some(utf8) = name.to_str() else {
            self.found.push(Diagnostic::about("PC2014", &shown, "the name of this file is not UTF-8"));
            return;
        };
        if PolicySource::is_named(utf8) {
            self.policy(name, shown);
        } else if utf8.ends_with(".cedarschema") {
            self.schema(name, shown);
        } else if utf8 == "entities.json" {
            self.entities(name, &shown);
        } else if utf8.ends_with("_test.json") {
            let text = self.text(name, &shown, CASES_BYTES);
            self.cases.extend(text.map(|text| (shown.to_string(), text)));
        }
    }

    fn policy(&mut self, name: &OsStr, shown: Arc<str>) {
        if self.policies.len() >= FILES {
            if self.policies.len() == FILES {
                self.found.push(too_big(&shown, "files of policies", FILES));
            }
            return;
        }
        let cap = FILE_BYTES.min(self.left);
        if let Some(text) = self.text(name, &shown, cap) {
            self.left = self.left.saturating_sub(length(&text));
            self.policies.push(PolicySource::new(shown, text));
        }
    }

    fn schema(&mut self, name: &OsStr, shown: Arc<str>) {
        if let Some(text) = self.text(name, &shown, SCHEMA_BYTES.min(self.schema_left)) {
            self.schema_left = self.schema_left.saturating_sub(length(&text));
            self.schema.add(&shown, &text);
        }
    }

    fn entities(&mut self, name: &OsStr, shown: &Arc<str>) {
        let Some(text) = self.text(name, shown, ENTITIES_BYTES) else { return };
        match serde_json::from_str(&text) {
            Ok(value) => self.extra = Some(value),
            Err(cause) => {
                let at = offset(&text, cause.line(), cause.column());
                let found = Diagnostic::at("PC2003", shown, &text, at, 1, format!("not JSON: {cause}"));
                self.found.push(
                    found.label("here").help("entities.json is a list of entities in Cedar's JSON form"),
                );
            }
        }
    }

    /// The text of one file, or a finding. Never reads more than `cap` and one byte.
    fn text(&mut self, name: &OsStr, shown: &Arc<str>, cap: u64) -> Option<String> {
        let mut bytes = Vec::new();
        let path = self.dir.join(name);
        self.outside.look_at(self.dir, &path, shown);
        let read = open::file(&path)
            .and_then(|file| Ok(file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?));
        if let Err(cause) = read {
            self.found.push(cause.finding(shown));
            return None;
        }
        if length(&bytes) > cap {
            self.found.push(too_big(shown, "bytes", cap));
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(cause) => {
                let at = cause.utf8_error().valid_up_to();
                let valid = String::from_utf8_lossy(cause.as_bytes());
                let found = Diagnostic::at("PC2014", shown, &valid, at, 1, "not UTF-8");
                self.found.push(found.label("this byte").help("save the file as UTF-8"));
                None
            }
        }
    }

    fn finish(self, fingerprint: Fingerprint) -> Loaded {
        let rules = if self.found.is_empty() {
            let policies = baseline().into_iter().chain(self.policies).collect();
            Ok(Rules { policies, schema: self.schema, extra: self.extra, outside: self.outside })
        } else {
            Err(self.outside.conceal(self.found))
        };
        Loaded { rules, cases: self.cases, fingerprint: Some(fingerprint) }
    }
}

fn too_big(shown: &Arc<str>, what: &str, cap: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::about("PC2010", shown, format!("more than {cap} {what}"))
        .help("split it, or remove what is not needed")
}

fn length(bytes: impl AsRef<[u8]>) -> u64 {
    u64::try_from(bytes.as_ref().len()).unwrap_or(u64::MAX)
}

/// Offset of a line and column, both from 1, columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before.saturating_add(column.saturating_sub(1))
}

#[cfg(test)]
mod tests;
