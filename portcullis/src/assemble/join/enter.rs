//! How a host becomes an agent: the roots by which the authority is known at first, and evidence for an SVID.
//!
//! Nothing is believed that a fingerprint or a file of the operator does not vouch for. Refused: an authority without the
//! root of that fingerprint, and attestation without a token.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_agent::SignedChain;
use ca_identity::tls::unjudged_client_config;
use ca_identity::{Bundle, CertificateDer, TrustDomain, pem, spki_sha256};
use http::{Request, header};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::once;
use super::line::{Line, LineError, REVOKED, connect};
use crate::config::{Join, KnownBy};
use crate::messages::Message;

const BUNDLE_BYTES: usize = 2 * 1024 * 1024;
/// The variable that holds a join token.
const TOKEN: &str = "PORTCULLIS_JOIN_TOKEN";

/// Why a host is no agent.
#[derive(Debug)]
pub(super) enum Barred {
    /// It may be one later without anybody doing anything.
    Later(String),
    /// A person has to do something.
    Person(Message),
}

impl From<LineError> for Barred {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Unavailable(cause) => Self::Later(cause),
            LineError::Refused { code, detail } => Self::Person(refusal(&code, &detail)),
        }
    }
}

/// The bundle by which the authority is known at first, as a JWK Set.
pub(super) async fn known(join: &Join, domain: &TrustDomain) -> Result<String, Barred> {
    let roots = match &join.known_by {
        KnownBy::Bundle(path) => from_file(path).map_err(Barred::Person)?,
        KnownBy::Fingerprint(wanted) => {
            let shown = shown(join).await?;
            let (fits, others): (Vec<_>, Vec<_>) =
                shown.into_iter().partition(|root| spki_sha256(root) == *wanted);
            if fits.is_empty() {
                return Err(Barred::Person(stranger(join, wanted, &others)));
            }
            fits
        }
    };
    let bundle = Bundle::new(domain.clone(), roots, 0);
    let bundle = bundle.map_err(|error| {
        let text = format!("the authority at {} cannot be the one of `{domain}`: {error}", join.place());
        Barred::Person(Message::error("PC1021", text))
    })?;
    Ok(bundle.to_jwks())
}

fn from_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Message> {
    let unusable = |error: &dyn std::fmt::Display| {
        Message::error("PC0107", format!("`{}`: {error}", path.display()))
            .help("join.bundle is a PEM file with the roots of the authority; `portcullis bundle show` prints them there")
    };
    let text = std::fs::read(path).map_err(|error| unusable(&error))?;
    let roots = pem::read_certificates(&text).map_err(|error| unusable(&error))?;
    if roots.is_empty() { Err(unusable(&"it holds no certificate")) } else { Ok(roots) }
}

/// The roots that whoever answers there says are his. Worth nothing before they are compared.
async fn shown(join: &Join) -> Result<Vec<CertificateDer<'static>>, Barred> {
    let later = |error: &dyn std::fmt::Display| Barred::Later(error.to_string());
    let stream = connect(join, &unjudged_client_config(&[b"http/1.1"])).await?;
    let request = Request::get("/v1/bundle").header(header::HOST, join.place()).body(Full::default());
    let request = request.map_err(|error| later(&error))?;
    let answer = once::ask(stream, request).await.map_err(|error| later(&error))?;
    if !answer.status.is_success() {
        return Err(Barred::Later(format!("it shows no bundle: {}", answer.status)));
    }
    let body = answer.body(BUNDLE_BYTES).await.map_err(|error| later(&error))?;
    let document: Value = serde_json::from_slice(&body).map_err(|error| later(&error))?;
    let text = document.get("pem").and_then(Value::as_str).unwrap_or_default();
    pem::read_certificates(text.as_bytes()).map_err(|error| later(&error))
}

fn stranger(join: &Join, wanted: &[u8; 32], shown: &[CertificateDer<'_>]) -> Message {
    let roots: Vec<_> = shown.iter().map(|root| fingerprint(&spki_sha256(root))).collect();
    let text = format!(
        "the authority at {} has no root with the fingerprint {}; it shows {}",
        join.place(),
        fingerprint(wanted),
        if roots.is_empty() { "none".to_owned() } else { roots.join(", ") }
    );
    Message::error("PC1021", text)
        .help("somebody else answers there, or join.fingerprint is of another authority")
        .next("portcullis agent token    (at the authority; it prints the fingerprint)")
}

/// How a fingerprint is written.
pub(crate) fn fingerprint(hash: &[u8]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// The token that this host may show.
pub(super) fn token(join: &Join) -> Result<String, Message> {
    if let Ok(token) = std::env::var(TOKEN) {
        return Ok(token.trim().to_owned());
    }
    let Some(path) = &join.token_file else {
        return Err(Message::error("PC1020", "this host is no agent yet, and no join token is given")
            .help(format!("lay one into a file that join.token_file names, or into {TOKEN}"))
            .next("portcullis agent token    (at the authority)"));
    };
    let read = std::fs::read_to_string(path);
    let token = read.map(|text| text.trim().to_owned()).map_err(|error| {
        Message::error(
            "PC1020",
            format!(
                "this host is no agent yet, and its join token cannot be read: `{}`: {error}",
                path.display()
            ),
        )
        .next("portcullis agent token    (at the authority)")
    })?;
    if token.is_empty() {
        let text = format!("this host is no agent yet, and `{}` holds no join token", path.display());
        return Err(Message::error("PC1020", text).next("portcullis agent token    (at the authority)"));
    }
    Ok(token)
}

/// Shows the token; what comes back is an SVID that is judged by who asks, and the keys of policies.
pub(super) async fn attest(line: &Line, token: &str, csr: &[u8]) -> Result<Enrolled, LineError> {
    let evidence = json!({ "type": "join_token", "token": token });
    let answer =
        line.post("/v1/agents:attest", &json!({ "evidence": evidence, "csr": STANDARD.encode(csr) })).await?;
    enrolled(&answer)
}

/// Has a request for another SVID of this agent signed.
pub(super) async fn renew(line: &Line, csr: &[u8]) -> Result<Enrolled, LineError> {
    let answer = line.post("/v1/agents:renew", &json!({ "csr": STANDARD.encode(csr) })).await?;
    enrolled(&answer)
}

/// What an agent is given.
#[derive(Debug)]
pub(super) struct Enrolled {
    pub(super) chain: SignedChain,
    /// As they are written; none from an authority that publishes no policies, or of an older release.
    pub(super) policy_keys: Vec<String>,
}

impl Enrolled {
    /// The chain; the keys are noted, for when the chain turns out to be good.
    pub(super) fn noting(self, keys: &Mutex<Vec<String>>) -> SignedChain {
        *keys.lock() = self.policy_keys;
        self.chain
    }
}

fn enrolled(answer: &Value) -> Result<Enrolled, LineError> {
    let keys = answer.get("policy_keys").and_then(Value::as_array).into_iter().flatten();
    let policy_keys = keys.filter_map(|key| key.as_str().map(str::to_owned)).collect();
    Ok(Enrolled { chain: chain(answer)?, policy_keys })
}

/// The chain of an answer, leaf first.
pub(super) fn chain(answer: &Value) -> Result<SignedChain, LineError> {
    let list = answer.get("chain").and_then(Value::as_array).into_iter().flatten();
    let ders = list.map(|text| STANDARD.decode(text.as_str().unwrap_or_default()).map(CertificateDer::from));
    let chain = ders.collect::<Result<_, _>>().map_err(LineError::unavailable)?;
    Ok(SignedChain { chain })
}

/// What a person is told of a refusal of the authority.
pub(super) fn refusal(code: &str, detail: &str) -> Message {
    let next = "portcullis agent token    (at the authority; lay it into join.token_file)";
    match code {
        "token_refused" => {
            Message::error("PC1022", format!("the authority refused the join token: {detail}"))
                .help("a token makes one agent, once, and soon: ask for a new one")
                .next(next)
        }
        "agent_banned" => Message::error("PC1023", format!("the authority refused this agent: {detail}"))
            .help("what its workloads hold is served until it ends, unless it was revoked as well")
            .next("portcullis agent evict NAME    (at the authority; then a new token)"),
        "not_an_agent" | "agent_expired" | "agent_superseded" => {
            Message::error("PC1024", format!("the authority does not know this agent any more: {detail}"))
                .help("it attests anew by itself as soon as there is a new token; nothing has to be deleted")
                .next(next)
        }
        REVOKED => Message::error(
            "PC1023",
            "the authority revoked the certificate of this agent, as it does when one is banned",
        )
        .help("once the agent is evicted, the host can attest anew with a new token")
        .next("portcullis agent evict NAME    (at the authority; then a new token)"),
        _ => Message::error("PC1025", format!("the authority refused: {detail}")),
    }
}
