//! A gateway with its own CA, agent and ledger, started from the shipped binary in a temporary directory.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{end, portcullis};
use crate::people::{open_to_all, own_uid};
use crate::port::free_port;
use crate::{Outcome, Result, curl};

/// A running gateway. Dropping it kills the process and removes the directory.
pub struct Gateway {
    dir: TempDir,
    /// Where the admin socket is when other users reach it.
    pub(crate) open: Option<TempDir>,
    child: Option<Child>,
    pub(crate) builder: Builder,
    /// The data plane, listener `public`.
    pub address: SocketAddr,
    /// Health, metrics, docs.
    pub admin: SocketAddr,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Builder {
    files: Vec<(String, String)>,
    /// Lines of `[policies]`, in place of a directory.
    policies: Option<String>,
    services: String,
    routes: String,
    entries: String,
    enforcer: String,
    listener: String,
    pub(crate) quic: bool,
    ca: String,
    decisions: String,
    sections: String,
    users: Vec<(u32, String)>,
    environment: Vec<(String, String)>,
    pub(crate) wrapper: Vec<String>,
    /// Lines about an identity that a Workload API gives, in place of an own CA.
    pub(crate) given: Option<String>,
    pub(crate) trust_domain: String,
    pub(crate) arguments: Vec<String>,
    /// The binary stands in the directory of the gateway, where it can be replaced.
    pub(crate) has_program: bool,
}

impl Default for Builder {
    fn default() -> Self {
        let uid = own_uid();
        Self {
            files: vec![("policies/web.cedar".into(), ALLOW_WEB.into())],
            policies: None,
            services: String::new(),
            routes: String::new(),
            entries: format!(
                "[[ca.entry]]\nspiffe_id = \"spiffe://example.org/web\"\nselectors = [\"unix:uid:{uid}\"]\ndns_names = [\"localhost\"]\n"
            ),
            enforcer: String::new(),
            listener: String::new(),
            quic: false,
            ca: String::new(),
            decisions: String::new(),
            sections: String::new(),
            users: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            given: None,
            trust_domain: "example.org".into(),
            arguments: Vec::new(),
            has_program: false,
        }
    }
}

/// The policy of a gateway that was told nothing else.
pub const ALLOW_WEB: &str = "@id(\"web-all\")\npermit (principal == Workload::\"spiffe://example.org/web\", action in Action::\"call\", resource);\n";

impl Builder {
    /// Replaces the policies by one file.
    pub fn policy(mut self, text: &str) -> Self {
        self.files.retain(|(name, _)| !name.ends_with(".cedar"));
        self.files.push(("policies/web.cedar".into(), text.into()));
        self
    }

    /// A file below the directory of the configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// The lines of `[policies]`: no directory, no files.
    pub fn policies(mut self, lines: &str) -> Self {
        self.files.retain(|(name, _)| !name.starts_with("policies/"));
        self.policies = Some(lines.into());
        self
    }

    /// A service with registered methods.
    pub fn service(mut self, name: &str, methods: &[&str]) -> Self {
        self.services.push_str(&format!(
            "[[enforcer.service]]\nname = \"{name}\"\nnamespace = \"shop\"\nmethods = {methods:?}\n"
        ));
        self
    }

    /// A service without registered methods at `upstream`, for every path.
    pub fn site(self, upstream: SocketAddr) -> Self {
        self.service("site", &[]).route("site", "site", "{ path = \"/\" }", &format!("http://{upstream}"))
    }

    /// A route; `matches` is TOML, `{ path = "/" }`.
    pub fn route(mut self, name: &str, service: &str, matches: &str, to: &str) -> Self {
        self.routes.push_str(&format!("[[enforcer.route]]\nname = \"{name}\"\nservice = \"{service}\"\nmatch = {matches}\nto = [\"{to}\"]\n"));
        self
    }

    /// Further lines of the last route.
    pub fn route_line(mut self, line: &str) -> Self {
        self.routes.push_str(line);
        self.routes.push('\n');
        self
    }

    /// A line of `[enforcer]`.
    pub fn enforcer(mut self, line: &str) -> Self {
        self.enforcer.push_str(line);
        self.enforcer.push('\n');
        self
    }

    /// A line of `[[enforcer.listener]]`.
    pub fn listener(mut self, line: &str) -> Self {
        self.listener.push_str(line);
        self.listener.push('\n');
        self
    }

    /// A line of `[ca]`.
    pub fn ca(mut self, line: &str) -> Self {
        self.ca.push_str(line);
        self.ca.push('\n');
        self
    }

    /// A line of `[decisions]`.
    pub fn decisions(mut self, line: &str) -> Self {
        self.decisions.push_str(line);
        self.decisions.push('\n');
        self
    }

    /// Further sections of the file; TOML.
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self.sections.push('\n');
        self
    }

    /// Another local user with these roles, on an admin socket that everybody reaches.
    pub fn user(mut self, uid: u32, roles: &[&str]) -> Self {
        self.users.push((uid, format!("{roles:?}")));
        self
    }

    /// Replaces the registration entries; TOML.
    pub fn entries(mut self, entries: &str) -> Self {
        self.entries = entries.into();
        self
    }

    /// An environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Writes the files, starts the binary and waits until it is ready.
    pub fn start(self) -> Result<Gateway> {
        let mut gateway = self.written()?;
        gateway.restart()?;
        Ok(gateway)
    }

    /// The same for a process that will not be ready: waits until it answers.
    pub fn start_unready(self) -> Result<Gateway> {
        let mut gateway = self.written()?;
        gateway.spawn()?;
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if gateway.http("/livez").is_ok_and(|(status, _)| status == 200) {
                return Ok(gateway);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("no answer\n{}", gateway.log()).into())
    }

    pub(crate) fn written(self) -> Result<Gateway> {
        let dir = tempfile::Builder::new().prefix("portcullis-test-").tempdir()?;
        let (address, admin) = (free_port(), free_port());
        let (root, domain) = (dir.path().display(), &self.trust_domain);
        let open = match self.users.is_empty() {
            true => None,
            false => Some(
                tempfile::Builder::new().prefix("portcullis-users-").permissions(open_to_all()).tempdir()?,
            ),
        };
        let mut people = String::new();
        if let Some(open) = &open {
            people.push_str(&format!(
                "socket = \"unix://{}/admin.sock\"\nsocket_mode = \"0777\"\n",
                open.path().display()
            ));
        }
        for (uid, roles) in &self.users {
            people.push_str(&format!("[[admin.user]]\nuid = {uid}\nroles = {roles}\n"));
        }
        let (roles, identity) = match &self.given {
            None => (
                format!(
                    "[ca]\n{}{}\n[agent]\nsocket = \"unix://{root}/workload.sock\"\n",
                    self.ca, self.entries
                ),
                format!("id = \"spiffe://{domain}/gateway\""),
            ),
            Some(identity) => (String::new(), identity.clone()),
        };
        let config = format!(
            "version = 1\ntrust_domain = \"{domain}\"\ndata_dir = \"{root}/data\"\n{roles}\
             [policies]\n{policies}\n[enforcer]\n{identity}\ndns_names = [\"localhost\"]\nworkers = 2\nmax_delay = \"20s\"\n{enforcer}\n\
             [[enforcer.listener]]\nname = \"public\"\nbind = [\"tcp://127.0.0.1:{address}\"{quic}]\n{listener}\n{services}{routes}\n[decisions]\n{decisions}\n[admin]\nlisten = [\"http://127.0.0.1:{admin}\"]\n{people}{sections}",
            sections = self.sections,
            policies = self.policies.clone().unwrap_or_else(|| format!("dir = \"{root}/policies\"")),
            decisions = self.decisions,
            enforcer = self.enforcer,
            listener = self.listener,
            quic = if self.quic { format!(", \"quic://127.0.0.1:{address}\"") } else { String::new() },
            services = self.services,
            routes = self.routes,
        );
        fs::write(dir.path().join("portcullis.toml"), config)?;
        fs::create_dir_all(dir.path().join("policies"))?;
        for (name, text) in &self.files {
            fs::write(dir.path().join(name), text)?;
        }
        self.place_program(dir.path())?;
        Ok(Gateway {
            dir,
            open,
            child: None,
            builder: self,
            address: ([127, 0, 0, 1], address).into(),
            admin: ([127, 0, 0, 1], admin).into(),
        })
    }
}

impl Gateway {
    /// What to start; `start` starts it.
    pub fn build() -> Builder {
        Builder::default()
    }

    /// A gateway with one HTTP service at `upstream`, which `web` may call.
    pub fn before(upstream: SocketAddr) -> Result<Self> {
        Self::build().site(upstream).start()
    }

    /// Starts the process again; one that still runs is killed first, or it would answer for the new one.
    pub fn restart(&mut self) -> Result {
        self.kill()?;
        self.spawn()?;
        self.wait_ready(Duration::from_secs(30))
    }

    fn spawn(&mut self) -> Result {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir().join("log"))?;
        let mut words = self.builder.wrapper.clone();
        words.push(self.program().display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["run", "-c"]).arg(self.dir().join("portcullis.toml"));
        command.args(&self.builder.arguments);
        command
            .env("PORTCULLIS_DECISIONS__QUESTIONS_PER_MINUTE", "10000")
            .envs(self.builder.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    fn wait_ready(&mut self, timeout: Duration) -> Result {
        let end = Instant::now() + timeout;
        while Instant::now() < end {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Err(format!("portcullis ended with {status}\n{}", self.log()).into());
            }
            if self.http("/readyz").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("not ready after {timeout:?}\n{}", self.log()).into())
    }

    /// The directory with configuration, policies and data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Address of the Workload API.
    pub fn workload_socket(&self) -> String {
        format!("unix://{}", self.dir().join("workload.sock").display())
    }

    /// What the process logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Kills the process as a crash would.
    pub fn kill(&mut self) -> Result {
        self.child.take().map_or(Ok(()), end)
    }

    /// Asks the process to end and gives its exit status.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        let mut child = self.child.take().ok_or("not running")?;
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        Ok(child.wait()?)
    }

    /// Waits for the end of the process, which somebody else has asked for.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.take().ok_or("not running")?.wait()?)
    }

    /// Runs a command of the binary against this gateway.
    pub fn cli(&self, arguments: &[&str]) -> Result<Outcome> {
        let mut command = Command::new(portcullis());
        command
            .args(arguments)
            .arg("-c")
            .arg(self.dir().join("portcullis.toml"))
            .env_remove("SPIFFE_ENDPOINT_SOCKET")
            .stdin(Stdio::null());
        Outcome::of(command)
    }

    /// The same with `-o json`, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let outcome = self.cli(&[arguments, &["-o", "json"]].concat())?;
        if outcome.code != 0 {
            return Err(format!(
                "{arguments:?} ended with {}: {}{}",
                outcome.code, outcome.stdout, outcome.stderr
            )
            .into());
        }
        Ok(serde_json::from_str(&outcome.stdout)?)
    }

    /// Writes the SVID of this process to files; gives their directory.
    pub fn identity(&self) -> Result<PathBuf> {
        let dir = self.dir().join("tls");
        let outcome = self.cli(&[
            "svid",
            "write",
            "--once",
            "--dir",
            &dir.display().to_string(),
            "--socket",
            &self.workload_socket(),
        ])?;
        if outcome.code != 0 {
            return Err(format!("svid write: {}", outcome.stderr).into());
        }
        Ok(dir)
    }

    /// curl through the data plane with the identity of `tls`; the answer's status and body.
    pub fn curl(&self, tls: &Path, path: &str, arguments: &[&str]) -> Result<(u16, String)> {
        curl::answer(self.curl_command(tls, path), arguments)
    }

    /// The same curl, to be started by the caller.
    pub fn curl_command(&self, tls: &Path, path: &str) -> Command {
        curl::command(self.address.port(), tls, path)
    }

    /// Plain HTTP to the admin listener.
    pub fn http(&self, path: &str) -> Result<(u16, String)> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect_timeout(&self.admin, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).ok_or("no status")?.parse()?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Ok((status, body))
    }

    /// Decisions that match, newest first.
    pub fn decisions(&self, filters: &[&str]) -> Result<Vec<Value>> {
        let found = self.json(&[&["decisions", "query"], filters].concat())?;
        Ok(found.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.kill());
    }
}
