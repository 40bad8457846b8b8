//! `portcullis route`: what the routes of the configuration say to a call. Asks no process, and judges nothing.

use std::net::IpAddr;

use bytes::BytesMut;
use ca_identity::SpiffeId;
use clap::{Args, Subcommand};
use enforcer_codec::h1::{Parse, RequestParser};
use enforcer_codec::{Call, CallProtocol, Limits, Scheme, Transport, Upgrade};
use enforcer_traffic::{Arrival, Found, ReplySpec, Route, Routes, Standing, Target, TargetKind, Verdict};
use http::{HeaderName, HeaderValue, Uri, Version};
use serde_json::{Value, json};

use super::Global;
use crate::assemble::entities;
use crate::config::{Enforcer, Listener};
use crate::messages::{Message, nearest};
use crate::output::{self, Answer, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which route takes a call and where it goes, and why each other route does not take it
    #[command(
        after_help = "Examples:\n  portcullis route test GET https://shop.example.org/users/7\n  portcullis route test POST /shop.Orders/Get -H 'content-type: application/grpc' --as spiffe://example.org/web"
    )]
    Test(TestOptions),
}

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Method, as it is sent; CONNECT for a tunnel, TCP for a connection that carries no HTTP
    method: String,
    /// URL, or a path of any host; HOST:PORT of a tunnel; server name of a connection
    url: String,
    /// A header field, NAME: VALUE
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// SPIFFE ID of the caller [default: nobody known]
    #[arg(long = "as", value_name = "ID")]
    identity: Option<String>,
    /// Address of the caller
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    source: IpAddr,
    /// Listener that the call comes over [default: the first]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Server name of the handshake [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
}

pub(crate) fn run(command: &Command, global: &Global) -> Exit {
    let Command::Test(options) = command;
    match test(options, global) {
        Ok((answer, exit)) => {
            answer.print(global.format());
            exit
        }
        Err(exit) => exit,
    }
}

fn test(options: &TestOptions, global: &Global) -> Result<(Answer, Exit), Exit> {
    let config = global.load()?.config;
    let fail = |fault: Message| output::report(&[fault], global.format());
    let routes = entities::routes(&config).map_err(fail)?;
    let none =
        || fail(Message::error("PC0102", "the configuration has no [enforcer], so no call reaches a route"));
    let enforcer = config.enforcer.as_ref().ok_or_else(none)?;
    let usage = |text: String| {
        output::report(&[Message::error("PC0104", text)], global.format());
        Exit::Usage
    };
    let (listener, port) = listener(options, enforcer).map_err(|fault| {
        output::report(&[fault], global.format());
        Exit::Usage
    })?;
    let identity = options.identity.as_deref().map(SpiffeId::parse).transpose();
    let identity = identity.map_err(|cause| {
        usage(format!("`{}` is no SPIFFE ID: {cause}", options.identity.as_deref().unwrap_or_default()))
    })?;
    let call = call(options).map_err(usage)?;
    let call = match call {
        Ok(call) => call,
        Err(flaw) => return Ok((malformed(&flaw), Exit::Failed)),
    };
    let is_tcp = call.protocol() == CallProtocol::Tcp;
    let sni = options.sni.as_deref().or(match call.upgrade() {
        _ if is_tcp => Some(options.url.as_str()),
        // Its host is where the tunnel leads, not whom the handshake asks for.
        Some(Upgrade::Connect) => None,
        _ => Some(call.host()),
    });
    let arrival = Arrival {
        listener,
        port,
        source: options.source.to_canonical(),
        sni,
        passed: is_tcp && sni.is_some_and(|name| routes.passes(listener, name)),
        identity: identity.as_ref(),
    };
    let standings = match routes.explain(&call, &arrival) {
        Ok(standings) => standings,
        Err(flaw) => return Ok((malformed(&flaw.to_string()), Exit::Failed)),
    };
    Ok(answer(&routes, &call, &arrival, &standings))
}

/// The listener of that name with its port.
fn listener<'a>(options: &TestOptions, enforcer: &'a Enforcer) -> Result<(&'a str, u16), Message> {
    let mut listeners = enforcer.listeners.iter();
    let found = match &options.listener {
        Some(name) => listeners.find(|listener| listener.name == *name),
        None => listeners.next(),
    };
    let port = |listener: &Listener| {
        listener.bind.iter().chain(&listener.quic).next().map_or(0, std::net::SocketAddr::port)
    };
    found.map(|listener| (listener.name.as_str(), port(listener))).ok_or_else(|| {
        let name = options.listener.as_deref().unwrap_or_default();
        let names: Vec<_> = enforcer.listeners.iter().map(|listener| listener.name.as_str()).collect();
        let mut fault = Message::error("PC0104", format!("`{name}` names no listener"));
        fault.label = nearest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        fault.help(format!("listeners are {}", names.join(", ")))
    })
}

/// The call as a listener would read it, or the rule that it breaks.
fn call(options: &TestOptions) -> Result<Result<Call, String>, String> {
    match options.method.as_str() {
        "TCP" => return Ok(Ok(Call::tcp())),
        "CONNECT" => return Ok(tunnel(&options.url)),
        _ => {}
    }
    let rooted = options.url.starts_with('/');
    let url = if rooted { format!("https://localhost{}", options.url) } else { options.url.clone() };
    let uri: Uri = url.parse().map_err(|cause| format!("`{}` is no URL: {cause}", options.url))?;
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(format!("`{}` is no URL with http:// or https://, and no path", options.url)),
    };
    let mut request =
        http::Request::builder().method(options.method.as_str()).uri(uri).version(Version::HTTP_2);
    for field in &options.headers {
        let (name, value) = field.split_once(':').ok_or_else(|| format!("`{field}` is not NAME: VALUE"))?;
        let name: HeaderName =
            name.trim().to_ascii_lowercase().parse().map_err(|cause| format!("`{field}`: {cause}"))?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes())
            .map_err(|cause| format!("`{field}`: {cause}"))?;
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).map_err(|cause| cause.to_string())?.into_parts();
    Ok(Call::from_parts(&parts, false, &Transport::new(scheme)).map_err(|flaw| flaw.to_string()))
}

/// What asks for a tunnel, as an HTTP/1 caller sends it.
fn tunnel(target: &str) -> Result<Call, String> {
    let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
    let mut parser = RequestParser::new(Limits::default());
    match parser.parse(&mut BytesMut::from(head.as_bytes())) {
        Parse::Done(head) => {
            Call::from_h1(head, &Transport::new(Scheme::Https)).map_err(|flaw| flaw.to_string())
        }
        Parse::Refused(flaw) => Err(flaw.to_string()),
        Parse::Incomplete => Err(format!("`{target}` is no HOST:PORT")),
    }
}

fn malformed(flaw: &str) -> Answer {
    let text = format!(
        "no route is asked: {flaw}\nThe call is refused with 400 before any route or policy sees it."
    );
    Answer::object("RouteTest", json!({ "found": Value::Null, "malformed": flaw }), text)
}

fn answer(routes: &Routes, call: &Call, arrival: &Arrival<'_>, standings: &[Standing]) -> (Answer, Exit) {
    let found = routes.find(call, arrival);
    let shown = standings.iter().map(|standing| {
        let (verdict, why) = match &standing.verdict {
            Verdict::Taken => ("taken", String::new()),
            Verdict::Outranked => {
                ("outranked", "it would take the call too; the other ranks higher".to_owned())
            }
            Verdict::Unmet(unmet) => ("unmet", format!("asks that {unmet}")),
        };
        json!({ "route": &*standing.route, "verdict": verdict, "why": why })
    });
    let shown: Vec<Value> = shown.collect();
    let (head, target, exit) = match found {
        Found::Target(target) => (taken(call, target), described(call, target), Exit::Done),
        Found::UnknownMethod => {
            let text = match call.grpc() {
                Some((service, method)) => {
                    format!("no service registers {service}/{method}: UNIMPLEMENTED (12)")
                }
                None => "the path is no gRPC method: UNIMPLEMENTED (12)".to_owned(),
            };
            (text, Value::Null, Exit::Failed)
        }
        Found::UnknownRoute | Found::Unreadable(_) => {
            ("no route takes it: 404".to_owned(), Value::Null, Exit::Failed)
        }
    };
    let mut text = head;
    for standing in &shown {
        let of = |key: &str| standing.get(key).and_then(Value::as_str).unwrap_or_default();
        if of("verdict") != "taken" {
            text.push_str(&format!("\n  not {}: {}", of("route"), of("why")));
        }
    }
    let document = json!({ "found": target, "routes": shown });
    (Answer::object("RouteTest", document, text), exit)
}

fn resource(target: &Target) -> String {
    match &target.kind {
        TargetKind::Route => format!("Route::\"{}\"", target.route.name),
        TargetKind::Service => format!("Service::\"{}\"", target.route.service),
        TargetKind::Method(id) => format!("Method::\"{id}\""),
    }
}

fn params(route: &Route, call: &Call) -> Vec<(String, String)> {
    let params = route.template.as_ref().map(|template| template.params(call.path())).unwrap_or_default();
    params.into_iter().map(|(name, value)| (name.to_string(), value.into())).collect()
}

fn taken(call: &Call, target: &Target) -> String {
    let route = &target.route;
    let kind = match call.protocol() {
        CallProtocol::Grpc => "grpc",
        CallProtocol::Tcp => "the connection",
        _ => call.method(),
    };
    let mut text = format!(
        "{kind} {}{} takes route {}\n  policies judge it as {}",
        call.authority(),
        call.path(),
        route.name,
        resource(target)
    );
    for (name, value) in params(route, call) {
        text.push_str(&format!("\n  context.request.params.{name} is \"{value}\""));
    }
    text.push_str(&handled(route, call));
    for (cluster, weight) in &route.to {
        let endpoints: Vec<_> = cluster.spec.places().collect();
        let share = if route.to.len() > 1 { format!(", weight {weight}") } else { String::new() };
        let part =
            if cluster.subset.is_empty() { String::new() } else { format!(", only {}", cluster.subset) };
        text.push_str(&format!("\n  to cluster {} ({}){part}{share}", cluster.name, endpoints.join(", ")));
    }
    text
}

/// What becomes of the call, where it is not simply handed on.
fn handled(route: &Route, call: &Call) -> String {
    let handling = &route.handling;
    match &handling.reply {
        Some(ReplySpec::Redirect { status, .. }) => {
            return format!("\n  answered with {status} to {}", handling.location(call));
        }
        Some(ReplySpec::Direct { status, .. }) => {
            return format!("\n  answered with {status} by the gateway");
        }
        None => {}
    }
    if let Some(location) = handling.canonical_location(call) {
        return format!("\n  answered with 308 to {location}, the canonical form of its path");
    }
    let mut text = String::new();
    if let Some(sent) = call.sent_path() {
        text.push_str(&format!("\n  its path was sent as {sent}"));
    }
    if let Some(path) = handling.path(call.path()) {
        text.push_str(&format!("\n  the upstream receives path {path}"));
    }
    if let Some(host) = handling.host() {
        text.push_str(&format!("\n  the upstream receives host {host}"));
    }
    if !handling.request.is_empty() {
        text.push_str("\n  header fields of the request are changed");
    }
    text
}

fn described(call: &Call, target: &Target) -> Value {
    let clusters = target.route.to.iter().map(|(cluster, weight)| {
        let endpoints: Vec<_> = cluster.spec.places().collect();
        let subset = Some(&cluster.subset).filter(|subset| !subset.is_empty()).map(ToString::to_string);
        json!({ "cluster": &*cluster.name, "weight": weight, "endpoints": endpoints, "subset": subset })
    });
    let handling = &target.route.handling;
    let redirect =
        matches!(handling.reply, Some(ReplySpec::Redirect { .. })).then(|| handling.location(call));
    let params = params(&target.route, call).into_iter().map(|(name, value)| (name, value.into()));
    json!({
        "route": &*target.route.name,
        "service": &*target.route.service,
        "resource": resource(target),
        "params": params.collect::<serde_json::Map<_, _>>(),
        "to": clusters.collect::<Value>(),
        "upstream": handling.path(call.path()).filter(|_| handling.reply.is_none()),
        "location": redirect,
    })
}
