//! The writer of trails: one thread that takes them from the workers and writes them, to stdout or to a file.
//!
//! A file that was moved away or removed is opened anew within a second, so `logrotate` needs no word with us. What cannot be
//! written is lost and said once; calls never wait for their trails.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use base_ports::{Clock, Mono, SystemClock};
use base_telemetry::Metrics;
use enforcer_proxy::{Reader, TrailFormat, Trails};

use crate::config::TrailTo;
use crate::messages::Message;

/// So much is gathered before it is written.
const GATHER: usize = 64 * 1024;
/// How often the file is looked for at its path.
const LOOK: Duration = Duration::from_secs(1);

/// The running writer.
#[derive(Debug)]
pub(super) struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Waits until what is under way is written, which has been told its end; nothing is written after it.
    pub(super) async fn finish(self) {
        if tokio::task::spawn_blocking(|| self.thread.join()).await.is_ok_and(|ended| ended.is_ok()) {
            return;
        }
        tracing::error!(event = "trails_lost", "the writer of trails failed");
    }
}

/// Opens the file, and starts the writer; calls find it by `trails`.
pub(super) fn start(to: &TrailTo, trails: &mut Trails, metrics: &Metrics) -> Result<Writer, Message> {
    let (mut out, format) = match to {
        TrailTo::Stdout if io::stdout().is_terminal() => (Out::Stdout, TrailFormat::Human),
        TrailTo::Stdout => (Out::Stdout, TrailFormat::Json),
        TrailTo::File(path) => {
            let file = open(path).map_err(|error| {
                Message::error("PC4001", format!("the trail `{}` cannot be opened: {error}", path.display()))
                    .next("make its directory writable, or change `trail` of [enforcer]")
            })?;
            (Out::File { path: path.clone(), file }, TrailFormat::Json)
        }
    };
    let reader = trails.written(metrics);
    let thread = std::thread::Builder::new().name("trails".to_owned());
    let thread = thread.spawn(move || run(reader, &mut out, format, &SystemClock));
    let thread = thread.map_err(|error| Message::error("PC4001", format!("trails: {error}")))?;
    Ok(Writer { thread })
}

/// Trails tell who called what: that is for the owner of the file and its group.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

enum Out {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(bytes),
        }
    }

    /// Opens the file anew when another one, or none, is at its path.
    fn look(&mut self) -> io::Result<()> {
        let Self::File { path, file } = self else { return Ok(()) };
        let here = file.metadata().map(|of| (of.dev(), of.ino()))?;
        let there = std::fs::metadata(&*path).map(|of| (of.dev(), of.ino()));
        if there.is_ok_and(|there| there == here) {
            return Ok(());
        }
        *file = open(path)?;
        Ok(())
    }
}

fn run(mut reader: Reader, out: &mut Out, format: TrailFormat, clock: &dyn Clock) {
    let mut lines = Vec::new();
    let mut looked = Mono::default();
    let mut is_failing = false;
    let mut is_over = false;
    while !is_over {
        let mut next = reader.blocking_recv();
        loop {
            match next {
                Some(Some(trail)) => trail.print(format, &mut lines),
                Some(None) | None => is_over = true,
            }
            if is_over || lines.len() >= GATHER {
                break;
            }
            match reader.try_recv() {
                Ok(more) => next = Some(more),
                Err(_nothing) => break,
            }
        }
        let now = clock.mono();
        let mut written = Ok(());
        if now.saturating_since(looked) >= LOOK {
            (written, looked) = (out.look(), now);
        }
        match written.and_then(|()| out.write(&lines)) {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(event = "trails_lost", %error, "trails of calls cannot be written and are lost");
            }
            Err(_) => {}
        }
        lines.clear();
    }
}
