//! Agents that attested: the row that makes an agent SVID worth something.

use base_ports::UnixTime;
use base_store::Store;
use ca_identity::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::error::AuthorityError;
use crate::row;

/// Path of the agent inside this process (S23).
pub(crate) const LOCAL_PATH: &str = "/portcullis/agent/local";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentRow {
    v: u8,
    spiffe_id: String,
    attested_by: String,
    attested_at_nanos: i64,
}

/// An attested agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) attested_by: String,
}

/// Key of the row.
pub(crate) fn row_key(id: &SpiffeId) -> Vec<u8> {
    format!("{}{}", row::AGENT, id.path()).into_bytes()
}

/// The row of a new agent.
pub(crate) fn to_row(id: &SpiffeId, attested_by: &str, now: UnixTime) -> Result<Vec<u8>, AuthorityError> {
    let row = AgentRow {
        v: 1,
        spiffe_id: id.to_string(),
        attested_by: attested_by.to_owned(),
        attested_at_nanos: now.as_nanos(),
    };
    row::write(&row_key(id), &row)
}

/// The agent, if it ever attested.
pub(crate) fn find(store: &dyn Store, id: &SpiffeId) -> Result<Option<Agent>, AuthorityError> {
    let key = row_key(id);
    let Some(entry) = store.get(&key)? else { return Ok(None) };
    let row: AgentRow = row::read(&key, &entry.value)?;
    let is_it = row.v == 1 && row.spiffe_id == id.as_str();
    Ok(is_it.then_some(Agent { attested_by: row.attested_by }))
}
