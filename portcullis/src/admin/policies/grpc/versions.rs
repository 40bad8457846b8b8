//! `Versions` and `Signing`: what was committed, what is in force, and the keys that sign it.

use axum::http::Method;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::generated::messages::{
    ActivateRequest, DiffRequest, Difference, FilesRequest, FilesResponse, GetSigningRequest,
    GetVersionRequest, ListVersionsRequest, ListVersionsResponse, NeedsRequest, NeedsResponse,
    RaiseEpochRequest, RollbackRequest, RotateRequest, ShadowRequest, SigningState, StopShadowRequest,
    StopShadowResponse, Version,
};
use super::generated::server::{signing_server::Signing, versions_server::Versions};
use super::{Verb, Verbs, page, query};

const VERSIONS: &str = "/v1/policies/versions";
const SIGNING: &str = "/v1/policies/signing";

#[tonic::async_trait]
impl Versions for Verbs {
    async fn list(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        self.call(request, |asked| page(VERSIONS, asked.limit, asked.cursor)).await
    }

    async fn get(&self, request: Request<GetVersionRequest>) -> Result<Response<Version>, Status> {
        self.call(request, |asked| Verb::get(format!("{VERSIONS}/{}", asked.version))).await
    }

    async fn files(&self, request: Request<FilesRequest>) -> Result<Response<FilesResponse>, Status> {
        self.call(request, |asked| Verb::get(format!("{VERSIONS}/{}/files", asked.version))).await
    }

    async fn needs(&self, request: Request<NeedsRequest>) -> Result<Response<NeedsResponse>, Status> {
        self.call(request, |asked| Verb::get(format!("{VERSIONS}/{}/needs", asked.version))).await
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<Difference>, Status> {
        let verb = |asked: DiffRequest| {
            let number = |number: Option<u64>| number.map(|number| number.to_string());
            let range = [("from", number(asked.from)), ("to", number(asked.to))];
            Verb::get(format!("/v1/policies/diff{}", query(&range)))
        };
        self.call(request, verb).await
    }

    async fn activate(&self, request: Request<ActivateRequest>) -> Result<Response<Version>, Status> {
        self.call(request, |asked| turn(asked.version, "activate", json!({}))).await
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Version>, Status> {
        let verb =
            |asked: RollbackRequest| turn(asked.version, "rollback", json!({ "message": asked.message }));
        self.call(request, verb).await
    }

    async fn shadow(&self, request: Request<ShadowRequest>) -> Result<Response<Version>, Status> {
        self.call(request, |asked| turn(asked.version, "shadow", json!({}))).await
    }

    async fn stop_shadow(
        &self,
        request: Request<StopShadowRequest>,
    ) -> Result<Response<StopShadowResponse>, Status> {
        let verb = |_| Verb { method: Method::DELETE, ..Verb::get("/v1/policies/shadow") };
        self.call(request, verb).await
    }
}

#[tonic::async_trait]
impl Signing for Verbs {
    async fn get(&self, request: Request<GetSigningRequest>) -> Result<Response<SigningState>, Status> {
        self.call(request, |_| Verb::get(SIGNING)).await
    }

    async fn rotate(&self, request: Request<RotateRequest>) -> Result<Response<SigningState>, Status> {
        self.call(request, |_| Verb::post(format!("{SIGNING}:rotate"), json!({}))).await
    }

    async fn raise_epoch(
        &self,
        request: Request<RaiseEpochRequest>,
    ) -> Result<Response<SigningState>, Status> {
        self.call(request, |_| Verb::post(format!("{SIGNING}:raise-epoch"), json!({}))).await
    }
}

fn turn(version: u64, verb: &str, body: Value) -> Verb {
    Verb::post(format!("{VERSIONS}/{version}:{verb}"), body)
}
