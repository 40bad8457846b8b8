//! `portcullis can`: asks the running process whether a call would be allowed. Nothing is forwarded.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct CanOptions {
    /// Who, as Workload::"spiffe://..", a SPIFFE ID, or anonymous
    principal: String,
    /// What, as Action::"grpc" or http:GET
    action: String,
    /// On what, as Method::"shop.Orders/Get", Route::"..", Service::".."
    resource: String,
    /// JSON object with the facts of the call
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// At that time (RFC 3339), by the policies then in force
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// By the policies of this version
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// Clause by clause
    #[arg(long)]
    explain: bool,
}

pub(crate) fn can(options: &CanOptions, global: &Global) -> Exit {
    let mut body =
        json!({ "principal": options.principal, "action": options.action, "resource": options.resource });
    let more = [("at", &options.at), ("version", &options.version)];
    if let Some(members) = body.as_object_mut() {
        let more =
            more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        members.extend(more);
    }
    if let Some(path) = &options.context {
        let read = fs::read_to_string(path).map_err(|error| error.to_string());
        match read.and_then(|text| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())) {
            Ok(context) => {
                if let Some(members) = body.as_object_mut() {
                    members.insert("context".to_owned(), context);
                }
            }
            Err(error) => {
                let fault = Message::error("PC0107", format!("--context `{}`: {error}", path.display()));
                output::report(&[fault], global.format());
                return Exit::Usage;
            }
        }
    }
    let explain = options.explain;
    global.ask(|client| async move {
        let answer = client.post("/v1/policies:can", &body).await?;
        let effect = answer.get("effect").and_then(Value::as_str).unwrap_or_default().to_owned();
        let text = answer.get("text").and_then(Value::as_str).unwrap_or(&effect);
        // Headline and reason; the clauses are asked for.
        let lines = if explain { usize::MAX } else { 2 };
        let text = text.lines().take(lines).collect::<Vec<_>>().join("\n");
        for hint in
            answer.get("hints").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            output::talk(&format!("hint: {hint}"));
        }
        let exit = if effect == "allow" { Exit::Done } else { Exit::Denied };
        Ok((Answer::object("Can", answer, text), exit))
    })
}
