//! What was judged is what the origin received (IN6, TM-02): the decision on record beside how the origin read the call,
//! over HTTP/1 and HTTP/2, for odd and random requests. One trial per kind of origin.

mod origins;
mod requests;

use std::collections::HashMap;
use std::time::Instant;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::frames::{
    self, ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    block, frame, setting,
};
use tests::peers::program;
use tests::wire::{Caller, Heard, PATIENCE, Wire};
use tests::{Gateway, Result, check};

use crate::trial;
use origins::Origin;
use requests::Request;

pub(crate) fn trials() -> Vec<Trial> {
    let lacks = |name: &str| program(name).is_none().then(|| format!("{name} is not installed"));
    vec![
        trial("tm_02_our_own_origin_receives_what_was_judged", None, || both(&Origin::own())),
        trial("tm_02_nginx_receives_what_was_judged", lacks("nginx"), || both(&Origin::nginx()?)),
        trial("tm_02_haproxy_receives_what_was_judged", lacks("haproxy"), || both(&Origin::haproxy()?)),
        trial("tm_02_node_receives_what_was_judged", lacks("node"), || both(&Origin::node()?)),
        trial(
            "hv_08_what_policies_read_of_fields_and_queries_is_text_or_the_call_is_refused",
            None,
            read_as_text,
        ),
        trial("tm_02_python_receives_what_was_judged", None, || both(&Origin::python()?)),
    ]
}

/// Reads of one header and one parameter, so that their values are on record.
const POLICY: &str = r#"
@id("all") permit (principal == Workload::"spiffe://example.org/web", action in Action::"call", resource);
@id("header") forbid (principal, action in Action::"call", resource)
when { context has request && context.request.headers has "x-odd" && context.request.headers["x-odd"] == ["never"] };
@id("query") forbid (principal, action in Action::"call", resource)
when { context has request && context.request.query has "q" && context.request.query["q"] == ["never"] };
"#;

/// Declares them.
const SCHEMA: &str = "type SiteHeaders = { \"x-odd\"?: Set<String> };\ntype SiteQuery = { \"q\"?: Set<String> };\n\
                      type SiteParams = {};\ntype SiteClaims = {};\n";

/// Random requests per protocol; more with PORTCULLIS_TEST_SCALE.
const RANDOM: u64 = 120;

/// On a route that takes canonical paths alone, and on one that takes every other spelling too.
fn both(origin: &Origin) -> Result {
    same(origin, "")?;
    same(origin, "path_mode = \"rewrite\"\nencoded_slash = \"keep\"\npath_params = \"keep\"\n")
}

fn same(origin: &Origin, lenient: &str) -> Result {
    let gateway = Gateway::build()
        .policy(POLICY)
        .file("policies/site.cedarschema", SCHEMA)
        .decisions("reveal_decision_id = \"always\"")
        .service("site", &[])
        .section(&format!(
            "[[enforcer.route]]\nname = \"site\"\nservice = \"site\"\nmatch = {{ path = \"/\" }}\n{lenient}to = [\"http://{}\"]",
            origin.address()
        ))
        .start()?;
    let tls = gateway.identity()?;
    let (old, new) =
        (Caller::new(gateway.address, &tls, b"http/1.1")?, Caller::new(gateway.address, &tls, b"h2")?);
    let scale = std::env::var("PORTCULLIS_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
    let seed = std::env::var("PORTCULLIS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let random = (0..RANDOM * scale).map(|nth| Request::random(seed * 1_000_003 + nth));
    let requests: Vec<_> = requests::odd().into_iter().chain(random).collect();
    let mut told = Vec::new();
    let (mut refused, mut declined) = (0, 0);
    for request in &requests {
        for (version, caller) in [("http/1", &old), ("http/2", &new)] {
            let mut wire = caller.dial()?;
            let (status, answer) = match version {
                "http/1" => over_http1(&mut wire, request)?,
                _ => over_http2(&mut wire, request)?,
            };
            let received = origin.received();
            let about = || format!("{version}, `PORTCULLIS_SEED={seed}`: {request:?}");
            match answer.get("method") {
                Some(_) => told.push((about(), request, answer)),
                None if answer["type"].is_string() || status == 0 => {
                    check!(received == 0, "{}: refused with {status} and received", about());
                    refused += 1;
                }
                // The origin itself takes no such method.
                None => declined += 1,
            }
        }
    }
    println!(
        "{}: {} received, {refused} refused, {declined} declined by the origin",
        origin.name,
        told.len()
    );
    check!(
        told.len() > requests.len(),
        "too few calls were served: {} of {}",
        told.len(),
        requests.len() * 2
    );
    let records = records(&gateway, told.len())?;
    let mut rewritten = 0;
    for (about, request, answer) in told {
        let id =
            header(&answer, "portcullis-decision-id").ok_or_else(|| format!("{about}: no decision id"))?;
        let record = records.get(&id).ok_or_else(|| format!("{about}: no record of {id}"))?;
        let (judged, received) = (judged(record), received(&answer));
        check!(
            judged == received,
            "{about}:\n  judged   {judged}\n  received {received}\n  {}",
            record["request"]
        );
        let (mut sent, arrived) = (request.told(), arrived(&answer));
        if let Some(canonical) = request.canonical_path().filter(|_| !lenient.is_empty()) {
            rewritten += usize::from(sent["path"] != canonical.as_str());
            sent["path"] = canonical.into();
        }
        check!(sent == arrived, "{about}:\n  sent     {sent}\n  received {arrived}");
    }
    check!((rewritten > 5) != lenient.is_empty(), "{rewritten} paths were rewritten");
    Ok(())
}

/// A value that is no text must not hide its header from a policy.
fn read_as_text() -> Result {
    let origin = Origin::own();
    let gateway = Gateway::build()
        .policy(&format!("{POLICY}@id(\"none\") forbid (principal, action in Action::\"call\", resource)\nwhen {{ context has request && context.request.headers has \"x-odd\" }};\n"))
        .file("policies/site.cedarschema", SCHEMA)
        .site(origin.address())
        .start()?;
    let tls = gateway.identity()?;
    let (old, new) =
        (Caller::new(gateway.address, &tls, b"http/1.1")?, Caller::new(gateway.address, &tls, b"h2")?);
    for (value, status) in [("text", 403), ("caf\u{e9}", 400), ("\u{c3}\u{a9}", 400)] {
        let request = requests::with(&[("x-odd", value)]);
        let (_, problem) = over_http2(&mut new.dial()?, &request)?;
        let answered = [
            over_http1(&mut old.dial()?, &request)?.0,
            u16::try_from(problem["status"].as_u64().unwrap_or(0))?,
        ];
        check!(answered == [status; 2], "{value:?}: {answered:?}");
    }
    for (query, status) in [("q=never", 403), ("q=%ff", 400), ("%71=never%c3", 400)] {
        let request = requests::asking(query);
        let (_, problem) = over_http2(&mut new.dial()?, &request)?;
        let answered = [
            over_http1(&mut old.dial()?, &request)?.0,
            u16::try_from(problem["status"].as_u64().unwrap_or(0))?,
        ];
        check!(answered == [status; 2], "{query:?}: {answered:?}");
    }
    check!(origin.received() == 0, "a refused call was received");
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_gate_refused_total{class=\"H1-11\"} 8"), "not counted");
    Ok(())
}

/// What of a call stands in its record.
fn judged(record: &Value) -> Value {
    let request = &record["request"];
    json!({
        "method": request["method"],
        "host": request["host"],
        "path": request["path"],
        "x-odd": set(texts(&request["headers"]["x-odd"])),
        "q": set(texts(&request["query"]["q"])),
    })
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

/// What policies see of values: neither their order nor how often each comes.
fn set(mut values: Vec<String>) -> Vec<String> {
    values.sort_unstable();
    values.dedup();
    values
}

/// The same as the origin read it.
fn received(answer: &Value) -> Value {
    let host = header(answer, "host").unwrap_or_default();
    json!({
        "method": answer["method"],
        "host": host.split(':').next(),
        "path": answer["path"],
        "x-odd": set(headers(answer, "x-odd")),
        "q": set(requests::parameters(answer["query"].as_str().unwrap_or_default(), "q")),
    })
}

/// What arrived of all that the caller sent.
fn arrived(answer: &Value) -> Value {
    let ours = |name: &str| {
        name.starts_with("portcullis-")
            || ["x-forwarded-client-cert", "host", "connection", "content-length", "transfer-encoding"]
                .contains(&name)
    };
    let mut fields: Vec<_> = answer["headers"].as_array().cloned().unwrap_or_default();
    fields.retain(|field| !ours(field[0].as_str().unwrap_or_default()));
    fields.sort_by_key(ToString::to_string);
    json!({ "method": answer["method"], "path": answer["path"], "query": answer["query"], "headers": fields, "body": answer["body"] })
}

fn headers(answer: &Value, name: &str) -> Vec<String> {
    let fields = answer["headers"].as_array().into_iter().flatten();
    fields.filter(|field| field[0] == name).filter_map(|field| Some(field[1].as_str()?.to_owned())).collect()
}

fn header(answer: &Value, name: &str) -> Option<String> {
    headers(answer, name).pop()
}

/// All decisions by id.
fn records(gateway: &Gateway, least: usize) -> Result<HashMap<String, Value>> {
    let mut found = HashMap::new();
    let mut cursor = None::<String>;
    loop {
        let mut words = vec!["decisions", "query", "--limit", "1000", "--effect", "allow"];
        if let Some(cursor) = &cursor {
            words.extend(["--cursor", cursor]);
        }
        let page = gateway.json(&words)?;
        for record in page["items"].as_array().into_iter().flatten() {
            let id = record["id"].as_str().or(record["decision_id"].as_str()).ok_or("a record without id")?;
            found.insert(id.to_owned(), record.clone());
        }
        match page["next_cursor"].as_str().or(page["cursor"].as_str()) {
            Some(next) if Some(next) != cursor.as_deref() => cursor = Some(next.to_owned()),
            _ => break,
        }
    }
    check!(found.len() >= least, "{} of {least} decisions are on record", found.len());
    Ok(found)
}

fn over_http1(wire: &mut Wire, request: &Request) -> Result<(u16, Value)> {
    wire.send(&request.http1());
    match wire.hear(false, PATIENCE)? {
        Heard::Reply(reply) => Ok((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())),
        other => Err(format!("{request:?}: {other:?}").into()),
    }
}

/// Status 0 is a stream that was reset.
fn over_http2(wire: &mut Wire, request: &Request) -> Result<(u16, Value)> {
    let fields = request.http2();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let end = if request.body.is_empty() { END_STREAM } else { 0 };
    let open = [
        frame(SETTINGS, 0, 0, &setting(4, 1 << 24)),
        frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()),
    ]
    .concat();
    wire.send(&[PREFACE, &open, &frame(HEADERS, END_HEADERS | end, 1, &block(&fields))].concat());
    let mut parts = request.body.chunks(request.piece).peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() { END_STREAM } else { 0 };
        wire.send(&frame(DATA, end, 1, part));
    }
    let until = Instant::now() + PATIENCE;
    let (mut body, mut status) = (Vec::new(), None);
    while status.is_none() {
        while let Some((kind, flags, stream, payload, length)) = frames::first(wire.unread()) {
            if kind == DATA && stream == 1 {
                body.extend_from_slice(payload);
            }
            if stream == 1 && (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
                status = Some(200);
            } else if kind == RST_STREAM || kind == GOAWAY {
                status = status.or(Some(0));
            }
            let greets = kind == SETTINGS && flags & ACK == 0;
            wire.unread().drain(..length);
            if greets {
                wire.send(&frame(SETTINGS, ACK, 0, &[]));
            }
        }
        let more = if status.is_none() {
            wire.more(until).map_err(|error| format!("{request:?}: {error}"))?
        } else {
            1
        };
        if more == 0 {
            return Err(format!("{request:?}: closed").into());
        }
    }
    Ok((status.unwrap_or_default(), serde_json::from_slice(&body).unwrap_or_default()))
}
