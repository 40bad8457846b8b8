//! `/v1/entries`: registration entries with ETags. A change needs `If-Match`: absent is 428, stale is 412 (RA4).
#![expect(unused_qualifications, reason = "utoipa's macro qualifies the parameter type")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base_ports::UnixTime;
use ca_identity::{Selector, SpiffeId, TrustDomain};
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{Json, Parameters};
use super::problem::Problem;
use crate::{Authority, AuthorityError, EntryError, EntryFilter, EntryRecord, NewEntry};

const API_VERSION: &str = "portcullis/v1";
const DEFAULT_LIMIT: usize = 100;
const LIMIT: usize = 1000;

/// What an entry is to say.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryInput {
    /// The identity that it grants.
    spiffe_id: String,
    /// The agent that it belongs to; absent is every agent.
    parent_id: Option<String>,
    /// All must be true of the workload.
    selectors: Vec<String>,
    /// Lifetime of its SVIDs, such as `30m`.
    x509_ttl: Option<String>,
    /// Lifetime of its JWT-SVIDs, such as `5m`.
    jwt_ttl: Option<String>,
    /// Its JWT-SVIDs carry `jti`.
    #[serde(default)]
    jwt_jti: bool,
    /// DNS names that go into the SVID.
    #[serde(default)]
    dns_names: Vec<String>,
    /// Other trust domains whose bundles its workloads get.
    #[serde(default)]
    federates_with: Vec<String>,
    /// How a workload tells several identities apart.
    hint: Option<String>,
    /// The namespace of the registrar.
    namespace: Option<String>,
    /// Free labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// RFC 3339; after this time nothing is issued.
    expires_at: Option<String>,
}

impl EntryInput {
    fn read(self) -> Result<NewEntry, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "entry_invalid", detail);
        let id = |text: String| {
            SpiffeId::parse(&text)
                .map_err(|reason| Problem::from(AuthorityError::from(EntryError::SpiffeId { text, reason })))
        };
        let selector = |text: &String| {
            Selector::parse(text)
                .map_err(|fault| Problem::from(AuthorityError::from(EntryError::from(fault))))
        };
        let domain = |text: &String| {
            TrustDomain::parse(text).map_err(|fault| invalid(format!("`{text}` in federates_with: {fault}")))
        };
        let ttl = |text: Option<String>| match text {
            Some(text) => duration(&text)
                .map(Some)
                .ok_or_else(|| invalid(format!("`{text}` is no duration; write `30m`"))),
            None => Ok(None),
        };
        let expires_at = match self.expires_at {
            Some(text) => {
                Some(UnixTime::parse_rfc3339(&text).map_err(|fault| invalid(format!("`{text}`: {fault}")))?)
            }
            None => None,
        };
        Ok(NewEntry {
            spiffe_id: id(self.spiffe_id)?,
            parent_id: self.parent_id.map(id).transpose()?,
            selectors: self.selectors.iter().map(selector).collect::<Result<_, _>>()?,
            x509_ttl: ttl(self.x509_ttl)?,
            jwt_ttl: ttl(self.jwt_ttl)?,
            jwt_jti: self.jwt_jti,
            dns_names: self.dns_names,
            federates_with: self.federates_with.iter().map(domain).collect::<Result<_, _>>()?,
            hint: self.hint,
            namespace: self.namespace,
            labels: self.labels,
            expires_at,
        })
    }
}

/// A registered entry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryBody {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    id: String,
    spiffe_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    selectors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509_ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_ttl: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    jwt_jti: bool,
    dns_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    federates_with: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// A decimal number; the ETag.
    revision: String,
    created_at: String,
    /// `configuration` or `api`: who owns it.
    origin: &'static str,
}

impl EntryBody {
    fn of(entry: &EntryRecord) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "Entry",
            id: entry.id.clone(),
            spiffe_id: entry.spiffe_id.to_string(),
            parent_id: entry.parent_id.as_ref().map(ToString::to_string),
            selectors: entry.selectors.iter().map(ToString::to_string).collect(),
            x509_ttl: entry.x509_ttl.map(|ttl| format!("{}s", ttl.as_secs())),
            jwt_ttl: entry.jwt_ttl.map(|ttl| format!("{}s", ttl.as_secs())),
            jwt_jti: entry.jwt_jti,
            dns_names: entry.dns_names.clone(),
            federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
            hint: entry.hint.clone(),
            namespace: entry.namespace.clone(),
            labels: entry.labels.clone(),
            expires_at: entry.expires_at.map(|end| end.to_string()),
            revision: entry.revision.to_string(),
            created_at: entry.created_at.to_string(),
            origin: if entry.from_configuration { "configuration" } else { "api" },
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<EntryBody>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Grants this identity.
    spiffe_id: Option<String>,
    /// Belongs to this agent.
    parent_id: Option<String>,
    /// Asks for this selector.
    selector: Option<String>,
    /// Is in this namespace.
    namespace: Option<String>,
    /// 1 to 1000; default 100.
    limit: Option<usize>,
    /// As `next_cursor` said.
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<EntryFilter, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "query_invalid", detail);
        let id = |text: &String| SpiffeId::parse(text).map_err(|fault| invalid(format!("`{text}`: {fault}")));
        Ok(EntryFilter {
            spiffe_id: self.spiffe_id.as_ref().map(id).transpose()?,
            parent_id: self.parent_id.as_ref().map(id).transpose()?,
            selector: match &self.selector {
                Some(text) => Some(Selector::parse(text).map_err(|fault| invalid(fault.to_string()))?),
                None => None,
            },
            namespace: self.namespace.clone(),
        })
    }
}

/// Registration entries that pass the filters, a page at a time.
#[utoipa::path(
    get, path = "/v1/entries", params(ListQuery),
    responses((status = 200, body = EntryList), (status = "4XX", body = Problem))
)]
pub(crate) async fn list(
    State(authority): State<Arc<Authority>>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<axum::Json<EntryList>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=LIMIT).contains(&limit) {
        let detail = format!("limit is 1 to {LIMIT}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query_invalid", detail));
    }
    let page = authority.list_entries(&query.filter()?, query.cursor.as_deref(), limit);
    let next_cursor = page.last().filter(|_| page.len() == limit).map(|entry| entry.id.clone());
    let items = page.iter().map(|entry| EntryBody::of(entry)).collect();
    Ok(axum::Json(EntryList { api_version: API_VERSION, kind: "EntryList", items, next_cursor }))
}

/// Registers a workload. One with the same id, parent and selectors is refused and named.
#[utoipa::path(
    post, path = "/v1/entries", request_body = EntryInput,
    responses((status = 201, body = EntryBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn create(
    State(authority): State<Arc<Authority>>,
    Json(input): Json<EntryInput>,
) -> Result<Response, Problem> {
    let entry = authority.create_entry(input.read()?).await?;
    let location = HeaderValue::try_from(format!("/v1/entries/{}", entry.id));
    let mut response = shown(StatusCode::CREATED, &entry);
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// One entry, with its revision in `ETag`.
#[utoipa::path(
    get, path = "/v1/entries/{id}", params(("id" = String, Path)),
    responses((status = 200, body = EntryBody), (status = 304), (status = "4XX", body = Problem))
)]
pub(crate) async fn get(
    State(authority): State<Arc<Authority>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let entry = authority.entry(&id).ok_or(AuthorityError::UnknownEntry(id))?;
    let known = headers.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == etag(&entry).as_bytes());
    if known {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    Ok(shown(StatusCode::OK, &entry))
}

/// Writes an entry anew, if it still has the revision of `If-Match`.
#[utoipa::path(
    put, path = "/v1/entries/{id}", params(("id" = String, Path)), request_body = EntryInput,
    responses((status = 200, body = EntryBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn update(
    State(authority): State<Arc<Authority>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(input): Json<EntryInput>,
) -> Result<Response, Problem> {
    let revision = if_match(&headers)?;
    let entry = authority.update_entry(&id, input.read()?, revision).await?;
    Ok(shown(StatusCode::OK, &entry))
}

/// Deletes an entry, if it still has the revision of `If-Match`. Its workloads lose the identity at once.
#[utoipa::path(
    delete, path = "/v1/entries/{id}", params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn delete(
    State(authority): State<Arc<Authority>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let revision = if_match(&headers)?;
    authority.delete_entry(&id, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(status: StatusCode, entry: &EntryRecord) -> Response {
    let mut response = (status, axum::Json(EntryBody::of(entry))).into_response();
    if let Ok(tag) = HeaderValue::try_from(etag(entry)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// A strong validator: the revision.
fn etag(entry: &EntryRecord) -> String {
    format!("\"{}\"", entry.revision)
}

/// The revision that the caller read; `*` is any.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(tag) = headers.get(IF_MATCH) else {
        let detail = "send the ETag of the entry that you read as If-Match";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "if_match_required", detail));
    };
    let text = tag.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|n| n.parse().ok());
    // An unknown tag matches nothing.
    let stale =
        || Problem::new(StatusCode::PRECONDITION_FAILED, "stale_revision", "If-Match names no revision");
    number.map(Some).ok_or_else(stale)
}

/// `90s`, `30m`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let size = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(size).map(Duration::from_secs)
}
