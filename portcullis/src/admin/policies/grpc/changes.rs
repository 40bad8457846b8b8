//! `Changes`: drafts of the next version, from the first edit to the commit.

use axum::http::Method;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use super::generated::messages::{
    Change, ChangeAtRevision, CheckChangeRequest, Checks, CreateChangeRequest, EditChangeRequest, FileEdit,
    GetChangeRequest, ImpactOfChangeRequest, ImpactReport, ListCasesResponse, ListChangesRequest,
    ListChangesResponse, ListFindingsResponse, Version,
};
use super::generated::server::changes_server::Changes;
use super::lookups::range;
use super::{Verb, Verbs, page};
use crate::cli::decisions::encode;

const CHANGES: &str = "/v1/policies/changes";

#[tonic::async_trait]
impl Changes for Verbs {
    async fn create(&self, request: Request<CreateChangeRequest>) -> Result<Response<Change>, Status> {
        let verb = |new: CreateChangeRequest| {
            let edits = edits(new.edits);
            let body =
                json!({ "base": new.base, "message": new.message, "ticket": new.ticket, "edits": edits });
            Verb::post(CHANGES, body)
        };
        self.call(request, verb).await
    }

    async fn edit(&self, request: Request<EditChangeRequest>) -> Result<Response<Change>, Status> {
        let verb = |edit: EditChangeRequest| {
            let body = json!({ "edits": edits(edit.edits) });
            Verb { method: Method::PATCH, ..Verb::post(path(&edit.id, ""), body) }.at(edit.revision)
        };
        self.call(request, verb).await
    }

    async fn get(&self, request: Request<GetChangeRequest>) -> Result<Response<Change>, Status> {
        self.call(request, |asked| Verb::get(path(&asked.id, ""))).await
    }

    async fn list(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        self.call(request, |asked| page(CHANGES, asked.limit, asked.cursor)).await
    }

    async fn check(&self, request: Request<CheckChangeRequest>) -> Result<Response<Checks>, Status> {
        self.call(request, |asked| Verb::post(path(&asked.id, ":validate"), json!({}))).await
    }

    async fn test(
        &self,
        request: Request<CheckChangeRequest>,
    ) -> Result<Response<ListCasesResponse>, Status> {
        self.call(request, |asked| Verb::post(path(&asked.id, ":test"), json!({}))).await
    }

    async fn lint(
        &self,
        request: Request<CheckChangeRequest>,
    ) -> Result<Response<ListFindingsResponse>, Status> {
        self.call(request, |asked| Verb::post(path(&asked.id, ":lint"), json!({}))).await
    }

    async fn impact(
        &self,
        request: Request<ImpactOfChangeRequest>,
    ) -> Result<Response<ImpactReport>, Status> {
        self.call(request, |asked| Verb::post(path(&asked.id, ":impact"), range(asked.range))).await
    }

    async fn rebase(&self, request: Request<ChangeAtRevision>) -> Result<Response<Change>, Status> {
        self.call(request, |change| step(&change, ":rebase")).await
    }

    async fn approve(&self, request: Request<ChangeAtRevision>) -> Result<Response<Change>, Status> {
        self.call(request, |change| step(&change, ":approve")).await
    }

    async fn commit(&self, request: Request<ChangeAtRevision>) -> Result<Response<Version>, Status> {
        self.call(request, |change| step(&change, ":commit")).await
    }

    async fn abandon(&self, request: Request<ChangeAtRevision>) -> Result<Response<Change>, Status> {
        self.call(request, |change| step(&change, ":abandon")).await
    }
}

fn step(change: &ChangeAtRevision, verb: &str) -> Verb {
    Verb::post(path(&change.id, verb), json!({})).at(change.revision)
}

fn path(id: &str, verb: &str) -> String {
    format!("{CHANGES}/{}{verb}", encode(id))
}

fn edits(edits: Vec<FileEdit>) -> Vec<Value> {
    edits.into_iter().map(|edit| json!({ "file": edit.file, "text": edit.text })).collect()
}
