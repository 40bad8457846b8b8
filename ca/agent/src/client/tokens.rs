//! JWT-SVIDs from a Workload API: fetched for an audience, and judged by it.
//!
//! What the API says about a token is taken for what it is, its word; that a fetched token has the form of a JWT-SVID and
//! names whom the API says is checked here.

use std::collections::HashSet;

use ca_identity::{SpiffeId, inspect};
use prost_types::value::Kind;
use serde_json::{Map, Value};

use super::{ClientError, WorkloadClient, with_header};
use crate::generated::messages::{JwtsvidRequest, ValidateJwtsvidRequest};

/// A JWT-SVID with what stands in it. Its `Debug` leaves the token out.
#[derive(Clone)]
pub struct FetchedToken {
    /// In compact form.
    pub token: String,
    /// What it says.
    pub facts: inspect::TokenFacts,
    /// Which identity this is, for a workload that holds several.
    pub hint: Option<String>,
}

impl std::fmt::Debug for FetchedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchedToken").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A JWT-SVID that the Workload API found good.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedToken {
    /// Whom it names.
    pub id: SpiffeId,
    /// Its claims.
    pub claims: Map<String, Value>,
}

impl WorkloadClient {
    /// JWT-SVIDs for that audience: of one identity, or of every identity of this process.
    ///
    /// # Errors
    /// When there is none, or the answer cannot be used.
    pub async fn fetch_tokens(
        &self,
        audience: Vec<String>,
        id: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedToken>, ClientError> {
        let spiffe_id = id.map(ToString::to_string).unwrap_or_default();
        let request = with_header(JwtsvidRequest { audience, spiffe_id });
        let answer = self.api.clone().fetch_jwtsvid(request).await?.into_inner();
        if answer.svids.is_empty() {
            return Err(ClientError::Empty);
        }
        let mut hints = HashSet::new();
        let mut tokens = Vec::with_capacity(answer.svids.len());
        for svid in answer.svids {
            let fault = |reason: String| ClientError::Svid { id: svid.spiffe_id.clone(), reason };
            let facts = inspect::token(&svid.svid).map_err(|error| fault(error.to_string()))?;
            if facts.id.as_str() != svid.spiffe_id {
                return Err(fault(format!("its token names `{}`", facts.id)));
            }
            let hint = (!svid.hint.is_empty() && hints.insert(svid.hint.clone())).then_some(svid.hint);
            tokens.push(FetchedToken { token: svid.svid, facts, hint });
        }
        Ok(tokens)
    }

    /// Has the Workload API judge a token that was sent to `audience`.
    ///
    /// # Errors
    /// When it is refused, with the reason, or the answer cannot be used.
    pub async fn validate_token(&self, audience: &str, token: &str) -> Result<ValidatedToken, ClientError> {
        let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
        let answer = self.api.clone().validate_jwtsvid(with_header(request)).await?.into_inner();
        let fault = |reason: String| ClientError::Svid { id: answer.spiffe_id.clone(), reason };
        let id = SpiffeId::parse(&answer.spiffe_id).map_err(|error| fault(error.to_string()))?;
        Ok(ValidatedToken { id, claims: object_of(answer.claims.unwrap_or_default()) })
    }
}

fn object_of(from: prost_types::Struct) -> Map<String, Value> {
    from.fields.into_iter().map(|(name, value)| (name, value_of(value))).collect()
}

/// Every number of a Struct is a double; whole ones are shown as such.
#[expect(clippy::cast_possible_truncation, reason = "INVARIANT: the bounds are those of exact whole doubles")]
fn value_of(from: prost_types::Value) -> Value {
    match from.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(is)) => is.into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            (number as i64).into()
        }
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(value_of).collect(),
        Some(Kind::StructValue(object)) => Value::Object(object_of(object)),
    }
}
