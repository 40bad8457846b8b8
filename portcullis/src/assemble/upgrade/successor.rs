//! The new process as the old one sees it: started, met, and told what it gets.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base_net::handover::{BATCH, Meeting};
use base_ports::{Rng, SystemRng};

use super::super::Running;
use super::word::{FORMAT, NONCE, Peer, Word};

/// Below the data directory; of mode 0700.
const MEETINGS: &str = "upgrade";
/// By which a process knows that it takes over from another.
pub(super) const SOCKET: &str = "UPGRADE_SOCKET";
/// Between two looks whether the new process has ended instead of coming.
const LOOK: Duration = Duration::from_millis(100);
/// How long it may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// How long one that failed may take to close what it has opened.
const LAST: Duration = Duration::from_secs(5);
/// What a service manager said to this process alone.
const OWN_VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The binary of this process and how it was called, as they were at its start: the path may lead to another file by now.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked for at the start of the process.
    pub(crate) fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let called = arguments.next().map(PathBuf::from).filter(|called| called.components().count() > 1);
        let path = called.and_then(|called| std::path::absolute(called).ok()).filter(|path| path.exists());
        let path = path.or_else(|| std::env::current_exe().ok()).unwrap_or_default();
        Self { path, arguments: arguments.collect() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The new process.
pub(super) struct Successor {
    child: Option<Child>,
    peer: Peer,
}

impl Successor {
    /// Starts it, gives it the sockets, and waits until it says that it could begin.
    ///
    /// # Errors
    /// Why it cannot take over; it is ended then.
    pub(super) async fn begin(
        running: &Running,
        program: &Program,
        patience: Duration,
    ) -> Result<Self, String> {
        let dir = running.configuration.in_force().data_dir.join(MEETINGS);
        let (program, sockets) = (program.clone(), running.process.sockets.copies());
        let sockets = sockets.map_err(|error| format!("sockets cannot be copied: {error}"))?;
        let before = running.process.upgrades.before();
        let beginning = move || {
            let (mut child, peer) = start(&program, &dir, patience)?;
            let prepared = prepare(&peer, sockets, &before, patience);
            if prepared.is_err() {
                put_to_end(&mut child);
            }
            prepared.map(|()| Self { child: Some(child), peer })
        };
        tokio::task::spawn_blocking(beginning).await.map_err(|error| error.to_string())?
    }

    pub(super) async fn say(&self, word: Word) -> Result<(), String> {
        let peer = self.peer.clone();
        let said = tokio::task::spawn_blocking(move || peer.say(&word, &[])).await;
        said.map_err(|error| error.to_string())?
    }

    pub(super) async fn hear(&self, within: Duration) -> Result<Word, String> {
        self.peer.listen(within).await
    }

    /// It has failed, and ends by itself when it said so: ends it otherwise, and waits until it has let go of everything.
    pub(super) async fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let ended = tokio::task::spawn_blocking(move || put_to_end(&mut child)).await;
        if ended.is_err() {
            tracing::error!(
                event = "successor_left",
                "the process that failed to take over could not be ended"
            );
        }
    }

    /// Its number, and the way to it; from now on nobody ends it.
    pub(super) fn part(self) -> (u32, Peer) {
        (self.child.as_ref().map_or(0, Child::id), self.peer)
    }
}

fn start(program: &Program, dir: &Path, patience: Duration) -> Result<(Child, Peer), String> {
    let mut nonce = [0; NONCE];
    SystemRng.fill(&mut nonce);
    let path = dir.join(format!("{}.sock", std::process::id()));
    let meeting = Meeting::at(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env(SOCKET, &path).stdin(Stdio::piped());
    for name in OWN_VARIABLES {
        command.env_remove(name);
    }
    let mut child =
        command.spawn().map_err(|error| format!("`{}` does not start: {error}", program.path.display()))?;
    // One that ends without reading it is found below.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(&nonce));
    let met = written
        .map_err(|error| error.to_string())
        .and_then(|()| meet(&meeting, &mut child, &nonce, patience));
    match met {
        Ok(peer) => Ok((child, peer)),
        Err(why) => {
            // Its exit status says more than that it does not read.
            let status = child.try_wait().ok().flatten();
            kill(&mut child);
            Err(status.map_or(why, |status| format!("the new process ended with {status}")))
        }
    }
}

fn meet(
    meeting: &Meeting,
    child: &mut Child,
    nonce: &[u8; NONCE],
    patience: Duration,
) -> Result<Peer, String> {
    let looks = patience.as_millis().div_ceil(LOOK.as_millis());
    for _ in 0..looks {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the new process ended with {status}"));
        }
        let stranger =
            |uid| tracing::warn!(event = "handover_refused", uid, "another user came for the sockets");
        let Ok(channel) = meeting.next(LOOK, stranger) else { continue };
        let peer = Peer::new(channel);
        match peer.hear(GREETING) {
            Ok(Some((Word::Hello { format, nonce: told, version }, _))) if told == *nonce => {
                if format != FORMAT {
                    return Err(format!(
                        "portcullis {version} hands over in another way ({format}, not {FORMAT})"
                    ));
                }
                return Ok(peer);
            }
            _ => tracing::warn!(
                event = "handover_refused",
                "somebody came for the sockets who does not know the word"
            ),
        }
    }
    Err(format!("the new process did not report within {} s", patience.as_secs()))
}

fn prepare(peer: &Peer, sockets: base_net::Named, before: &[Peer], patience: Duration) -> Result<(), String> {
    let (names, sockets): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
    for (names, sockets) in names.chunks(BATCH).zip(sockets.chunks(BATCH)) {
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        peer.say(&Word::Sockets { names: names.to_vec() }, &sockets)?;
    }
    // Whoever has waited for longest is forgotten first.
    let before = before.get(before.len().saturating_sub(BATCH)..).unwrap_or_default();
    let before: Vec<_> = before.iter().map(Peer::channel).collect();
    peer.say(&Word::Before, &before)?;
    match peer.hear(patience)? {
        Some((Word::Prepared, _)) => Ok(()),
        Some((word, _)) => Err(word.refusal()),
        None => Err("the new process ended".to_owned()),
    }
}

fn put_to_end(child: &mut Child) {
    for _ in 0..LAST.as_millis().div_ceil(LOOK.as_millis()) {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        std::thread::sleep(LOOK);
    }
    kill(child);
}

fn kill(child: &mut Child) {
    // One that has ended already cannot be killed.
    if let (Err(error), Ok(None)) = (child.kill(), child.try_wait()) {
        tracing::error!(event = "successor_left", %error, "the process that failed to take over could not be ended");
        return;
    }
    if let Err(error) = child.wait() {
        tracing::debug!(event = "successor_ended", %error, "nobody waits for it");
    }
}
