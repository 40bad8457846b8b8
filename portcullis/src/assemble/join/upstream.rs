//! What the agent of this host asks of an authority elsewhere: its copy for what is to be known, the line for signatures.

use std::sync::Arc;

use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_agent::replica::Replica;
use ca_agent::{AgentEntry, SignedChain, SignedToken, Upstream, UpstreamError};
use ca_identity::{Bundle, RevocationSet};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::enter;
use super::line::{Line, LineError};

/// An authority elsewhere.
#[derive(Debug)]
pub(super) struct Elsewhere {
    line: Arc<Line>,
    copy: Mutex<Arc<Replica>>,
    changed: watch::Sender<u64>,
    /// The bundle that workloads are served, for `follow` to tell the authority.
    served: watch::Sender<u64>,
}

impl Elsewhere {
    pub(super) fn new(line: Arc<Line>, copy: Arc<Replica>) -> Arc<Self> {
        let (changed, served) = (watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { line, copy: Mutex::new(copy), changed, served })
    }

    /// A new copy is in force.
    pub(super) fn publish(&self, copy: Arc<Replica>) {
        *self.copy.lock() = copy;
        self.changed.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Which bundle workloads are served, as it changes.
    pub(super) fn served(&self) -> watch::Receiver<u64> {
        self.served.subscribe()
    }

    fn copy(&self) -> Arc<Replica> {
        Arc::clone(&self.copy.lock())
    }
}

impl Upstream for Elsewhere {
    fn entries(&self) -> Vec<AgentEntry> {
        self.copy().entries()
    }

    fn is_known(&self) -> bool {
        self.copy().is_known()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bundle(&self) -> Arc<Bundle> {
        self.copy().bundle()
    }

    fn federated(&self) -> Vec<Arc<Bundle>> {
        self.copy().federated()
    }

    fn revoked(&self) -> RevocationSet {
        self.copy().denied()
    }

    fn tainted(&self) -> RevocationSet {
        self.copy().tainted()
    }

    fn crls(&self) -> Vec<Arc<[u8]>> {
        self.copy().crls()
    }

    fn acknowledge(&self, sequence: u64) {
        self.served.send_if_modified(|served| std::mem::replace(served, sequence) != sequence);
    }

    fn sign(&self, entry_id: &str, csr: Vec<u8>) -> BoxFuture<'static, Result<SignedChain, UpstreamError>> {
        let (line, entry) = (Arc::clone(&self.line), entry_id.to_owned());
        Box::pin(async move {
            let body = json!({ "entry_id": entry, "csr": STANDARD.encode(csr) });
            let answer = line.post("/v1/svids:sign", &body).await.map_err(told)?;
            enter::chain(&answer).map_err(told)
        })
    }

    fn sign_token(
        &self,
        entry_id: &str,
        audience: Vec<String>,
    ) -> BoxFuture<'static, Result<SignedToken, UpstreamError>> {
        let (line, entry) = (Arc::clone(&self.line), entry_id.to_owned());
        Box::pin(async move {
            let body = json!({ "entry_id": entry, "audience": audience });
            let answer = line.post("/v1/svids:signJwt", &body).await.map_err(told)?;
            let word = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
            let issued = UnixTime::parse_rfc3339(word("issued_at"));
            let issued = issued.map_err(|error| told(LineError::unavailable(error)))?;
            Ok(SignedToken { token: word("token").to_owned(), issued })
        })
    }
}

fn told(error: LineError) -> UpstreamError {
    let reason = error.to_string();
    match error {
        // The next request shows the SVID that is in use.
        LineError::Refused { code, .. } if code != "agent_superseded" => UpstreamError::Refused { reason },
        _ => UpstreamError::Unavailable { reason },
    }
}
