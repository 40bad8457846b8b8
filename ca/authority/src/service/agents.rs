//! `/v1/agents`: agents of other hosts, for administrators (RV-02). Authorization stands in front.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use ca_identity::SpiffeId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Caller;
use super::body::{Json, Parameters};
use super::problem::Problem;
use super::revocations::{PageQuery, author};
use crate::{AgentRecord, Authority};

const API_VERSION: &str = "portcullis/v1";
/// Where paths of agents begin; what follows is the name of one.
const BELOW: &str = "/portcullis/agent/";

/// An agent of another host.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentBody {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    /// What commands and paths call it: its SPIFFE ID without the beginning that all have.
    name: String,
    spiffe_id: String,
    /// The kind of evidence that it showed.
    attested_by: String,
    /// RFC 3339.
    attested_at: String,
    /// Serial number of the SVID that it uses, hexadecimal; absent = it has used none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    /// RFC 3339: when its latest SVID ends; from then on it has to attest anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    /// Whether it follows now.
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ban: Option<BanBody>,
    /// Live certificates that were issued through it; only of a ban, and of one that is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_svids: Option<usize>,
}

/// Why an agent is refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanBody {
    reason: String,
    /// Who said so.
    by: String,
    /// RFC 3339.
    at: String,
}

impl AgentBody {
    fn of(authority: &Authority, agent: &AgentRecord) -> Self {
        let path = agent.spiffe_id.path();
        Self {
            api_version: API_VERSION,
            kind: "Agent",
            name: path.strip_prefix(BELOW).unwrap_or(path).to_owned(),
            spiffe_id: agent.spiffe_id.to_string(),
            attested_by: agent.attested_by.clone(),
            attested_at: agent.attested_at.to_string(),
            serial: agent.active.as_ref().map(|svid| svid.serial.to_string()),
            not_after: agent.ends().map(|end| end.to_string()),
            connected: authority.is_followed_by(&agent.spiffe_id),
            ban: agent.ban.as_ref().map(|ban| BanBody {
                reason: ban.reason.clone(),
                by: ban.author.clone(),
                at: ban.at.to_string(),
            }),
            live_svids: None,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<AgentBody>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Agents of other hosts, a page at a time in the order of names.
#[utoipa::path(
    get, path = "/v1/agents", params(PageQuery),
    responses((status = 200, body = AgentList), (status = "4XX", body = Problem))
)]
pub(crate) async fn list(
    State(authority): State<Arc<Authority>>,
    Parameters(query): Parameters<PageQuery>,
) -> Result<axum::Json<AgentList>, Problem> {
    let limit = query.limit()?;
    let after = query.cursor().map(|name| format!("{BELOW}{name}"));
    let page = authority.agents(after.as_deref(), limit)?;
    let items: Vec<_> = page.iter().map(|agent| AgentBody::of(&authority, agent)).collect();
    let next_cursor = items.last().filter(|_| items.len() == limit).map(|last| last.name.clone());
    Ok(axum::Json(AgentList { api_version: API_VERSION, kind: "AgentList", items, next_cursor }))
}

/// One agent, by its name or its SPIFFE ID.
#[utoipa::path(
    get, path = "/v1/agents/{name}", params(("name" = String, Path, description = "its name, which may hold slashes")),
    responses((status = 200, body = AgentBody), (status = "4XX", body = Problem))
)]
pub(crate) async fn get(
    State(authority): State<Arc<Authority>>,
    Path(name): Path<String>,
) -> Result<axum::Json<AgentBody>, Problem> {
    let agent = authority.agent(&named(&authority, &name)?)?;
    Ok(axum::Json(AgentBody::of(&authority, &agent)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanInput {
    /// Its name or its SPIFFE ID.
    agent: String,
    /// Why; goes on record.
    reason: String,
    /// What was issued through it is not denied, and holds until it ends.
    #[serde(default)]
    keep_svids: bool,
    /// Only tell what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Refuses an agent and all that was issued through it; with `dry_run`, tells what that would do.
#[utoipa::path(
    post, path = "/v1/agents:ban", request_body = BanInput,
    responses((status = 200, body = AgentBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn ban(
    State(authority): State<Arc<Authority>>,
    caller: Option<Extension<Caller>>,
    Json(input): Json<BanInput>,
) -> Result<axum::Json<AgentBody>, Problem> {
    let id = named(&authority, &input.agent)?;
    let (agent, live) = if input.dry_run {
        (authority.agent(&id)?, authority.svids_through(&id).await?.len())
    } else {
        let banned = authority.ban_agent(&id, &input.reason, &author(caller), input.keep_svids).await?;
        (banned.agent, banned.svids)
    };
    Ok(axum::Json(AgentBody { live_svids: Some(live), ..AgentBody::of(&authority, &agent) }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvictInput {
    /// Its name or its SPIFFE ID.
    agent: String,
}

/// Ends an agent, also one that is banned; its host may attest anew.
#[utoipa::path(
    post, path = "/v1/agents:evict", request_body = EvictInput,
    responses((status = 200, body = AgentBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn evict(
    State(authority): State<Arc<Authority>>,
    caller: Option<Extension<Caller>>,
    Json(EvictInput { agent }): Json<EvictInput>,
) -> Result<axum::Json<AgentBody>, Problem> {
    let evicted = authority.evict_agent(&named(&authority, &agent)?, &author(caller)).await?;
    Ok(axum::Json(AgentBody::of(&authority, &evicted)))
}

/// The identity of an agent by its name, or as it is.
fn named(authority: &Authority, name: &str) -> Result<SpiffeId, Problem> {
    let domain = &authority.config().trust_domain;
    let read = match name.starts_with("spiffe://") {
        true => SpiffeId::parse(name),
        false => SpiffeId::new(domain, &format!("{BELOW}{name}")),
    };
    read.map_err(|fault| Problem::new(StatusCode::BAD_REQUEST, "agent_invalid", format!("`{name}`: {fault}")))
}
