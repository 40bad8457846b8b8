//! `/v1/revocations` and `GET /v1/svids`: what was issued, and what of it is denied (RV-03). Authorization stands in front.
#![expect(unused_qualifications, reason = "utoipa's macro qualifies the parameter type")]

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base_ports::UnixTime;
use ca_identity::{KeyId, Revoked, Serial, SpiffeId, TrustDomain};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Caller;
use super::body::{Json, Parameters};
use super::problem::Problem;
use crate::{Authority, AuthorityError, IssuanceRecord, Named, NewRevocation, Revocation};

const API_VERSION: &str = "portcullis/v1";
const DEFAULT_LIMIT: usize = 100;
const LIMIT: usize = 1000;

/// What is to be denied: exactly one of `serial`, `spiffe_id`, `kid` and `jti`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevocationInput {
    /// A certificate, by its serial number in hexadecimal.
    serial: Option<String>,
    /// The key that issued it, in hexadecimal; not needed for what was issued here.
    issuer: Option<String>,
    /// An identity, with all its certificates and tokens.
    spiffe_id: Option<String>,
    /// All tokens of a key.
    kid: Option<String>,
    /// One token.
    jti: Option<String>,
    /// Whose key or token; absent = the own trust domain.
    trust_domain: Option<String>,
    /// Why; goes on record.
    reason: String,
    /// RFC 3339: when what is denied ends by itself. Absent = as the records say.
    until: Option<String>,
    /// Only tell what would be done.
    #[serde(default)]
    dry_run: bool,
}

impl RevocationInput {
    fn read(self, authority: &Authority, author: String) -> Result<NewRevocation, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "revocation_invalid", detail);
        let domain = match self.trust_domain {
            Some(text) => TrustDomain::parse(&text).map_err(|fault| invalid(format!("`{text}`: {fault}")))?,
            None => authority.config().trust_domain.clone(),
        };
        let issuer = match self.issuer {
            Some(text) => {
                let read = KeyId::parse_hex(&text);
                Some(read.ok_or_else(|| invalid(format!("`{text}` is no key id of 40 hexadecimal digits")))?)
            }
            None => None,
        };
        let what = match (self.serial, self.spiffe_id, self.kid, self.jti) {
            (Some(text), None, None, None) => {
                let read = Serial::parse_hex(&text);
                let serial = read.ok_or_else(|| invalid(format!("`{text}` is no hexadecimal serial")))?;
                Named::Certificate { serial, issuer }
            }
            (None, Some(text), None, None) => {
                Named::Id(SpiffeId::parse(&text).map_err(|fault| invalid(format!("`{text}`: {fault}")))?)
            }
            (None, None, Some(kid), None) => Named::JwtKey { domain, kid },
            (None, None, None, Some(jti)) => Named::Token { domain, jti },
            _ => return Err(invalid("name one of serial, spiffe_id, kid and jti".to_owned())),
        };
        let until = match self.until {
            Some(text) => {
                Some(UnixTime::parse_rfc3339(&text).map_err(|fault| invalid(format!("`{text}`: {fault}")))?)
            }
            None => None,
        };
        Ok(NewRevocation { what, reason: self.reason, author, until })
    }
}

/// Something that is denied.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevocationBody {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    /// Its name, by which it is lifted.
    id: String,
    /// `certificate`, `spiffe_id`, `jwt_key`, `token` or `issuer`.
    what: &'static str,
    reason: String,
    /// Who said so.
    by: String,
    /// RFC 3339.
    at: String,
    /// RFC 3339; absent = until it is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// How many live certificates it takes with it; only when it is planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_svids: Option<usize>,
}

impl RevocationBody {
    fn of(revocation: &Revocation) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "Revocation",
            id: revocation.what.to_string(),
            what: revocation.what.kind(),
            reason: revocation.reason.clone(),
            by: revocation.author.clone(),
            at: revocation.at.to_string(),
            until: revocation.until.map(|end| end.to_string()),
            live_svids: None,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevocationList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<RevocationBody>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// 1 to 1000; default 100.
    limit: Option<usize>,
    /// As `next_cursor` said.
    cursor: Option<String>,
}

impl PageQuery {
    /// Behind what the page begins.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=LIMIT).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::new(StatusCode::BAD_REQUEST, "query_invalid", format!("limit is 1 to {LIMIT}")))
    }
}

/// What is denied, a page at a time in the order of names.
#[utoipa::path(
    get, path = "/v1/revocations", params(PageQuery),
    responses((status = 200, body = RevocationList), (status = "4XX", body = Problem))
)]
pub(crate) async fn list(
    State(authority): State<Arc<Authority>>,
    Parameters(query): Parameters<PageQuery>,
) -> Result<axum::Json<RevocationList>, Problem> {
    let limit = query.limit()?;
    let unknown = || Problem::new(StatusCode::BAD_REQUEST, "query_invalid", "the cursor names no revocation");
    let after = match &query.cursor {
        Some(cursor) => Some(Revoked::parse(cursor).ok_or_else(unknown)?),
        None => None,
    };
    let page = authority.revocations(after.as_ref(), limit)?;
    let next_cursor = page.last().filter(|_| page.len() == limit).map(|last| last.what.to_string());
    let items = page.iter().map(RevocationBody::of).collect();
    Ok(axum::Json(RevocationList { api_version: API_VERSION, kind: "RevocationList", items, next_cursor }))
}

/// Denies a certificate, an identity, the tokens of a key, or one token; with `dry_run`, tells what that would do.
#[utoipa::path(
    post, path = "/v1/revocations", request_body = RevocationInput,
    responses((status = 201, body = RevocationBody), (status = 200, body = RevocationBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn revoke(
    State(authority): State<Arc<Authority>>,
    caller: Option<Extension<Caller>>,
    Json(input): Json<RevocationInput>,
) -> Result<Response, Problem> {
    let is_dry = input.dry_run;
    let new = input.read(&authority, author(caller))?;
    if is_dry {
        let planned = authority.plan_revocation(new)?;
        let live_svids = Some(authority.live_svids(&planned.what).await?);
        let body = RevocationBody { live_svids, ..RevocationBody::of(&planned) };
        return Ok(axum::Json(body).into_response());
    }
    let revocation = authority.revoke(new).await?;
    Ok((StatusCode::CREATED, axum::Json(RevocationBody::of(&revocation))).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiftInput {
    /// Its name, as the list says.
    id: String,
}

/// Takes a revocation back.
#[utoipa::path(
    post, path = "/v1/revocations:lift", request_body = LiftInput,
    responses((status = 200, body = RevocationBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn lift(
    State(authority): State<Arc<Authority>>,
    caller: Option<Extension<Caller>>,
    Json(LiftInput { id }): Json<LiftInput>,
) -> Result<axum::Json<RevocationBody>, Problem> {
    let what = Revoked::parse(&id).ok_or(AuthorityError::NotRevoked(id))?;
    let lifted = authority.lift(&what, &author(caller)).await?;
    Ok(axum::Json(RevocationBody::of(&lifted)))
}

/// Who asks, for the record.
pub(crate) fn author(caller: Option<Extension<Caller>>) -> String {
    match caller.map(|Extension(caller)| caller).unwrap_or_default() {
        Caller::Local { uid } => format!("local user {uid}"),
        Caller::Svid(id) => id.to_string(),
        Caller::Anonymous => "anonymous".to_owned(),
    }
}

/// A certificate that was issued and has not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SvidBody {
    spiffe_id: String,
    /// Hexadecimal.
    serial: String,
    /// The key that issued it, hexadecimal.
    issuer: String,
    /// The agent through which it was issued.
    agent: String,
    /// RFC 3339.
    not_before: String,
    /// RFC 3339.
    not_after: String,
    /// By itself, by its identity or by its issuer.
    revoked: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SvidList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<SvidBody>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Certificates by their records, in order of serial numbers.
#[utoipa::path(
    get, path = "/v1/svids", params(PageQuery),
    responses((status = 200, body = SvidList), (status = "4XX", body = Problem))
)]
pub(crate) async fn issued(
    State(authority): State<Arc<Authority>>,
    Parameters(query): Parameters<PageQuery>,
) -> Result<axum::Json<SvidList>, Problem> {
    let limit = query.limit()?;
    let page = authority.issued(query.cursor.as_deref(), limit)?;
    let next_cursor = page.last().filter(|_| page.len() == limit).map(|last| last.serial.to_string());
    let items = page.iter().map(|record| svid(&authority, record)).collect();
    Ok(axum::Json(SvidList { api_version: API_VERSION, kind: "SvidList", items, next_cursor }))
}

fn svid(authority: &Authority, record: &IssuanceRecord) -> SvidBody {
    SvidBody {
        spiffe_id: record.spiffe_id.to_string(),
        serial: record.serial.to_string(),
        issuer: record.issuer_key_id.to_string(),
        agent: record.agent.to_string(),
        not_before: record.not_before.to_string(),
        not_after: record.not_after.to_string(),
        revoked: authority.is_revoked(record),
    }
}
