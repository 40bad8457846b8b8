//! An origin that can be killed and comes back at its address: it echoes the head of each call, and knows which arrived.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tests::Result;

/// How often the call of each path arrived.
pub(super) type Arrived = Arc<Mutex<BTreeMap<String, usize>>>;

pub(super) struct Origin {
    pub(super) address: SocketAddr,
    arrived: Arrived,
    running: Option<Running>,
}

struct Running {
    is_killed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: std::thread::JoinHandle<()>,
}

impl Origin {
    pub(super) fn start(arrived: &Arrived) -> Result<Self> {
        let mut origin =
            Self { address: ([127, 0, 0, 1], 0).into(), arrived: Arc::clone(arrived), running: None };
        origin.restart()?;
        Ok(origin)
    }

    /// It listens where it did before.
    pub(super) fn restart(&mut self) -> Result {
        let listener = TcpListener::bind(self.address)?;
        self.address = listener.local_addr()?;
        let (is_killed, open) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (killed, held, arrived) = (Arc::clone(&is_killed), Arc::clone(&open), Arc::clone(&self.arrived));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if killed.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mine) = stream.try_clone() else { continue };
                held.lock().expect("no panic under it").push(mine);
                let arrived = Arc::clone(&arrived);
                std::thread::spawn(move || serve(stream, &arrived));
            }
        });
        self.running = Some(Running { is_killed, open, accepting });
        Ok(())
    }

    /// Ends as a crash does: connections are cut wherever they are, and new ones refused.
    pub(super) fn kill(&mut self) -> Result {
        let Some(Running { is_killed, open, accepting }) = self.running.take() else { return Ok(()) };
        is_killed.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        accepting.join().map_err(|_| "the origin panicked")?;
        for stream in open.lock().expect("no panic under it").drain(..) {
            // Its caller may have closed it.
            stream.shutdown(Shutdown::Both).ok();
        }
        Ok(())
    }
}

fn serve(stream: TcpStream, arrived: &Arrived) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        *arrived.lock().expect("no panic under it").entry(path).or_default() += 1;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
        writer.write_all(answer.as_bytes())?;
    }
}
