//! The facts of a call: connection, request, RPC names. Only declared names of headers, query and captures are kept.

use std::{net::IpAddr, sync::Arc};

use policies_engine::{ConnectionFacts, Facts, RequestView, Versions};

use super::{
    super::{caps::Caps, key},
    texts,
};
use crate::cbor::{IntMap, TextMap};

/// Headers that carry credentials: never recorded (RE5).
const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];

pub(super) fn members(map: &mut IntMap<'_>, facts: &dyn Facts, versions: Option<&Versions>, caps: &mut Caps) {
    map.key(key::CONNECTION).text_map(|map| connection_members(map, facts.connection(), caps));
    if let Some(request) = facts.request() {
        map.key(key::REQUEST).text_map(|map| request_members(map, facts, request, versions, caps));
    }
    if let Some((service, method)) = facts.rpc() {
        map.key(key::RPC).text_map(|map| {
            map.key("method").text(caps.value("rpc.method", method));
            map.key("service").text(caps.value("rpc.service", service));
        });
    }
}

fn connection_members(map: &mut TextMap<'_>, connection: &ConnectionFacts, caps: &mut Caps) {
    if let Some(sni) = &connection.sni {
        map.key("sni").text(caps.value("connection.sni", sni));
    }
    map.key("tls").uint(u64::from(connection.tls));
    map.key("mtls").bool(connection.mtls);
    map.key("listener").text(caps.value("connection.listener", &connection.listener));
    map.key("protocol").text(connection.protocol.as_str());
    match connection.source_ip {
        IpAddr::V4(address) => map.key("source_ip").bytes(&address.octets()),
        IpAddr::V6(address) => map.key("source_ip").bytes(&address.octets()),
    }
}

fn request_members(
    map: &mut TextMap<'_>,
    facts: &dyn Facts,
    request: RequestView<'_>,
    versions: Option<&Versions>,
    caps: &mut Caps,
) {
    let declared = versions.map(|versions| &*versions.declared);
    let mut query: Vec<(String, Vec<String>)> = Vec::new();
    let mut query_names: Vec<String> = Vec::new();
    for (name, value) in request.query_pairs() {
        if declared.is_some_and(|declared| declared.query.contains(&*name)) {
            match query.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value.into_owned()),
                None => query.push((name.to_string(), vec![value.into_owned()])),
            }
        }
        query_names.push(name.into_owned());
    }
    query_names.sort_unstable();
    query_names.dedup();
    let headers = declared.map(|declared| lines(facts, &declared.headers)).unwrap_or_default();
    let params: Vec<(&str, &str)> = declared
        .iter()
        .flat_map(|declared| &declared.params)
        .filter_map(|name| facts.param(name).map(|value| (&**name, value)))
        .collect();

    map.key("host").text(caps.value("request.host", request.host));
    map.key("path").text(caps.path("request.path", request.path));
    if !query.is_empty() {
        map.key("query").text_map(|map| text_sets(map, "request.query", &mut query, caps));
    }
    if let Some(length) = request.length {
        map.key("length").uint(length);
    }
    map.key("method").text(caps.value("request.method", request.method));
    if !params.is_empty() {
        map.key("params").text_map(|map| pairs(map, "request.params", params, caps));
    }
    if !headers.is_empty() {
        let mut headers = headers;
        map.key("headers").text_map(|map| text_sets(map, "request.headers", &mut headers, caps));
    }
    if let Some(media_type) = request.media_type {
        map.key("media_type").text(caps.value("request.media_type", media_type));
    }
    if !query_names.is_empty() {
        texts(&mut map.key("query_names"), "request.query_names", &query_names, caps);
    }
}

/// The lines of every declared header that is present and no secret.
fn lines<'a>(facts: &dyn Facts, names: impl IntoIterator<Item = &'a Arc<str>>) -> Vec<(String, Vec<String>)> {
    let mut headers = Vec::new();
    for name in names {
        if SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            continue;
        }
        let mut values = Vec::new();
        facts.header(name, &mut |line| values.push(line.to_owned()));
        if !values.is_empty() {
            headers.push((name.to_string(), values));
        }
    }
    headers
}

/// Name and values of declared headers or query members.
fn text_sets(map: &mut TextMap<'_>, field: &str, sets: &mut [(String, Vec<String>)], caps: &mut Caps) {
    sets.sort_unstable_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    let kept = caps.entries(field, sets.len());
    for (name, values) in sets.iter().take(kept) {
        if !caps.has_fit_name(field, name) {
            continue;
        }
        texts(&mut map.key(name), &format!("{field}.{name}"), values, caps);
    }
}

fn pairs(map: &mut TextMap<'_>, field: &str, mut pairs: Vec<(&str, &str)>, caps: &mut Caps) {
    pairs.sort_unstable_by_key(|(name, _)| (name.len(), *name));
    let kept = caps.entries(field, pairs.len());
    for (name, value) in pairs.into_iter().take(kept) {
        if !caps.has_fit_name(field, name) {
            continue;
        }
        map.key(name).text(caps.value(&format!("{field}.{name}"), value));
    }
}
