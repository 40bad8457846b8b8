//! What packages ship beside the binary: completions for shells, and manual pages. Both are made from the command tree.

use std::path::Path;

use clap::CommandFactory;
use serde_json::json;

use super::{Global, Line};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

pub(crate) fn completion(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Line::command(), "portcullis", &mut script);
    output::data(String::from_utf8_lossy(&script).trim_end());
    Exit::Done
}

/// One page for each command, into a directory that is there.
pub(crate) fn man(dir: &Path, global: &Global) -> Exit {
    if let Err(error) = clap_mangen::generate_to(Line::command(), dir) {
        let fault =
            Message::error("PC0107", format!("`{}`: the pages cannot be written: {error}", dir.display()));
        output::report(&[fault], global.format());
        return Exit::Failed;
    }
    let dir = dir.display().to_string();
    Answer::object(
        "Man",
        json!({ "dir": dir }),
        format!("wrote the pages into {dir}\nread one: man {dir}/portcullis.1"),
    )
    .print(global.format());
    Exit::Done
}
