//! `schema show` and `schema validate`: the schema of a directory, or one schema file. Starts and stores nothing.

use crate::{load::load_some, part::home};
use policies_engine::{Diagnostic, SchemaText};
use std::{ffi::OsStr, path::Path};

/// The shipped part, and what the directory or file `path` puts in place of the default of part 2. Blocks.
///
/// # Errors
/// Why it cannot be read.
pub fn schema_of(path: &Path) -> Result<SchemaText, Vec<Diagnostic>> {
    let is_wanted = |name: &OsStr| match path.is_dir() {
        true => Path::new(name).extension() == Some(OsStr::new("cedarschema")),
        false => Some(name) == path.file_name(),
    };
    load_some(home(path), is_wanted).rules.map(|rules| rules.schema())
}

/// Everything that is wrong with the schema of `path`. Blocks.
#[must_use]
pub fn check_schema(path: &Path) -> Vec<Diagnostic> {
    match schema_of(path) {
        Ok(schema) => schema.check().err().unwrap_or_default(),
        Err(found) => found,
    }
}
