//! `/v1/federations`: relationships with other trust domains, and their bundles (FB-01). Authorization stands in front.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base_ports::UnixTime;
use ca_identity::{SpiffeId, TrustDomain};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Caller;
use super::body::Json;
use super::problem::Problem;
use super::revocations::author;
use crate::{Authority, AuthorityError, Fetched, Held, NewRelationship, Profile, Relationship};

const API_VERSION: &str = "portcullis/v1";

type Asker = Option<Extension<Caller>>;

/// Where the bundle of a trust domain is fetched, and who must answer there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FederationInput {
    /// Whose bundle; in the path of a change.
    trust_domain: Option<String>,
    /// https.
    url: String,
    /// `https_web` or `https_spiffe`.
    profile: String,
    /// `https_spiffe`: the SPIFFE ID of the server.
    endpoint_id: Option<String>,
    /// The first bundle: a JWK Set or PEM, as text. Not part of a change.
    bundle: Option<String>,
}

impl FederationInput {
    fn read(self, domain: TrustDomain) -> Result<(NewRelationship, Option<String>), Problem> {
        let id = match self.endpoint_id {
            Some(text) => Some(SpiffeId::parse(&text).map_err(|fault| invalid(&text, &fault))?),
            None => None,
        };
        let profile = Profile::of(&self.profile, id).map_err(AuthorityError::from)?;
        Ok((NewRelationship { trust_domain: domain, url: self.url, profile }, self.bundle))
    }
}

fn invalid(text: &str, fault: &dyn std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "federation_invalid", format!("`{text}`: {fault}"))
}

fn domain_of(text: &str) -> Result<TrustDomain, Problem> {
    TrustDomain::parse(text).map_err(|fault| invalid(text, &fault))
}

/// A relationship with another trust domain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FederationBody {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    trust_domain: String,
    url: String,
    profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    /// `configuration` or `api`: who owns it.
    origin: &'static str,
    created_at: String,
    /// `current`, `stale` (its identities are refused), `empty` (it trusts nobody) or `none`.
    state: &'static str,
    /// What is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<HeldBody>,
    /// What came of the last fetch.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fetch: Option<FetchBody>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeldBody {
    /// A decimal number; absent in a bundle without sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    roots: usize,
    jwt_keys: usize,
    refresh_hint_seconds: u64,
    /// RFC 3339: when it was last seen to be the newest.
    at: String,
    /// RFC 3339: from then on its identities are refused, unless it is seen again.
    stale_after: String,
    /// Who gave it.
    from: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FetchBody {
    /// RFC 3339.
    at: String,
    /// `fetched` or `failed`.
    result: &'static str,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// A stable word for what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl FederationBody {
    fn of(authority: &Authority, relation: &Relationship) -> Self {
        let last = authority.last_fetch(&relation.with.trust_domain);
        Self {
            api_version: API_VERSION,
            kind: "Federation",
            trust_domain: relation.with.trust_domain.to_string(),
            url: relation.with.url.clone(),
            profile: relation.with.profile.name(),
            endpoint_id: relation.with.profile.endpoint_id().map(ToString::to_string),
            origin: if relation.from_configuration { "configuration" } else { "api" },
            created_at: relation.created_at.to_string(),
            state: relation.state(authority.time()),
            bundle: relation.held.as_ref().map(HeldBody::of),
            last_fetch: last.map(FetchBody::of),
        }
    }
}

impl HeldBody {
    fn of(held: &Held) -> Self {
        let bundle = &held.bundle;
        Self {
            sequence: bundle.is_sequenced.then(|| bundle.sequence.to_string()),
            roots: bundle.anchors().len(),
            jwt_keys: bundle.jwt_keys().len(),
            refresh_hint_seconds: bundle.refresh_hint.as_secs(),
            at: held.at.to_string(),
            stale_after: bundle.stale_after.map_or_else(String::new, |end: UnixTime| end.to_string()),
            from: held.from.clone(),
        }
    }
}

impl FetchBody {
    fn of(fetched: Fetched) -> Self {
        let at = fetched.at.to_string();
        match fetched.result {
            Ok(peer) => Self { at, result: "fetched", peer: Some(peer), code: None, detail: None },
            Err(fault) => {
                Self { at, result: "failed", peer: None, code: Some(fault.code), detail: Some(fault.detail) }
            }
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FederationList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<FederationBody>,
}

/// Every relationship with another trust domain; there are at most 1,024.
#[utoipa::path(get, path = "/v1/federations", responses((status = 200, body = FederationList), (status = "4XX", body = Problem)))]
pub(crate) async fn list(State(authority): State<Arc<Authority>>) -> axum::Json<FederationList> {
    let all = authority.federations();
    let items = all.iter().map(|relation| FederationBody::of(&authority, relation)).collect();
    axum::Json(FederationList { api_version: API_VERSION, kind: "FederationList", items })
}

/// Begins a relationship; its bundle is fetched at once.
#[utoipa::path(
    post, path = "/v1/federations", request_body = FederationInput,
    responses((status = 201, body = FederationBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn create(
    State(authority): State<Arc<Authority>>,
    caller: Asker,
    Json(input): Json<FederationInput>,
) -> Result<Response, Problem> {
    let domain = domain_of(input.trust_domain.as_deref().unwrap_or_default())?;
    let (new, bundle) = input.read(domain)?;
    let relation = authority.create_federation(new, bundle.as_deref(), &author(caller)).await?;
    let body = FederationBody::of(&authority, &relation);
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}

/// One relationship, with its bundle and its last fetch.
#[utoipa::path(
    get, path = "/v1/federations/{domain}", params(("domain" = String, Path)),
    responses((status = 200, body = FederationBody), (status = "4XX", body = Problem))
)]
pub(crate) async fn get(
    State(authority): State<Arc<Authority>>,
    Path(domain): Path<String>,
) -> Result<axum::Json<FederationBody>, Problem> {
    let relation = authority.federation(&domain_of(&domain)?)?;
    Ok(axum::Json(FederationBody::of(&authority, &relation)))
}

/// Changes where and from whom the bundle is fetched; the one that is held stays.
#[utoipa::path(
    put, path = "/v1/federations/{domain}", params(("domain" = String, Path)), request_body = FederationInput,
    responses((status = 200, body = FederationBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn update(
    State(authority): State<Arc<Authority>>,
    Path(domain): Path<String>,
    caller: Asker,
    Json(input): Json<FederationInput>,
) -> Result<axum::Json<FederationBody>, Problem> {
    let (new, bundle) = input.read(domain_of(&domain)?)?;
    if bundle.is_some() {
        let detail = "a bundle is set at /v1/federations/{domain}/bundle";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "federation_invalid", detail));
    }
    let relation = authority.update_federation(new, &author(caller)).await?;
    Ok(axum::Json(FederationBody::of(&authority, &relation)))
}

/// Ends a relationship: its identities are refused from now on, its open connections end.
#[utoipa::path(
    delete, path = "/v1/federations/{domain}", params(("domain" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn delete(
    State(authority): State<Arc<Authority>>,
    Path(domain): Path<String>,
    caller: Asker,
) -> Result<StatusCode, Problem> {
    authority.delete_federation(&domain_of(&domain)?, &author(caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `:refresh` fetches the bundle now; what came of it is in `last_fetch`.
#[utoipa::path(
    post, path = "/v1/federations/{domain}:refresh", params(("domain" = String, Path)),
    responses((status = 200, body = FederationBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn verb(
    State(authority): State<Arc<Authority>>,
    Path(named): Path<String>,
) -> Result<axum::Json<FederationBody>, Problem> {
    let Some((domain, "refresh")) = named.rsplit_once(':') else {
        return Err(problem_of_verb());
    };
    let (relation, _) = authority.refresh_federation(&domain_of(domain)?).await?;
    Ok(axum::Json(FederationBody::of(&authority, &relation)))
}

fn problem_of_verb() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_path", "POST takes /v1/federations/{domain}:refresh")
}

/// The bundle that is held, as it was published.
#[utoipa::path(
    get, path = "/v1/federations/{domain}/bundle", params(("domain" = String, Path)),
    responses((status = 200, description = "a SPIFFE bundle"), (status = "4XX", body = Problem))
)]
pub(crate) async fn document(
    State(authority): State<Arc<Authority>>,
    Path(domain): Path<String>,
) -> Result<Response, Problem> {
    let relation = authority.federation(&domain_of(&domain)?)?;
    let Some(held) = &relation.held else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no_bundle",
            format!("no bundle of `{domain}` is held"),
        ));
    };
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, held.document.to_string()).into_response())
}

/// The bundle of another trust domain, by a person's word.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleInput {
    /// A JWK Set or PEM, as text.
    bundle: String,
}

/// Takes a bundle in place of the one that is held; it stands until the next fetch.
#[utoipa::path(
    put, path = "/v1/federations/{domain}/bundle", params(("domain" = String, Path)), request_body = BundleInput,
    responses((status = 200, body = FederationBody), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub(crate) async fn set(
    State(authority): State<Arc<Authority>>,
    Path(domain): Path<String>,
    caller: Asker,
    Json(BundleInput { bundle }): Json<BundleInput>,
) -> Result<axum::Json<FederationBody>, Problem> {
    let domain = domain_of(&domain)?;
    let relation = authority.set_federated_bundle(&domain, &bundle, &author(caller)).await?;
    Ok(axum::Json(FederationBody::of(&authority, &relation)))
}
