//! `portcullis demo`: the whole product on one machine, with real attestation and real traffic, in ten seconds.
//!
//! `stage` makes the directory and the files, `samples` are the two services (child processes of their own name),
//! `story` watches what really happens and tells it. Nothing is faked: a step is told only after it was observed.

mod keys;
mod samples;
mod stage;
mod story;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::assemble;
use crate::cli::{Global, block_on};
use crate::messages::Message;
use crate::output::{self, Exit};

pub(crate) use samples::{SampleOptions, sample};
#[cfg(test)]
pub(crate) use stage::{CASES, POLICY};

/// Without a first allow, a first denial and its explanation by then, `--once` has failed.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End after the first explained denial
    #[arg(long)]
    once: bool,
    /// Work below this directory [default: XDG_RUNTIME_DIR, TMPDIR or /tmp]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Log of the roles to stderr, at this level
    #[arg(long, default_value = "error")]
    log: String,
}

pub(crate) fn run(options: Options, global: &Global) -> Exit {
    let _for_good = assemble::logs(&options.log, false);
    let stage = match stage::Stage::set(options.dir.as_deref()) {
        Ok(stage) => stage,
        Err(fault) => {
            output::report(&[fault], global.format());
            return Exit::Failed;
        }
    };
    let format = global.format();
    let told = block_on(async {
        let mut story = story::Story::begin(&stage, format);
        let ended = tokio::select! {
            ended = story.tell(options.once) => ended,
            _signal = assemble::signals::ended() => {
                output::talk("\nstopped; nothing is left behind");
                Ok(Exit::Done)
            }
        };
        story.end().await;
        ended
    });
    drop(stage);
    match told {
        Ok(exit) => exit,
        Err(fault) => {
            output::report(&[fault], format);
            Exit::Failed
        }
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Message {
    Message::error("PC9001", format!("demo: {what}: {error}"))
        .help("run it again with --log info to see what the roles say")
}
