//! The process of a gateway: how it is started, and how another one takes its place, which is of the same group and ends
//! with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::portcullis;
use crate::gateway::Builder;
use crate::{Gateway, Result};

/// Longest time for the new process to serve.
const SERVED: Duration = Duration::from_secs(40);

impl Builder {
    /// Of another trust domain than `example.org`, in the configuration; what is said by name stays.
    pub fn domain(mut self, name: &str) -> Self {
        self.trust_domain = name.into();
        self
    }

    /// The gateway is that workload, and has its SVID from the Workload API of `other`, in place of a CA of its own.
    pub fn identity_of(self, other: &Gateway, id: &str) -> Self {
        self.identity_from(&other.workload_socket(), id)
    }

    /// The same with the Workload API at that socket.
    pub fn identity_from(mut self, socket: &str, id: &str) -> Self {
        self.given = Some(format!("id = \"{id}\"\nworkload_api = \"{socket}\""));
        self
    }

    /// Runs the binary below another program, such as `faketime`.
    pub fn below(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The wall clock of the process runs `rate` times as fast as ours, from the same start; timers are not moved.
    pub fn fast_clock(self, rate: u32) -> Self {
        let preload = Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output();
        let preload = preload.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        self.env("LD_PRELOAD", &preload.unwrap_or_default())
            .env("FAKETIME", &format!("+0 x{rate}"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// Further arguments of `run`.
    pub fn run(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the binary below another program, which knows where the gateway is to listen.
    pub fn start_below(self, wrapper: impl FnOnce(&Gateway) -> Vec<String>) -> Result<Gateway> {
        let mut gateway = self.written()?;
        gateway.builder.wrapper = wrapper(&gateway);
        gateway.restart()?;
        Ok(gateway)
    }

    /// The binary stands at [`Gateway::program`], where a test may replace it.
    pub fn own_program(mut self) -> Self {
        self.has_program = true;
        self
    }

    /// Puts it there. A copy may be open for writing in a child that another story starts, and is then not executed.
    pub(crate) fn place_program(&self, dir: &Path) -> Result {
        let own = dir.join("portcullis");
        if self.has_program && fs::hard_link(portcullis(), &own).is_err() {
            fs::copy(portcullis(), own)?;
        }
        Ok(())
    }
}

impl Gateway {
    /// The binary that runs.
    pub fn program(&self) -> PathBuf {
        if self.builder.has_program { self.dir().join("portcullis") } else { portcullis() }
    }

    /// The process that serves by now.
    pub fn serving(&self) -> Result<u32> {
        let status = self.json(&["status"]).map_err(|error| format!("{error}\n{}", self.log()))?;
        let pid = status["pid"].as_u64().ok_or("no pid")?;
        Ok(pid.try_into()?)
    }

    /// Sends a signal to the process that serves.
    pub fn signal(&self, name: &str) -> Result<u32> {
        let pid = self.serving()?;
        Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
        Ok(pid)
    }

    /// Has a new process take over, and waits until it has; the old one.
    pub fn upgrade(&self) -> Result<u32> {
        let before = self.signal("USR2")?;
        self.until(|status| status["pid"] != before && status["upgrade"]["result"] == "succeeded")?;
        Ok(before)
    }

    /// Has a new process try to take over, and waits until that has failed; why.
    pub fn upgrade_in_vain(&self) -> Result<String> {
        let before = self.signal("USR2")?;
        let status = self.until(|status| status["upgrade"]["result"] == "failed")?;
        if status["pid"] != before {
            return Err(format!("another process serves: {status}").into());
        }
        Ok(status["upgrade"]["why"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the status is as wanted. Between two processes nobody may answer for a moment.
    pub fn until(&self, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + SERVED;
        let mut last = String::new();
        while Instant::now() < end {
            match self.json(&["status"]) {
                Ok(status) if is_so(&status) => return Ok(status),
                Ok(status) => last = status.to_string(),
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Err(format!("not within {SERVED:?}: {last}\n{}", self.log()).into())
    }
}
