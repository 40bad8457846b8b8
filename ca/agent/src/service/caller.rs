//! Who asks, as it is at this moment, and what a caller is told when there is nothing for it.
//!
//! Called by streams for every state and by the calls about tokens before they work and before they answer (WL-01, WL-03).

use ca_identity::Selector;
use tonic::Status;

use crate::attest::Caller;

/// The selectors of the process that called.
pub(super) async fn attested(caller: &Caller) -> Result<Vec<Selector>, Status> {
    let process = caller.clone();
    let answer = tokio::task::spawn_blocking(move || process.selectors()).await;
    match answer {
        Ok(Ok(selectors)) => Ok(selectors),
        Ok(Err(error)) => {
            tracing::warn!(uid = caller.uid(), pid = caller.pid(), %error, "caller not attested");
            Err(if error.is_transient() {
                Status::unavailable(error.to_string())
            } else {
                Status::permission_denied(error.to_string())
            })
        }
        Err(error) => {
            tracing::error!(%error, "attestation failed");
            Err(Status::unavailable("attestation failed"))
        }
    }
}

/// No entry matches. Says nothing of what exists (WA6).
pub(super) fn denied(caller: &Caller) -> Status {
    tracing::info!(uid = caller.uid(), pid = caller.pid(), "no entry matches the caller");
    Status::permission_denied("no identity issued")
}

/// More identities than clients accept.
pub(super) fn too_large(caller: &Caller, entries: usize) -> Status {
    tracing::error!(uid = caller.uid(), pid = caller.pid(), entries, "too many identities for one answer");
    Status::resource_exhausted("more identities than one answer can hold")
}

/// The agent ends; what callers hold stays of use (DF-06).
pub(super) fn stopping() -> Status {
    Status::unavailable("the agent is stopping")
}
