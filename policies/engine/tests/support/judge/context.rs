//! A question to the engine as a question to stock Cedar: the whole context of the schema, always.

use super::values::{record, string, strings, text, uid};
use base_ports::UnixTime;
use cedar_policy::{Context, Request, RestrictedExpression as Value};
use policies_engine::{AccessRequest, Action, AdminContext, Declared, Token};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// The request with the whole context of the schema.
pub(crate) fn request(asked: &AccessRequest<'_>, declared: &Declared) -> Request {
    let mut context = vec![("connection", connection(asked)), ("time", clock(asked.now.as_millis()))];
    let is_call = !matches!(asked.action, Action::Admin(_) | Action::TcpConnect);
    if is_call {
        context.push(("request", http(asked, declared)));
        context.extend(asked.facts.token().map(|token| ("jwt", jwt(token, declared))));
    }
    if let (Action::Grpc, Some((service, method))) = (asked.action, asked.facts.rpc()) {
        context.push(("rpc", record(vec![text("service", service), text("method", method)])));
    }
    let flag = |name: &str, value| (name.to_owned(), Value::new_bool(value));
    let number = |name: &str, value| (name.to_owned(), Value::new_long(value));
    match asked.extra {
        Some(AdminContext::Issue(issue)) => context.extend([
            ("kind", string(&issue.kind)),
            ("ttl_seconds", Value::new_long(issue.ttl_seconds)),
            ("audience", strings(&issue.audience)),
            ("attested_by", strings(&issue.attested_by)),
            ("selectors", strings(&issue.selectors)),
            ("entry", string(&issue.entry)),
        ]),
        Some(AdminContext::Change(change)) => context.push((
            "change",
            record(vec![
                text("scope", &change.scope),
                flag("widens", change.widens),
                flag("tests_passed", change.tests_passed),
                number("coverage", change.coverage),
                number("approvals", change.approvals),
                flag("caller_is_author", change.caller_is_author),
                flag("touches_baseline", change.touches_baseline),
                number("replay_newly_denied", change.replay_newly_denied),
                flag("two_person", change.two_person),
            ]),
        )),
        None => {}
    }
    let context = Context::from_pairs(context.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let uids = [
        uid(asked.principal.entity_type(), asked.principal.id()),
        uid(asked.action.entity_type(), asked.action.as_str()),
        uid(asked.resource.entity_type(), asked.resource.id()),
    ];
    let [principal, action, resource] = uids;
    Request::new(principal, action, resource, context.expect("facts are values"), None)
        .expect("without a schema every request is one")
}

fn connection(asked: &AccessRequest<'_>) -> Value {
    let facts = asked.facts.connection();
    let mut pairs = vec![
        ("mtls".to_owned(), Value::new_bool(facts.mtls)),
        ("tls".to_owned(), Value::new_long(i64::from(facts.tls))),
        ("source_ip".to_owned(), Value::new_ip(facts.source_ip.to_string())),
        text("listener", &facts.listener),
        ("protocol".to_owned(), Value::new_entity_uid(uid("Protocol", facts.protocol.as_str()))),
    ];
    pairs.extend(facts.sni.as_deref().map(|sni| text("sni", sni)));
    record(pairs)
}

fn jwt(token: &Token, declared: &Declared) -> Value {
    let claims = declared.claims.iter().filter_map(|name| Some((&**name, token.claims.get(&**name)?)));
    let claims = claims.map(|(name, words)| (name.to_owned(), strings(words))).collect();
    let moment = |at: UnixTime| Value::new_datetime(stamp(at.as_millis()));
    let mut pairs = vec![
        ("user".to_owned(), Value::new_entity_uid(uid("User", token.user()))),
        text("issuer", &token.issuer),
        text("subject", &token.subject),
        ("audience".to_owned(), strings(&token.audience)),
        ("scopes".to_owned(), strings(&token.scopes)),
        ("issued".to_owned(), moment(token.issued)),
        ("expires".to_owned(), moment(token.expires)),
        ("claims".to_owned(), record::<String>(claims)),
    ];
    pairs.extend(token.client.iter().map(|client| text("client", client)));
    pairs.extend(token.acr.iter().map(|acr| text("acr", acr)));
    if !token.amr.is_empty() {
        pairs.push(("amr".to_owned(), strings(&token.amr)));
    }
    record(pairs)
}

fn clock(millis: i64) -> Value {
    let days = millis.div_euclid(86_400_000);
    record(vec![
        ("now".to_owned(), Value::new_datetime(stamp(millis))),
        // 1970-01-01 was a Thursday.
        ("weekday".to_owned(), Value::new_long((days + 3).rem_euclid(7) + 1)),
        ("minute".to_owned(), Value::new_long(millis.rem_euclid(86_400_000) / 60_000)),
    ])
}

fn stamp(millis: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .expect("a year with four digits");
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

fn http(asked: &AccessRequest<'_>, declared: &Declared) -> Value {
    let view = asked.facts.request().expect("a call has a request");
    let segments: Vec<String> = view.segments().map(Into::into).collect();
    let first = segments.iter().take(12).enumerate().map(|(at, segment)| text(&at.to_string(), segment));
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut names = Vec::new();
    for (name, value) in view.query_pairs() {
        let (name, value) = (String::from(name), String::from(value));
        if declared.query.contains(&*name) {
            query.entry(name.clone()).or_default().push(value);
        }
        names.push(name);
    }
    let mut headers = Vec::new();
    for name in &declared.headers {
        let mut lines = Vec::new();
        asked.facts.header(name, &mut |line| lines.push(line.to_owned()));
        if !lines.is_empty() {
            headers.push((name.to_string(), strings(&lines)));
        }
    }
    let params = declared.params.iter().filter_map(|name| Some(text(name, asked.facts.param(name)?)));
    let mut pairs = vec![
        text("method", view.method),
        text("host", view.host),
        text("path", view.path),
        ("segments".to_owned(), record(first.collect())),
        ("segment_count".to_owned(), Value::new_long(segments.len() as i64)),
        ("params".to_owned(), record(params.collect())),
        (
            "query".to_owned(),
            record(query.iter().map(|(name, values)| (name.clone(), strings(values))).collect()),
        ),
        ("query_names".to_owned(), strings(&names)),
        ("headers".to_owned(), record(headers)),
    ];
    pairs.extend(view.media_type.map(|media_type| text("media_type", media_type)));
    pairs.extend(view.length.map(|length| {
        ("length".to_owned(), Value::new_long(i64::try_from(length).expect("a length that fits")))
    }));
    record(pairs)
}
