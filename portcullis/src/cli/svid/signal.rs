//! The signal that tells a program to read its files again.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Fault;
use crate::messages::Message;
use crate::output::Exit;

/// A signal by its name, with or without `SIG`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word(Signal);

/// Reads a signal of the command line.
pub(super) fn parse(text: &str) -> Result<Word, String> {
    let name = text.to_ascii_uppercase();
    Ok(Word(match name.strip_prefix("SIG").unwrap_or(&name) {
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "WINCH" => Signal::WINCH,
        _ => return Err(format!("`{text}` is none of HUP, USR1, USR2, TERM, INT, WINCH")),
    }))
}

impl Word {
    pub(super) const TERM: Self = Self(Signal::TERM);
    pub(super) const KILL: Self = Self(Signal::KILL);

    /// Sends it to the process with this number.
    pub(super) fn send(self, pid: u32) -> std::io::Result<()> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.ok_or(std::io::ErrorKind::InvalidInput)?, self.0)?)
    }

    /// Sends it to the process whose number stands in a file.
    pub(super) fn send_to_file(self, file: &Path) -> Result<(), Fault> {
        let fault = |text: String| {
            let text = format!("the files are written, but nobody was told: `{}` {text}", file.display());
            Fault::new(Exit::Failed, Message::error("PC1004", text).help("is the program running?"))
        };
        let text = fs::read_to_string(file).map_err(|error| fault(format!("cannot be read: {error}")))?;
        let pid = text.trim().parse::<u32>().ok().filter(|pid| *pid > 1);
        let pid = pid.ok_or_else(|| fault("holds no process id".to_owned()))?;
        self.send(pid).map_err(|error| fault(format!("names process {pid}: {error}")))
    }
}
