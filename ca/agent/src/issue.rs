//! One issuance: make a key on this node, have its CSR signed, check what came back.
//!
//! Called by `agent` for each entry, by `rotate` for an own identity, and by `portcullis` for the SVID of an agent elsewhere. It refuses a chain that does not fit the key,
//! names somebody else, or is not valid now; such an answer is a fault of the authority and is tried again later.

use std::{future::Future, time::Duration};

use base_ports::UnixTime;
use ca_identity::{PrivateKey, SpiffeId, TokenRefusal, TrustDomain, X509Svid, csr};

use crate::own::is_agent;
use crate::upstream::{SignedChain, UpstreamError};

/// How long the authority may take.
pub(crate) const SIGN_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no new SVID.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The authority did not sign.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// No key, or no request with it.
    #[error("cannot make a signing request: {0}")]
    Request(String),
    /// What came back is no SVID of the key.
    #[error("the authority answered with an unusable chain: {0}")]
    Chain(String),
    /// What came back names somebody else.
    #[error("the authority answered with an SVID of `{got}` instead of `{wanted}`")]
    OtherIdentity {
        /// As it should be.
        wanted: SpiffeId,
        /// As it is.
        got: SpiffeId,
    },
    /// What came back is no token for it.
    #[error("the authority answered with a token that does not verify: {0}")]
    Token(#[from] TokenRefusal),
    /// What came back is not valid now.
    #[error("the authority answered with an SVID that is not valid now ({not_before} to {not_after})")]
    NotValid {
        /// Since when it is.
        not_before: UnixTime,
        /// Until when it is.
        not_after: UnixTime,
    },
    /// What came back is no SVID of an agent.
    #[error("the authority answered with an SVID of `{0}`, which is no agent")]
    NoAgent(SpiffeId),
}

/// An SVID for `wanted` with a key that was made here. `sign` gets the CSR.
pub(crate) async fn issue<S, F>(
    wanted: &SpiffeId,
    dns_names: &[String],
    sign: S,
    now: impl Fn() -> UnixTime,
) -> Result<X509Svid, IssueError>
where
    S: FnOnce(Vec<u8>) -> F,
    F: Future<Output = Result<SignedChain, UpstreamError>>,
{
    let svid = signed(dns_names, sign).await?;
    check(svid, wanted, now())
}

/// The SVID of an agent, with a key that was made here: its first one, or another of `known`. `sign` gets the CSR.
///
/// # Errors
/// When the authority does not sign, or what it answers is no SVID of this agent that is valid now.
pub async fn enrol<S, F>(
    domain: &TrustDomain,
    known: Option<&SpiffeId>,
    sign: S,
    now: impl Fn() -> UnixTime,
) -> Result<X509Svid, IssueError>
where
    S: FnOnce(Vec<u8>) -> F,
    F: Future<Output = Result<SignedChain, UpstreamError>>,
{
    let svid = signed(&[], sign).await?;
    if !is_agent(&svid.id, domain) {
        return Err(IssueError::NoAgent(svid.id));
    }
    let wanted = known.unwrap_or(&svid.id).clone();
    check(svid, &wanted, now())
}

/// A new key, and what was signed for it.
async fn signed<S, F>(dns_names: &[String], sign: S) -> Result<X509Svid, IssueError>
where
    S: FnOnce(Vec<u8>) -> F,
    F: Future<Output = Result<SignedChain, UpstreamError>>,
{
    let (key, request) = make_request(dns_names)?;
    let signed =
        tokio::time::timeout(SIGN_LIMIT, sign(request)).await.unwrap_or_else(|_late| Err(silent()))?;
    X509Svid::new(signed.chain, key).map_err(|error| IssueError::Chain(error.to_string()))
}

pub(crate) fn silent() -> UpstreamError {
    UpstreamError::Unavailable { reason: "it did not answer in time".to_owned() }
}

fn make_request(dns_names: &[String]) -> Result<(PrivateKey, Vec<u8>), IssueError> {
    let key = PrivateKey::generate_p256().map_err(|error| IssueError::Request(error.to_string()))?;
    let request = csr::build(&key, dns_names).map_err(|error| IssueError::Request(error.to_string()))?;
    Ok((key, request))
}

fn check(svid: X509Svid, wanted: &SpiffeId, now: UnixTime) -> Result<X509Svid, IssueError> {
    if svid.id != *wanted {
        return Err(IssueError::OtherIdentity { wanted: wanted.clone(), got: svid.id });
    }
    if svid.not_before > now || svid.not_after <= now {
        return Err(IssueError::NotValid { not_before: svid.not_before, not_after: svid.not_after });
    }
    Ok(svid)
}
