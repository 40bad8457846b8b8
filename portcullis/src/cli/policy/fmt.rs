//! `policy fmt`: policy files in the form of Cedar's formatter; `--check` only says which are not.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{lint::located, place};
use crate::cli::Global;
use crate::messages::Message;
use crate::output::findings::plural;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct FormatOptions {
    /// Directories or *.cedar files [default: policies.dir of the configuration]
    paths: Vec<PathBuf>,
    /// Write nothing; exit 3 when a file is not in form
    #[arg(long)]
    check: bool,
}

pub(super) fn format(options: FormatOptions, global: &Global) -> Exit {
    let paths = match options.paths {
        paths if paths.is_empty() => match place(None, global) {
            Ok((dir, _)) => vec![dir],
            Err(exit) => return exit,
        },
        paths => paths,
    };
    let mut changed = Vec::new();
    let mut kept = 0_usize;
    for path in &paths {
        let formatted = match policies_store::format_path(path) {
            Ok(formatted) => formatted,
            Err(found) => {
                let messages: Vec<_> =
                    found.iter().map(|found| super::lint::finding(found, path).message).collect();
                return output::report(&messages, global.format());
            }
        };
        let written = if options.check { Ok(()) } else { policies_store::write_formatted(path, &formatted) };
        if let Err(cause) = written {
            let fault = Message::error("PC0107", format!("`{}`: {cause}", path.display()));
            output::report(&[fault], global.format());
            return Exit::Failed;
        }
        for file in formatted {
            match file.text {
                Some(_) => changed.push(located(&file.file, path)),
                None => kept = kept.saturating_add(1),
            }
        }
    }
    let verb = if options.check { "is not in form" } else { "formatted" };
    let mut lines: Vec<String> = changed.iter().map(|file| format!("{file}: {verb}")).collect();
    lines.push(format!("{} in form already", plural(kept, "file")));
    let json = json!({ "changed": changed, "check": options.check, "kept": kept });
    let is_failed = options.check && !changed.is_empty();
    if is_failed {
        lines.push("next: portcullis policy fmt".to_owned());
    }
    Answer::object("Format", json, lines.join("\n")).print(global.format());
    if is_failed { Exit::Invalid } else { Exit::Done }
}
