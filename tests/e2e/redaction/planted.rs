//! Secrets planted wherever a call can carry one, and looked for wherever a gateway writes or tells (RE5, DL4).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};

use serde_json::json;
use tests::{Gateway, Result, check};

use super::{places, written};

/// Of a call and of its answer. None is part of another.
const HEADERS: [(&str, &str); 6] = [
    ("authorization", "Bearer planted-authorization"),
    ("cookie", "session=planted-cookie"),
    ("set-cookie", "session=planted-set-cookie-of-the-caller"),
    ("proxy-authorization", "Basic planted-proxy-authorization"),
    ("x-api-key", "planted-api-key"),
    ("x-token", "planted-dropped-header"),
];
/// A token in the form of a JWT.
const JWT: &str =
    "eyJhbGciOiJFUzI1NiIsImtpZCI6InBsYW50ZWQifQ.eyJzdWIiOiJwbGFudGVkLXN1YmplY3QifQ.cGxhbnRlZC1zaWduYXR1cmU";
const QUERY: &str = "planted-query-token";
const BODY: &str = "planted-request-body";
const ANSWER_COOKIE: &str = "planted-cookie-of-the-answer";
const ANSWER_BODY: &str = "planted-body-of-the-answer";

/// The site reads what it may: a schema that declares one of the other headers is refused.
const SCHEMA: &str = r#"type SiteHeaders = { "x-token"?: Set<String>, "origin"?: Set<String> };
type SiteQuery = { "token"?: Set<String>, "page"?: Set<String> };
type SiteParams = {};
type SiteClaims = {};
"#;

const POLICY: &str = r#"
@id("all") permit (principal == Workload::"spiffe://example.org/web", action in Action::"call", resource);
@id("never") forbid (principal, action in Action::"call", resource)
when { context has request && context.request.query has "token" && context.request.query["token"] == ["never"] };
"#;

pub(super) fn secrets() -> Result {
    let mut gateway = Gateway::build()
        .policy(POLICY)
        .file("policies/site.cedarschema", SCHEMA)
        .decisions("drop = [\"request.query.token\", \"request.headers.X-Token\"]")
        .enforcer("trail = \"data/calls.json\"")
        .env("PORTCULLIS_ADMIN__LOG", "debug")
        .site(origin())
        .start()?;
    let other = gateway.dir().join("other");
    std::fs::create_dir(&other)?;
    let schema = other.join("site.cedarschema");
    for (name, _) in &HEADERS[..5] {
        std::fs::write(&schema, SCHEMA.replace("x-token", name))?;
        let refused = gateway.cli(&["schema", "validate", &schema.display().to_string()])?;
        check!(refused.code == 3 && refused.stderr.contains("carries credentials"), "{name}: {refused:?}");
    }
    let tls = gateway.identity()?;
    let token = gateway.json(&["agent", "token"])?;
    let token = token["token"].as_str().ok_or("no join token")?.to_owned();

    let headers: Vec<String> = HEADERS.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut carried: Vec<&str> = headers.iter().flat_map(|header| ["-H", header]).collect();
    let origin = ["-H", "origin: https://seen.example"];
    carried.extend(origin);
    // Enough for blocks of a segment, over both protocols.
    for (version, calls) in [("--http2", 200), ("--http1.1", 100)] {
        let path = format!("/orders?token={QUERY}&page=[1-{calls}]");
        let (_, told) = gateway.curl(&tls, &path, &[&[version, "-o", "/dev/null"], &carried[..]].concat())?;
        check!(told.matches("200").count() == calls - 1, "{version}: {told}");
    }
    let jwt = format!("authorization: Bearer {JWT}");
    let path = format!("/orders?token={QUERY}");
    for more in [
        ["-d", BODY].as_slice(),
        &["-H", &jwt],
        &["-H", &jwt, "--http1.1"],
        // Refused before and by the policies, and for their form.
        &["-X", "BREW"],
        &["-H", "x-token: \u{e9}planted-dropped-header"],
        &["-H", "transfer-encoding: planted-api-key"],
    ] {
        gateway.curl(&tls, &path, &[&carried[..], more].concat())?;
    }
    for path in
        [format!("/a/../b?token={QUERY}"), format!("/%zz?token={QUERY}"), "/orders?token=never".into()]
    {
        gateway.curl(&tls, &path, &[&["--path-as-is"], &carried[..]].concat())?;
    }
    // A join token that nobody gave out, and one that comes without a request for a certificate.
    for token in ["planted-join-token", &token] {
        let attest =
            json!({ "evidence": { "type": "join_token", "token": token }, "csr": "bm8gcmVxdWVzdA==" });
        let bearer = [("authorization", format!("Bearer {JWT}"))];
        let bearer = bearer.each_ref().map(|(name, value)| (*name, value.as_str()));
        let refused = gateway.ask("POST", "/v1/agents:attest", &bearer, Some(&attest))?;
        check!(refused.status >= 400, "{refused:?}");
    }

    let wanted = ["--since", "1h", "--all"];
    let mut told = vec![("the log".to_owned(), String::new())];
    for command in [
        ["decisions", "query", "-o", "json", "--limit", "1000"].as_slice(),
        &["decisions", "export", "--format", "ndjson"],
        &["decisions", "export", "--format", "csv"],
    ] {
        let outcome = gateway.cli(&[command, &wanted].concat())?;
        check!(
            outcome.code == 0 && outcome.stdout.contains("seen.example") != command.contains(&"csv"),
            "{command:?}"
        );
        told.push((format!("{command:?}"), outcome.stdout));
    }
    let stats = gateway.cli(&["decisions", "stats", "--by", "principal,resource,reason", "-o", "json"])?;
    told.push(("stats".to_owned(), stats.stdout));
    let denied = gateway.decisions(&["--reason", "forbid"])?;
    let id = denied.first().and_then(|denied| denied["id"].as_str()).ok_or("no call was forbidden")?;
    for command in [["explain", id].as_slice(), &["decisions", "get", id], &["policy", "suggest", id]] {
        let outcome = gateway.cli(&[command, &["-o", "json"]].concat())?;
        told.push((format!("{command:?}"), outcome.stdout + &outcome.stderr));
    }
    let (_, metrics) = gateway.http("/metrics")?;
    told.push(("metrics".to_owned(), metrics));

    // What is left out is told by its length.
    let passed = gateway.decisions(&["--reason", "permit", "--limit", "1", "--action", "http:GET"])?;
    let cut = json!([
        { "field": "request.query.token", "length": 1 }, { "field": "request.headers.x-token", "length": 1 },
    ]);
    check!(passed[0]["truncated"] == cut, "{passed:?}");
    check!(passed[0]["request"]["headers"] == json!({ "origin": ["https://seen.example"] }), "{passed:?}");

    check!(gateway.terminate()?.success(), "{}", gateway.log());
    told[0].1 = gateway.log();
    let written = written(&gateway)?;
    let is_of_segment = |place: &&str| place.contains(".seg record");
    check!(places(&written, "seen.example").iter().any(is_of_segment), "the scan does not see into segments");
    let values = HEADERS.iter().map(|(_, value)| value.split([' ', '=']).next_back().unwrap_or(value));
    let parts = JWT.split('.');
    let others = [QUERY, BODY, ANSWER_COOKIE, ANSWER_BODY, "planted-join-token", "planted-subject", &token];
    for secret in values.chain(parts).chain(others) {
        let found = places(&written, secret);
        check!(found.is_empty(), "`{secret}` stands in {found:?}");
        for (name, text) in &told {
            if let Some(at) = text.find(secret) {
                let around = text.get(at.saturating_sub(200)..at + secret.len());
                return Err(format!("`{secret}` is told by {name}: {around:?}").into());
            }
        }
    }
    Ok(())
}

/// An upstream whose answers carry secrets.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let size = ANSWER_BODY.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nset-cookie: s={ANSWER_COOKIE}\r\ncontent-length: {size}\r\n\r\n{ANSWER_BODY}"
        )?;
    }
}
