//! The keys of a demo at a terminal: one letter, at once, without Enter and without its echo.
//!
//! Nothing is read ahead, so that an editor that is started finds everything that was typed for it. The terminal is as it
//! was before once this is dropped; Ctrl-C stays what it is.

use std::io::{self, IsTerminal, Stdin};
use std::time::Duration;

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

/// So often it is looked whether a key was pressed.
const LOOK: Duration = Duration::from_millis(40);

/// A terminal that gives every key as it is pressed.
pub(super) struct Keys {
    terminal: Stdin,
    before: Termios,
}

impl Keys {
    /// None where nobody can press one: no terminal at both ends, or somebody else's turn at it.
    pub(super) fn listen() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stdout().is_terminal() || tcgetpgrp(&stdin).ok()? != getpgrp() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let keys = Self { terminal: stdin, before };
        keys.take().ok()?;
        Some(keys)
    }

    /// The next key. Safe to cancel: what was not given is not read.
    pub(super) async fn next(&self) -> io::Result<char> {
        loop {
            let mut key = [0; 1];
            if rustix::io::read(&self.terminal, &mut key)? > 0 {
                let [key] = key;
                return Ok(char::from(key));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives the terminal to a program that is started from here.
    pub(super) fn give(&self) -> io::Result<()> {
        Ok(tcsetattr(&self.terminal, OptionalActions::Drain, &self.before)?)
    }

    /// Takes it again.
    pub(super) fn take(&self) -> io::Result<()> {
        let mut wanted = self.before.clone();
        wanted.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // A read gives what there is, and does not wait.
        wanted.special_codes[SpecialCodeIndex::VMIN] = 0;
        wanted.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(&self.terminal, OptionalActions::Drain, &wanted)?)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        self.give().unwrap_or_default();
    }
}
