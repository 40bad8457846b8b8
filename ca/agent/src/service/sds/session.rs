//! What both sessions of SDS share: what they are asked, what they make of it, and how requests are read.
//!
//! A session is pure: requests and offers in, responses out. It refuses other types than secrets, more names than a
//! workload can use, and names that the caller has no right to.

use std::collections::BTreeSet;

use prost_types::value::Kind;
use tonic::Status;

use crate::{
    generated::sds::{
        envoy::config::core::v3::{Node, node::UserAgentVersionType},
        google::rpc,
    },
    secret::{Form, SECRET_TYPE},
    state::{Picked, Wanted},
};

/// The most names that one stream asks for, and the most bytes of one: twice what a caller can have.
const NAMES: usize = 256;
const NAME_BYTES: usize = 2_048;
/// How much of a client's words reaches the log.
const REASON: usize = 256;
/// The first Envoy with a SPIFFE validator.
const VALIDATES: (u32, u32) = (1, 18);
/// The key of node metadata that asks for plain roots.
const PLAIN: &str = "disable_spiffe_cert_validation";

/// One stream of SDS as a state machine.
pub(super) trait Session: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// Takes a request in.
    fn take(&mut self, request: Self::Request) -> Result<Heard, Status>;

    /// What is asked for; nothing before the first request.
    fn asked(&self) -> Option<(&Wanted, Form)>;

    /// The response that brings the client to what was picked; none when it has been sent all of it.
    fn answer(&mut self, picked: &Picked) -> Result<Option<Self::Response>, Refused>;

    /// The last words to a caller that has lost every identity.
    fn farewell(&mut self) -> Option<Self::Response>;
}

/// What a request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It asks for something else than before.
    Asked,
    /// It takes the last response, or repeats what is known.
    Acknowledged,
    /// It refuses the last response, in its words.
    Rejected { version: String, reason: String },
    /// It speaks of a response that is not the last one.
    Stale,
}

/// Names that end a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The caller has no right to them.
    Unknown(BTreeSet<String>),
    /// The caller had them, and lost them.
    Lost(BTreeSet<String>),
}

impl Refused {
    /// Says no more than the names that were asked for (WA6).
    pub(super) fn status(&self) -> Status {
        let list =
            |names: &BTreeSet<String>| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>();
        match self {
            Self::Unknown(names) => {
                Status::invalid_argument(format!("no secret of this caller: {}", list(names).join(", ")))
            }
            Self::Lost(names) => {
                Status::permission_denied(format!("no longer of this caller: {}", list(names).join(", ")))
            }
        }
    }
}

/// The type is this one, or left out.
pub(super) fn check_type(url: &str) -> Result<(), Status> {
    if url.is_empty() || url == SECRET_TYPE {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("only resources of type {SECRET_TYPE} are served")))
}

/// Checks how many names there are, and each one's length.
pub(super) fn check_names<'a>(
    count: usize,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), Status> {
    if count > NAMES {
        return Err(Status::resource_exhausted(format!("more than {NAMES} names")));
    }
    if names.any(|name| name.len() > NAME_BYTES) {
        return Err(Status::invalid_argument(format!("a name of more than {NAME_BYTES} bytes")));
    }
    Ok(())
}

/// Why a client refuses a response.
pub(super) fn rejected(version: &str, detail: &rpc::Status) -> Heard {
    Heard::Rejected { version: version.to_owned(), reason: detail.message.chars().take(REASON).collect() }
}

/// How the client that says this of itself is told what to verify with.
pub(super) fn form_of(node: Option<&Node>) -> Form {
    let Some(node) = node else { return Form::default() };
    let flag = node.metadata.as_ref().and_then(|metadata| metadata.fields.get(PLAIN));
    let asks_for_plain = match flag.and_then(|value| value.kind.as_ref()) {
        Some(Kind::BoolValue(is)) => *is,
        Some(Kind::StringValue(text)) => text == "true",
        _ => false,
    };
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            build.version.map(|version| (version.major_number, version.minor_number))
        }
        Some(UserAgentVersionType::UserAgentVersion(text)) => {
            let mut numbers = text.split('.').map_while(|part| part.parse().ok());
            numbers.next().zip(numbers.next())
        }
        None => None,
    };
    if asks_for_plain || version.is_some_and(|version| version < VALIDATES) {
        Form::Plain
    } else {
        Form::Spiffe
    }
}

#[cfg(test)]
mod tests;
