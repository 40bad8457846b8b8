//! `svid write`: certificate, key and bundle as files, once or through every renewal, and a signal to who reads them.

use std::path::PathBuf;

use base_ports::{Clock, SystemClock};
use ca_identity::X509Svid;
use clap::Args;
use serde_json::json;

use super::{
    Global, Socket, about, block_on, files, follow::follow, is_temporary, signal, told, unavailable,
};
use crate::client::Fault;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    socket: Socket,
    /// Directory for svid.pem, svid.key and bundle.pem
    #[arg(long)]
    dir: PathBuf,
    /// Write once and end; otherwise stay and follow renewals
    #[arg(long)]
    once: bool,
    /// Do nothing while the certificate that is there has more than half of its life left
    #[arg(long, requires = "once")]
    if_due: bool,
    /// Tell a program of new files: HUP, USR1, ..
    #[arg(long, value_name = "SIGNAL", value_parser = signal::parse, requires = "pid_file")]
    signal: Option<signal::Word>,
    /// The program's process id stands in this file
    #[arg(long, value_name = "FILE", requires = "signal")]
    pid_file: Option<PathBuf>,
}

pub(super) fn run(options: &Options, global: &Global) -> Result<Answer, Fault> {
    if options.if_due
        && let Some(due) = files::fresh_until(&options.dir, SystemClock.now().wall)
    {
        let json =
            json!({ "dir": options.dir.display().to_string(), "written": false, "due": due.to_string() });
        return Ok(Answer::object("SvidFiles", json, format!("not due before {due}")));
    }
    if options.once {
        return block_on(once(options, global));
    }
    let mut last = None;
    let follow = follow(
        &options.socket,
        global,
        |context| {
            let written = told_of(options, files::store(&options.dir, context)?);
            written.print(global.format());
            options.tell()?;
            last = Some(written);
            Ok(())
        },
        async { drop(tokio::signal::ctrl_c().await) },
    );
    block_on(follow)?;
    last.ok_or_else(|| unavailable(&ca_agent::ClientError::Empty))
}

/// For timers: 75 when trying again later can help, 1 when it cannot (IC-03).
async fn once(options: &Options, global: &Global) -> Result<Answer, Fault> {
    let context = told(&options.socket, global).await?.map_err(|error| {
        let exit = if is_temporary(&error) { Exit::Temporary } else { Exit::Failed };
        Fault { exit, ..unavailable(&error) }
    })?;
    let written = told_of(options, files::store(&options.dir, &context)?);
    options.tell()?;
    Ok(written)
}

impl Options {
    fn tell(&self) -> Result<(), Fault> {
        match (self.signal, &self.pid_file) {
            (Some(signal), Some(file)) => signal.send_to_file(file),
            _ => Ok(()),
        }
    }
}

fn told_of(options: &Options, svid: &X509Svid) -> Answer {
    let mut about = about(svid);
    if let Some(members) = about.as_object_mut() {
        members.insert("dir".to_owned(), json!(options.dir.display().to_string()));
        members.insert("written".to_owned(), json!(true));
    }
    let text = format!(
        "wrote svid.pem, svid.key, bundle.pem to {}: {} until {}",
        options.dir.display(),
        svid.id,
        svid.not_after
    );
    Answer::object("SvidFiles", about, text)
}
