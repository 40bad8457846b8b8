//! `Policies` and `History`: what is in force and how it came to be; files that are looked at and forgotten.

use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::generated::messages::{
    BlameRequest, BlameResponse, File, FormatRequest, FormatResponse, GetPolicyRequest, ListHistoryRequest,
    ListHistoryResponse, ListPoliciesRequest, ListPoliciesResponse, Policy, ValidateRequest,
    ValidateResponse,
};
use super::generated::server::{history_server::History, policies_server::Policies};
use super::{Verb, Verbs, query};
use crate::cli::decisions::policy_path;

#[tonic::async_trait]
impl Policies for Verbs {
    async fn list(
        &self,
        request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        self.call(request, |_| Verb::get("/v1/policies")).await
    }

    async fn get(&self, request: Request<GetPolicyRequest>) -> Result<Response<Policy>, Status> {
        let verb = |asked: GetPolicyRequest| {
            let version = asked.version.map(|version| version.to_string());
            Verb::get(format!("{}{}", policy_path(&asked.id), query(&[("version", version)])))
        };
        self.call(request, verb).await
    }

    async fn validate(
        &self,
        request: Request<ValidateRequest>,
    ) -> Result<Response<ValidateResponse>, Status> {
        self.call(request, |asked| Verb::post("/v1/policies:validate", files(asked.files))).await
    }

    async fn format(&self, request: Request<FormatRequest>) -> Result<Response<FormatResponse>, Status> {
        self.call(request, |asked| Verb::post("/v1/policies:format", files(asked.files))).await
    }
}

#[tonic::async_trait]
impl History for Verbs {
    async fn list(
        &self,
        request: Request<ListHistoryRequest>,
    ) -> Result<Response<ListHistoryResponse>, Status> {
        self.call(request, |asked| Verb::get(format!("{}/history", policy_path(&asked.id)))).await
    }

    async fn blame(&self, request: Request<BlameRequest>) -> Result<Response<BlameResponse>, Status> {
        self.call(request, |asked| Verb::get(format!("{}/blame", policy_path(&asked.id)))).await
    }
}

fn files(files: Vec<File>) -> Value {
    let files: Vec<_> =
        files.into_iter().map(|file| json!({ "file": file.file, "text": file.text })).collect();
    json!({ "files": files })
}
