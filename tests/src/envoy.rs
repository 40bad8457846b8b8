//! A running Envoy, and plain calls to it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::peers::program;

/// Killed when dropped.
pub struct Envoy {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("envoy did not end");
        }
    }
}

impl Envoy {
    /// With that configuration, in that directory; it listens on `port` among others.
    pub fn start(dir: &Path, port: u16, configuration: &str) -> Result<Self> {
        fs::write(dir.join("envoy.yaml"), configuration)?;
        let log = fs::File::create(dir.join("envoy.log"))?;
        let child = Command::new(program("envoy").ok_or("no envoy")?)
            .args(["-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut envoy = Self { child, address: ([127, 0, 0, 1], port).into() };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(envoy.address).is_err() {
            if Instant::now() > end || envoy.child.try_wait()?.is_some() {
                let log = fs::read_to_string(dir.join("envoy.log")).unwrap_or_default();
                return Err(format!("envoy does not listen: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(envoy)
    }
}

/// Status and body of a plain call on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer}"))?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
