//! Tells systemd how we are, over the datagram socket named by `NOTIFY_SOCKET` (HO1). Nothing happens without it.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// A manager that reads nothing for so long is not told; the process goes on.
const PATIENCE: Duration = Duration::from_millis(100);

/// The service is ready: identity, policy, listeners, ledger (RA11).
pub fn ready() {
    tell("READY=1");
}

/// Another process is the service from now on: it will say [`ready`] itself.
pub fn main_process(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

/// The service is going down.
pub fn stopping() {
    tell("STOPPING=1");
}

/// One line for `systemctl status`; line ends become spaces.
pub fn status(line: &str) {
    tell(&status_message(line));
}

/// The service is alive; due at half of [`watchdog_interval`].
pub fn watchdog() {
    tell("WATCHDOG=1");
}

/// The configuration is being read again; [`ready`] must follow.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// Starting or stopping takes that much longer from now.
pub fn extend_timeout(by: Duration) {
    tell(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
}

/// How often systemd wants to hear [`watchdog`]; none when it does not watch this process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0)?;
    Some(Duration::from_micros(micros))
}

fn status_message(line: &str) -> String {
    format!("STATUS={}", line.replace(['\n', '\r'], " "))
}

fn tell(message: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
        && let Err(cause) = send(&socket, message)
    {
        tracing::warn!(event = "notify_failed", socket = %socket.display(), %cause, "cannot tell the service manager");
    }
}

/// A name that starts with `@` is in the abstract namespace.
fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn ho1_a_message_reaches_a_socket_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(receive(&manager), "READY=1");
    }

    #[test]
    fn ho1_a_message_reaches_an_abstract_name() {
        let name = format!("portcullis-notify-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(receive(&manager), "STOPPING=1");
    }

    #[test]
    fn a_missing_socket_is_an_error_and_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let error = send(dir.path().join("nobody").as_os_str(), "READY=1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_status_cannot_smuggle_a_second_assignment() {
        assert_eq!(status_message("policies v41\nREADY=1"), "STATUS=policies v41 READY=1");
    }
}
