//! `portcullis policy suggest ID`: the least permit for a refused call, its case, and what it would have changed.
//! Writes into a directory only when told so, and never over what stands there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::impact::RangeOptions;
use super::shown::text;
use crate::cli::Global;
use crate::cli::decisions::encode;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

/// Where suggestions are gathered.
const POLICIES: &str = "suggested.cedar";
const CASES: &str = "suggested_test.json";

#[derive(Debug, Args)]
pub(crate) struct SuggestOptions {
    /// Decision id, or PREFIX…SUFFIX
    #[arg(required_unless_present = "since")]
    id: Option<String>,
    /// Instead: permits for all denials from this time on, RFC 3339 or an age such as 24h
    #[arg(long, conflicts_with = "id")]
    since: Option<String>,
    /// Denials until this time
    #[arg(long, requires = "since")]
    until: Option<String>,
    /// A filter of the ledger, such as service=orders; may be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "since")]
    filter: Vec<String>,
    /// Seconds it may take to read the range
    #[arg(long, value_name = "SECONDS", requires = "since")]
    time_limit: Option<u64>,
    /// Write policies and cases to suggested.cedar and suggested_test.json of this directory; those of one decision are
    /// appended
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(super) fn suggest(options: SuggestOptions, global: &Global) -> Exit {
    if let Some(since) = options.since {
        let range = RangeOptions::of(since, options.until, options.filter, options.time_limit);
        return super::mine::mine(range, options.write, global);
    }
    let id = options.id.unwrap_or_default();
    global.ask(|client| async move {
        let suggested = client.get(&format!("/v1/decisions/{}/suggest", encode(&id))).await?;
        output::talk(&format!("# {}", effect(&suggested)));
        let policy = text(&suggested, "policy").trim_end().to_owned();
        if let Some(dir) = &options.write {
            let written = write(dir, &suggested, &policy)?;
            let shown =
                written.iter().map(|path| format!("appended to {}", path.display())).collect::<Vec<_>>();
            let mut answer = Answer::object("Suggestion", suggested, shown.join("\n"));
            if let Some(members) = answer.json.as_object_mut() {
                let paths = written.iter().map(|path| path.display().to_string());
                members.insert("written".to_owned(), paths.collect::<Vec<_>>().into());
            }
            return Ok((answer, Exit::Done));
        }
        Ok((Answer::object("Suggestion", suggested, policy), Exit::Done))
    })
}

/// What the permit would have done to what is on record, in a sentence.
fn effect(suggested: &Value) -> String {
    if suggested.get("already_permitted").and_then(Value::as_bool) == Some(true) {
        return "the policies in force permit this call already".to_owned();
    }
    let number = |name: &str| suggested.pointer(&format!("/effect/{name}")).and_then(Value::as_u64);
    let (Some(turned), Some(refused)) = (number("newly_allowed"), number("refused")) else {
        return "what it would have changed in the last 24 h is not known: the ledger could not be read"
            .to_owned();
    };
    let least = match suggested.pointer("/effect/partial").and_then(Value::as_bool) {
        Some(true) => "at least ",
        _ => "",
    };
    format!(
        "in the last 24 h: {least}{turned} of {refused} refusals of this call would have been allowed, and nothing else"
    )
}

/// Appends policy and case; gives the files.
fn write(dir: &Path, suggested: &Value, policy: &str) -> Result<Vec<PathBuf>, Fault> {
    let (policies, cases) = (dir.join(POLICIES), dir.join(CASES));
    let fault = |path: &Path, cause: String| {
        let message = Message::error("PC0107", format!("`{}`: {cause}", path.display()));
        Fault::new(Exit::Failed, message)
    };
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(fault(path, error.to_string())),
    };
    let (before, listed) = (read(&policies)?, read(&cases)?);
    let id = format!("@id(\"{}\")", text(suggested, "id"));
    if before.contains(&id) {
        let message = Message::error("PC0150", format!("{id} stands in `{}` already", policies.display()))
            .next("portcullis policy validate");
        return Err(Fault::new(Exit::Failed, message));
    }
    let mut list: Vec<Value> = match listed.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text)
            .map_err(|error| fault(&cases, format!("not a list of cases: {error}")))?,
    };
    list.push(suggested.get("test").cloned().unwrap_or_default());
    let gap = if before.is_empty() || before.ends_with("\n\n") { "" } else { "\n" };
    let list = serde_json::to_string_pretty(&list).map_err(|error| fault(&cases, error.to_string()))?;
    // The case first: a policy without its case is worse than a case without its policy, which fails.
    replace(&cases, &format!("{list}\n")).map_err(|error| fault(&cases, error.to_string()))?;
    replace(&policies, &format!("{before}{gap}{policy}\n"))
        .map_err(|error| fault(&policies, error.to_string()))?;
    Ok(vec![policies, cases])
}

/// All of the new text or all of the old, whatever happens.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn suggested(id: &str) -> Value {
        json!({ "id": id, "policy": format!("@id(\"{id}\") permit (principal, action, resource);"), "test": { "name": id } })
    }

    #[test]
    fn ex8_suggestions_are_appended_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let add = |id: &str| write(dir.path(), &suggested(id), text(&suggested(id), "policy"));
        assert_eq!(add("a").unwrap(), [dir.path().join(POLICIES), dir.path().join(CASES)]);
        add("b").unwrap();
        let policies = fs::read_to_string(dir.path().join(POLICIES)).unwrap();
        assert!(policies.starts_with("@id(\"a\")") && policies.contains(";\n\n@id(\"b\")"), "{policies}");
        let cases: Vec<Value> =
            serde_json::from_str(&fs::read_to_string(dir.path().join(CASES)).unwrap()).unwrap();
        assert_eq!(cases, [json!({ "name": "a" }), json!({ "name": "b" })]);
        let twice = add("a").unwrap_err();
        assert!(twice.message.text.contains("already"), "{:?}", twice.message.text);
        assert_eq!(fs::read_to_string(dir.path().join(POLICIES)).unwrap(), policies);
        fs::write(dir.path().join(CASES), "{}").unwrap();
        assert!(add("c").unwrap_err().message.text.contains("not a list of cases"));
        assert_eq!(
            fs::read_to_string(dir.path().join(POLICIES)).unwrap(),
            policies,
            "half of it was written"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something is left behind");
        assert!(write(&dir.path().join("absent"), &suggested("d"), "x").is_err());
    }

    #[test]
    fn ex8_the_effect_is_one_sentence() {
        let effect_of = |told: Value| effect(&json!({ "effect": told, "already_permitted": false }));
        let known = effect_of(json!({ "newly_allowed": 12, "refused": 14, "partial": false }));
        assert_eq!(
            known,
            "in the last 24 h: 12 of 14 refusals of this call would have been allowed, and nothing else"
        );
        let partial = effect_of(json!({ "newly_allowed": 1, "refused": 2, "partial": true }));
        assert!(partial.contains("at least 1 of 2"), "{partial}");
        assert!(effect_of(Value::Null).contains("not known"));
        assert!(effect(&json!({ "already_permitted": true })).contains("already"));
    }
}
