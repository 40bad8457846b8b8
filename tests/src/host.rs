//! Another host: a process that is an agent of a gateway's authority, with a directory and sockets of its own; and a gateway
//! itself, where that is asked for.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{end, portcullis};
use crate::port::free_port;
use crate::{Gateway, Outcome, Result, curl};

/// A host. Dropping it kills the process and removes the directory.
pub struct Host {
    dir: TempDir,
    child: Option<Child>,
    /// How far its clock is ahead, as faketime writes it.
    ahead: Option<String>,
    /// Of its own data plane.
    port: Option<u16>,
}

impl Host {
    /// A host with the configuration and the token that `agent token` prints at `ca`, whose [ca] listens on that port.
    pub fn of(ca: &Gateway, port: u16) -> Result<Self> {
        let printed = ca.json(&["agent", "token", "--authority", &format!("https://127.0.0.1:{port}")])?;
        let of = |name: &str| printed[name].as_str().unwrap_or_default().to_owned();
        let host = Self { dir: tempfile::tempdir()?, child: None, ahead: None, port: None };
        let admin = format!("[admin]\nlisten = [\"http://127.0.0.1:{}\"]\n", free_port());
        fs::write(host.config(), of("join") + &admin)?;
        host.lay_token(&of("token"))?;
        Ok(host)
    }

    /// A gateway beside its agent: one HTTP service at `upstream`, for every path.
    pub fn with_gateway(mut self, upstream: SocketAddr) -> Result<Self> {
        let port = free_port();
        let gateway = format!(
            "[enforcer]\nid = \"spiffe://example.org/edge\"\nworkers = 2\nmax_delay = \"20s\"\n\
             [[enforcer.listener]]\nname = \"public\"\nbind = [\"tcp://127.0.0.1:{port}\"]\n\
             [[enforcer.service]]\nname = \"site\"\nnamespace = \"shop\"\n\
             [[enforcer.route]]\nname = \"site\"\nservice = \"site\"\nmatch = {{ path = \"/\" }}\nto = [\"http://{upstream}\"]\n"
        );
        let text = fs::read_to_string(self.config())?;
        fs::write(self.config(), text + &gateway)?;
        self.port = Some(port);
        Ok(self)
    }

    /// curl through its data plane with the identity of `tls`; the answer's status and body.
    pub fn curl(&self, tls: &Path, path: &str) -> Result<(u16, String)> {
        curl::answer(curl::command(self.port.ok_or("it is no gateway")?, tls, path), &[])
    }

    /// Decisions on record there that match, newest first.
    pub fn decisions(&self, filters: &[&str]) -> Result<Vec<Value>> {
        let found = self.json(&[&["decisions", "query"], filters].concat())?;
        Ok(found["items"].as_array().cloned().unwrap_or_default())
    }

    /// Puts a token where the configuration looks for it.
    pub fn lay_token(&self, token: &str) -> Result {
        let file = self.dir().join("join.token");
        fs::write(&file, token)?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?)
    }

    /// Replaces a part of the configuration.
    pub fn change(&self, from: &str, to: &str) -> Result {
        let text = fs::read_to_string(self.config())?;
        if !text.contains(from) {
            return Err(format!("`{from}` is not in {text}").into());
        }
        Ok(fs::write(self.config(), text.replace(from, to))?)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn config(&self) -> PathBuf {
        self.dir().join("portcullis.toml")
    }

    /// Address of its Workload API.
    pub fn workload_socket(&self) -> String {
        format!("unix://{}", self.dir().join("data/workload.sock").display())
    }

    /// What its process logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// The clock of its next process is ahead by that, such as `+13h`.
    pub fn ahead(&mut self, by: &str) {
        self.ahead = Some(by.to_owned());
    }

    /// Starts the process; one that still runs is killed first.
    pub fn begin(&mut self) -> Result {
        self.kill()?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir().join("log"))?;
        let mut command = Command::new(portcullis());
        command.args(["run", "-c"]).arg(self.config());
        command.env("PORTCULLIS_DECISIONS__QUESTIONS_PER_MINUTE", "10000");
        if let Some(ahead) = &self.ahead {
            let preload =
                Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output()?;
            command.env("LD_PRELOAD", String::from_utf8_lossy(&preload.stdout).trim());
            command.env("FAKETIME", ahead).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// The same, and waits until it is ready.
    pub fn start(&mut self) -> Result {
        self.begin()?;
        self.until("ready", Duration::from_secs(30), |status| status["ready"] == true).map(drop)
    }

    /// Waits for the end of a process that does not start, and gives what it said.
    pub fn refused(&mut self) -> Result<String> {
        self.begin()?;
        let (end, mut child) =
            (Instant::now() + Duration::from_secs(20), self.child.take().ok_or("no child")?);
        while Instant::now() < end {
            if let Some(status) = child.try_wait()? {
                if status.success() {
                    return Err(format!("it ended well: {}", self.log()).into());
                }
                return Ok(self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
        Err(format!("it runs: {}", self.log()).into())
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, what: &str, limit: Duration, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let (begun, mut last) = (Instant::now(), String::new());
        while begun.elapsed() < limit {
            match self.json(&["status"]) {
                Ok(status) if is_so(&status) => return Ok(status),
                Ok(status) => last = status["conditions"].to_string(),
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Err(format!("not {what} within {limit:?}: {last}\n{}", self.log()).into())
    }

    /// Kills the process as a crash would.
    pub fn kill(&mut self) -> Result {
        self.child.take().map_or(Ok(()), end)
    }

    /// Runs a command of the binary on this host.
    pub fn cli(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = Command::new(portcullis());
        command.args(arguments).arg("-c").arg(self.config());
        command.env_remove("SPIFFE_ENDPOINT_SOCKET").stdin(Stdio::null());
        Outcome::of(command)
    }

    /// The same with `-o json`, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let outcome = self.cli(&[arguments, &["-o", "json"]].concat())?;
        if outcome.code != 0 {
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            return Err(format!("{arguments:?} ended with {}: {said}", outcome.code).into());
        }
        Ok(serde_json::from_str(&outcome.stdout)?)
    }

    /// Writes the SVID of this process to files; gives their directory.
    pub fn identity(&self) -> Result<PathBuf> {
        let (dir, socket) = (self.dir().join("tls"), self.workload_socket());
        let place = dir.display().to_string();
        let outcome = self.cli(&["svid", "write", "--once", "--dir", &place, "--socket", &socket])?;
        match outcome.code {
            0 => Ok(dir),
            code => Err(format!("svid write ended with {code}: {}\n{}", outcome.stderr, self.log()).into()),
        }
    }

    /// The SPIFFE IDs that a process of this user gets here.
    pub fn ids(&self) -> Result<Vec<String>> {
        let socket = self.workload_socket();
        let outcome = self.cli(&["svid", "fetch", "--socket", &socket, "-o", "json"])?;
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        let items = found["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(|svid| svid["spiffe_id"].as_str().map(str::to_owned)).collect())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.kill());
    }
}
