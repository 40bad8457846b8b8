//! Peers written in Python, in `tests/peers`, and other programs that say what they do: each prints one JSON object per line.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;
use crate::peers::python;

/// A file of `tests/peers`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A running peer. Dropping it kills the process.
pub struct Script {
    child: Child,
    name: String,
    lines: Receiver<Value>,
    errors: Option<JoinHandle<String>>,
}

impl Script {
    /// Starts `tests/peers/NAME.py`.
    pub fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(python());
        command.arg(file(&format!("{name}.py"))).args(arguments);
        command.env_remove("SPIFFE_ENDPOINT_SOCKET").env("PYTHONDONTWRITEBYTECODE", "1");
        Self::of(name, command)
    }

    /// Starts another program.
    pub fn of(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (tell, lines) = channel();
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        std::thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if tell.send(value).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().ok_or("no stderr")?;
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            drop(stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, name: name.to_owned(), lines, errors: Some(errors) })
    }

    /// Runs it to its end; everything it said.
    pub fn run(name: &str, arguments: &[&str]) -> Result<Vec<Value>> {
        Self::start(name, arguments)?.rest(Duration::from_secs(60))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line.
    pub fn next(&mut self, patience: Duration) -> Result<Value> {
        match self.lines.recv_timeout(patience) {
            Ok(value) => Ok(value),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("{} said nothing for {patience:?}", self.name).into())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let fate = self.fate();
                Err(format!("{} ended: {fate}", self.name).into())
            }
        }
    }

    /// The first of the next lines that `wanted` picks.
    pub fn until(&mut self, patience: Duration, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + patience;
        loop {
            let line = self.next(end.saturating_duration_since(Instant::now()))?;
            if wanted(&line) {
                return Ok(line);
            }
        }
    }

    /// What was said and not yet read.
    pub fn said(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }

    /// Everything until its end, which must be a good one.
    pub fn rest(mut self, patience: Duration) -> Result<Vec<Value>> {
        let end = Instant::now() + patience;
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(value) => said.push(value),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{} does not end; it said {said:?}", self.name).into());
                }
            }
        }
        let status = self.child.wait()?;
        if !status.success() {
            let fate = self.fate();
            return Err(format!("{} ended with {status}: {fate}", self.name).into());
        }
        Ok(said)
    }

    fn fate(&mut self) -> String {
        self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
