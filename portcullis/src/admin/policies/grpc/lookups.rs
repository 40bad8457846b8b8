//! `Policies` and `History`: what is in force, what it says, and how it came to be; files that are looked at and forgotten.

use serde_json::{Map, Value, json};
use tonic::{Request, Response, Status};

use super::generated::messages::{
    BlameRequest, BlameResponse, CanRequest, CanResponse, File, FormatRequest, FormatResponse,
    GetPolicyRequest, ImpactReport, ImpactRequest, ListHistoryRequest, ListHistoryResponse,
    ListPoliciesRequest, ListPoliciesResponse, ListStandingsResponse, Policy, Range, SuggestResponse,
    UsageResponse, ValidateRequest, ValidateResponse, WhatCanRequest, WhoCanRequest,
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

    async fn can(&self, request: Request<CanRequest>) -> Result<Response<CanResponse>, Status> {
        self.call(request, |asked| Verb::post("/v1/policies:can", can(asked))).await
    }

    async fn who_can(
        &self,
        request: Request<WhoCanRequest>,
    ) -> Result<Response<ListStandingsResponse>, Status> {
        let verb = |asked: WhoCanRequest| {
            let asked = query(&[
                ("action", Some(asked.action)),
                ("resource", Some(asked.resource)),
                ("limit", asked.limit.map(|limit| limit.to_string())),
                ("cursor", asked.cursor),
            ]);
            Verb::get(format!("/v1/policies:who-can{asked}"))
        };
        self.call(request, verb).await
    }

    async fn what_can(
        &self,
        request: Request<WhatCanRequest>,
    ) -> Result<Response<ListStandingsResponse>, Status> {
        let verb = |asked: WhatCanRequest| {
            let asked = query(&[
                ("principal", Some(asked.principal)),
                ("action", asked.action),
                ("limit", asked.limit.map(|limit| limit.to_string())),
                ("cursor", asked.cursor),
            ]);
            Verb::get(format!("/v1/policies:what-can{asked}"))
        };
        self.call(request, verb).await
    }

    async fn impact(&self, request: Request<ImpactRequest>) -> Result<Response<ImpactReport>, Status> {
        let verb = |asked: ImpactRequest| {
            let files: Map<String, Value> =
                asked.files.into_iter().map(|file| (file.file, file.text.into())).collect();
            let files = (!files.is_empty()).then_some(files);
            let body = json!({ "files": files, "change": asked.change, "version": asked.version, "range": range(asked.range) });
            Verb::post("/v1/policies:impact", body)
        };
        self.call(request, verb).await
    }

    async fn suggest(&self, request: Request<Range>) -> Result<Response<SuggestResponse>, Status> {
        self.call(request, |asked| Verb::post("/v1/policies:suggest", range(Some(asked)))).await
    }

    async fn usage(&self, request: Request<Range>) -> Result<Response<UsageResponse>, Status> {
        self.call(request, |asked| Verb::post("/v1/policies:usage", range(Some(asked)))).await
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

/// A context that is no JSON goes on as it is: the API says what is wrong with it.
fn can(asked: CanRequest) -> Value {
    let context = asked.context.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
    json!({
        "principal": asked.principal, "action": asked.action, "resource": asked.resource, "context": context,
        "at": asked.at, "version": asked.version,
    })
}

/// A range as the API takes it.
pub(super) fn range(asked: Option<Range>) -> Value {
    let asked = asked.unwrap_or_default();
    json!({
        "since": asked.since, "until": asked.until, "filter": asked.filter, "time_limit": asked.time_limit,
    })
}
