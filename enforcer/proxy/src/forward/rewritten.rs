//! What an upstream is told instead of the judged call, where its route or its cluster has it so.

use enforcer_codec::{Call, FieldEdit, Rewriting};
use enforcer_traffic::{Handling, TlsSettings};

use crate::authorize::Permitted;
use crate::fault::Fault;
use crate::inbound::Connection;
use crate::upstream::Upstream;

/// The call that the upstream receives instead of the judged one, made of canonical parts of that (CC-09); none when it
/// receives that.
pub(super) fn rewritten(
    permitted: &Permitted<Call>,
    conn: &Connection,
    upstream: &Upstream,
) -> Result<Option<Call>, Fault> {
    let handling = permitted.handling().filter(|handling| !handling.is_plain());
    // A server outside knows itself by its own name alone.
    let outside = upstream.cluster.spec.tls.as_ref().and_then(TlsSettings::authority);
    match (handling, outside, conn.secured.keeps_token()) {
        (None, None, false) => Ok(None),
        (handling, outside, has_token) => rewrite(permitted, handling, outside, has_token).map(Some),
    }
}

/// A token that named the caller here is not passed on: who has it could speak as the caller.
#[cold]
fn rewrite(
    permitted: &Permitted<Call>,
    handling: Option<&Handling>,
    outside: Option<&str>,
    has_token: bool,
) -> Result<Call, Fault> {
    let call = permitted.call();
    let path = handling.and_then(|handling| handling.path(call.path()));
    let mut fields = handling.map(|handling| handling.request.clone()).unwrap_or_default();
    if has_token {
        fields.push("authorization", &FieldEdit::Remove).unwrap_or_default(); // INVARIANT: a name that routes may change
    }
    let fields = Some(&fields).filter(|edits| !edits.is_empty());
    let authority = handling.and_then(Handling::host).or(outside);
    let rewriting = Rewriting { authority, path: path.as_deref(), fields };
    let told = call.rewritten(&rewriting).map_err(Fault::Untold)?;
    tracing::debug!(
        event = "rewritten",
        decision = %permitted.decision(),
        host = told.authority(),
        path = told.path(),
        "the upstream receives another call than was judged"
    );
    Ok(told)
}
