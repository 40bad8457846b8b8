//! `portcullis proxy`: the data plane of the running process.

use clap::Subcommand;

use super::Global;
use super::authority::items;
use crate::output::{Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Endpoints of the clusters in use: who takes calls, who is shut out, who is ill
    #[command(after_help = "Example:\n  portcullis proxy endpoints")]
    Endpoints,
}

pub(crate) fn run(command: Command, global: &Global) -> Exit {
    match command {
        Command::Endpoints => global.ask(|client| async move {
            let items = items(client.get("/v1/proxy/endpoints").await?);
            let columns = [
                ("CLUSTER", "/cluster"),
                ("ENDPOINT", "/address"),
                ("PROTOCOL", "/protocol"),
                ("PRIORITY", "/priority"),
                ("STATE", "/state"),
                ("HEALTH", "/health"),
                ("IN FLIGHT", "/in_flight"),
            ];
            Ok((Answer::list("Endpoint", items, &columns), Exit::Done))
        }),
    }
}
