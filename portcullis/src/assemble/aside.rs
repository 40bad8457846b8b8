//! Where a process that ends in favour of another records its last calls: a ledger of its own beside the one that the
//! other has by now, which takes it over as soon as nobody writes there any more (UP-02).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Disk, Rng, SystemClock, SystemDisk, SystemRng, Tasks};
use base_store::Lock;
use ca_identity::tls::Trust;
use enforcer_proxy::{Lanes, Proxy};
use policies_decisions::{Ledger, LedgerConfig};
use policies_engine::{Costly, Sample, Samples};

use super::open;
use crate::config::Config;
use crate::messages::Message;

/// Below the data directory; one directory for each process that ends.
const ASIDE: &str = "leaving";
/// Begins the name of one that nobody has locked yet.
const HIDDEN: char = '.';
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(250);
/// After one that could not be taken over.
const AGAIN: Duration = Duration::from_secs(30);

/// The ledger of the last calls.
pub(super) struct Aside {
    ledger: Ledger,
    lock: Lock,
}

impl Aside {
    /// Opens one whose heartbeats are signed with the own SVID in `identity`.
    pub(super) fn open(config: &Config, identity: Arc<Trust>) -> Result<Self, Message> {
        let (disk, clock, rng): (Arc<dyn Disk>, Arc<dyn Clock>, Arc<dyn Rng>) =
            (Arc::new(SystemDisk), Arc::new(SystemClock), Arc::new(SystemRng));
        let (all, name) = (config.data_dir.join(ASIDE), format!("{:016x}", rng.u64()));
        let (dir, unlocked) = (all.join(&name), all.join(format!("{HIDDEN}{name}")));
        let fault = |error: &dyn std::fmt::Display| {
            Message::error("PC6001", format!("`{}`: {error}", dir.display())).next("portcullis check")
        };
        disk.create_dir_all(&unlocked).map_err(|error| fault(&error))?;
        let lock = Lock::take(&unlocked).map_err(|error| fault(&error))?;
        std::fs::rename(&unlocked, &dir).map_err(|error| fault(&error))?;
        let people = open::people(config, disk.as_ref(), rng.as_ref())?;
        let settings = open::vouched(open::ledger_config(config, &people, &rng), identity);
        let settings = LedgerConfig { dir: dir.clone(), reserve: 0, ..settings };
        let ledger = Ledger::open(settings, disk, clock, rng.as_ref()).map_err(|error| fault(&error))?;
        Ok(Self { ledger, lock })
    }

    /// From now on the calls of that data plane are recorded here.
    pub(super) fn take(&self, proxy: &Proxy) {
        let ledger = self.ledger.clone();
        let lanes: Lanes = Arc::new(move |worker| ledger.lane(worker));
        proxy.rewire(&lanes, &(Arc::new(Unsampled) as Arc<dyn Samples>));
    }

    /// Nothing follows: whoever has the state may take it over.
    pub(super) async fn close(self) {
        super::running::close(self.ledger).await;
        drop(self.lock);
    }
}

/// Takes over what processes before this one recorded aside, as each of them ends; also what is left of one that was killed.
/// Each had begun before it gave up the state, so what is there now is all that there will be.
pub(super) fn adopt(config: &Config, ledger: &Ledger, tasks: &Tasks) {
    let (dir, ledger) = (config.data_dir.join(ASIDE), ledger.clone());
    tasks.spawn("adoption", async move {
        loop {
            let (from, into) = (dir.clone(), ledger.clone());
            let taken = tokio::task::spawn_blocking(move || take_over(&from, &into)).await;
            let wait = match taken {
                Ok(Ok(Left::Nothing)) => return,
                Ok(Ok(Left::Some)) => LOOK,
                Ok(Err(error)) => {
                    tracing::error!(
                        event = "records_not_adopted",
                        error,
                        "records of a process before this one wait"
                    );
                    AGAIN
                }
                Err(_) => AGAIN,
            };
            tokio::time::sleep(wait).await;
        }
    });
}

/// Whether a process before this one still records.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Some,
}

fn take_over(dir: &Path, ledger: &Ledger) -> Result<Left, String> {
    let mut still = Left::Nothing;
    let Ok(found) = std::fs::read_dir(dir) else { return Ok(still) };
    let found: Vec<PathBuf> = found
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with(HIDDEN))
        .map(|entry| entry.path())
        .collect();
    for left in found {
        let said = |error: &dyn std::fmt::Display| format!("`{}`: {error}", left.display());
        let lock = match Lock::take(&left) {
            Ok(lock) => lock,
            Err(base_store::StoreError::Locked { .. }) => {
                still = Left::Some;
                continue;
            }
            Err(error) => return Err(said(&error)),
        };
        let count = ledger.adopt(&left).map_err(|error| said(&error))?;
        std::fs::remove_dir_all(&left).map_err(|error| said(&error))?;
        drop(lock);
        tracing::info!(
            event = "records_adopted",
            count,
            "records of a process before this one were taken over"
        );
    }
    Ok(still)
}

/// A process that ends judges nothing twice.
#[derive(Debug)]
struct Unsampled;

impl Samples for Unsampled {
    fn offer(&self, _sample: Sample) {}

    fn costly(&self, _costly: Costly) {}
}
