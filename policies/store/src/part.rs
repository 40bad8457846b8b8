//! A directory of policies, or one policy file of it with what it needs: schema, entities and its own cases.
//! Read by the commands that check files; the store itself reads directories only.

use crate::load::{Loaded, load, load_some};
use std::{ffi::OsStr, path::Path};

/// Reads the directory or file `path`. Blocks.
pub(crate) fn part(path: &Path) -> Loaded {
    if !path.is_file() {
        return load(path);
    }
    let file = path.file_name().unwrap_or_default();
    let cases = format!("{}_test.json", path.file_stem().unwrap_or_default().to_string_lossy());
    load_some(home(path), |name| {
        let is_schema = Path::new(name).extension() == Some(OsStr::new("cedarschema"));
        name == file || name == "entities.json" || name == cases.as_str() || is_schema
    })
}

/// The directory that `path` is or stands in.
pub(crate) fn home(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !path.is_dir() && parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) if !path.is_dir() => parent,
        _ => path,
    }
}
