//! Envoy's external authorization, v3: `envoy.service.auth.v3.Authorization/Check`.
//!
//! An Envoy asks for each request it holds; who may ask is decided before a question comes here. The caller's identity is
//! the certificate that Envoy shows us, verified by our own rules; the request goes through our own canonicalizer, and
//! what that would change is refused, because Envoy would forward the other form.

mod answer;
mod question;

#[cfg(test)]
mod tests;

use crate::{
    Judge,
    generated::{
        messages::{CheckRequest, CheckResponse},
        server::authorization_server::{Authorization, AuthorizationServer},
    },
};
use std::sync::Arc;
use tonic::{Request, Response, Status, service::Routes};

/// Path of the one method, for tables of rights.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Descriptors of the service, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/external_auth.binpb");

/// Largest question: headers of one request.
const REQUEST_BYTES: usize = 256 << 10;

/// How questions are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Take the caller's SPIFFE ID from `source.principal` where Envoy shows no certificate. Then every Envoy that may ask
    /// can speak for everybody.
    pub trust_principal: bool,
}

/// Who asks, as an extension of the request.
#[derive(Debug, Clone)]
pub struct Asker(pub String);

/// The service. `judge` decides and records.
#[must_use]
pub fn routes(judge: Arc<dyn Judge>, options: Options) -> Routes {
    let service = AuthorizationServer::new(Service { judge, options });
    Routes::new(service.max_decoding_message_size(REQUEST_BYTES))
}

struct Service {
    judge: Arc<dyn Judge>,
    options: Options,
}

#[tonic::async_trait]
impl Authorization for Service {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let asker =
            request.extensions().get::<Asker>().map_or_else(|| "unknown".to_owned(), |asker| asker.0.clone());
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let read = question::read(attributes, &asker, self.judge.as_ref(), self.options);
        let verdict = match read.refusal {
            None => self.judge.judge(read.question).await,
            Some(reason) => self.judge.refuse(read.question, reason).await,
        };
        Ok(Response::new(match verdict {
            Ok(verdict) if verdict.decision.is_allowed() => answer::allowed(&verdict, read.remove),
            Ok(verdict) => answer::denied(&verdict),
            Err(cause) => answer::unrecorded(&cause),
        }))
    }
}
