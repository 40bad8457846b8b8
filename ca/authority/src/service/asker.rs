//! Who has something signed or follows: a local process, or an agent of another host by the SVID that it shows, judged
//! anew at each request (SV-03).
//!
//! Refused: strangers, agents that were evicted or banned, SVIDs that have ended or were replaced.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;

use super::Caller;
use super::problem::Problem;
use crate::{AgentSvid, Authority, Requester};

/// A requester that may ask now.
pub(crate) struct Asker(pub(crate) Requester);

impl FromRequestParts<Arc<Authority>> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, authority: &Arc<Authority>) -> Result<Self, Problem> {
        let shown = parts.extensions.get::<AgentSvid>().cloned();
        match parts.extensions.get::<Caller>().cloned().unwrap_or_default() {
            Caller::Local { .. } => Ok(Self(Requester::Local)),
            Caller::Svid(id) => match shown {
                Some(shown) => Ok(Self(authority.admit(&id, &shown).await?)),
                None => Ok(Self(Requester::Agent(id))),
            },
            Caller::Anonymous => {
                let detail = "signing needs the SVID of an attested agent";
                Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail))
            }
        }
    }
}
