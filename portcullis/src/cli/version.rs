//! `portcullis version`: what this binary is and what it is made of. Asks nobody.

use serde_json::json;

use super::Global;
use crate::about::{CEDAR, COMMIT, SBOM, VERSION, features, sbom_digest};
use crate::output::{self, Answer, Exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print what it is made of, as CycloneDX
    #[arg(long)]
    sbom: bool,
}

pub(super) fn run(options: &Options, global: &Global) -> Exit {
    if options.sbom {
        output::data(SBOM.trim_end());
        return Exit::Done;
    }
    let told = json!({
        "version": VERSION,
        "commit": COMMIT,
        "features": features(),
        "cedar": CEDAR,
        "target": std::env::consts::ARCH,
        "sbom": sbom_digest(),
    });
    let commit = COMMIT.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    Answer::object("Version", told, format!("portcullis {VERSION} (cedar {CEDAR}{commit})"))
        .print(global.output);
    Exit::Done
}
