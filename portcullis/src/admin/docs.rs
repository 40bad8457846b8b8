//! The OpenAPI document and a page to read it with: no network, nothing from elsewhere.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::Response;
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

/// The document of our own handlers.
#[derive(OpenApi)]
#[openapi(
    info(title = "Portcullis", description = "Identity, policies and decisions of a running gateway."),
    paths(
        super::health::live,
        super::health::ready,
        super::health::metrics,
        super::health::version,
        super::status::status,
        super::proxy::listeners,
        super::proxy::routes,
        super::proxy::clusters,
        super::proxy::endpoints,
        super::proxy::streams,
        super::proxy::certificates,
        super::proxy::faults,
        super::proxy::inject_fault,
        super::proxy::end_faults,
        super::proxy::drain,
        super::proxy::set_log_level,
        super::config::reload,
        super::policies::list,
        super::policies::can::can,
        super::policies::ask::who_can,
        super::policies::ask::what_can,
        super::policies::validate::validate,
        super::policies::format::format,
        super::policies::signed::snapshot,
        super::policies::signed::read,
        super::policies::signed::rotate,
        super::policies::signed::raise_epoch,
        super::policies::impact::impact,
        super::policies::mine::suggest,
        super::policies::usage::usage,
        super::policies::judged::sources,
        super::policies::changes::list,
        super::policies::changes::create,
        super::policies::changes::read,
        super::policies::changes::edit,
        super::policies::changes::act,
        super::policies::diff::diff,
        super::policies::versions::list,
        super::policies::versions::read,
        super::policies::versions::files,
        super::policies::versions::needs,
        super::policies::versions::act,
        super::policies::versions::stop,
        super::policies::history::read,
        super::policies::history::history,
        super::policies::history::blame,
        super::decisions::append::append,
        super::decisions::explain,
        super::decisions::case::case,
        super::decisions::suggested::suggest,
        super::decisions::recompute::verify,
        super::authorities::list,
        super::authorities::token,
        super::bundle::show,
        super::entries::explain,
    )
)]
struct Document;

/// The whole document, routers of the crates below included.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(policies_decisions::Api::openapi());
    document.merge(ca_authority::service::openapi());
    document
}

pub(super) fn router() -> Router {
    Router::new()
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document()))
        .layer(middleware::map_response(with_policy))
}

/// The page may load only what this process serves.
async fn with_policy(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"),
    );
    response
}
