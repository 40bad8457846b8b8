//! The rules of one version: the files people wrote, on top of what is shipped (S15, MO15).
//!
//! Made from a directory, a change or the archive, always through [`Rules::new`], which bounds and checks the set
//! before anything compiles it (VA4).

use crate::{
    files::{BASELINE, ENTITIES, FileKind, Files},
    outside::Outside,
};
use policies_engine::{Diagnostic, PolicySource, SchemaText, baseline};
use serde_json::Value;
use std::sync::Arc;

pub(crate) const FILE_BYTES: usize = 256 << 10;
pub(crate) const SCHEMA_BYTES: usize = 256 << 10;
pub(crate) const SET_BYTES: usize = 64 << 20;
pub(crate) const ENTITIES_BYTES: usize = 64 << 20;
pub(crate) const CASES_BYTES: usize = 16 << 20;
pub(crate) const FILES: usize = 100_000;
/// What stands before file names in findings when there is no directory.
const PREFIX: &str = "policies/";

/// What people write: rules, their vocabulary, what they say exists, and their cases.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) files: Arc<Files>,
    pub(crate) shipped: Arc<Shipped>,
    /// What stands before file names in findings: the name of the directory.
    pub(crate) prefix: Arc<str>,
    /// `entities.json`, read.
    pub(crate) extra: Option<Arc<Value>>,
    /// Files whose text no finding shows.
    pub(crate) outside: Outside,
}

/// What a build of portcullis brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shipped {
    pub(crate) policies: Vec<PolicySource>,
    /// Its part 2 of the schema is for sites without their own.
    pub(crate) schema: SchemaText,
}

impl Shipped {
    /// The shipped file that another one stands in place of: versions keep only the replacement.
    pub(crate) fn replaced(name: &str) -> PolicySource {
        let ours = baseline().into_iter().find(|shipped| &*shipped.file == name);
        ours.unwrap_or_else(|| PolicySource { is_baseline: true, ..PolicySource::new(name, "") })
    }

    /// What this build brings.
    pub(crate) fn here() -> Arc<Shipped> {
        Arc::new(Shipped { policies: baseline(), schema: SchemaText::default() })
    }
}

impl Rules {
    /// The rules of `files`, or every reason why there are none.
    pub(crate) fn new(
        files: Files,
        shipped: Arc<Shipped>,
        prefix: Option<&str>,
        outside: Outside,
    ) -> Result<Rules, Vec<Diagnostic>> {
        let prefix = Arc::from(prefix.unwrap_or(PREFIX));
        let mut rules = Rules { files: Arc::new(files), shipped, prefix, extra: None, outside };
        let mut found = rules.excess();
        found.extend(rules.strangers());
        match rules.entities() {
            Ok(extra) => rules.extra = extra.map(Arc::new),
            Err(finding) => found.push(*finding),
        }
        if found.is_empty() { Ok(rules) } else { Err(rules.outside.conceal(found)) }
    }

    /// The shipped policies alone.
    pub(crate) fn shipped() -> Rules {
        Rules {
            files: Arc::default(),
            shipped: Shipped::here(),
            prefix: PREFIX.into(),
            extra: None,
            outside: Outside::default(),
        }
    }

    /// The same rules with other texts of their policy files.
    pub(crate) fn with_texts(&self, sources: &[PolicySource]) -> Rules {
        let of = |source: &PolicySource| {
            let name = source.file.strip_prefix(&*self.prefix)?.to_owned();
            self.files.get(&name).is_some().then(|| (name, Arc::clone(&source.text)))
        };
        let mut files = self.files.as_ref().clone();
        sources.iter().filter_map(of).for_each(|(name, text)| files.insert(name, text));
        Rules { files: Arc::new(files), ..self.clone() }
    }

    /// How findings, explanations and manifests name a file.
    pub(crate) fn shown(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.prefix).into()
    }

    /// The shipped policies, or what replaces them; then the files by name.
    pub(crate) fn policies(&self) -> impl Iterator<Item = PolicySource> {
        let shipped = self.shipped.policies.iter().map(|shipped| match self.files.get(&shipped.file) {
            Some(text) => PolicySource {
                is_baseline: true,
                ..PolicySource::new(self.shown(&shipped.file), Arc::clone(text))
            },
            None => shipped.clone(),
        });
        let is_own = |name: &str| matches!(FileKind::of(name), Some(FileKind::Policy | FileKind::Links));
        let own = self.files.iter().filter(move |(name, _)| is_own(name));
        shipped.chain(own.map(|(name, text)| PolicySource::new(self.shown(name), Arc::clone(text))))
    }

    /// The shipped part 1, the site's part 2 or the shipped one, and the fragments of teams.
    pub(crate) fn schema(&self) -> SchemaText {
        let mut schema = self.shipped.schema.clone();
        self.files.of(FileKind::Schema).for_each(|(name, text)| schema.add(&self.shown(name), text));
        schema
    }

    /// Case files: name and text.
    pub(crate) fn cases(&self) -> impl Iterator<Item = (String, Arc<str>)> {
        let cases = self.files.of(FileKind::Cases);
        cases.map(|(name, text)| (self.shown(name).to_string(), Arc::clone(text)))
    }

    /// What is too much, file by file and in all.
    fn excess(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let (mut count, mut left) = (0_usize, SET_BYTES);
        for (name, text) in self.files.iter() {
            let cap = match FileKind::of(name) {
                Some(FileKind::Policy | FileKind::Baseline | FileKind::Links) => {
                    count += 1;
                    if count == FILES + 1 {
                        found.push(too_big(&self.shown(name), "files of policies", FILES));
                    }
                    let cap = FILE_BYTES.min(left);
                    left = left.saturating_sub(text.len());
                    cap
                }
                Some(FileKind::Schema) => SCHEMA_BYTES,
                Some(FileKind::Entities) => ENTITIES_BYTES,
                Some(FileKind::Cases | FileKind::Facts) | None => CASES_BYTES,
            };
            if text.len() > cap {
                found.push(too_big(&self.shown(name), "bytes", cap));
            }
        }
        found
    }

    /// Files that have no place.
    fn strangers(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (name, _) in self.files.of(FileKind::Baseline) {
            if !self.shipped.policies.iter().any(|shipped| &*shipped.file == name) {
                let known: Vec<&str> = self
                    .shipped
                    .policies
                    .iter()
                    .filter_map(|shipped| shipped.file.strip_prefix(BASELINE))
                    .collect();
                let finding = Diagnostic::about("PC2014", &self.shown(name), "replaces no shipped file");
                found.push(finding.help(format!("shipped are {}", known.join(", "))));
            }
        }
        found
    }

    fn entities(&self) -> Result<Option<Value>, Box<Diagnostic>> {
        let Some(text) = self.files.get(ENTITIES) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|cause| {
            let at = offset(text, cause.line(), cause.column());
            let message = format!("not JSON: {cause}");
            let found = Diagnostic::at("PC2003", &self.shown(ENTITIES), text, at, 1, message);
            Box::new(found.label("here").help("entities.json is a list of entities in Cedar's JSON form"))
        })
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Rules) -> bool {
        (&self.files, &self.shipped, &self.prefix) == (&other.files, &other.shipped, &other.prefix)
    }
}

pub(crate) fn too_big(shown: &Arc<str>, what: &str, cap: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::about("PC2010", shown, format!("more than {cap} {what}"))
        .help("split it, or remove what is not needed")
}

/// Offset of a line and column, both from 1, columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before.saturating_add(column.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(files: &[(&str, &str)]) -> Result<Rules, Vec<Diagnostic>> {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), Arc::from(*text))).collect();
        Rules::new(files, Shipped::here(), None, Outside::default())
    }

    #[test]
    fn ps2_a_file_below_baseline_stands_in_place_of_the_shipped_one_and_stays_baseline() {
        let rules = rules(&[("baseline/roles.cedar", "// ours"), ("a.cedar", "// a")]).unwrap();
        let all: Vec<PolicySource> = rules.policies().collect();
        assert_eq!(all.len(), baseline().len() + 1);
        let roles = all.iter().find(|source| &*source.file == "policies/baseline/roles.cedar").unwrap();
        assert!(roles.is_baseline && &*roles.text == "// ours");
        assert!(!all.iter().any(|source| &*source.file == "baseline/roles.cedar"));
        assert!(!all.last().unwrap().is_baseline);
    }

    #[test]
    fn ps2_a_file_that_replaces_nothing_is_refused_naming_what_there_is() {
        let found = rules(&[("baseline/role.cedar", "")]).unwrap_err();
        assert_eq!((found[0].code, &*found[0].file), ("PC2014", "policies/baseline/role.cedar"));
        assert!(found[0].help.as_ref().unwrap().contains("roles.cedar"), "{found:?}");
    }
}
