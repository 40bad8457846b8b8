//! How an entry stands in the store.

use std::collections::BTreeMap;
use std::time::Duration;

use base_ports::UnixTime;
use ca_identity::{Selector, SpiffeId, TrustDomain, spki_sha256};
use serde::{Deserialize, Serialize};

use super::{EntryRecord, NewEntry};
use crate::error::AuthorityError;
use crate::row;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryRow {
    v: u8,
    id: String,
    spiffe_id: String,
    parent_id: Option<String>,
    selectors: Vec<String>,
    x509_ttl_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwt_ttl_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    jwt_jti: bool,
    dns_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    federates_with: Vec<String>,
    hint: Option<String>,
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
    expires_at_nanos: Option<i64>,
    created_at_nanos: i64,
    from_configuration: bool,
}

/// Key of the row.
pub(crate) fn row_key(id: &str) -> Vec<u8> {
    format!("{}{id}", row::ENTRY).into_bytes()
}

/// Key of what makes an entry unique: identity, parent and selectors (EN-02).
pub(crate) fn name_key(entry: &NewEntry) -> Vec<u8> {
    let parent = entry.parent_id.as_ref().map_or("", SpiffeId::as_str);
    let mut text = format!("{}\n{parent}", entry.spiffe_id);
    for selector in &entry.selectors {
        // A selector holds no control character, so the line break separates without doubt.
        text.push('\n');
        text.push_str(selector.as_str());
    }
    format!("{}{}", row::ENTRY_NAME, row::hex(&spki_sha256(text.as_bytes()))).into_bytes()
}

/// The row of an entry. Its revision is the row's own and is not written into it.
pub(crate) fn to_row(entry: &EntryRecord) -> Result<Vec<u8>, AuthorityError> {
    let row = EntryRow {
        v: 1,
        id: entry.id.clone(),
        spiffe_id: entry.spiffe_id.to_string(),
        parent_id: entry.parent_id.as_ref().map(ToString::to_string),
        selectors: entry.selectors.iter().map(ToString::to_string).collect(),
        x509_ttl_secs: entry.x509_ttl.map(|ttl| ttl.as_secs()),
        jwt_ttl_secs: entry.jwt_ttl.map(|ttl| ttl.as_secs()),
        jwt_jti: entry.jwt_jti,
        dns_names: entry.dns_names.clone(),
        federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
        hint: entry.hint.clone(),
        namespace: entry.namespace.clone(),
        labels: entry.labels.clone(),
        expires_at_nanos: entry.expires_at.map(UnixTime::as_nanos),
        created_at_nanos: entry.created_at.as_nanos(),
        from_configuration: entry.from_configuration,
    };
    row::write(&row_key(&entry.id), &row)
}

/// The entry of a row.
pub(crate) fn from_row(key: &[u8], bytes: &[u8], revision: u64) -> Result<EntryRecord, AuthorityError> {
    let row: EntryRow = row::read(key, bytes)?;
    if row.v != 1 {
        return Err(row::unreadable(key, format!("version {} is unknown", row.v)));
    }
    let id = |text: &str| SpiffeId::parse(text).map_err(|reason| row::unreadable(key, reason));
    let selectors = row.selectors.iter().map(|text| Selector::parse(text));
    let domains = row.federates_with.iter().map(|name| TrustDomain::parse(name));
    let new = NewEntry {
        spiffe_id: id(&row.spiffe_id)?,
        parent_id: row.parent_id.as_deref().map(id).transpose()?,
        selectors: selectors.collect::<Result<_, _>>().map_err(|reason| row::unreadable(key, reason))?,
        x509_ttl: row.x509_ttl_secs.map(Duration::from_secs),
        jwt_ttl: row.jwt_ttl_secs.map(Duration::from_secs),
        jwt_jti: row.jwt_jti,
        dns_names: row.dns_names,
        federates_with: domains.collect::<Result<_, _>>().map_err(|reason| row::unreadable(key, reason))?,
        hint: row.hint,
        namespace: row.namespace,
        labels: row.labels,
        expires_at: row.expires_at_nanos.map(UnixTime::from_nanos),
    };
    let created_at = UnixTime::from_nanos(row.created_at_nanos);
    Ok(EntryRecord::of(row.id, new, revision, created_at, row.from_configuration))
}
