//! What `status` and `check` say about the policies of this process: which version is in force since when and by whose
//! hand, what waits, what runs beside it, and whether one person alone may change it.

use policies_store::PolicyStore;
use serde_json::{Map, Value, json};

use super::documents;
use crate::admin::Api;

/// Members of the status of policies.
pub(in crate::admin) fn standing(api: &Api, store: &PolicyStore) -> Map<String, Value> {
    let status = store.status();
    let version = status.numbers.and_then(|numbers| store.version_info(numbers.policies).ok());
    let open = store.changes().unwrap_or_default();
    let open: Vec<_> =
        open.iter().filter(|change| change.stage.is_open()).map(|change| change.id.to_string()).collect();
    let snapshot = api.judge.snapshot();
    let slow: Vec<_> = snapshot
        .iter()
        .flat_map(|snapshot| snapshot.slow_policies())
        .map(|(policy, why)| json!({ "id": &*policy.id, "file": &*policy.file, "line": policy.line, "why": why }))
        .collect();
    let shadow =
        status.shadow.map(|shadow| json!({ "version": shadow.policies, "until": shadow.until.to_string() }));
    let mut members = Map::new();
    members.insert("in_force".to_owned(), version.as_ref().map(documents::version).unwrap_or_default());
    members.insert("differs".to_owned(), json!(status.differs));
    members.insert("shadow".to_owned(), json!(shadow));
    let ended = status
        .shadow_ended
        .map(|ended| json!({ "version": ended.policies, "at": ended.at.to_string(), "why": ended.why }));
    members.insert("shadow_ended".to_owned(), json!(ended));
    members.insert("open_changes".to_owned(), json!(open));
    members.insert("slow".to_owned(), json!(slow));
    members.insert("two_person".to_owned(), json!(api.two_person));
    members
}
