//! Every way to be refused, explained by the shipped binary: each reads differently, with the values of the call.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::forge::{Forge, LEAF};
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::until;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let forging = missing("curl").or_else(|| missing("openssl"));
    vec![
        trial("ex4_refusals_before_any_policy_say_what_was_wrong", forging, before_policies),
        trial("ex4_refusals_by_policies_say_which_clause_and_who_to_ask", missing("curl"), by_policies),
        trial("ex1_a_denial_that_repeats_says_how_often_and_since_when", missing("curl"), repeated),
    ]
}

/// The text for the newest decision with that reason; waits until there is one.
fn explained(gateway: &Gateway, reason: &str) -> Result<String> {
    let id = until(&format!("a record with {reason}"), || {
        let found = gateway.decisions(&["--reason", reason])?;
        Ok(found.first().and_then(|record| record["id"].as_str()).map(str::to_owned))
    })?;
    let outcome = gateway.cli(&["explain", &id])?;
    check!(outcome.code == 0, "explain {reason} ended with {}: {outcome:?}", outcome.code);
    let json = gateway.json(&["explain", &id])?;
    check!(json["reason"] == reason, "{json}");
    let why = json["why"].as_str().unwrap_or_default();
    check!(
        !why.is_empty() && outcome.stdout.contains(&format!("\n why    {why}\n")),
        "{why}: {}",
        outcome.stdout
    );
    // What helps is a command that this binary takes.
    if let Some(fix) = json["fix"].as_array() {
        let words: Vec<&str> = fix.iter().skip(1).filter_map(Value::as_str).collect();
        let help = gateway.cli(&[&words[..1], &["--help"]].concat())?;
        check!(help.code == 0, "no such command: {words:?}");
        check!(
            outcome.stdout.contains(&format!("\n fix    portcullis {}", words.join(" "))),
            "{}",
            outcome.stdout
        );
    }
    Ok(outcome.stdout)
}

/// A call that is expected to come to nothing.
fn call(gateway: &Gateway, arguments: &[&str]) -> Result {
    let url = format!("https://localhost:{}/", gateway.address.port());
    Command::new("curl")
        .args(["-sSk", "--max-time", "10"])
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .output()?;
    Ok(())
}

fn before_policies() -> Result {
    let gateway = Gateway::build()
        .service("site", &[])
        .service("orders", &["shop.Orders/Get"])
        .route("site", "site", "{ path = \"/site\" }", &format!("http://{}", Upstream::echo().address))
        .route("orders", "orders", "{ grpc = \"shop.Orders/*\" }", "h2c://127.0.0.1:9")
        .start()?;
    let tls = gateway.identity()?;
    let mut seen = BTreeSet::new();
    let mut expect = |reason: &str, said: &[&str]| -> Result<String> {
        let text = explained(&gateway, reason)?;
        for said in said {
            check!(text.contains(said), "`{said}` is not said of {reason}: {text}");
        }
        let why = text.lines().nth(1).unwrap_or_default().to_owned();
        check!(seen.insert(why), "{reason} reads as another reason: {text}");
        Ok(text)
    };

    call(&gateway, &[])?;
    let text = expect(
        "no_identity",
        &[
            "the caller presented no certificate; listener public requires one",
            "  handshake ",
            "portcullis svid write",
        ],
    )?;
    check!(text.starts_with("DENY  anonymous -> "), "{text}");
    let newest = gateway.cli(&["explain", "--last-deny"])?;
    check!(newest.stdout.contains("presented no certificate"), "not the newest denial: {newest:?}");

    let forge = Forge::foreign(&gateway, "other.org", &tls)?;
    let leaf = forge.leaf("foreign", &format!("{LEAF}subjectAltName=URI:spiffe://other.org/web\n"))?;
    with_files(&gateway, &leaf)?;
    expect(
        "identity_untrusted",
        &["the certificate of the caller is not trusted here: unknown trust domain (listener public)"],
    )?;

    check!(gateway.curl(&tls, "/nowhere/at/all", &[])?.0 == 404, "a route where there is none");
    expect(
        "unknown_route",
        &[
            "no route matches GET /nowhere/at/all on host localhost",
            "(listener public)",
            "config explain enforcer.route",
        ],
    )?;
    let grpc = ["--http2", "-X", "POST", "-H", "content-type: application/grpc", "-H", "te: trailers"];
    gateway.curl(&tls, "/shop.Orders/Nope", &grpc)?;
    expect("unknown_method", &["no service offers shop.Orders/Nope", "config explain enforcer.service"])?;
    check!(gateway.curl(&tls, "/site/%2e%2e/x", &[])?.0 == 400, "a path that is not canonical");
    expect("not_canonical", &["the request is not in canonical form: ", "(rule CC-0", "GET /x  "])?;
    Ok(())
}

fn with_files(gateway: &Gateway, leaf: &Path) -> Result {
    let (cert, key) = (leaf.join("svid.pem"), leaf.join("svid.key"));
    call(gateway, &["--cert", &cert.display().to_string(), "--key", &key.display().to_string()])
}

const POLICIES: &str = r#"@id("read")
@owner("shop")
permit (principal == Workload::"spiffe://example.org/web", action in Action::"http", resource)
when { context.request.path != "/closed" };

@id("no-puts")
@owner("risk")
forbid (principal, action == Action::"http:PUT", resource);

@id("sums")
@owner("audit")
forbid (principal, action == Action::"http:PATCH", resource)
when { context.connection.mtls && context.connection.tls + 9223372036854775800 > 0 };
"#;

fn by_policies() -> Result {
    let gateway = Gateway::build().policy(POLICIES).site(Upstream::echo().address).start()?;
    let tls = gateway.identity()?;
    for (method, path) in [("PUT", "/"), ("PATCH", "/"), ("GET", "/closed")] {
        check!(gateway.curl(&tls, path, &["-X", method])?.0 == 403, "{method} {path} passed");
    }
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "GET / is refused");
    let forbid = explained(&gateway, "forbid")?;
    check!(
        forbid.contains("forbid matched: no-puts [") && forbid.contains("web.cedar:8]\n who    risk\n"),
        "{forbid}"
    );
    check!(!forbid.contains(" fix "), "a forbid is not lifted by a command: {forbid}");
    let error = explained(&gateway, "forbid_error")?;
    for said in [
        "forbid could not be evaluated: sums: integer overflow",
        "          condition  context.connection.mtls ",
        "error: integer overflow",
        "\n who    audit\n",
    ] {
        check!(error.contains(said), "`{said}` is not said: {error}");
    }
    let nothing = explained(&gateway, "no_permit")?;
    for said in [
        "no permit matched; nearest: read  [",
        r#"failed: request.path is "/closed""#,
        "\n who    shop\n",
        " fix    portcullis policy suggest ",
    ] {
        check!(nothing.contains(said), "`{said}` is not said: {nothing}");
    }
    let id = gateway.decisions(&["--reason", "permit", "--action", "http:GET"])?[0]["id"].clone();
    let allowed = gateway.cli(&["explain", id.as_str().unwrap_or_default()])?.stdout;
    let is_told = allowed.starts_with("ALLOW  web -> site  GET /   ")
        && allowed.contains(" why    permit matched: read\n");
    check!(is_told, "{allowed}");
    let clauses = gateway.cli(&["explain", id.as_str().unwrap_or_default(), "--all"])?.stdout;
    check!(
        clauses.contains(r#"condition  context.request.path != "/closed""#) && clauses.contains("matched"),
        "{clauses}"
    );
    Ok(())
}

fn repeated() -> Result {
    let gateway = Gateway::build()
        .policy(&super::permit("nobody", "nobody", 0))
        .site(Upstream::echo().address)
        .start()?;
    let tls = gateway.identity()?;
    let first = gateway.policies_version()?;
    for _ in 0..3 {
        check!(gateway.curl(&tls, "/", &[])?.0 == 403, "passed");
    }
    gateway.publish("web.cedar", &super::permit("still-nobody", "nobody", 0))?;
    check!(gateway.curl(&tls, "/", &["-X", "POST"])?.0 == 403, "passed");
    check!(gateway.curl(&tls, "/", &[])?.0 == 403, "passed");
    let denied = until("five denials", || {
        let denied = gateway.decisions(&["--deny", "--principal", "spiffe://example.org/web"])?;
        Ok((denied.len() == 5).then_some(denied))
    })?;
    let explain = |at: usize| gateway.json(&["explain", denied[at]["id"].as_str().unwrap_or_default()]);
    let newest = explain(0)?;
    check!(newest["who"]["last_hour"] == 4, "the same call, three times before: {newest}");
    check!(newest["who"]["policies"] == first, "first refused by v{first}: {newest}");
    check!(newest["who"]["since"] == denied[4]["time"], "since the first of them: {newest}");
    let text = newest["text"].as_str().unwrap_or_default();
    let said = format!(
        "refused 4 times in the last hour, since {}",
        &denied[4]["time"].as_str().unwrap_or_default()[..19]
    );
    check!(text.contains(&said) && text.contains(&format!("first by policies v{first}")), "{text}");
    // A POST is another call, and the first denial is no repeat.
    check!(
        explain(1)?["who"].is_null() && explain(4)?["who"].is_null(),
        "who: {} {}",
        explain(1)?,
        explain(4)?
    );
    Ok(())
}
