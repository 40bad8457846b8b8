//! `portcullis svid list`, `revoke`, `unrevoke` and `revocations`: what the authority issued, and what of it is denied.

use std::fs;
use std::path::{Path, PathBuf};

use base_ports::UnixTime;
use ca_identity::{SpiffeId, inspect};
use clap::Args;
use serde_json::{Map, Value, json};

use super::super::Global;
use super::super::authority::{every, items, word};
use super::{certificates, tokens};
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit, quoted};

const PATH: &str = "/v1/revocations";

#[derive(Debug, Args)]
pub(crate) struct RevokeOptions {
    #[command(flatten)]
    what: What,
    /// The key that issued the certificate; not needed for what was issued here
    #[arg(long, value_name = "KEY_ID", requires = "serial")]
    issuer: Option<String>,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When what is denied ends by itself [default: as the records say; an identity: when it is lifted]
    #[arg(long, value_name = "RFC3339", value_parser = UnixTime::parse_rfc3339)]
    until: Option<UnixTime>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// File with the certificate or the JWT-SVID; only a token that carries a jti can be told from others
    file: Option<PathBuf>,
    /// A certificate, by its serial number in hexadecimal
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// An identity: all that it holds is denied, and nothing is issued for it
    #[arg(long, value_name = "SPIFFE_ID", value_parser = SpiffeId::parse)]
    id: Option<SpiffeId>,
    /// All JWT-SVIDs that a key signed
    #[arg(long)]
    kid: Option<String>,
    /// One JWT-SVID
    #[arg(long)]
    jti: Option<String>,
}

pub(super) fn revoke(options: RevokeOptions, global: &Global) -> Exit {
    let body = match body(&options) {
        Ok(body) => body,
        Err(fault) => return global.fail(&fault),
    };
    let yes = options.yes;
    global.ask(|client| async move {
        if !yes {
            return planned(&client, body).await;
        }
        let revocation = client.post(PATH, &body.into()).await?;
        let id = word(&revocation, "id");
        let end = match word(&revocation, "until") {
            "" => "until it is lifted".to_owned(),
            end => format!("until {end}"),
        };
        let text = format!("revoked {id} {end}\nundo: portcullis svid unrevoke {}", quoted(id));
        Ok((Answer::object("Revocation", revocation, text), Exit::Done))
    })
}

/// What it would do; nothing is done without `--yes`.
async fn planned(client: &Client, mut body: Map<String, Value>) -> Result<(Answer, Exit), Fault> {
    body.insert("dry_run".to_owned(), true.into());
    let planned = client.post(PATH, &body.into()).await?;
    let (id, what) = (word(&planned, "id"), word(&planned, "what"));
    let mut effect = vec![match planned.get("live_svids").and_then(Value::as_u64).unwrap_or_default() {
        1 => "1 live certificate".to_owned(),
        live => format!("{live} live certificates"),
    }];
    if what == "spiffe_id" {
        let streams = client.get(&format!("/v1/proxy/streams?principal={id}")).await.map(items);
        effect.push(format!("{} open connections", streams.unwrap_or_default().len()));
    }
    let effect = match what {
        "certificate" | "spiffe_id" => format!("ends {}", effect.join(" and ")),
        _ => "has such tokens refused".to_owned(),
    };
    let exit = output::unconfirmed(&format!("revoking {id} {effect}"));
    Ok((Answer::object("Revocation", planned, String::new()), exit))
}

pub(super) fn lift(id: String, global: &Global) -> Exit {
    global.ask(|client| async move {
        let lifted = client.post("/v1/revocations:lift", &json!({ "id": id })).await?;
        let text = format!("{id} is no longer revoked\nundo: {}", again(&lifted));
        Ok((Answer::object("Revocation", lifted, text), Exit::Done))
    })
}

/// The command that denies it again.
fn again(lifted: &Value) -> String {
    let id = word(lifted, "id");
    let mut parts = id.splitn(3, ':').skip(1);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let named = match word(lifted, "what") {
        "certificate" => format!("--serial {second} --issuer {first}"),
        "jwt_key" => format!("--kid {}", quoted(second)),
        "token" => format!("--jti {}", quoted(second)),
        _ => format!("--id {id}"),
    };
    let until = match word(lifted, "until") {
        "" => String::new(),
        end => format!(" --until {end}"),
    };
    let reason = quoted(word(lifted, "reason"));
    format!("portcullis svid revoke {named}{until} --reason {reason} --yes")
}

pub(super) fn list(global: &Global) -> Exit {
    let columns =
        &[("REVOKED", "/id"), ("SINCE", "/at"), ("UNTIL", "/until"), ("BY", "/by"), ("REASON", "/reason")];
    global.ask(|client| async move {
        Ok((Answer::list("Revocation", every(&client, PATH, &[]).await?, columns), Exit::Done))
    })
}

pub(super) fn issued(global: &Global) -> Exit {
    let columns = &[
        ("SPIFFE ID", "/spiffe_id"),
        ("SERIAL", "/serial"),
        ("ISSUER", "/issuer"),
        ("NOT AFTER", "/not_after"),
        ("REVOKED", "/revoked"),
    ];
    global.ask(|client| async move {
        Ok((Answer::list("IssuedSvid", every(&client, "/v1/svids", &[]).await?, columns), Exit::Done))
    })
}

fn body(options: &RevokeOptions) -> Result<Map<String, Value>, Fault> {
    let mut body = match &options.what.file {
        Some(file) => of_file(file)?,
        None => Map::new(),
    };
    let given = [
        ("serial", options.what.serial.clone()),
        ("issuer", options.issuer.clone()),
        ("spiffe_id", options.what.id.as_ref().map(ToString::to_string)),
        ("kid", options.what.kid.clone()),
        ("jti", options.what.jti.clone()),
        ("until", options.until.map(|end| end.to_string())),
        ("reason", Some(options.reason.clone())),
    ];
    body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    Ok(body)
}

/// What the file holds, by its names and its end.
fn of_file(file: &Path) -> Result<Map<String, Value>, Fault> {
    let fault = |text: String| {
        Fault::new(Exit::Invalid, Message::error("PC1002", format!("`{}`: {text}", file.display())))
    };
    let bytes = fs::read(file).map_err(|error| fault(error.to_string()))?;
    let found = certificates(&bytes);
    let named: Vec<(&str, Option<String>)> = match found.first() {
        Some(leaf) => {
            let facts = inspect::certificate(leaf).map_err(|error| fault(error.to_string()))?;
            if facts.is_ca {
                return Err(fault(
                    "a signing certificate, not an SVID; `portcullis ca show` lists the authority's keys"
                        .to_owned(),
                ));
            }
            let above = found.get(1).map(|above| inspect::certificate(above).map(|facts| facts.key_id));
            let above = above.transpose().map_err(|error| fault(error.to_string()))?;
            let issuer = above.or(facts.issuer_key_id).map(|key| key.to_string());
            vec![
                ("serial", Some(facts.serial.to_string())),
                ("issuer", issuer),
                ("until", Some(facts.not_after.to_string())),
            ]
        }
        None => {
            let token = inspect::token(&tokens::read(file)?);
            let facts =
                token.map_err(|error| fault(format!("neither a certificate nor a JWT-SVID: {error}")))?;
            let Some(jti) = facts.jti else {
                return Err(fault("the token carries no jti, so it cannot be told from others; revoke its identity with --id, or its key with --kid".to_owned()));
            };
            vec![
                ("jti", Some(jti)),
                ("trust_domain", Some(facts.id.trust_domain().to_string())),
                ("until", Some(facts.expires.to_string())),
            ]
        }
    };
    Ok(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_04_an_undo_names_what_was_lifted_and_is_safe_in_a_shell() {
        let lifted = |id: &str, what: &str| json!({ "id": id, "what": what, "reason": "it's lost" });
        let tail = "--reason 'it'\\''s lost' --yes";
        for (id, what, named) in [
            ("x509:aa:0b", "certificate", "--serial 0b --issuer aa"),
            ("spiffe://a.org/b", "spiffe_id", "--id spiffe://a.org/b"),
            ("kid:a.org:k:1", "jwt_key", "--kid 'k:1'"),
            ("jti:a.org:t", "token", "--jti 't'"),
        ] {
            assert_eq!(again(&lifted(id, what)), format!("portcullis svid revoke {named} {tail}"));
        }
        let hostile = again(&lifted("jti:a.org:x';y", "token"));
        assert!(hostile.starts_with("portcullis svid revoke --jti 'x'\\'';y' "), "{hostile}");
        assert_eq!(crate::cli::decisions::encode("jti:a.org:ä"), "jti%3Aa.org%3A%C3%A4");
    }
}
