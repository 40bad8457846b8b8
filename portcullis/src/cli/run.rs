//! `portcullis run`: the roles of the configuration, until a signal ends them.

use std::time::Duration;

use clap::Args;

use super::{Global, block_on};
use crate::assemble;
use crate::output::{self, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Wait this long before listeners close, so that balancers notice
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    drain_delay: Duration,
    /// Let running calls finish for at most this long
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    drain_timeout: Duration,
    /// Log lines as JSON even on a terminal
    #[arg(long)]
    log_json: bool,
}

pub(crate) fn run(options: &Options, global: &Global) -> Exit {
    let loaded = match global.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    assemble::logs(&loaded.config.admin.log, options.log_json);
    loaded.warnings.iter().for_each(|warning| output::talk(&warning.to_string()));
    let (delay, timeout) = (options.drain_delay, options.drain_timeout);
    block_on(async move {
        let mut hangups = assemble::signals::hangups();
        let running = match assemble::start(loaded.config).await {
            Ok(running) => running,
            Err(fault) => {
                output::talk(&fault.to_string());
                return if fault.code == "PC6001" { Exit::Unavailable } else { Exit::Failed };
            }
        };
        let ended = {
            let mut ended = std::pin::pin!(assemble::signals::ended());
            loop {
                tokio::select! {
                    signal = &mut ended => break signal,
                    () = hangups.next() => running.reload().await,
                }
            }
        };
        tracing::info!(event = "draining", signal = ended, "draining");
        let drained = running.drain(delay, timeout);
        tokio::select! {
            () = drained => {}
            _second = assemble::signals::ended() => tracing::warn!(event = "drain_cut", "second signal: leaving at once"),
        }
        Exit::Done
    })
}

/// Reads durations on the command line as the configuration writes them.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}
