//! A connection in other hands than those that made it: handed to a child, left behind by its maker, kept over an exec.

use std::{
    env, io,
    io::Write as _,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use ca_identity::Selector;
use tokio::net::UnixListener;

use super::Caller;

const SOCKET: &str = "PORTCULLIS_TEST_PASSED_SOCKET";
const EXEC: &str = "PORTCULLIS_TEST_PASSED_EXEC";

/// Ends when the other side of its socket does.
fn holder(socket: UnixStream) -> Command {
    let mut cat = Command::new("cat");
    cat.stdin(OwnedFd::from(socket)).stdout(Stdio::null());
    cat
}

/// A process of its own for the tests below: it connects, and on a word becomes `cat`, or leaves its socket to one.
#[test]
#[ignore = "is started by the tests of this file"]
fn connects() {
    let Ok(path) = env::var(SOCKET) else { return };
    let mut cat = holder(UnixStream::connect(path).unwrap());
    io::stdin().read_line(&mut String::new()).unwrap();
    if env::var(EXEC).is_ok() {
        panic!("{}", cat.exec());
    }
    drop(cat.spawn().unwrap());
}

fn start_connecting(socket: &Path, execs: bool) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "attest::passed::connects", "--ignored", "--nocapture"]).env(SOCKET, socket);
    if execs {
        command.env(EXEC, "1");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

async fn accept(listener: &UnixListener) -> (tokio::net::UnixStream, Caller) {
    let (stream, _) = listener.accept().await.unwrap();
    let peer = stream.peer_cred().unwrap();
    (stream, Caller::pin(peer.uid(), peer.gid(), peer.pid()))
}

fn of_path(program: &Path) -> Selector {
    Selector::parse(&format!("unix:path:{}", program.display())).unwrap()
}

fn cat() -> Selector {
    of_path(&std::fs::canonicalize("/usr/bin/cat").unwrap())
}

fn own() -> Selector {
    of_path(&env::current_exe().unwrap().canonicalize().unwrap())
}

#[tokio::test]
async fn threat_wa3_a_socket_in_the_hands_of_another_process_stays_that_of_who_connected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = holder(UnixStream::connect(&path).unwrap()).spawn().unwrap();
    let (stream, caller) = accept(&listener).await;
    let found = caller.selectors().unwrap();
    assert!(found.contains(&own()) && !found.contains(&cat()), "{found:?}");
    drop(stream);
    child.wait().unwrap();
}

#[tokio::test]
async fn threat_wa3_a_socket_that_outlives_who_connected_has_no_identity() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut connector = start_connecting(&path, false);
    let (stream, caller) = accept(&listener).await;
    assert!(caller.selectors().unwrap().contains(&own()));
    connector.stdin.take().unwrap().write_all(b"go\n").unwrap();
    connector.wait().unwrap();
    // The socket is open: `cat` holds it.
    assert!(matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock));
    assert!(caller.selectors().is_err());
}

#[tokio::test]
async fn threat_wa3_after_an_exec_the_caller_is_what_runs_now() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut connector = start_connecting(&path, true);
    let (stream, caller) = accept(&listener).await;
    assert!(caller.selectors().unwrap().contains(&own()));
    connector.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut found = Vec::new();
    for _ in 0..500 {
        // In the middle of an exec there may be nothing that can be read.
        found = caller.selectors().unwrap_or_default();
        if found.contains(&cat()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(found.contains(&cat()) && !found.contains(&own()), "{found:?}");
    drop(stream);
    connector.wait().unwrap();
}
