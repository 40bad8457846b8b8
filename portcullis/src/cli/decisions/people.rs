//! `portcullis decisions reveal|erase`: who a committed id is, and that nobody can say any more. An opening that was kept is
//! checked against a proof by `decisions verify --opening`, offline.

use std::path::Path;

use clap::Args;
use policies_decisions::{Opening, StoredRecord};
use serde_json::{Value, json};

use super::filters::Purpose;
use super::{answered, log};
use crate::cli::Global;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct RevealOptions {
    /// Decision id, or PREFIX…SUFFIX
    id: String,
    #[command(flatten)]
    purpose: Purpose,
}

#[derive(Debug, Args)]
pub(crate) struct EraseOptions {
    /// The id of the person, whole
    subject: String,
    /// Why; goes on record, so do not name the person in it
    #[arg(long, value_name = "TEXT")]
    purpose: String,
}

pub(super) fn reveal(options: RevealOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let question = json!({ "id": options.id });
        let opening = answered(&client, "/v1/decisions:reveal", &question, &options.purpose).await?;
        let text = |name: &str| opening.get(name).and_then(Value::as_str).unwrap_or_default();
        let (exit, text) = match text("state") {
            "clear" => (Exit::Done, format!("{} is {}", text("field"), text("value").escape_debug())),
            "erased" => (Exit::Partial, "erased: nobody can tell any more who it was".to_owned()),
            "expired" => (Exit::Partial, "expired: it is kept for less long than the record".to_owned()),
            state => (Exit::Failed, format!("{state}: what opens it should be there, and cannot be read")),
        };
        Ok((Answer::object("Opening", opening, text), exit))
    })
}

pub(super) fn erase(options: EraseOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let asked = json!({ "subject": options.subject, "reason": options.purpose });
        let answer = client.post("/v1/decisions:erase", &asked).await?;
        let text = match answer.get("erased").and_then(Value::as_u64) {
            Some(0) | None => "nobody of that id is on record by a commitment".to_owned(),
            Some(keys) => format!("erased: {keys} keys are gone; the records and their proofs stand"),
        };
        Ok((Answer::object("Erasure", answer, text), Exit::Done))
    })
}

/// Checks an opening, as `reveal -o json` prints it, against a record that is proved; gives the value.
pub(super) fn opened(file: &Path, record: &StoredRecord) -> Result<Opening, Fault> {
    let fault = |exit, code, text: String| {
        Fault::new(exit, Message::error(code, format!("`{}`: {text}", file.display())))
    };
    let bytes = log::read(file)?;
    let read = serde_json::from_slice(&bytes).ok().and_then(|document| Opening::read(&document));
    let none = "it is no opening, as `decisions reveal -o json` prints it".to_owned();
    let opening = read.ok_or_else(|| fault(Exit::Invalid, "PC6022", none))?;
    opening.check(record).map_err(|error| fault(Exit::Failed, "PC5003", error.to_string()))?;
    Ok(opening)
}
