//! `portcullis ca crl`: revocation lists, for those who verify with them and know nothing of the deny set.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::super::authority::{items, word};
use super::super::{Global, block_on};
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

const PATH: &str = "/v1/crls";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the lists themselves, as a file that others read
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Form>,
    /// Only the list that this key signed
    #[arg(long, value_name = "KEY_ID")]
    key: Option<String>,
}

/// Lists as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// One behind the other, in text
    Pem,
    /// One list; --key says which
    Der,
}

pub(super) fn run(options: &Options, global: &Global) -> Exit {
    let client = match global.client() {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    match block_on(lists(options, &client)) {
        Ok(answer) => {
            answer.iter().for_each(|answer| answer.print(global.format()));
            Exit::Done
        }
        Err(fault) => global.fail(&fault),
    }
}

/// An answer to be shown, or nothing where the lists themselves were written.
async fn lists(options: &Options, client: &Client) -> Result<Option<Answer>, Fault> {
    if let (Some(Form::Der), Some(key)) = (options.format, &options.key) {
        output::raw(&client.bytes(&format!("{PATH}/{key}")).await?);
        return Ok(None);
    }
    let mut lists = items(client.get(PATH).await?);
    if let Some(key) = &options.key {
        lists.retain(|list| word(list, "key_id") == key);
        if lists.is_empty() {
            let text = format!("no root and no signing CA `{key}` has a revocation list");
            return Err(asked_wrong(Exit::Invalid, text));
        }
    }
    match options.format {
        Some(Form::Pem) => {
            lists.iter().for_each(|list| output::data(word(list, "pem").trim_end()));
            Ok(None)
        }
        Some(Form::Der) => {
            Err(asked_wrong(Exit::Usage, "--format der writes one list; --key says which".to_owned()))
        }
        None => Ok(Some(shown(lists))),
    }
}

fn asked_wrong(exit: Exit, text: String) -> Fault {
    Fault::new(exit, Message::error("PC0104", text).next("portcullis ca crl"))
}

fn shown(lists: Vec<Value>) -> Answer {
    let columns = [
        ("KIND", "/what"),
        ("KEY", "/key_id"),
        ("NUMBER", "/number"),
        ("REVOKED", "/entries"),
        ("NEXT UPDATE", "/next_update"),
    ];
    Answer::list("Crl", lists, &columns)
}
