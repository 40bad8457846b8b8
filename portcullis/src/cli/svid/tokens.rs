//! `portcullis svid` for JWT-SVIDs: fetched for an audience, judged by the Workload API, shown.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base_ports::{Clock, SystemClock};
use ca_agent::{ClientError, FetchedToken, WorkloadClient};
use ca_identity::{SpiffeId, inspect};
use clap::Args;
use serde_json::{Value, json};

use super::super::{Global, block_on};
use super::{Socket, asked, unavailable};
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

/// Far more than a token, so that what is too large is told by its form.
const FILE_BYTES: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct FetchOptions {
    #[command(flatten)]
    pub(super) socket: Socket,
    /// Fetch JWT-SVIDs for this audience, not certificates; repeat for several
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// Only the JWT-SVID of this identity
    #[arg(long, value_name = "SPIFFE_ID", requires = "audience", value_parser = SpiffeId::parse)]
    id: Option<SpiffeId>,
}

impl FetchOptions {
    pub(super) fn wants_tokens(&self) -> bool {
        !self.audience.is_empty()
    }
}

#[derive(Debug, Args)]
pub(crate) struct ValidateOptions {
    #[command(flatten)]
    socket: Socket,
    /// Whom the token was sent to
    #[arg(long, value_name = "NAME")]
    audience: String,
    /// File with the token; `-` is standard input
    file: PathBuf,
}

pub(super) fn fetch(options: &FetchOptions, global: &Global) -> Result<Answer, Fault> {
    let fetched = asked(&options.socket, global, async |client: WorkloadClient| {
        client.fetch_tokens(options.audience.clone(), options.id.as_ref()).await
    });
    let tokens = block_on(fetched)?.map_err(|error| unavailable(&error))?;
    let items: Vec<Value> = tokens.iter().map(about).collect();
    let columns =
        [("SPIFFE ID", "/spiffe_id"), ("NOT AFTER", "/not_after"), ("HINT", "/hint"), ("TOKEN", "/token")];
    Ok(Answer::list("JwtSvid", items, &columns))
}

pub(super) fn validate(options: &ValidateOptions, global: &Global) -> Result<Answer, Fault> {
    judged(&options.socket, &options.audience, &read(&options.file)?, global)
}

/// What the Workload API says of a token that was sent to `audience`.
pub(super) fn judged(socket: &Socket, audience: &str, token: &str, global: &Global) -> Result<Answer, Fault> {
    let validated =
        asked(socket, global, async |client: WorkloadClient| client.validate_token(audience, token).await);
    let validated = block_on(validated)?.map_err(|error| refused(&error))?;
    let text = format!("valid: {}", validated.id);
    let body = json!({ "spiffe_id": validated.id.as_str(), "claims": validated.claims });
    Ok(Answer::object("ValidatedJwtSvid", body, text))
}

/// What a token in a file says; `None` when the file holds no token.
pub(super) fn inspect(bytes: &[u8]) -> Option<Result<Answer, Fault>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    // Three segments without spaces: neither PEM nor DER looks like that.
    if text.split('.').count() != 3 || text.contains(char::is_whitespace) {
        return None;
    }
    Some(match inspect::token(text) {
        Ok(facts) => {
            let columns = [
                ("SPIFFE ID", "/spiffe_id"),
                ("AUDIENCE", "/audience"),
                ("NOT AFTER", "/not_after"),
                ("EXPIRED", "/expired"),
                ("KEY", "/key_id"),
            ];
            Ok(Answer::list("JwtSvid", vec![shown(&facts)], &columns))
        }
        Err(error) => Err(Fault::new(Exit::Invalid, Message::error("PC1003", error.to_string()))),
    })
}

fn about(fetched: &FetchedToken) -> Value {
    let mut item = shown(&fetched.facts);
    if let Some(members) = item.as_object_mut() {
        members.insert("hint".to_owned(), json!(fetched.hint));
        members.insert("token".to_owned(), json!(fetched.token));
    }
    item
}

fn shown(facts: &inspect::TokenFacts) -> Value {
    json!({
        "spiffe_id": facts.id.as_str(),
        "audience": facts.audience,
        "issued_at": facts.issued.map(|time| time.to_string()),
        "not_after": facts.expires.to_string(),
        "expired": facts.expires < SystemClock.now().wall,
        "algorithm": facts.algorithm.name(),
        "key_id": facts.key,
        "issuer": facts.issuer,
        "jti": facts.jti,
    })
}

/// A token never stands on a command line, where other users see it.
pub(super) fn read(file: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let found = if file == Path::new("-") {
        io::stdin().take(FILE_BYTES).read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES).read_to_string(&mut text))
    };
    found.map_err(|error| {
        let text = format!("`{}` cannot be read: {error}", file.display());
        Fault::new(Exit::Invalid, Message::error("PC1003", text))
    })?;
    Ok(text.trim().to_owned())
}

/// A token that the API refused is a verdict, not a failure of the API.
fn refused(error: &ClientError) -> Fault {
    if error.is_invalid() {
        return Fault::new(Exit::Invalid, Message::error("PC1003", error.to_string()));
    }
    unavailable(error)
}
