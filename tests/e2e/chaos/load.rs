//! Calls at a fixed rate over HTTP/1.1, HTTP/2 and HTTP/3, each accounted for, by callers that keep their connections and obey
//! when they are asked to go. A call that was certainly not looked at is made again, as every client does; while processes
//! are killed, so is one whose connection broke off. Whatever else is not the expected answer is a call that was lost.

mod h1;
mod h2;
mod h3;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::Result;
use tokio::sync::Mutex;

/// Between two calls over one protocol.
const PACE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// So long an answer may take while processes are killed, before the call is made again over another connection.
const KILLED: Duration = Duration::from_secs(10);
/// Before it is, so that a busy machine is not kept busy with handshakes.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a call is made again that nobody looked at.
const AGAIN: usize = 8;

/// Calls below a path, and the statuses that may answer them, whatever happens meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) path: &'static str,
    pub(crate) expects: &'static [u16],
}

/// Every call is permitted.
pub(crate) const PERMITTED: &[Kind] = &[Kind { path: "/flip", expects: &[200] }];

/// What became of the calls over one protocol.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) sent: usize,
    pub(crate) answered: usize,
    pub(crate) by_status: BTreeMap<u16, usize>,
    pub(crate) connections: usize,
    /// Made again, because nobody had looked at them.
    pub(crate) again: usize,
    /// Made again, because the process was killed that had them.
    pub(crate) cut: usize,
    pub(crate) slowest: Duration,
    /// Not answered as expected.
    pub(crate) lost: Vec<String>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It was certainly not looked at.
    Again,
    /// Its connection broke off.
    Cut(String),
    /// There is nobody to call, or what came is no answer.
    Lost(String),
}

pub(crate) type Answer = std::result::Result<(u16, Vec<u8>), Trouble>;

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicBool>,
    caller: std::thread::JoinHandle<Result<BTreeMap<&'static str, Seen>>>,
}

/// One protocol.
struct Way {
    client: Client,
    seen: Mutex<Seen>,
    kills: Arc<AtomicBool>,
}

enum Client {
    H1(h1::H1),
    H2(h2::H2),
    H3(Box<h3::H3>),
}

impl Load {
    pub(crate) fn start(address: SocketAddr, tls: &Path) -> Result<Self> {
        Self::of(PERMITTED, address, tls)
    }

    /// Calls of these kinds in turn.
    pub(crate) fn of(kinds: &'static [Kind], address: SocketAddr, tls: &Path) -> Result<Self> {
        let (stop, kills) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let clients = [
            ("h1", Client::H1(h1::H1::new(address, tls)?)),
            ("h2", Client::H2(h2::H2::new(address, tls)?)),
            ("h3", Client::H3(Box::new(h3::H3::new(address, tls)?))),
        ];
        let (until, told) = (Arc::clone(&stop), Arc::clone(&kills));
        let caller = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let ways = clients.map(|(protocol, client)| {
                    (protocol, Arc::new(Way { client, seen: Mutex::default(), kills: Arc::clone(&told) }))
                });
                let mut calls = tokio::task::JoinSet::new();
                let mut pace = tokio::time::interval(PACE);
                for (number, kind) in (0_usize..).zip(kinds.iter().cycle()) {
                    if until.load(Ordering::SeqCst) {
                        break;
                    }
                    pace.tick().await;
                    for (protocol, way) in &ways {
                        let path = format!("{}/{protocol}/{number}", kind.path);
                        let way = Arc::clone(way);
                        calls.spawn(async move { way.call(&path, kind.expects).await });
                    }
                    while calls.try_join_next().is_some() {}
                }
                while calls.join_next().await.is_some() {}
                let mut all = BTreeMap::new();
                for (protocol, way) in ways {
                    all.insert(protocol, way.seen.lock().await.clone());
                }
                Ok(all)
            })
        });
        Ok(Self { stop, kills, caller })
    }

    /// Whether processes are killed from now on.
    pub(crate) fn expects_kills(&self, kills: bool) {
        self.kills.store(kills, Ordering::SeqCst);
    }

    pub(crate) fn stop(self) -> Result<BTreeMap<&'static str, Seen>> {
        self.stop.store(true, Ordering::SeqCst);
        self.caller.join().map_err(|_| "the caller panicked")?
    }
}

impl Way {
    /// Makes a call until it is answered, and says what became of it.
    async fn call(&self, path: &str, expects: &[u16]) {
        self.seen.lock().await.sent += 1;
        let begun = Instant::now();
        let lost = self.answer(path, expects, begun).await;
        let mut seen = self.seen.lock().await;
        seen.slowest = seen.slowest.max(begun.elapsed());
        match lost {
            Ok(status) => {
                seen.answered += 1;
                *seen.by_status.entry(status).or_default() += 1;
            }
            Err(why) => seen.lost.push(format!("{path} after {:?}: {why}", begun.elapsed())),
        }
    }

    async fn answer(&self, path: &str, expects: &[u16], begun: Instant) -> std::result::Result<u16, String> {
        let mut again = 0;
        while begun.elapsed() < PATIENCE {
            let is_killed = self.kills.load(Ordering::SeqCst);
            let patience = if is_killed { KILLED } else { PATIENCE };
            match tokio::time::timeout(patience, self.once(path)).await {
                Ok(Ok((status, body))) => {
                    let is_own = status != 200 || body.starts_with(format!("GET {path} ").as_bytes());
                    return match expects.contains(&status) && is_own {
                        true => Ok(status),
                        false => Err(format!("answered {status}: {}", String::from_utf8_lossy(&body))),
                    };
                }
                Ok(Err(Trouble::Again)) if again < AGAIN => {
                    again += 1;
                    self.seen.lock().await.again += 1;
                }
                Ok(Err(Trouble::Cut(_why))) if is_killed => {
                    self.client.forget().await;
                    self.seen.lock().await.cut += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_elapsed) if is_killed => {
                    self.client.forget().await;
                    self.seen.lock().await.cut += 1;
                }
                Ok(Err(Trouble::Again)) => return Err("refused again and again".to_owned()),
                Ok(Err(Trouble::Cut(why) | Trouble::Lost(why))) => return Err(why),
                Err(elapsed) => return Err(elapsed.to_string()),
            }
        }
        Err("made again and again".to_owned())
    }

    async fn once(&self, path: &str) -> Answer {
        match &self.client {
            Client::H1(client) => client.ask(path, &self.seen).await,
            Client::H2(client) => client.ask(path, &self.seen).await,
            Client::H3(client) => client.ask(path, &self.seen).await,
        }
    }
}

impl Client {
    /// The connection is of no use any more.
    async fn forget(&self) {
        match self {
            // Each call has its own, and takes it along.
            Self::H1(_) => {}
            Self::H2(client) => client.forget().await,
            Self::H3(client) => client.forget_all().await,
        }
    }
}

fn lost(error: impl std::fmt::Debug) -> Trouble {
    Trouble::Lost(format!("{error:?}"))
}

fn cut(error: impl std::fmt::Debug) -> Trouble {
    Trouble::Cut(format!("{error:?}"))
}
