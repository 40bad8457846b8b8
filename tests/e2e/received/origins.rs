//! Origins of other makers. One that is a proxy hands on to ours, which tells what it made of the call.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;
use tests::peers::program;
use tests::port::free_port;
use tests::recorder::Recorder;
use tests::{Result, Script, script};

/// A running origin.
pub(super) struct Origin {
    pub(super) name: &'static str,
    address: SocketAddr,
    /// What received the calls in the end, where that is ours.
    recorder: Option<Recorder>,
    _process: Option<Mutex<Script>>,
    _files: Option<TempDir>,
}

impl Origin {
    pub(super) fn own() -> Self {
        let recorder = Recorder::start();
        let address = recorder.address;
        Self { name: "our own", address, recorder: Some(recorder), _process: None, _files: None }
    }

    pub(super) fn nginx() -> Result<Self> {
        let config = |dir: &Path, port: u16, to: SocketAddr| {
            let dir = dir.display();
            format!(
                "daemon off; master_process off; pid {dir}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n\
                 client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
                 server {{\nlisten 127.0.0.1:{port};\nunderscores_in_headers on; ignore_invalid_headers off; client_max_body_size 0;\n\
                 large_client_header_buffers 8 32k;\n\
                 location / {{ proxy_pass http://{to}; proxy_http_version 1.1; proxy_set_header host $http_host; proxy_set_header connection \"\"; }}\n}}\n}}\n"
            )
        };
        Self::proxy("nginx", config, |dir, file| {
            vec!["-p".into(), dir.into(), "-c".into(), file.into(), "-e".into(), "stderr".into()]
        })
    }

    pub(super) fn haproxy() -> Result<Self> {
        let config = |_: &Path, port: u16, to: SocketAddr| {
            format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
                 frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s {to}\n"
            )
        };
        Self::proxy("haproxy", config, |_, file| vec!["-db".into(), "-f".into(), file.into()])
    }

    pub(super) fn node() -> Result<Self> {
        let mut command = Command::new(program("node").ok_or("no node")?);
        command.arg(script::file("echo_origin.js"));
        Self::telling("node", Script::of("node", command)?)
    }

    pub(super) fn python() -> Result<Self> {
        Self::telling("python", Script::start("echo_origin", &[])?)
    }

    /// One that says its port and answers by itself.
    fn telling(name: &'static str, mut process: Script) -> Result<Self> {
        let port = process.next(Duration::from_secs(20))?["port"].as_u64().ok_or("no port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
        Ok(Self { name, address, recorder: None, _process: Some(Mutex::new(process)), _files: None })
    }

    fn proxy(
        name: &'static str,
        config: impl Fn(&Path, u16, SocketAddr) -> String,
        words: impl Fn(&str, &str) -> Vec<String>,
    ) -> Result<Self> {
        let (recorder, files, port) = (Recorder::start(), TempDir::new()?, free_port());
        let file = files.path().join("config");
        fs::write(&file, config(files.path(), port, recorder.address))?;
        let mut command = Command::new(program(name).ok_or("it is not installed")?);
        command.args(words(&files.path().display().to_string(), &file.display().to_string()));
        let mut process = Script::of(name, command)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        for _ in 0..500 {
            if std::net::TcpStream::connect(address).is_ok() {
                let _process = Some(Mutex::new(process));
                return Ok(Self { name, address, recorder: Some(recorder), _process, _files: Some(files) });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{name} does not listen: {:?}", process.next(Duration::from_millis(10))).into())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whole calls since it was asked last; always none where the origin is not ours.
    pub(super) fn received(&self) -> usize {
        let received = self.recorder.as_ref().map(Recorder::take).unwrap_or_default();
        received.iter().filter(|one| one.broken.is_none()).count()
    }
}
