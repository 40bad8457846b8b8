//! The keys whose signature on policies this host believes, and the way to who signs them.
//!
//! The authority names the keys together with each SVID of this agent, over a connection on which it proved who it is (ST4:
//! the enrolment answer); nothing else does. They are kept, so that a restart without it takes the last good snapshot from
//! its file. A key that is unknown is asked for by a renewal ahead of time, at most once an hour.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_ports::{Clock, Disk, Mono, Tasks};
use ca_identity::TrustDomain;
use ca_identity::tls::Trust;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use policies_store::{Connection, Follower, Verifier, Way};
use tokio::sync::watch;
use tokio_rustls::rustls::ClientConfig;

use super::line::{connect, only_the_authority};
use crate::config::Join;
use crate::messages::Message;

/// Beside the snapshot files.
const FILE: &str = "keys";
/// Whose signature is missing is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Between two renewals for the sake of keys.
const AGAIN: Duration = Duration::from_secs(3_600);
/// What a snapshot is refused with that no believed key signed.
const UNSIGNED: &str = "PC2021";

/// What is believed, and what is missing.
#[derive(Debug)]
pub(in crate::assemble) struct Pins {
    join: Join,
    /// What the name of each key must be.
    name: String,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    keys: watch::Sender<Vec<Verifier>>,
    /// Moves when this host shows another SVID.
    shown: watch::Sender<u64>,
    is_missing: AtomicBool,
}

impl Pins {
    /// Those that the last process knew; `dir` is where snapshot files are kept.
    ///
    /// # Errors
    /// They cannot be read.
    pub(in crate::assemble) fn open(
        (dir, domain): (&Path, &TrustDomain),
        join: &Join,
        disk: &Arc<dyn Disk>,
    ) -> Result<Arc<Self>, Message> {
        let path = dir.join(FILE);
        let fault = |error: io::Error| {
            Message::error("PC6001", format!("keys of policies: `{}`: {error}", path.display()))
                .next("portcullis check")
        };
        disk.create_dir_all(dir).map_err(fault)?;
        let text = match disk.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(fault)?,
        };
        let name = format!("{}/policies", domain.as_str());
        let words: Vec<_> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        let keys = watch::Sender::new(believable(&words, &name));
        let (shown, is_missing) = (watch::Sender::default(), AtomicBool::default());
        let (join, disk) = (join.clone(), Arc::clone(disk));
        Ok(Arc::new(Self { join, name, path, disk, keys, shown, is_missing }))
    }

    /// What is believed now.
    pub(in crate::assemble) fn keys(&self) -> Vec<Verifier> {
        self.keys.borrow().clone()
    }

    /// The authority gave this agent another SVID, and named these keys with it.
    pub(super) fn given(&self, words: &[String]) {
        self.is_missing.store(false, Ordering::Relaxed);
        self.shown.send_modify(|number| *number = number.wrapping_add(1));
        let keys = believable(words, &self.name);
        if keys.is_empty() {
            tracing::warn!(
                event = "no_policy_keys",
                authority = %self.join.place(),
                "the authority names no key that signs policies: it is of an older release, or follows others itself; \
                 what is in force here stays"
            );
            return;
        }
        if self.keys.borrow().iter().map(ToString::to_string).eq(keys.iter().map(ToString::to_string)) {
            return;
        }
        let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
        if let Err(error) = self.disk.write_atomic(&self.path, text.as_bytes(), 0o600) {
            tracing::error!(event = "policy_keys_unwritten", %error, "the keys are believed, and a restart will not know them");
        }
        tracing::info!(
            event = "policy_keys",
            count = keys.len(),
            "keys whose signature on policies is believed"
        );
        self.keys.send_replace(keys);
    }

    /// Whether a renewal is due for the sake of keys.
    pub(super) fn is_missing(&self) -> bool {
        self.is_missing.load(Ordering::Relaxed)
    }

    /// Has `follower` believe what is believed here, from when this returns on, and show who this host is.
    pub(in crate::assemble) async fn lead(
        self: &Arc<Self>,
        follower: &Arc<Follower>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) {
        let (pins, follower, clock) = (Arc::clone(self), Arc::clone(follower), Arc::clone(clock));
        let (mut keys, mut shown) = (self.keys.subscribe(), self.shown.subscribe());
        let known = keys.borrow_and_update().clone();
        follower.believe(known).await;
        tasks.spawn("policy keys", async move {
            let mut asked: Option<Mono> = None;
            loop {
                // Every arm is cancellation safe: a watch, a sleep.
                tokio::select! {
                    moved = keys.changed() => {
                        if moved.is_err() {
                            return;
                        }
                        let now = keys.borrow_and_update().clone();
                        follower.believe(now).await;
                    }
                    moved = shown.changed() => {
                        if moved.is_err() {
                            return;
                        }
                        follower.reconnect();
                    }
                    () = tokio::time::sleep(LOOK) => {
                        let refusal = follower.follow_status().refusal;
                        let is_missing =
                            pins.keys.borrow().is_empty() || refusal.is_some_and(|(code, _)| code == UNSIGNED);
                        let now = clock.now().mono;
                        if is_missing && asked.is_none_or(|asked| now.saturating_since(asked) >= AGAIN) {
                            asked = Some(now);
                            pins.is_missing.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
    }
}

/// The keys among these words that sign policies of this trust domain.
fn believable(words: &[String], name: &str) -> Vec<Verifier> {
    let read = |word: &String| {
        let key = word.parse::<Verifier>().ok().filter(|key| key.name() == name);
        if key.is_none() {
            tracing::warn!(event = "policy_key_unusable", key = %word, "this release cannot use it");
        }
        key
    };
    words.iter().filter_map(read).collect()
}

/// The way to the policies of the authority: TLS that shows the own SVID, and takes no other server.
#[derive(Debug, Clone)]
pub(in crate::assemble) struct ToAuthority {
    join: Join,
    config: Arc<ClientConfig>,
}

impl ToAuthority {
    pub(in crate::assemble) fn new(
        join: &Join,
        domain: &TrustDomain,
        trust: &Arc<Trust>,
    ) -> Result<Self, Message> {
        let config = only_the_authority(domain, trust).map_err(|error| Message::error("PC9001", error))?;
        Ok(Self { join: join.clone(), config })
    }
}

impl Way for ToAuthority {
    fn place(&self) -> String {
        self.join.url()
    }

    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let Self { join, config } = self.clone();
        async move {
            let stream =
                connect(&join, &config).await.map_err(|error| io::Error::other(error.to_string()))?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use base_ports::MemoryDisk;

    use super::*;

    const KEY: &str = "example.org/policies+";

    fn pins(disk: &Arc<dyn Disk>) -> Arc<Pins> {
        let known_by = crate::config::KnownBy::Fingerprint([0; 32]);
        let join = Join { host: "ca.example.org".to_owned(), port: 8443, known_by, token_file: None };
        let domain = TrustDomain::parse("example.org").unwrap();
        Pins::open((Path::new("/data/policies"), &domain), &join, disk).unwrap()
    }

    fn key(domain: &str, seed: u64) -> String {
        let rng = Arc::new(base_ports::SeededRng::new(seed));
        policies_store::Signer::ephemeral(domain, rng).unwrap().verifiers()[0].to_string()
    }

    #[test]
    fn st4_keys_come_with_the_svid_of_the_agent_and_outlive_a_restart() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let (first, second) = (key("example.org", 1), key("example.org", 2));
        assert!(first.starts_with(KEY), "{first}");
        let words = |pins: &Pins| pins.keys().iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = pins(&disk);
        assert!(words(&known).is_empty());
        known.given(std::slice::from_ref(&first));
        assert_eq!(words(&known), std::slice::from_ref(&first));
        assert_eq!(words(&pins(&disk)), std::slice::from_ref(&first), "after a restart");
        // What a key of another domain signs, and what is no key, is not believed.
        known.given(&[second.clone(), key("other.org", 3), "nonsense".to_owned()]);
        assert_eq!(words(&known), std::slice::from_ref(&second));
        // An authority of an older release names none: what was believed stays.
        known.given(&[]);
        assert_eq!((words(&known), words(&pins(&disk))), (vec![second.clone()], vec![second]));
    }
}
