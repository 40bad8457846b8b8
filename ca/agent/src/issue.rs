//! One issuance: make a key on this node, have its CSR signed, check what came back.
//!
//! Called by `agent` for each entry and by `rotate` for an own identity. It refuses a chain that does not fit the key,
//! names somebody else, or is not valid now; such an answer is a fault of the authority and is tried again later.

use std::{future::Future, time::Duration};

use base_ports::UnixTime;
use ca_identity::{PrivateKey, SpiffeId, TokenRefusal, X509Svid, csr};

use crate::upstream::{SignedChain, UpstreamError};

/// How long the authority may take.
pub(crate) const SIGN_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no new SVID.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("cannot make a signing request: {0}")]
    Request(String),
    #[error("the authority answered with an unusable chain: {0}")]
    Chain(String),
    #[error("the authority answered with an SVID of `{got}` instead of `{wanted}`")]
    OtherIdentity { wanted: SpiffeId, got: SpiffeId },
    #[error("the authority answered with a token that does not verify: {0}")]
    Token(#[from] TokenRefusal),
    #[error("the authority answered with an SVID that is not valid now ({not_before} to {not_after})")]
    NotValid { not_before: UnixTime, not_after: UnixTime },
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
    let (key, request) = make_request(dns_names)?;
    let signed =
        tokio::time::timeout(SIGN_LIMIT, sign(request)).await.unwrap_or_else(|_late| Err(silent()))?;
    let svid = X509Svid::new(signed.chain, key).map_err(|error| IssueError::Chain(error.to_string()))?;
    check(svid, wanted, now())
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
