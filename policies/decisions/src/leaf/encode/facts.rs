//! The facts of a call: connection, request, RPC names. Only declared names of headers, query and captures are kept, and
//! nothing of what the site leaves out.

use std::net::IpAddr;

use policies_engine::{ConnectionFacts, Declared, Facts, RequestView, Versions};

use super::{
    super::{
        caps::{Caps, Field},
        key,
    },
    texts,
};
use crate::cbor::{IntMap, TextMap, Texts};

/// Headers that carry credentials: never recorded (RE5).
const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];

pub(super) fn members(
    map: &mut IntMap<'_>,
    facts: &dyn Facts,
    versions: Option<&Versions>,
    caps: &mut Caps<'_>,
) {
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

fn connection_members(map: &mut TextMap<'_>, connection: &ConnectionFacts, caps: &mut Caps<'_>) {
    if let Some(sni) = &connection.sni
        && !caps.drops("connection.sni", || sni.len())
    {
        map.key("sni").text(caps.value("connection.sni", sni));
    }
    map.key("tls").uint(u64::from(connection.tls));
    map.key("mtls").bool(connection.mtls);
    map.key("listener").text(caps.value("connection.listener", &connection.listener));
    map.key("protocol").text(connection.protocol.as_str());
    let address: &[u8] = match &connection.source_ip {
        IpAddr::V4(address) => &address.octets(),
        IpAddr::V6(address) => &address.octets(),
    };
    if !caps.drops("connection.source_ip", || address.len()) {
        map.key("source_ip").bytes(address);
    }
}

fn request_members(
    map: &mut TextMap<'_>,
    facts: &dyn Facts,
    request: RequestView<'_>,
    versions: Option<&Versions>,
    caps: &mut Caps<'_>,
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
    if caps.drops("request.query", || query.len()) {
        query.clear();
    }
    query.retain(|(name, values)| !caps.drops(Field::In("request.query", name), || values.len()));
    let mut params: Vec<(&str, &str)> = declared
        .iter()
        .flat_map(|declared| &declared.params)
        .filter_map(|name| facts.param(name).map(|value| (&**name, value)))
        .collect();
    if caps.drops("request.params", || params.len()) {
        params.clear();
    }
    params.retain(|(name, value)| !caps.drops(Field::In("request.params", name), || value.len()));

    if !caps.drops("request.host", || request.host.len()) {
        map.key("host").text(caps.value("request.host", request.host));
    }
    if !caps.drops("request.path", || request.path.len()) {
        map.key("path").text(caps.path("request.path", request.path));
    }
    if !query.is_empty() {
        map.key("query").text_map(|map| text_sets(map, "request.query", &mut query, caps));
    }
    if let Some(length) = request.length
        && !caps.drops("request.length", || size_of_val(&length))
    {
        map.key("length").uint(length);
    }
    map.key("method").text(caps.value("request.method", request.method));
    if !params.is_empty() {
        map.key("params").text_map(|map| pairs(map, "request.params", params, caps));
    }
    if let Some(declared) = declared {
        map.unless_empty("headers", |writer| writer.text_map(|map| headers(map, facts, declared, caps)));
    }
    if let Some(media_type) = request.media_type
        && !caps.drops("request.media_type", || media_type.len())
    {
        map.key("media_type").text(caps.value("request.media_type", media_type));
    }
    if !query_names.is_empty() && !caps.drops("request.query_names", || query_names.len()) {
        texts(&mut map.key("query_names"), "request.query_names".into(), &query_names, caps);
    }
}

/// The lines of every declared header that is present and no secret.
fn headers(map: &mut TextMap<'_>, facts: &dyn Facts, declared: &Declared, caps: &mut Caps<'_>) {
    const FIELD: &str = "request.headers";
    let is_secret = |name: &str| SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret));
    let mut names: Vec<&str> =
        declared.headers.iter().map(|name| &**name).filter(|name| !is_secret(name)).collect();
    let lines_of = |name: &str| {
        let mut lines = 0;
        facts.header(name, &mut |_| lines += 1);
        lines
    };
    if caps.drops(FIELD, || names.iter().filter(|name| lines_of(name) > 0).count()) {
        return;
    }
    names.retain(|name| !caps.drops(Field::In(FIELD, name), || lines_of(name)));
    names.sort_unstable_by_key(|name| (name.len(), *name));
    let mut present = 0;
    for name in names {
        let mut lines = 0;
        if present >= caps.members() || !caps.fits(name) {
            facts.header(name, &mut |_| lines += 1);
            if lines > 0 && present < caps.members() {
                caps.has_fit_name(FIELD, name);
            }
        } else {
            let field = Field::In(FIELD, name);
            let mut add = |texts: &mut Texts<'_>, line: &str, caps: &mut Caps<'_>| {
                lines += 1;
                if lines <= caps.members() {
                    texts.add(caps.value(field, line));
                }
            };
            map.unless_empty(name, |writer| {
                writer.texts(|texts| facts.header(name, &mut |line| add(texts, line, caps)))
            });
            if lines > caps.members() {
                let mut all = Vec::new();
                facts.header(name, &mut |line| all.push(line.to_owned()));
                caps.set(field, &all);
            }
        }
        present += usize::from(lines > 0);
    }
    caps.entries(FIELD, present);
}

/// Name and values of declared query members.
fn text_sets(map: &mut TextMap<'_>, field: &str, sets: &mut [(String, Vec<String>)], caps: &mut Caps<'_>) {
    sets.sort_unstable_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    let kept = caps.entries(field, sets.len());
    for (name, values) in sets.iter().take(kept) {
        if !caps.has_fit_name(field, name) {
            continue;
        }
        texts(&mut map.key(name), Field::In(field, name), values, caps);
    }
}

fn pairs(map: &mut TextMap<'_>, field: &str, mut pairs: Vec<(&str, &str)>, caps: &mut Caps<'_>) {
    pairs.sort_unstable_by_key(|(name, _)| (name.len(), *name));
    let kept = caps.entries(field, pairs.len());
    for (name, value) in pairs.into_iter().take(kept) {
        if !caps.has_fit_name(field, name) {
            continue;
        }
        map.key(name).text(caps.value(Field::In(field, name), value));
    }
}
