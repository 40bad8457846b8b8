//! Keys and answers in the store, below `admin/repeat/`: bounded in number and bytes, forgotten after 24 hours.
//!
//! A key is written before its call begins, so that a call that a crash cut off is known to have begun. Of callers and
//! keys only a hash is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use axum::http::StatusCode;
use base_ports::{Clock, Tasks, UnixTime};
use base_store::{Store, StoreError, Transaction};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const PREFIX: &[u8] = b"admin/repeat/";
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys of one caller, and of all.
pub(super) const PER_CALLER: usize = 1_000;
pub(super) const ALL: usize = 10_000;
/// Largest answer that is kept, and all answers together, bytes.
const ANSWER_BYTES: usize = 256 << 10;
const ALL_BYTES: usize = 16 << 20;
const PAGE: usize = 256;

/// SHA-256 over parts, each with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(digest)
    }

    fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// None when it was too large to be kept.
    pub(super) body: Option<String>,
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: Vec<(String, String)>, body: &[u8]) -> Self {
        let body = std::str::from_utf8(body).ok().filter(|body| body.len() <= ANSWER_BYTES);
        Self { status: status.as_u16(), headers, body: body.map(str::to_owned) }
    }

    fn size(&self) -> usize {
        self.body.as_ref().map_or(0, String::len)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    caller: String,
    call: String,
    begun: i64,
    answer: Option<Answer>,
}

/// What is known without reading: enough to count and to forget.
#[derive(Debug)]
struct Known {
    caller: String,
    begun: UnixTime,
    bytes: usize,
    is_running: bool,
}

/// What came of beginning a keyed call.
#[derive(Debug)]
pub(super) enum Begun {
    /// Nobody made it before.
    Fresh(Running),
    /// It was made, and this was the answer.
    Done(Answer),
    /// The key belongs to another call.
    Other,
    /// It is being made.
    Running,
    /// It was begun by a process that died.
    Interrupted,
    /// No more keys are kept.
    Full,
}

/// Keyed calls.
#[derive(Debug)]
pub(crate) struct Repeats {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    known: Mutex<HashMap<Vec<u8>, Known>>,
}

impl Repeats {
    /// Those that are stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let mut known = HashMap::new();
        for page in base_store::pages(store.as_ref(), PREFIX, PAGE) {
            for entry in page? {
                // A row of another build is forgotten with its time: it is as old as the epoch.
                let row = serde_json::from_slice::<Row>(&entry.value).ok();
                let begun = UnixTime::from_nanos(row.as_ref().map_or(0, |row| row.begun));
                let bytes = row.as_ref().and_then(|row| row.answer.as_ref()).map_or(0, Answer::size);
                let caller = row.map(|row| row.caller).unwrap_or_default();
                known.insert(entry.key.to_vec(), Known { caller, begun, bytes, is_running: false });
            }
        }
        Ok(Arc::new(Self { store, clock, tasks: Tasks::new("keyed calls"), known: Mutex::new(known) }))
    }

    /// Where keyed calls run.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Looks whether the call was made, and notes that it begins.
    pub(super) async fn begin(
        self: &Arc<Self>,
        caller: &str,
        key: &str,
        call: Digest,
    ) -> Result<Begun, StoreError> {
        let now = self.clock.now().wall;
        let caller = Digest::of(&[caller.as_bytes()]).to_hex();
        let id = [PREFIX, Digest::of(&[caller.as_bytes(), key.as_bytes()]).to_hex().as_bytes()].concat();
        let is_running = match self.admit(&id, &caller, now) {
            Admitted::Known { is_running } => is_running,
            Admitted::Full => return Ok(Begun::Full),
            Admitted::Fresh(forgotten) => {
                let repeats = Arc::clone(self);
                let running = Running { repeats, id, caller, call, begun: now, is_noted: false };
                return running.note(forgotten).await.map(Begun::Fresh);
            }
        };
        let row = self.store.get(&id)?.and_then(|entry| serde_json::from_slice::<Row>(&entry.value).ok());
        Ok(match row {
            Some(row) if row.call != call.to_hex() => Begun::Other,
            _ if is_running => Begun::Running,
            Some(Row { answer: Some(answer), .. }) => Begun::Done(answer),
            Some(_) | None => Begun::Interrupted,
        })
    }
}

/// Whether a key is new.
enum Admitted {
    Known {
        is_running: bool,
    },
    Full,
    /// It is taken; what is forgotten goes with its note.
    Fresh(Transaction),
}

/// A keyed call that runs. Dropped without an end, it stays begun.
#[derive(Debug)]
pub(super) struct Running {
    repeats: Arc<Repeats>,
    id: Vec<u8>,
    caller: String,
    call: Digest,
    begun: UnixTime,
    /// Whether the store knows of it.
    is_noted: bool,
}

impl Running {
    async fn note(mut self, with: Transaction) -> Result<Self, StoreError> {
        self.put(None, with).await?;
        self.is_noted = true;
        Ok(self)
    }

    /// Keeps the answer; without one the key is free again.
    pub(super) async fn end(self, answer: Option<Answer>) {
        let stored = match answer {
            Some(mut answer) => {
                if !self.repeats.has_room(&self.id, answer.size()) {
                    answer.body = None;
                }
                self.put(Some(answer), Transaction::new()).await
            }
            None => {
                let gone = self.repeats.store.commit(Transaction::new().delete(self.id.clone())).await;
                if gone.is_ok() {
                    self.repeats.known.lock().remove(&self.id);
                }
                gone.map(drop)
            }
        };
        if let Err(error) = stored {
            tracing::error!(event = "answer_not_kept", %error, "the answer to a keyed call is not kept");
        }
    }

    async fn put(&self, answer: Option<Answer>, with: Transaction) -> Result<(), StoreError> {
        let row = Row {
            caller: self.caller.clone(),
            call: self.call.to_hex(),
            begun: self.begun.as_nanos(),
            answer,
        };
        // INVARIANT: a row is texts and numbers, which always have a JSON form.
        let row = serde_json::to_vec(&row).unwrap_or_default();
        self.repeats.store.commit(with.put(self.id.clone(), row)).await.map(drop)
    }
}

impl Repeats {
    /// Takes the key, unless it is known; forgets what is old.
    fn admit(&self, id: &[u8], caller: &str, now: UnixTime) -> Admitted {
        let mut known = self.known.lock();
        let is_old = |known: &Known| !known.is_running && now.saturating_since(known.begun) >= KEPT_FOR;
        if let Some(one) = known.get(id).filter(|one| !is_old(one)) {
            return Admitted::Known { is_running: one.is_running };
        }
        let old = known.extract_if(|_, known| is_old(known));
        let forgotten = old.fold(Transaction::new(), |all, (id, _)| all.delete(id));
        if known.len() >= ALL || known.values().filter(|one| one.caller == caller).count() >= PER_CALLER {
            return Admitted::Full;
        }
        known
            .insert(id.to_vec(), Known { caller: caller.to_owned(), begun: now, bytes: 0, is_running: true });
        Admitted::Fresh(forgotten)
    }

    /// Takes room for an answer of that key.
    fn has_room(&self, id: &[u8], bytes: usize) -> bool {
        let mut known = self.known.lock();
        let all: usize = known.values().map(|one| one.bytes).sum();
        if all.saturating_add(bytes) > ALL_BYTES {
            return false;
        }
        if let Some(one) = known.get_mut(id) {
            one.bytes = bytes;
        }
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut known = self.repeats.known.lock();
        if self.is_noted {
            if let Some(one) = known.get_mut(&self.id) {
                one.is_running = false;
            }
        } else {
            known.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
