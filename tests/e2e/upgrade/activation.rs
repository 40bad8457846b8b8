//! Sockets by the protocol of systemd: a stand-in binds them, names them, and becomes the gateway (LT-17, HO2); and what
//! the gateway tells it (HO1).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::site;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let needs = || missing("python3").or_else(|| missing("curl"));
    vec![
        trial("lt_17_a_gateway_serves_on_sockets_that_were_bound_for_it", needs(), activated),
        trial("lt_17_a_surplus_or_a_missing_socket_stops_the_start", needs(), mismatched),
        trial("up_01_a_process_of_another_user_gets_no_socket", needs(), stranger),
    ]
}

/// Binds sockets as its arguments say, `NAME=tcp:PORT`, `NAME=udp:PORT` or `NAME=unix:PATH`, and runs what follows `--`.
const SYSTEMD: &str = r#"
import os, socket, sys
at = sys.argv.index("--")
held, names = [], []
for word in sys.argv[1:at]:
    name, place = word.split("=", 1)
    kind, where = place.split(":", 1)
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(where)
    else:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", int(where)))
    if kind != "udp":
        made.listen(64)
    held.append(os.dup(made.fileno()))
    names.append(name)
held = [os.dup(each) for each in held]
while min(held) < 3 + len(held):
    held = [os.dup(each) for each in held]
for number, each in enumerate(held):
    os.dup2(each, 3 + number, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(held)), LISTEN_FDNAMES=":".join(names))
os.execv(sys.argv[at + 1], sys.argv[at + 1:])
"#;

fn below(words: &[String]) -> Vec<String> {
    let mut command = vec!["python3".to_owned(), "-c".to_owned(), SYSTEMD.to_owned()];
    command.extend(words.iter().cloned());
    command.push("--".to_owned());
    command
}

fn start(builder: tests::gateway::Builder, words: impl Fn(&Gateway) -> Vec<String>) -> Result<Gateway> {
    builder.start_below(|gateway| below(&words(gateway)))
}

/// What a manager hears; one that reads nothing would be told nothing.
fn heard(socket: UnixDatagram) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(count) = socket.recv(&mut bytes) {
            if tell.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                return;
            }
        }
    });
    told
}

fn activated() -> Result {
    let upstream = Upstream::echo();
    let manager = tempfile::tempdir()?;
    let notify = manager.path().join("notify");
    let told = UnixDatagram::bind(&notify)?;
    let told = heard(told);
    let builder = site(&upstream)
        .quic()
        .env("NOTIFY_SOCKET", &notify.display().to_string())
        .env("WATCHDOG_USEC", "400000");
    let gateway = start(builder, |gateway| {
        let port = gateway.address.port();
        vec![
            format!("public=tcp:{port}"),
            format!("public=udp:{port}"),
            format!("admin=tcp:{}", gateway.admin.port()),
            format!("workload=unix:{}", gateway.dir().join("workload.sock").display()),
        ]
    })?;
    let until = |wanted: &str| -> Result {
        loop {
            match told.recv_timeout(Duration::from_secs(20)) {
                Ok(message) if message.starts_with(wanted) => return Ok(()),
                Ok(_) => {}
                Err(silence) => return Err(format!("no {wanted}: {silence}").into()),
            }
        }
    };
    until("READY=1")?;
    until("WATCHDOG=1")?;
    let tls = gateway.identity()?;
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "over tcp");
    check!(tests::h3::get(gateway.address, &tls, true, "/hello")?.0 == 200, "over quic");
    let old = gateway.upgrade()?;
    until(&format!("MAINPID={}", gateway.serving()?))?;
    until("READY=1")?;
    until("WATCHDOG=1")?;
    check!(gateway.serving()? != old, "the same process");
    check!(gateway.curl(&tls, "/hello", &[])?.0 == 200, "over tcp, from the next process");
    check!(
        tests::h3::get(gateway.address, &tls, true, "/hello")?.0 == 200,
        "over quic, from the next process"
    );
    gateway.cli(&["config", "reload"])?;
    until("RELOADING=1\nMONOTONIC_USEC=")?;
    until("READY=1")?;
    gateway.signal("TERM")?;
    until("STOPPING=1")?;
    until("EXTEND_TIMEOUT_USEC=")
}

fn mismatched() -> Result {
    let upstream = Upstream::echo();
    for (name, wanted) in [
        ("other", "no socket was given for `public`"),
        ("public", "no listener of the configuration is extra"),
    ] {
        let refused = start(site(&upstream), |gateway| {
            vec![format!("{name}=tcp:{}", gateway.address.port()), "extra=tcp:0".to_owned()]
        });
        let Err(refused) = refused else { return Err(format!("started with `{name}`").into()) };
        let text = refused.to_string();
        check!(text.contains(wanted) && text.contains("PC4002"), "{text}");
    }
    Ok(())
}

/// Whoever comes to the meeting with the right user and a wrong word, or as another user, gets nothing.
fn stranger() -> Result {
    let upstream = Upstream::echo();
    let gateway = site(&upstream).own_program().run(&["--upgrade-timeout", "5s"]).start()?;
    let (pid, out) = (gateway.serving()?, gateway.dir().join("got"));
    let script = gateway.dir().join("stranger.py");
    fs::write(&script, STRANGER)?;
    let text = format!("#!/bin/sh\nexec python3 {} {}\n", script.display(), out.display());
    super::replace(&gateway, &text)?;
    let why = gateway.upgrade_in_vain()?;
    check!(why.contains("did not report") || why.contains("ended with"), "{why}");
    let got = fs::read_to_string(&out)?;
    check!(got.trim() == "nonce:nothing user:nothing", "{got}");
    super::serves(&gateway, pid)?;
    check!(gateway.log().contains("handover_refused"), "{}", gateway.log());
    Ok(())
}

/// Comes with a word of its own, then as another user where it may become one.
const STRANGER: &str = r#"
import json, os, socket, sys
def ask(nonce):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(3)
    try:
        made.connect(os.environ["UPGRADE_SOCKET"])
        made.send(json.dumps({"says": "hello", "format": 1, "nonce": nonce, "version": "0"}).encode())
        text, rights, _, _ = socket.recv_fds(made, 65536, 64)
        return "something" if text or rights else "nothing"
    except OSError:
        return "nothing"
nonce = sys.stdin.buffer.read(32).hex()
out = open(sys.argv[1], "w")
said = "nonce:" + ask("00" * 32)
if os.getuid() == 0:
    path = os.environ["UPGRADE_SOCKET"]
    place = os.path.dirname(path)
    while place != "/":
        os.chmod(place, os.stat(place).st_mode | 0o011)
        place = os.path.dirname(place)
    os.chmod(path, 0o777)
    os.setuid(65534)
    said += " user:" + ask(nonce)
else:
    said += " user:nothing"
print(said, file=out, flush=True)
"#;
