//! Pages that are written from the sources: with `PORTCULLIS_WRITE_REFERENCE=1` they are, else they are compared.

use std::fs;

use crate::workspace::Workspace;

/// What is wrong with the file of a page.
pub fn hold(workspace: &Workspace, name: &str, page: &str) -> Vec<String> {
    let file = workspace.root.join(name);
    if std::env::var_os("PORTCULLIS_WRITE_REFERENCE").is_some()
        && let Err(error) = fs::write(&file, page)
    {
        return vec![format!("`{name}` cannot be written: {error}")];
    }
    let is_same = fs::read_to_string(&file).is_ok_and(|written| written == page);
    if is_same { Vec::new() } else { vec![format!("`{name}` is old; run `just reference`")] }
}
