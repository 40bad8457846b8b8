//! `docs/reference`, written from what the binary is made of: keys of the configuration, commands, messages, the API. The
//! tests compare; with `PORTCULLIS_WRITE_REFERENCE=1` they write (`just reference`). Metrics are in `tests/arch`.

mod api;
mod commands;
mod configuration;
mod messages;

use std::path::Path;

/// Compares a page with its file, or writes it.
fn hold(name: &str, page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("PORTCULLIS_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(written, told)| written != told);
    assert!(
        written == page,
        "docs/reference/{name} is old; run `just reference`. First difference: {differs:?}"
    );
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
