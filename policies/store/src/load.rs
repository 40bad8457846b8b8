//! Reads one directory: `*.cedar`, `*.links.json`, `*.cedarschema`, `entities.json`, `*_test.json` and the files its
//! cases name, and below `baseline/` what replaces shipped policies.
//!
//! Deterministic (sorted by name), bounded before it reads (VA4), and all findings at once. A file is never read
//! halfway: what changes while it is being read is read again.

use crate::{
    files::{BASELINE, FileKind, Files},
    fingerprint::Fingerprint,
    open,
    outside::Outside,
    rules::{
        CASES_BYTES, ENTITIES_BYTES, FILE_BYTES, FILES, Rules, SCHEMA_BYTES, SET_BYTES, Shipped, too_big,
    },
};
use policies_engine::Diagnostic;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io::{self, Read},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

/// One directory, read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The rules, or every reason why there are none.
    pub(crate) rules: Result<Rules, Vec<Diagnostic>>,
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
        reading.directory(dir);
        if before.has_baseline() {
            reading.directory(&dir.join(BASELINE));
        }
        before.names().for_each(|name| file(&mut reading, name));
        reading.facts(before.names());
        let after = match Fingerprint::of(dir) {
            Ok(fingerprint) => fingerprint,
            Err(cause) => return failed(dir, &cause),
        };
        if after == before {
            return Loaded { rules: reading.finish(), fingerprint: Some(after) };
        }
        before = after;
        thread::sleep(PAUSE);
    }
    let moving = about(dir, "PC2013", "the directory changes faster than it can be read");
    Loaded { rules: Err(vec![moving]), fingerprint: None }
}

fn failed(dir: &Path, cause: &io::Error) -> Loaded {
    let found = about(dir, "PC2013", format!("directory `{}` cannot be read: {cause}", dir.display()));
    let found = found.help("set `dir` in [policies] to a directory of *.cedar files");
    Loaded { rules: Err(vec![found]), fingerprint: None }
}

fn about(dir: &Path, code: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::about(code, &Arc::from(dir.display().to_string()), message)
}

struct Reading<'a> {
    dir: &'a Path,
    /// Name of the directory, which stands before file names in findings.
    prefix: String,
    files: Files,
    outside: Outside,
    /// Policy files read, and bytes they may still have.
    count: usize,
    left: usize,
    found: Vec<Diagnostic>,
}

impl<'a> Reading<'a> {
    fn new(dir: &'a Path) -> Reading<'a> {
        let prefix = dir.file_name().map(|name| format!("{}/", name.to_string_lossy())).unwrap_or_default();
        let (files, outside) = (Files::default(), Outside::default());
        Reading { dir, prefix, files, outside, count: 0, left: SET_BYTES, found: Vec::new() }
    }

    /// Whoever can put files into the directory, or take them away, makes the policies.
    fn directory(&mut self, dir: &Path) {
        if let Err(cause) = open::directory(dir) {
            self.found.push(cause.finding(&Arc::from(dir.display().to_string())));
        }
    }

    fn file(&mut self, name: &OsStr) {
        let shown: Arc<str> = format!("{}{}", self.prefix, name.to_string_lossy()).into();
        let Some(utf8) = name.to_str() else {
            self.found.push(Diagnostic::about("PC2014", &shown, "the name of this file is not UTF-8"));
            return;
        };
        match FileKind::of(utf8) {
            Some(FileKind::Policy | FileKind::Baseline | FileKind::Links) => self.policy(utf8, &shown),
            Some(FileKind::Schema) => self.keep(utf8, &shown, SCHEMA_BYTES),
            Some(FileKind::Entities) => self.keep(utf8, &shown, ENTITIES_BYTES),
            Some(FileKind::Cases) => self.keep(utf8, &shown, CASES_BYTES),
            // Read when a case names it.
            Some(FileKind::Facts) => {}
            None => {
                self.found.push(Diagnostic::about("PC2014", &shown, "a policy file cannot have this name"))
            }
        }
    }

    fn policy(&mut self, name: &str, shown: &Arc<str>) {
        self.count += 1;
        if self.count > FILES {
            if self.count == FILES + 1 {
                self.found.push(too_big(shown, "files of policies", FILES));
            }
            return;
        }
        let cap = FILE_BYTES.min(self.left);
        if let Some(text) = self.text(name, shown, cap) {
            self.left = self.left.saturating_sub(text.len());
            self.files.insert(name, text);
        }
    }

    fn keep(&mut self, name: &str, shown: &Arc<str>, cap: usize) {
        if let Some(text) = self.text(name, shown, cap) {
            self.files.insert(name, text);
        }
    }

    /// Entity files that cases name, as far as they can be read: the case that names one fails otherwise.
    fn facts<'n>(&mut self, names: impl Iterator<Item = &'n OsString>) {
        let named: BTreeSet<String> =
            self.files.of(FileKind::Cases).flat_map(|(_, text)| named_by(text)).collect();
        for name in names.filter_map(|name| name.to_str()) {
            if FileKind::of(name) == Some(FileKind::Facts) && named.contains(name) {
                let shown: Arc<str> = format!("{}{name}", self.prefix).into();
                let found = self.found.len();
                self.keep(name, &shown, ENTITIES_BYTES);
                self.found.truncate(found);
            }
        }
    }

    /// The text of one file, or a finding. Never reads more than `cap` and one byte.
    fn text(&mut self, name: &str, shown: &Arc<str>, cap: usize) -> Option<String> {
        let mut bytes = Vec::new();
        let path = self.dir.join(name);
        self.outside.look_at(self.dir, &path, shown);
        let read = open::file(&path)
            .and_then(|file| Ok(file.take(length(cap).saturating_add(1)).read_to_end(&mut bytes)?));
        if let Err(cause) = read {
            self.found.push(cause.finding(shown));
            return None;
        }
        if bytes.len() > cap {
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

    fn finish(self) -> Result<Rules, Vec<Diagnostic>> {
        let rules = Rules::new(self.files, Shipped::here(), Some(&self.prefix), self.outside.clone());
        if self.found.is_empty() {
            return rules;
        }
        let mut found = self.outside.conceal(self.found);
        found.extend(rules.err().unwrap_or_default());
        Err(found)
    }
}

/// Names of entity files in a case file; what is no case file names none.
fn named_by(text: &str) -> Vec<String> {
    let Ok(Value::Array(cases)) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let named = cases.iter().filter_map(|case| case.get("entities").and_then(Value::as_str));
    named.map(str::to_owned).collect()
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
