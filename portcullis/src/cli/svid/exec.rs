//! `svid exec -- CMD`: runs a program that finds its identity in files, renews them while it runs, and ends as it does.
//!
//! The identity is that of this process, which the agent attests. Signals that ask for an end go on to the program. An
//! identity that is withdrawn must not be used on: the files go and the program is ended.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{Global, Socket, address, block_on, files, first, follow::renewals, obtain, signal as word};
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{self, Exit};

/// How long a program that lost its identity may take to end.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    socket: Socket,
    /// Directory for the files [default: one of its own, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Tell the program of renewed files: HUP, USR1, ..
    #[arg(long, value_name = "SIGNAL", value_parser = word::parse)]
    signal: Option<word::Word>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Ends with the program's own exit code, or with 128 and the signal that ended it.
pub(super) fn run(options: &Options, global: &Global) -> Exit {
    let dir = match Place::of(options) {
        Ok(dir) => dir,
        Err(fault) => return global.fail(&fault),
    };
    let ended = block_on(supervise(options, global, &dir.path));
    drop(dir);
    match ended {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|signal| signal.saturating_add(128)));
            std::process::exit(code.unwrap_or(i32::from(Exit::Failed as u8)))
        }
        Err(fault) => global.fail(&fault),
    }
}

async fn supervise(options: &Options, global: &Global, dir: &Path) -> Result<ExitStatus, Fault> {
    let context = obtain(&options.socket, global).await?;
    files::store(dir, &context)?;
    let id = first(&context).map(|svid| svid.id.to_string()).unwrap_or_default();
    let mut child = start(options, dir, &id, &address(&options.socket, global)?)?;
    let pid = child.id().unwrap_or_default();
    let each = |context: &_| {
        files::store(dir, context)?;
        if let Some(signal) = options.signal {
            signal
                .send(pid)
                .unwrap_or_else(|error| output::talk(&format!("the program was not told: {error}")));
        }
        Ok(())
    };
    let followed = renewals(&options.socket, global, &context, each, ended(&mut child)).await;
    match followed {
        Ok(status) => status.map_err(|error| failed(options, &error)),
        Err(fault) => {
            for name in [files::KEY, files::CERTIFICATE] {
                drop(fs::remove_file(dir.join(name)));
            }
            stop(&mut child, pid).await;
            Err(fault)
        }
    }
}

fn start(options: &Options, dir: &Path, id: &str, address: &str) -> Result<Child, Fault> {
    let (program, arguments) = options.command.split_first().ok_or_else(|| failed(options, &"no program"))?;
    Command::new(program)
        .args(arguments)
        .env("SVID_CERT_FILE", dir.join(files::CERTIFICATE))
        .env("SVID_KEY_FILE", dir.join(files::KEY))
        .env("SVID_BUNDLE_FILE", dir.join(files::BUNDLE))
        .env("SVID_ID", id)
        .env("SPIFFE_ENDPOINT_SOCKET", address)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(options, &error))
}

/// The end of the program. What asks us to end is passed on to it.
async fn ended(child: &mut Child) -> std::io::Result<ExitStatus> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if let Some(pid) = child.id() {
            word::Word::TERM
                .send(pid)
                .unwrap_or_else(|error| output::talk(&format!("not passed on: {error}")));
        }
    }
}

async fn stop(child: &mut Child, pid: u32) {
    drop(word::Word::TERM.send(pid));
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        drop(word::Word::KILL.send(pid));
        drop(child.wait().await);
    }
}

fn failed(options: &Options, error: &dyn std::fmt::Display) -> Fault {
    let program = options.command.first().map(String::as_str).unwrap_or_default();
    Fault::new(Exit::Failed, Message::error("PC1005", format!("`{program}` cannot be run: {error}")))
}

/// Where the files are; a directory of our own goes at the end.
struct Place {
    path: PathBuf,
    is_ours: bool,
}

impl Place {
    fn of(options: &Options) -> Result<Self, Fault> {
        if let Some(dir) = &options.dir {
            return Ok(Self { path: dir.clone(), is_ours: false });
        }
        let parent = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = parent.join(format!("portcullis-svid-{}", std::process::id()));
        // Fails when somebody else has made it.
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let text = format!("`{}` cannot be made: {error}", path.display());
            Fault::new(Exit::Failed, Message::error("PC0107", text).help("name a directory with --dir"))
        })?;
        Ok(Self { path, is_ours: true })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_ours {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}
