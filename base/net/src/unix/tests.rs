//! Socket files as an operator meets them.

use super::*;
use crate::{Bind, Listener, Peer, Stream, UNIX_MODE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

fn bind(path: &Path, mode: u32) -> io::Result<Listener> {
    Listener::bind(&Bind::Unix { path: path.to_owned(), mode }, false)
}

#[tokio::test]
async fn lt_13_the_socket_file_has_the_mode_asked_for_and_goes_with_the_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    for mode in [UNIX_MODE, 0o600, 0o777] {
        let listener = bind(&path, mode).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        assert_eq!(listener.local_addr(), None);
        drop(listener);
        assert!(!path.exists(), "mode {mode:o}");
    }
}

#[tokio::test]
async fn the_peer_of_a_unix_socket_is_told_by_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let listener = bind(&path, UNIX_MODE).unwrap();
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
    let (mut stream, peer) = accepted.unwrap();
    let ours = Peer::Unix {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        pid: Some(i32::try_from(std::process::id()).unwrap()),
    };
    assert_eq!(peer, ours);
    assert!(matches!(stream, Stream::Unix(_)));

    let mut client = client.unwrap();
    client.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"ping");
}

#[tokio::test]
async fn lt_13_the_socket_of_a_killed_process_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    // The standard library leaves the file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = bind(&path, UNIX_MODE).unwrap();
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
    assert!(client.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn lt_13_a_living_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let first = bind(&path, UNIX_MODE).unwrap();
    let error = bind(&path, UNIX_MODE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("x.sock"), "{error}");
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), async {
        first.accept().await.unwrap(); // the probe of the second bind
        first.accept().await
    });
    assert!(client.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    fs::write(&path, "precious").unwrap();
    assert_eq!(bind(&path, UNIX_MODE).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    let target = dir.path().join("target");
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert_eq!(bind(&path, UNIX_MODE).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[tokio::test]
async fn a_successor_on_the_same_path_survives_the_end_of_its_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let old = bind(&path, UNIX_MODE).unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    let _new = bind(&path, UNIX_MODE).unwrap();
    drop(old);
    assert!(path.exists());
}

#[tokio::test]
async fn lt_13_a_directory_that_everybody_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    let error = bind(&open.join("x.sock"), UNIX_MODE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("writable by everybody"), "{error}");
}

#[tokio::test]
async fn bad_paths_and_modes_are_refused_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(socket_path::MAX_BYTES));
    for (path, mode, word) in [
        (Path::new("@portcullis"), UNIX_MODE, "abstract"),
        (Path::new("\0portcullis"), UNIX_MODE, "abstract"),
        (Path::new(""), UNIX_MODE, "not the path"),
        (&long, UNIX_MODE, "at most 107"),
        (&dir.path().join("x.sock"), 0o4777, "4777"),
    ] {
        let error = bind(path, mode).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = bind(&dir.path().join("missing/x.sock"), UNIX_MODE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("missing"), "{error}");
}
