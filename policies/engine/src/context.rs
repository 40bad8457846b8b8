//! Builds Cedar's context from the facts of one call: the one mapping between [`crate::Facts`] and the schema.
//! Only what the conditions read is filled. A test compares it with the schema for every action (VA3).

use crate::{
    AccessRequest, Action, AdminAction, AdminContext, ChangeContext, ConnectionFacts, Declared, Facts,
    IssueContext, Reason, RequestView, SEGMENTS, Token, uid::cedar_uid, walk::Reads,
};
use base_ports::UnixTime;
use cedar_policy::{Context, RestrictedExpression as Value};
use std::collections::BTreeMap;
use time::OffsetDateTime;

type Pairs = Vec<(String, Value)>;

/// The context for those reads, or `context_invalid` / `context_incomplete`.
pub(crate) fn build(
    request: &AccessRequest<'_>,
    reads: Reads,
    declared: &Declared,
) -> Result<Context, Reason> {
    let facts = request.facts;
    let mut pairs = Pairs::new();
    if reads.connection {
        pairs.push(("connection".to_owned(), record(connection(facts.connection()))?));
    }
    if reads.time {
        pairs.push(("time".to_owned(), record(clock(request.now)?)?));
    }
    match request.action {
        Action::TcpConnect => {}
        Action::Admin(action) => {
            if reads.extra {
                pairs.extend(admin(action, request.extra)?);
            }
        }
        _ => {
            if reads.request {
                let view = facts.request().ok_or(Reason::ContextIncomplete)?;
                pairs.push(("request".to_owned(), record(http(facts, view, declared)?)?));
            }
        }
    }
    if reads.rpc && request.action == Action::Grpc {
        let (service, method) = facts.rpc().ok_or(Reason::ContextIncomplete)?;
        pairs.push(("rpc".to_owned(), record(vec![text("service", service), text("method", method)])?));
    }
    if let Some(token) = request.token().filter(|_| reads.jwt) {
        pairs.push(("jwt".to_owned(), record(jwt(token, declared)?)?));
    }
    Context::from_pairs(pairs).map_err(|cause| invalid(&cause))
}

fn connection(facts: &ConnectionFacts) -> Pairs {
    let mut pairs = vec![
        flag("mtls", facts.mtls),
        number("tls", i64::from(facts.tls)),
        ("source_ip".to_owned(), Value::new_ip(facts.source_ip.to_string())),
        text("listener", &facts.listener),
        ("protocol".to_owned(), Value::new_entity_uid(cedar_uid("Protocol", facts.protocol.as_str()))),
    ];
    pairs.extend(facts.sni.as_deref().map(|sni| text("sni", sni)));
    pairs
}

fn jwt(token: &Token, declared: &Declared) -> Result<Pairs, Reason> {
    let claims = token.claims.iter().filter(|(name, _)| declared.claims.contains(&***name));
    let claims = claims.map(|(name, words)| texts(name, words)).collect();
    let mut pairs = vec![
        ("user".to_owned(), Value::new_entity_uid(cedar_uid("User", token.user()))),
        text("issuer", &token.issuer),
        text("subject", &token.subject),
        texts("audience", &token.audience),
        texts("scopes", &token.scopes),
        ("issued".to_owned(), moment(token.issued)?),
        ("expires".to_owned(), moment(token.expires)?),
        ("claims".to_owned(), record(claims)?),
    ];
    pairs.extend(token.client.as_deref().map(|client| text("client", client)));
    pairs.extend(token.acr.as_deref().map(|acr| text("acr", acr)));
    pairs.extend((!token.amr.is_empty()).then(|| texts("amr", &token.amr)));
    Ok(pairs)
}

fn moment(at: UnixTime) -> Result<Value, Reason> {
    Ok(Value::new_datetime(stamp(date(at)?)))
}

fn date(at: UnixTime) -> Result<OffsetDateTime, Reason> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_nanos())).map_err(|cause| invalid(&cause))
}

fn clock(now: UnixTime) -> Result<Pairs, Reason> {
    let at = date(now)?;
    Ok(vec![
        ("now".to_owned(), Value::new_datetime(stamp(at))),
        number("weekday", i64::from(at.weekday().number_from_monday())),
        number("minute", i64::from(at.hour()) * 60 + i64::from(at.minute())),
    ])
}

fn stamp(at: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

fn http(facts: &dyn Facts, view: RequestView<'_>, declared: &Declared) -> Result<Pairs, Reason> {
    let segments: Vec<_> = view.segments().collect();
    let first =
        segments.iter().take(SEGMENTS).enumerate().map(|(at, segment)| text(&at.to_string(), segment));
    let mut query: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut names = Vec::new();
    for (name, value) in view.query_pairs() {
        names.push(Value::new_string(name.to_string()));
        if declared.query.contains(&*name) {
            query.entry(name.into_owned()).or_default().push(Value::new_string(value.into_owned()));
        }
    }
    let headers = declared.headers.iter().filter_map(|name| {
        let mut lines = Vec::new();
        facts.header(name, &mut |line| lines.push(Value::new_string(line.to_owned())));
        (!lines.is_empty()).then(|| (name.to_string(), Value::new_set(lines)))
    });
    let params = declared.params.iter().filter_map(|name| facts.param(name).map(|value| text(name, value)));
    let mut pairs = vec![
        text("method", view.method),
        text("host", view.host),
        text("path", view.path),
        ("segments".to_owned(), record(first.collect())?),
        number("segment_count", i64::try_from(segments.len()).map_err(|cause| invalid(&cause))?),
        ("params".to_owned(), record(params.collect())?),
        (
            "query".to_owned(),
            record(query.into_iter().map(|(name, set)| (name, Value::new_set(set))).collect())?,
        ),
        ("query_names".to_owned(), Value::new_set(names)),
        ("headers".to_owned(), record(headers.collect())?),
    ];
    pairs.extend(view.media_type.map(|media_type| text("media_type", media_type)));
    if let Some(length) = view.length {
        pairs.push(number("length", i64::try_from(length).map_err(|cause| invalid(&cause))?));
    }
    Ok(pairs)
}

fn admin(action: AdminAction, extra: Option<&AdminContext>) -> Result<Pairs, Reason> {
    match (action, extra) {
        (AdminAction::IdentityIssue, Some(AdminContext::Issue(issue))) => Ok(issuance(issue)),
        (
            AdminAction::PolicyApprove
            | AdminAction::PolicySign
            | AdminAction::PolicyPublish
            | AdminAction::PolicyRollback,
            Some(AdminContext::Change(change)),
        ) => Ok(vec![("change".to_owned(), record(changes(change))?)]),
        (
            AdminAction::IdentityIssue
            | AdminAction::PolicyApprove
            | AdminAction::PolicySign
            | AdminAction::PolicyPublish
            | AdminAction::PolicyRollback,
            _,
        ) => Err(Reason::ContextIncomplete),
        _ => Ok(Pairs::new()),
    }
}

fn issuance(issue: &IssueContext) -> Pairs {
    vec![
        text("kind", &issue.kind),
        number("ttl_seconds", issue.ttl_seconds),
        texts("audience", &issue.audience),
        texts("attested_by", &issue.attested_by),
        texts("selectors", &issue.selectors),
        text("entry", &issue.entry),
    ]
}

fn changes(change: &ChangeContext) -> Pairs {
    vec![
        text("scope", &change.scope),
        flag("widens", change.widens),
        flag("tests_passed", change.tests_passed),
        number("coverage", change.coverage),
        number("approvals", change.approvals),
        flag("caller_is_author", change.caller_is_author),
        flag("touches_baseline", change.touches_baseline),
        number("replay_newly_denied", change.replay_newly_denied),
        flag("two_person", change.two_person),
    ]
}

fn text(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), Value::new_string(value.to_owned()))
}

fn number(name: &str, value: i64) -> (String, Value) {
    (name.to_owned(), Value::new_long(value))
}

fn flag(name: &str, value: bool) -> (String, Value) {
    (name.to_owned(), Value::new_bool(value))
}

fn texts(name: &str, values: &[String]) -> (String, Value) {
    (name.to_owned(), Value::new_set(values.iter().cloned().map(Value::new_string)))
}

fn record(pairs: Pairs) -> Result<Value, Reason> {
    Value::new_record(pairs).map_err(|cause| invalid(&cause))
}

fn invalid(cause: &dyn std::fmt::Display) -> Reason {
    tracing::debug!(%cause, "a fact does not fit the schema");
    Reason::ContextInvalid
}
