//! The calls about tokens: FetchJWTSVID and ValidateJWTSVID (WA-10, WA-11).
//!
//! Refused: an empty or overlong audience, a SPIFFE ID that is none, callers without a matching entry, a SPIFFE ID that no
//! entry of the caller grants, more calls than the limit. The caller is attested before the work and again before an
//! answer that took some (WL-01).

use std::sync::Arc;

use ca_identity::{Selector, SpiffeId, TrustDomain, VerifiedToken, verify_jwt_svid};
use futures_util::future::join_all;
use prost_types::{ListValue, Struct, value::Kind};
use serde_json::{Map, Value};
use tonic::Status;

use super::WorkloadApi;
use super::caller::{attested, denied, stopping, too_large};
use crate::{
    attest::Caller,
    generated::messages::{
        Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
    },
    issue::IssueError,
    state::{State, View},
    upstream::{AgentEntry, UpstreamError},
};

/// Calls about tokens that one process may make in a second (identity.md 14).
const PER_SECOND: u32 = 50;
const AUDIENCES: usize = 8;
const AUDIENCE_BYTES: usize = 1024;
/// Claims that are shown of a token of another trust domain (RFC 7519 4.1).
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

impl WorkloadApi {
    pub(super) async fn fetch_tokens(
        &self,
        caller: &Caller,
        request: JwtsvidRequest,
    ) -> Result<JwtsvidResponse, Status> {
        self.count(caller)?;
        let audience = audience_of(request.audience)?;
        let wanted = match request.spiffe_id.as_str() {
            "" => None,
            text => Some(SpiffeId::parse(text).map_err(|error| {
                Status::invalid_argument(format!("`spiffe_id` is not a SPIFFE ID: {error}"))
            })?),
        };
        let selectors = attested(caller).await?;
        let mut entries = self.identities(caller, &selectors)?;
        entries.retain(|(entry, _)| wanted.as_ref().is_none_or(|wanted| entry.spiffe_id == *wanted));
        if entries.is_empty() {
            return Err(denied(caller));
        }
        let asked = entries.iter().map(|(entry, _)| self.agent.token(entry, &audience));
        let answers = join_all(asked).await;

        // Whoever called may have become somebody else, or have lost its entry, while the authority worked.
        let allowed = self.identities(caller, &attested(caller).await?)?;
        let (mut svids, mut failure) = (Vec::with_capacity(answers.len()), None);
        for ((entry, hint), answer) in entries.into_iter().zip(answers) {
            match answer {
                Ok(_) if !is_among(&allowed, &entry) => {}
                Ok(svid) => svids.push(Jwtsvid { spiffe_id: entry.spiffe_id.to_string(), svid, hint }),
                Err(error) => {
                    tracing::warn!(entry = entry.id, id = %entry.spiffe_id, %error, "no token for this entry");
                    failure.get_or_insert(error);
                }
            }
        }
        match (svids.is_empty(), failure) {
            (false, _) => Ok(JwtsvidResponse { svids }),
            (true, Some(error)) => Err(untold(&error)),
            (true, None) => Err(denied(caller)),
        }
    }

    pub(super) async fn validate_token(
        &self,
        caller: &Caller,
        request: ValidateJwtsvidRequest,
    ) -> Result<ValidateJwtsvidResponse, Status> {
        self.count(caller)?;
        if request.audience.is_empty() {
            return Err(Status::invalid_argument("`audience` is empty"));
        }
        let selectors = attested(caller).await?;
        self.identities(caller, &selectors)?;
        let state = self.state()?;
        let now = self.agent.clock().now().wall;
        let verified = verify_jwt_svid(&request.svid, &request.audience, &state.trust(&selectors, now), now);
        let verified = verified.map_err(|refusal| {
            tracing::info!(uid = caller.uid(), pid = caller.pid(), code = refusal.code(), "token refused");
            Status::invalid_argument(refusal.to_string())
        })?;
        let claims = claims_of(&verified, state.domain());
        Ok(ValidateJwtsvidResponse { spiffe_id: verified.id.to_string(), claims: Some(claims) })
    }

    fn count(&self, caller: &Caller) -> Result<(), Status> {
        let now = self.agent.clock().now().mono;
        if self.calls.admit((caller.uid(), caller.pid()), PER_SECOND, now) {
            return Ok(());
        }
        Err(Status::resource_exhausted("too many calls about tokens in one second"))
    }

    /// The state of now; none when the agent has ended.
    fn state(&self) -> Result<Arc<State>, Status> {
        let states = self.agent.states();
        if states.has_changed().is_err() {
            return Err(stopping());
        }
        let state = Arc::clone(&states.borrow());
        Ok(state)
    }

    fn identities(
        &self,
        caller: &Caller,
        selectors: &[Selector],
    ) -> Result<Vec<(Arc<AgentEntry>, String)>, Status> {
        match self.state()?.identities(selectors) {
            View::Complete(entries) => Ok(entries),
            View::TooLarge { entries } => Err(too_large(caller, entries)),
            View::Unavailable(reason) => Err(Status::unavailable(reason)),
            View::Pending(_) | View::Denied => Err(denied(caller)),
        }
    }
}

/// WA-05: each audience once, in order, since clients hold them as sets.
fn audience_of(mut asked: Vec<String>) -> Result<Vec<String>, Status> {
    if asked.is_empty() || asked.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("`audience` is empty or has an empty name"));
    }
    if asked.len() > AUDIENCES || asked.iter().any(|name| name.len() > AUDIENCE_BYTES) {
        return Err(Status::resource_exhausted("more than 8 audiences, or one of more than 1024 bytes"));
    }
    asked.sort_unstable();
    asked.dedup();
    Ok(asked)
}

fn is_among(allowed: &[(Arc<AgentEntry>, String)], entry: &AgentEntry) -> bool {
    allowed.iter().any(|(other, _)| other.id == entry.id && other.spiffe_id == entry.spiffe_id)
}

/// What the authority refuses, the caller is not entitled to; everything else may pass.
fn untold(error: &IssueError) -> Status {
    match error {
        IssueError::Upstream(UpstreamError::Refused { .. }) => {
            Status::permission_denied("the authority refused the token")
        }
        _ => Status::unavailable("no token can be had now"),
    }
}

/// The claims as a caller is shown them; `aud` is always a list (DF-11).
fn claims_of(token: &VerifiedToken, own: &TrustDomain) -> Struct {
    let is_own = token.id.trust_domain() == own;
    let mut claims: Map<String, Value> = token
        .claims
        .iter()
        .filter(|(name, _)| is_own || REGISTERED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    claims.insert("aud".to_owned(), token.audience.clone().into());
    struct_of(claims)
}

fn struct_of(object: Map<String, Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(name, value)| (name, value_of(value))).collect() }
}

fn value_of(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(is) => Kind::BoolValue(is),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(list) => Kind::ListValue(ListValue { values: list.into_iter().map(value_of).collect() }),
        Value::Object(object) => Kind::StructValue(struct_of(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use ca_identity::testing::{TokenForge, now};

    use super::*;

    #[test]
    fn wa_11_df_11_of_a_token_of_another_domain_only_registered_claims_are_shown() {
        let forge = TokenForge::new(now());
        let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, forge.signer().public().kid());
        let payload = format!(
            r#"{{"sub":"spiffe://example.org/web","aud":"orders","exp":{},"nbf":1,"groups":["a",1,null,true,{{"b":2.5}}]}}"#,
            now().as_secs() + 60
        );
        let verified = forge.judge(&forge.token(&header, &payload)).unwrap();
        let own = claims_of(&verified, &TrustDomain::parse("example.org").unwrap());
        let names: Vec<&str> = own.fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "exp", "groups", "nbf", "sub"]);
        let list = |values| Some(Kind::ListValue(ListValue { values }));
        let text = |text: &str| value_of(text.into());
        assert_eq!(own.fields["aud"].kind, list(vec![text("orders")]), "a list");
        let inner = struct_of(Map::from_iter([("b".to_owned(), 2.5.into())]));
        let inner = prost_types::Value { kind: Some(Kind::StructValue(inner)) };
        let groups = vec![text("a"), value_of(1.into()), value_of(Value::Null), value_of(true.into()), inner];
        assert_eq!(own.fields["groups"].kind, list(groups));
        let foreign = claims_of(&verified, &TrustDomain::parse("other.org").unwrap());
        let names: Vec<&str> = foreign.fields.keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "exp", "nbf", "sub"]);
    }
}
