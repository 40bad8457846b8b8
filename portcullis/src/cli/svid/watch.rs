//! `svid watch`: every state of the identities of this process, as it comes.

use ca_identity::X509Svid;
use clap::Args;
use serde_json::{Value, json};

use super::{Global, Socket, about, block_on, follow::follow};
use crate::client::Fault;
use crate::output::Answer;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    socket: Socket,
}

/// Ends with an interrupt, or when the identity is withdrawn.
pub(super) fn run(options: &Options, global: &Global) -> Result<Answer, Fault> {
    let mut states = 0_usize;
    let follow = follow(
        &options.socket,
        global,
        |context| {
            states = states.saturating_add(1);
            let svids: Vec<Value> = context.svids.iter().map(about).collect();
            let roots: usize = context.bundles.iter().map(|bundle| bundle.anchors().len()).sum();
            let told = |svid: &X509Svid| format!("{}  {}  until {}", svid.id, svid.serial, svid.not_after);
            let text: Vec<String> = context.svids.iter().map(told).collect();
            let json = json!({ "svids": svids, "roots": roots });
            Answer::object("SvidState", json, text.join("\n")).print(global.format());
            Ok(())
        },
        async { drop(tokio::signal::ctrl_c().await) },
    );
    block_on(follow)?;
    let text = format!("{states} states seen");
    Ok(Answer::object("SvidWatch", json!({ "states": states }), text))
}
