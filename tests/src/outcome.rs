//! How a command ended, as text.

use std::process::{Command, Output};

use crate::Result;

/// EX_TEMPFAIL: nothing was done, the same command may be given again.
const AGAIN: i32 = 75;

/// What a command of the binary answered.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Runs the command. A decision that a busy disk could not take in time refused it without effect, and the command
    /// says so (PC0141): it is given again, as a person would.
    pub(crate) fn of(mut command: Command) -> Result<Self> {
        for _ in 0..5 {
            let outcome = Self::from(command.output()?);
            if outcome.code != AGAIN || !outcome.stderr.contains("the decision could not be recorded") {
                return Ok(outcome);
            }
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        Ok(command.output()?.into())
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
