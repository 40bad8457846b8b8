//! `policy fmt` and `:format`: policy files in the form of Cedar's formatter. Files come one by one; a directory stands for its
//! `*.cedar`. Reads as the store reads, so that what it refuses to read is not rewritten either.

use crate::{
    outside::Outside,
    part::part,
    replace::replace,
    rules::{Rules, Shipped},
};
use policies_engine::{Diagnostic, PolicySource, SourceKind};
use std::{io, path::Path, sync::Arc};

/// A file after formatting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    /// Its name.
    pub file: Arc<str>,
    /// Its new text; none when it is in form already.
    pub text: Option<String>,
}

/// The policy files of the directory or file `path`, formatted. Blocks.
///
/// # Errors
/// Why files cannot be read or do not parse.
pub fn format_path(path: &Path) -> Result<Vec<Formatted>, Vec<Diagnostic>> {
    formed(&part(path).rules?)
}

/// The policy files among `files` (name and text of each), formatted as [`format_path`] formats a directory of them.
/// Blocks.
///
/// # Errors
/// Why they are no files of policies, or do not parse.
pub fn format_files(files: &[(String, Arc<str>)]) -> Result<Vec<Formatted>, Vec<Diagnostic>> {
    formed(&Rules::new(files.iter().cloned().collect(), Shipped::here(), Some(""), Outside::default())?)
}

fn formed(rules: &Rules) -> Result<Vec<Formatted>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut formatted = Vec::new();
    let is_text = |source: &&PolicySource| !source.is_baseline && source.kind() == SourceKind::Policies;
    for source in rules.policies().filter(|source| is_text(&source)) {
        match policies_engine::format(&source) {
            Ok(text) => formatted.push(changed(&source, text)),
            Err(errors) => found.extend(errors),
        }
    }
    if found.is_empty() { Ok(formatted) } else { Err(rules.outside.conceal(found)) }
}

fn changed(source: &PolicySource, text: String) -> Formatted {
    Formatted { file: Arc::clone(&source.file), text: (*source.text != *text).then_some(text) }
}

/// Writes what [`format_path`] found changed.
///
/// # Errors
/// What the disk said; files before that one are written.
pub fn write_formatted(path: &Path, formatted: &[Formatted]) -> io::Result<()> {
    let changed = formatted.iter().filter_map(|file| Some((&file.file, file.text.as_deref()?)));
    changed.into_iter().try_for_each(|(file, text)| replace(path, file, text))
}
