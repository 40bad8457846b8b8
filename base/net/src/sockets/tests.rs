//! Sockets that one process binds and another is given.

use super::*;
use std::os::unix::net::UnixStream;

fn any_tcp() -> Bind {
    Bind::Tcp(([127, 0, 0, 1], 0).into())
}

/// As another process sees what was handed to it.
fn handed(sockets: &Sockets) -> Arc<Sockets> {
    Sockets::given(sockets.copies().unwrap()).unwrap()
}

#[tokio::test]
async fn up_02_every_socket_of_the_process_before_is_served_whatever_the_number_of_workers() {
    let sockets = Sockets::new();
    let mut address = None;
    for number in 0..4 {
        let mine = sockets.share("main", &any_tcp(), Part { number, of: 4 }).unwrap();
        assert_eq!(mine.len(), 1);
        let bound = mine[0].local_addr();
        assert_eq!(*address.get_or_insert(bound), bound, "all workers share a port");
    }
    for workers in [1, 2, 3, 4, 7] {
        let handed = handed(&sockets);
        let parts: Vec<_> = (0..workers)
            .map(|number| handed.share("main", &any_tcp(), Part { number, of: workers }).unwrap().len())
            .collect();
        assert!(parts.iter().all(|part| *part > 0), "{workers} workers: {parts:?}");
        assert_eq!(parts.iter().sum::<usize>(), workers.max(4), "{workers} workers: {parts:?}");
        assert!(handed.unclaimed().is_empty());
    }
}

#[tokio::test]
async fn qu_01_each_worker_has_a_datagram_socket_and_each_socket_one_reader() {
    let any = ([127, 0, 0, 1], 0).into();
    let sockets = Sockets::new();
    let all = |sockets: &Sockets, at, of| -> Vec<usize> {
        (0..of).map(|number| sockets.datagrams("main", at, Part { number, of }).unwrap().len()).collect()
    };
    assert_eq!(all(&sockets, any, 3), [1, 1, 1]);
    let copies = sockets.copies().unwrap();
    assert_eq!(copies.len(), 3);
    let address = sockets.datagrams("main", any, Part { number: 0, of: 3 }).unwrap()[0].local_addr().unwrap();
    assert_eq!(all(&sockets, address, 3), [1, 1, 1], "those that are there");
    assert_eq!(sockets.copies().unwrap().len(), 3);
    for (workers, expected) in [(1, vec![3]), (2, vec![2, 1]), (3, vec![1; 3]), (5, vec![1, 1, 1, 0, 0])] {
        assert_eq!(all(&handed(&sockets), address, workers), expected);
    }
    assert!(UdpSocket::bind(address).is_err(), "nobody else");
}

#[tokio::test]
async fn up_02_what_waits_to_be_accepted_is_accepted_by_the_next_process() {
    let sockets = Sockets::new();
    let before = sockets.listen("main", &any_tcp()).unwrap();
    let mut client = std::net::TcpStream::connect(before.local_addr().unwrap()).unwrap();
    let handed = handed(&sockets);
    drop((before, sockets));
    let after = handed.listen("main", &any_tcp()).unwrap();
    let (_stream, peer) = after.accept().await.unwrap();
    assert_eq!(peer, crate::Peer::Tcp(client.local_addr().unwrap()));
    io::Write::write_all(&mut client, b"x").unwrap();
}

#[tokio::test]
async fn the_file_of_a_unix_socket_stays_when_it_was_handed_over_and_goes_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let bind = Bind::Unix { path: path.clone(), mode: 0o600 };
    let sockets = Sockets::new();
    let before = sockets.listen("admin", &bind).unwrap();
    let handed = handed(&sockets);
    sockets.hand_over();
    drop((before, sockets));
    UnixStream::connect(&path).unwrap();
    let after = handed.listen("admin", &bind).unwrap();
    handed.own_files();
    drop(after);
    assert!(path.exists(), "the registry still listens");
    handed.close();
    assert!(!path.exists());
}

#[tokio::test]
async fn lt_17_what_was_given_and_is_wanted_by_nobody_is_named() {
    let sockets = Sockets::new();
    sockets.listen("main", &any_tcp()).unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    let datagrams = sockets.datagrams("main", any, Part::WHOLE).unwrap()[0].local_addr().unwrap();
    let handed = handed(&sockets);
    assert_eq!(handed.names(), ["main", "main"]);
    handed.listen("main", &any_tcp()).unwrap();
    assert_eq!(handed.unclaimed(), [format!("main (quic://{datagrams})")]);
    assert!(handed.is_given("main", &format_args!("quic://{datagrams}")));
    // Another name is another listener, and the port is taken.
    assert!(handed.datagrams("other", datagrams, Part::WHOLE).is_err());
    let given = handed.datagrams("main", datagrams, Part::WHOLE).unwrap();
    assert_eq!((given.len(), given[0].local_addr().unwrap()), (1, datagrams));
}

#[test]
fn a_connection_is_no_listening_socket() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let refused = Sockets::given(vec![("main".to_owned(), stream.into())]).unwrap_err().to_string();
    assert_eq!(refused, "the socket named `main`: it does not listen");
}
