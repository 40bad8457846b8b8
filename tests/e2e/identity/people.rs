//! People as callers (TL-06, MO5): tokens of an issuer of OpenID Connect, whose keys are found by its discovery document.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::peers::{missing, missing_module};
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, Script, check};

use super::federation::web_certificate;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let peers = || missing_module("jwt").or_else(|| missing("curl"));
    vec![trial("mo5_a_person_calls_by_a_token_of_an_openid_connect_issuer", peers(), called)]
}

/// An issuer over https at `localhost`, and the keys it shows.
struct Idp {
    dir: tempfile::TempDir,
    url: String,
    _server: Script,
}

impl Idp {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        web_certificate(dir.path())?;
        let port = free_port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::write(path("rules.json"), "{}")?;
        let arguments = [&port.to_string(), &path("web.pem"), &path("web.key"), &path("rules.json")];
        let mut server = Script::start("bundle_server", &arguments.map(|text| &**text))?;
        server.next(Duration::from_secs(20))?;
        Ok(Self { url: format!("https://localhost:{port}/realms/corp"), dir, _server: server })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// From here on it shows a new key of that name alone.
    fn shows(&self, kid: &str) -> Result {
        let made = Script::run("people", &["key", &self.path().display().to_string(), kid])?;
        let keys = json!({ "keys": [made[0]["jwk"]] }).to_string();
        let about = json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) }).to_string();
        let rules = json!({
            "/realms/corp/.well-known/openid-configuration": { "body": about },
            "/realms/corp/keys": { "body": keys },
        });
        Ok(fs::write(self.path().join("rules.json"), rules.to_string())?)
    }

    /// A token signed with that key.
    fn token(&self, kid: &str, more: &Value) -> Result<String> {
        let mut claims = json!({ "iss": self.url, "sub": "ann", "aud": "shop", "groups": ["staff"] });
        for (name, value) in more.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let dir = self.path().display().to_string();
        let said = Script::run("people", &["token", &dir, kid, &claims.to_string()])?;
        Ok(said[0]["token"].as_str().ok_or("no token")?.to_owned())
    }
}

fn called() -> Result {
    let idp = Idp::start()?;
    idp.shows("one")?;
    let origin = Upstream::echo();
    let issuer = format!(
        "[[enforcer.issuer]]\nname = \"corp\"\nurl = \"{}\"\naudience = [\"shop\"]\nroots = \"{}\"\n",
        idp.url,
        idp.path().join("web-root.pem").display()
    );
    let gateway = Gateway::build()
        .section(&issuer)
        .listener("client_auth = \"optional\"\nissuers = [\"corp\"]")
        .site(origin.address)
        .policy(r#"
            @id("staff") permit (principal in UserGroup::"corp/staff", action in Action::"http:read", resource);
            @id("no-guests") forbid (principal in UserGroup::"corp/guests", action, resource);
        "#)
        .start()?;
    let roots = gateway.identity()?.join("bundle.pem");
    let ask = |token: &str| -> Result<(String, String)> {
        let output = Command::new("curl")
            .args(["-sS", "-i", "--max-time", "10", "--cacert"])
            .arg(&roots)
            .args(["-H", &format!("authorization: Bearer {token}")])
            .arg(format!("https://localhost:{}/", gateway.address.port()))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((text.split(' ').nth(1).unwrap_or_default().to_owned(), text))
    };
    let last = || -> Result<Value> {
        let records = gateway.decisions(&["--action", "http:GET", "--limit", "1"])?;
        Ok(records.first().ok_or("no record")?.clone())
    };
    // The keys were had before the first call.
    let ann = idp.token("one", &json!({}))?;
    let (status, text) = ask(&ann)?;
    check!(status == "200", "{text} {}", last()?);
    check!(origin.last().contains(&ann), "the endpoint has no token: {}", origin.last());
    let record = last()?;
    check!(record["principal"]["type"] == "User", "{record}");
    check!(record["determining"] == json!(["staff"]) && record["credential"]["issuer"] == "one", "{record}");
    check!(!record.to_string().contains(&ann), "the token is on record");
    let (status, text) = ask(&idp.token("one", &json!({ "groups": ["staff", "guests"] }))?)?;
    check!(status == "403" && last()?["determining"] == json!(["no-guests"]), "{text}");
    let (status, text) = ask(&idp.token("one", &json!({ "aud": "others" }))?)?;
    check!(status == "401" && text.contains("Bearer error=\"invalid_token\""), "{text}");
    check!(last()?["detail"] == "wrong_audience", "{}", last()?);
    // Another key: the first token that names it makes it known, and what the old one signed counts no more.
    idp.shows("two")?;
    let later = idp.token("two", &json!({}))?;
    let started = Instant::now();
    while ask(&later)?.0 != "200" {
        check!(started.elapsed() < Duration::from_secs(40), "the new key is never known: {}", last()?);
        std::thread::sleep(Duration::from_millis(500));
    }
    check!(ask(&ann)?.0 == "401", "a key that is withdrawn counts: {}", last()?);
    // An issuer that does not answer takes nothing back.
    fs::write(idp.path().join("rules.json"), "{}")?;
    let unknown = idp.token("one", &json!({}))?;
    for _ in 0..3 {
        check!(ask(&unknown)?.0 == "401" && ask(&later)?.0 == "200", "{}", last()?);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
