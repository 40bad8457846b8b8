//! The loop against real sockets, and against a process that has run out of descriptors.

use super::*;
use crate::{Bind, Caps, Drain};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{cell::RefCell, fs::File, net::SocketAddr, process::Command};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SECOND: Duration = Duration::from_secs(1);

fn listener() -> (Listener, SocketAddr) {
    let listener = Listener::bind(&Bind::Tcp(([127, 0, 0, 1], 0).into()), false).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn al_02_errors_of_one_connection_pass_and_errors_of_the_process_wait() {
    use rustix::io::Errno;
    let of = |errno: Errno| Fault::of(&io::Error::from_raw_os_error(errno.raw_os_error()));
    for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::NETUNREACH, Errno::AGAIN] {
        assert_eq!(of(errno), Fault::Passing, "{errno}");
    }
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::BADF, Errno::PERM] {
        assert_eq!(of(errno), Fault::Lasting, "{errno}");
    }
    assert_eq!(Fault::of(&io::Error::other("unknown")), Fault::Lasting);
}

#[tokio::test]
async fn lt_01_accepted_connections_have_our_socket_options() {
    let (listener, address) = listener();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (stream, peer) = accepted.unwrap();
    assert_eq!(peer, Peer::Tcp(client.unwrap().local_addr().unwrap()));
    let Stream::Tcp(stream) = stream else { panic!("a TCP stream") };
    assert!(stream.nodelay().unwrap());
    let socket = socket2::SockRef::from(&stream);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
}

#[tokio::test]
async fn lt_01_workers_share_one_address() {
    let first = Listener::bind(&Bind::Tcp(([127, 0, 0, 1], 0).into()), true).unwrap();
    let address = first.bound().clone();
    assert!(Listener::bind(&address, true).is_ok());
    assert_eq!(Listener::bind(&address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn what_is_above_the_cap_is_closed_without_a_byte() {
    let (listener, address) = listener();
    let (drain, watch) = Drain::new();
    let gate = Gate::new(Caps { connections: 1, per_source: 1, ..Caps::default() });
    let kept = RefCell::new(Vec::new());
    let clients = async {
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(tokio::time::timeout(Duration::from_millis(20), first.read(&mut [0; 1])).await.is_err());
        kept.borrow_mut().clear();
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), third.read(&mut [0; 1])).await.is_err());
        drain.start();
    };
    let run = accept_loop(listener, gate.clone(), watch, |accepted| kept.borrow_mut().push(accepted));
    tokio::join!(run, clients);
    assert_eq!(kept.borrow().len(), 1);
    assert_eq!(gate.refusals().listener, 1);
}

#[tokio::test]
async fn a_drain_ends_the_loop_closes_the_socket_and_waits_for_connections() {
    let (listener, address) = listener();
    let (drain, watch) = Drain::new();
    let kept = RefCell::new(Vec::new());
    let story = async {
        let _client = TcpStream::connect(address).await.unwrap();
        while kept.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        drain.start();
        assert!(!drain.finished(Duration::from_millis(20)).await, "one connection is open");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
        kept.borrow_mut().clear();
        assert!(drain.finished(SECOND).await);
    };
    let run = accept_loop(listener, Caps::default(), watch, |accepted| kept.borrow_mut().push(accepted));
    tokio::join!(run, story);
}

#[tokio::test]
async fn connections_the_kernel_has_completed_before_the_drain_are_still_served() {
    let (listener, address) = listener();
    let (drain, watch) = Drain::new();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    drain.start();
    let mut served = Vec::new();
    accept_loop(listener, Caps::default(), watch, |accepted| served.push(accepted)).await;
    assert_eq!(served.len(), 3);
}

/// Runs itself again in a process of its own, because the limit is a matter of the whole process.
#[test]
fn al_02_the_loop_survives_running_out_of_descriptors() {
    let name = "accept::tests::child_that_runs_out_of_descriptors";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    assert!(output.contains("1 passed"), "{output}");
}

#[tokio::test]
#[ignore = "run by al_02_the_loop_survives_running_out_of_descriptors, in a process of its own"]
async fn child_that_runs_out_of_descriptors() {
    let (listener, address) = listener();
    let (drain, watch) = Drain::new();
    let gate = Gate::new(Caps::default());
    let story = async {
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
        // The client's descriptor is there before the last one is taken; the server finds none.
        let client = tokio::net::TcpSocket::new_v4().unwrap();
        let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert!(!taken.is_empty());
        let mut client = client.connect(address).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await;
        assert!(answer.is_err(), "nobody can serve it");
        let faults = gate.refusals().accept_faults;
        assert!((2..=6).contains(&faults), "the loop waits longer and longer: {faults} tries");
        taken.clear();
        assert_eq!(tokio::time::timeout(2 * SECOND, client.read_u8()).await.unwrap().unwrap(), b'!');
        let mut another = TcpStream::connect(address).await.unwrap();
        assert_eq!(tokio::time::timeout(SECOND, another.read_u8()).await.unwrap().unwrap(), b'!');
        drain.start();
    };
    let tasks = base_ports::Tasks::new("served");
    let run = accept_loop(listener, gate.clone(), watch, |mut accepted| {
        tasks.spawn("answer", async move {
            accepted.stream.write_all(b"!").await.unwrap();
        });
    });
    tokio::join!(run, story);
}
