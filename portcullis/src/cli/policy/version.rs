//! `policy versions`, `activate`, `rollback`, `shadow`: what is in force, forward and back.

use clap::Args;
use serde_json::{Value, json};

use super::shown::{self, number, text, version_number};
use crate::cli::Global;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct OneVersion {
    /// Version, such as v41
    version: String,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackOptions {
    /// Version to go back to [default: the one before]
    version: Option<String>,
    /// Why
    #[arg(short = 'm', long, default_value = "")]
    message: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ShadowOptions {
    /// Version to evaluate beside the one in force, for 24 hours
    #[arg(group = "what")]
    version: Option<String>,
    /// End it
    #[arg(long, group = "what")]
    stop: bool,
}

pub(super) fn versions(global: &Global) -> Exit {
    global.ask(|client| async move { Ok((shown::versions(all(&client).await?), Exit::Done)) })
}

async fn all(client: &Client) -> Result<Vec<Value>, Fault> {
    Ok(crate::cli::authority::items(client.get("/v1/policies/versions?limit=1000").await?))
}

pub(super) fn activate(options: OneVersion, global: &Global) -> Exit {
    global.ask(|client| async move {
        let number = version_number(&options.version)?;
        let before = in_force(&all(&client).await?);
        let version = client.post(&format!("/v1/policies/versions/{number}:activate"), &json!({})).await?;
        let text = format!("policies v{number} are in force\nundo: {}", undo(before));
        Ok((Answer::object("PolicyVersion", version, text), Exit::Done))
    })
}

pub(super) fn rollback(options: RollbackOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let known = all(&client).await?;
        let active = in_force(&known);
        let target = match &options.version {
            Some(version) => version_number(version)?,
            None => before(&known).ok_or_else(|| {
                let fault = Message::error("PC2044", "there is no version to go back to");
                Fault::new(Exit::Invalid, fault.next("portcullis policy versions"))
            })?,
        };
        let body = json!({ "message": options.message });
        let version = client.post(&format!("/v1/policies/versions/{target}:rollback"), &body).await?;
        let new = number(&version, "version");
        let from = active.unwrap_or(0);
        let mut text = format!("policies v{new} are in force: what was v{target}");
        if from > 0 {
            let lines = super::diff::between(&client, from, new).await?;
            text.push_str(&format!("\n\nchanged from v{from}:\n{lines}"));
        }
        text.push_str(&format!("\nundo: {}", undo(active)));
        Ok((Answer::object("PolicyVersion", version, text), Exit::Done))
    })
}

fn undo(before: Option<u64>) -> String {
    before.map_or_else(
        || "portcullis policy versions".to_owned(),
        |number| format!("portcullis policy rollback v{number}"),
    )
}

fn in_force(versions: &[Value]) -> Option<u64> {
    versions
        .iter()
        .find(|version| text(version, "standing") == "active")
        .map(|version| number(version, "version"))
}

/// The version that was in force before the one that is. After a rollback that is the one before its target: who goes
/// back twice wants to go further back.
fn before(versions: &[Value]) -> Option<u64> {
    let active = versions.iter().find(|version| text(version, "standing") == "active")?;
    let from = active.get("rollback_of").and_then(Value::as_u64).unwrap_or(number(active, "version"));
    let was_in_force =
        |version: &&Value| version.get("activated").is_some_and(|activated| !activated.is_null());
    let is_original = |version: &&Value| version.get("rollback_of").is_none_or(Value::is_null);
    let older = versions.iter().filter(|version| number(version, "version") < from);
    older.filter(was_in_force).filter(is_original).map(|version| number(version, "version")).max()
}

pub(super) fn shadow(options: ShadowOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let Some(version) = &options.version else {
            let stopped = client.remove("/v1/policies/shadow").await?;
            return Ok((Answer::object("Shadow", stopped, "no version runs in shadow".to_owned()), Exit::Done));
        };
        let number = version_number(version)?;
        let started = client.post(&format!("/v1/policies/versions/{number}:shadow"), &json!({})).await?;
        let text = format!(
            "policies v{number} are evaluated beside those in force, for 24 hours\nnext: portcullis decisions query --would deny\nundo: portcullis policy shadow --stop"
        );
        Ok((Answer::object("PolicyVersion", started, text), Exit::Done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64, standing: &str, rollback_of: Option<u64>, was_in_force: bool) -> Value {
        json!({ "version": number, "standing": standing, "rollback_of": rollback_of,
            "activated": was_in_force.then(|| json!({ "by": "x" })) })
    }

    #[test]
    fn a_rollback_goes_to_what_was_in_force_before_and_a_second_one_further() {
        let first = [
            version(3, "active", None, true),
            version(2, "retired", None, false),
            version(1, "retired", None, true),
        ];
        assert_eq!(before(&first), Some(1), "v2 never was in force");
        let again = [
            version(4, "active", Some(2), true),
            version(3, "retired", None, true),
            version(2, "retired", None, true),
            version(1, "retired", None, true),
        ];
        assert_eq!(before(&again), Some(1));
        assert_eq!(before(&[version(1, "active", None, true)]), None);
        assert_eq!(before(&[]), None);
    }
}
