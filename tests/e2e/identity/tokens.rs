//! JWT-SVIDs as workloads and verifiers meet them: py-spiffe on the Workload API, PyJWT over the discovery document,
//! the commands, and what is on record.

use std::io::Write;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::{missing, missing_module};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use super::plain;
use crate::{certificates, trial};

pub(super) fn trials() -> Vec<Trial> {
    let spiffe = || missing_module("spiffe");
    let pyjwt = || missing_module("jwt").or_else(|| missing("openssl"));
    vec![
        trial("wa_10_py_spiffe_fetches_tokens_and_both_it_and_the_agent_judge_them", spiffe(), fetched),
        trial("oi_01_pyjwt_verifies_a_token_by_the_discovery_document", pyjwt(), discovered),
        trial("threat_wa8_no_forgery_passes_the_agent_or_pyjwt", pyjwt().or_else(spiffe), forged),
        trial("tokens_outlive_a_restart_and_are_on_record_before_they_are_out", None, recorded),
        trial("tl_06_a_token_of_the_agent_names_its_caller_at_the_gateway", missing("curl"), named),
        trial("svid_commands_fetch_judge_and_show_tokens", None, commands),
    ]
}

fn token_of(gateway: &Gateway, audience: &str) -> Result<String> {
    let fetched =
        gateway.json(&["svid", "fetch", "--audience", audience, "--socket", &gateway.workload_socket()])?;
    Ok(fetched["items"][0]["token"].as_str().ok_or("no token")?.to_owned())
}

fn fetched() -> Result {
    let gateway = plain()?;
    let said = Script::run("spiffe_client", &["tokens", &gateway.workload_socket(), "orders"])?;
    let (tokens, foreign): (Vec<_>, Vec<_>) = said.iter().partition(|line| line.get("token").is_some());
    check!(tokens.len() == 1, "{said:?}");
    let token = tokens[0];
    check!(token["id"] == "spiffe://example.org/web" && token["agrees"] == true, "{token}");
    check!(token["audience"] == serde_json::json!(["orders"]), "{token}");
    check!(token["keys"].as_array().is_some_and(|keys| keys.len() == 1), "{token}");
    let authorities = gateway.json(&["ca", "show"])?;
    let key = authorities["items"].as_array().into_iter().flatten().find(|key| key["kind"] == "jwt");
    check!(key.is_some_and(|key| key["key_id"] == token["keys"][0]), "{authorities}");
    check!(foreign.len() == 2, "{said:?}");
    for line in foreign {
        check!(line["error"].as_str().is_some_and(|error| error.contains("PERMISSION_DENIED")), "{line}");
    }
    Ok(())
}

/// A gateway with discovery over TLS, its issuer, and the certificate to trust.
fn published(dir: &Path) -> Result<(Gateway, String, String)> {
    certificates::make(dir, "oidc", "DNS:localhost")?;
    let port = free_port();
    let (issuer, file) = (format!("https://localhost:{port}/spiffe"), dir.join("oidc"));
    let section = format!(
        "[oidc]\nissuer = \"{issuer}\"\nlisten = \"https://127.0.0.1:{port}\"\n\
         [oidc.certificate]\nchain = \"{0}.pem\"\nkey = \"{0}.key\"\n",
        file.display()
    );
    let gateway = Gateway::build().section(&section).start()?;
    Ok((gateway, issuer, format!("{}.pem", file.display())))
}

fn discovered() -> Result {
    let home = tempfile::tempdir()?;
    let (gateway, issuer, roots) = published(home.path())?;
    let token = token_of(&gateway, "orders")?;
    let said = Script::run("jwt_client", &["verify", &issuer, &roots, "orders", &token])?;
    let document = &said[0]["document"];
    check!(document["issuer"] == issuer.as_str(), "{document}");
    check!(document["jwks_uri"] == format!("{issuer}/keys"), "{document}");
    check!(said[0]["content-type"] == "application/json", "{}", said[0]);
    check!(said[0]["cache-control"] == "no-store", "{}", said[0]);
    let claims = &said[1]["claims"];
    check!(claims["sub"] == "spiffe://example.org/web" && claims["iss"] == issuer.as_str(), "{claims}");
    let life = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    check!(life == Some(300), "{claims}");
    check!(said[2]["error"] == "InvalidAudienceError", "{said:?}");
    check!(said[3]["error"] == "InvalidIssuerError", "{said:?}");
    Ok(())
}

fn forged() -> Result {
    let home = tempfile::tempdir()?;
    let (gateway, issuer, roots) = published(home.path())?;
    let token = token_of(&gateway, "orders")?;
    let forgeries = Script::run("jwt_client", &["forge", &format!("{issuer}/keys"), &roots, &token])?;
    check!(forgeries.len() >= 19, "{}", forgeries.len());
    let taken: Vec<_> = forgeries
        .iter()
        .filter(|line| line["pyjwt"].as_str().is_some_and(|said| said.contains("://")))
        .collect();
    check!(taken.is_empty(), "PyJWT takes {taken:?}");
    let mut lines = format!("good {token}\n");
    for line in &forgeries {
        let (name, token) = (line["name"].as_str().ok_or("no name")?, line["token"].as_str().ok_or("none")?);
        lines.push_str(&format!("{name} {token}\n"));
    }
    let file = home.path().join("tokens");
    std::fs::write(&file, lines)?;
    let arguments = ["judge", &gateway.workload_socket(), "orders", &file.display().to_string()];
    let judged = Script::run("spiffe_client", &arguments)?;
    check!(judged.len() == forgeries.len() + 1, "{judged:?}");
    for line in &judged {
        if line["name"] == "good" {
            check!(line["id"] == "spiffe://example.org/web", "{line}");
        } else {
            let refused = line["error"].as_str().is_some_and(|error| error.contains("INVALID_ARGUMENT"));
            check!(refused, "{line}");
        }
    }
    Ok(())
}

fn recorded() -> Result {
    let mut gateway = plain()?;
    let token = token_of(&gateway, "orders")?;
    let file = gateway.dir().join("token.jwt");
    std::fs::write(&file, &token)?;
    let events = gateway.decisions(&["--kind", "authority"])?;
    let told = events.iter().find(|event| event.to_string().contains("\"token_issued\""));
    let told = told.ok_or_else(|| format!("no token is on record: {events:?}"))?.to_string();
    let decided = gateway.decisions(&["--action", "identity:issue"])?;
    let decision = decided.iter().find(|one| one["id"].as_str().is_some_and(|id| told.contains(id)));
    let decision = decision.ok_or_else(|| format!("{told} names none of {decided:?}"))?;
    check!(decision["effect"] == "allow" && decision["audit"] == "durable", "{decision}");
    gateway.restart()?;
    let socket = gateway.workload_socket();
    let path = file.display().to_string();
    let validated =
        gateway.json(&["svid", "validate", "--audience", "orders", "--socket", &socket, &path])?;
    check!(validated["spiffe_id"] == "spiffe://example.org/web", "{validated}");
    for entry in walk(&gateway.dir().join("data"))? {
        let bytes = std::fs::read(&entry)?;
        let holds = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        check!(!holds, "the token stands in {}", entry.display());
    }
    check!(!gateway.log().contains(&token), "the token stands in the log");
    Ok(())
}

/// A caller without a certificate, at a listener that takes tokens.
fn named() -> Result {
    let origin = Upstream::echo();
    let gateway = Gateway::build()
        .listener("client_auth = \"optional\"\naudience = [\"orders\"]")
        .site(origin.address)
        .start()?;
    let roots = gateway.identity()?.join("bundle.pem");
    let ask = |token: &str, version: &str| -> Result<(String, String)> {
        let output = std::process::Command::new("curl")
            .args(["-sS", "-i", "--max-time", "10", version, "--cacert"])
            .arg(&roots)
            .args(["-H", &format!("authorization: Bearer {token}")])
            .arg(format!("https://localhost:{}/", gateway.address.port()))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((text.split(' ').nth(1).unwrap_or_default().to_owned(), text))
    };
    let token = token_of(&gateway, "orders")?;
    for version in ["--http1.1", "--http2"] {
        let (status, text) = ask(&token, version)?;
        check!(status == "200", "{version}: {text}");
        let heard = origin.last();
        check!(heard.contains("portcullis-peer: spiffe://example.org/web"), "{version}: {heard}");
        check!(!heard.to_lowercase().contains("authorization"), "{version}: the token is passed on: {heard}");
        let record = gateway.decisions(&["--action", "http:GET", "--limit", "1"])?;
        let record = record.first().ok_or("no record")?;
        check!(record["credential"]["kind"] == "jwt", "{version}: {record}");
        check!(!record.to_string().contains(&token), "{version}: the token is on record");
    }
    let (status, text) = ask(&token_of(&gateway, "others")?, "--http2")?;
    check!(status == "401" && text.contains("Bearer error=\"invalid_token\""), "{text}");
    let record = gateway.decisions(&["--action", "http:GET", "--limit", "1"])?;
    let record = record.first().ok_or("no record")?;
    check!(record["reason"] == "token_invalid" && record["detail"] == "wrong_audience", "{record}");
    gateway.json(&["svid", "revoke", "--id", "spiffe://example.org/web", "--reason", "lost", "--yes"])?;
    let (status, text) = ask(&token, "--http1.1")?;
    check!(status == "401", "a revoked caller is served: {text}");
    Ok(())
}

/// Every file below a directory.
fn walk(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => files.extend(walk(&entry.path())?),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    Ok(files)
}

fn commands() -> Result {
    let gateway = plain()?;
    let socket = gateway.workload_socket();
    let fetched = gateway.json(&[
        "svid",
        "fetch",
        "--audience",
        "orders",
        "--audience",
        "billing",
        "--id",
        "spiffe://example.org/web",
        "--socket",
        &socket,
    ])?;
    let item = &fetched["items"][0];
    check!(item["audience"] == serde_json::json!(["billing", "orders"]), "{fetched}");
    check!(item["expired"] == false && item["algorithm"] == "ES256", "{fetched}");
    let token = item["token"].as_str().ok_or("no token")?;
    let file = gateway.dir().join("token.jwt");
    std::fs::File::create(&file)?.write_all(format!("{token}\n").as_bytes())?;
    let path = file.display().to_string();
    let validate = |audience: &str| {
        gateway.cli(&["svid", "validate", "--audience", audience, "--socket", &socket, &path, "-o", "json"])
    };
    let valid = validate("billing")?;
    let said: Value = serde_json::from_str(&valid.stdout)?;
    check!(valid.code == 0 && said["claims"]["sub"] == "spiffe://example.org/web", "{valid:?}");
    check!(said["claims"]["exp"].is_i64(), "{said}");
    let other = validate("shipping")?;
    check!(other.code == 3 && other.stdout.contains("another audience"), "{other:?}");
    let shown = gateway.json(&["svid", "inspect", &path])?;
    check!(shown["items"][0]["spiffe_id"] == "spiffe://example.org/web", "{shown}");
    check!(shown["items"][0]["key_id"] == item["key_id"], "{shown}");
    let nobody = gateway.cli(&[
        "svid",
        "fetch",
        "--audience",
        "orders",
        "--id",
        "spiffe://example.org/nobody",
        "--socket",
        &socket,
    ])?;
    check!(nobody.code == 69, "{nobody:?}");
    let wrong =
        gateway.cli(&["svid", "fetch", "--audience", "orders", "--id", "web", "--socket", &socket])?;
    check!(wrong.code == 64, "{wrong:?}");
    Ok(())
}
