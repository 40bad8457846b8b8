//! Agents of other hosts: a join token over TLS gives an agent SVID once, and that has workloads' requests signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::forge::{armour, base64_of, request_to};
use tests::peers::missing;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use super::web_entry;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tools = || missing("curl").or_else(|| missing("openssl"));
    vec![
        trial("na_01_a_join_token_makes_one_agent_once", tools(), attested),
        trial("is_an_agent_gets_the_identity_of_the_entry_and_no_other", tools(), signed),
    ]
}

/// A gateway that enrols agents on a port.
struct Ca {
    gateway: Gateway,
    upstream: Upstream,
    port: u16,
    bundle: PathBuf,
}

impl Ca {
    fn start() -> Result<Self> {
        let (upstream, port) = (Upstream::echo(), free_port());
        let gateway = Gateway::build()
            .ca(&format!("listen = \"https://127.0.0.1:{port}\""))
            .site(upstream.address)
            .start()?;
        let bundle = gateway.identity()?.join("bundle.pem");
        Ok(Self { gateway, upstream, port, bundle })
    }

    fn post(&self, path: &str, tls: Option<&Path>, body: &Value) -> Result<(u16, Value)> {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}", "--cacert"]).arg(&self.bundle);
        if let Some(tls) = tls {
            command.arg("--cert").arg(tls.join("svid.pem")).arg("--key").arg(tls.join("svid.key"));
        }
        command.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        let output = command.arg(format!("https://localhost:{}{path}", self.port)).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').ok_or("curl printed nothing")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        check!(output.status.success(), "{path} for {tls:?}: {errors}\n{}", self.gateway.log());
        let body = serde_json::from_str(body).map_err(|error| format!("{path}: {status} {error}: {body}"))?;
        Ok((status.parse()?, body))
    }

    fn token(&self) -> Result<String> {
        let token = self.gateway.json(&["agent", "token"])?;
        Ok(token["token"].as_str().ok_or("no token")?.to_owned())
    }

    /// A key in a directory of its own, and a request for it; `more` goes to openssl.
    fn request(&self, name: &str, more: &[&str]) -> Result<(PathBuf, String)> {
        let dir = self.gateway.dir().join(name);
        fs::create_dir_all(&dir)?;
        request_to(&dir.join("request.pem"), &dir.join("svid.key"), more)?;
        Ok((dir.clone(), base64_of(&fs::read_to_string(dir.join("request.pem"))?)))
    }

    /// An attested agent: the directory of its SVID.
    fn agent(&self, name: &str) -> Result<PathBuf> {
        let (dir, csr) = self.request(name, &[])?;
        let evidence = json!({ "evidence": { "type": "join_token", "token": self.token()? }, "csr": csr });
        let (status, answer) = self.post("/v1/agents:attest", None, &evidence)?;
        check!(status == 200, "{status} {answer}");
        self.store(&dir, &answer)?;
        Ok(dir)
    }

    /// Lays an answer out as `svid write` does it.
    fn store(&self, dir: &Path, answer: &Value) -> Result {
        let list = |list: &Value| -> String {
            let ders = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            ders.map(|der| armour("CERTIFICATE", der)).collect()
        };
        fs::write(dir.join("svid.pem"), list(&answer["chain"]))?;
        fs::write(dir.join("bundle.pem"), list(&answer["bundle"]["authorities"]))?;
        let ours = fs::read_to_string(&self.bundle)?;
        check!(
            fs::read_to_string(dir.join("bundle.pem"))? == ours,
            "the enrolled bundle differs from the served one"
        );
        Ok(())
    }
}

fn attested() -> Result {
    let ca = Ca::start()?;
    let token = ca.token()?;
    let (dir, csr) =
        ca.request("agent", &["-addext", "subjectAltName=URI:spiffe://example.org/portcullis/agent/local"])?;
    let evidence = json!({ "evidence": { "type": "join_token", "token": token }, "csr": csr });
    let broken = json!({ "evidence": { "type": "join_token", "token": token }, "csr": "bm9uc2Vuc2U=" });
    let (status, problem) = ca.post("/v1/agents:attest", None, &broken)?;
    check!(status == 400, "a request that is none: {status} {problem}");
    let (status, answer) = ca.post("/v1/agents:attest", None, &evidence)?;
    check!(status == 200, "a broken request must not cost the token: {status} {answer}");
    let id = answer["spiffe_id"].as_str().ok_or("no id")?;
    check!(id.starts_with("spiffe://example.org/portcullis/agent/join_token/"), "{id}");
    check!(!id.contains(&token), "the identity tells the token");
    ca.store(&dir, &answer)?;
    let shown = ca.gateway.json(&["svid", "inspect", &dir.join("svid.pem").display().to_string()])?;
    check!(shown["items"][0]["spiffe_id"] == id, "{shown}");

    let (_, other) = ca.request("thief", &[])?;
    for (token, csr) in
        [(token.as_str(), &csr), (token.as_str(), &other), ("0123456789abcdef0123456789abcdef", &other)]
    {
        let again = json!({ "evidence": { "type": "join_token", "token": token }, "csr": csr });
        let (status, problem) = ca.post("/v1/agents:attest", None, &again)?;
        check!(status == 403, "a used or unknown token: {status} {problem}");
        check!(problem.get("chain").is_none(), "{problem}");
    }
    let events: Vec<_> = ca
        .gateway
        .records("kind=authority")?
        .iter()
        .filter_map(|record| record["body"]["event"].as_str().map(str::to_owned))
        .collect();
    for (event, count) in [("join_token_created", 1), ("attested", 1), ("attestation_refused", 4)] {
        let found = events.iter().filter(|found| *found == event).count();
        check!(found == count, "{count} events `{event}` are expected: {events:?}");
    }
    Ok(())
}

fn signed() -> Result {
    let ca = Ca::start()?;
    let agent = ca.agent("agent")?;
    let entry = web_entry(&ca.gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    let (dir, csr) = ca.request(
        "workload",
        &["-addext", "subjectAltName=URI:spiffe://example.org/admin,DNS:admin.example.org"],
    )?;
    let body = json!({ "entry_id": entry, "csr": csr });

    // Many times: a refusal before the body has come must not reach curl as a broken stream.
    for _ in 0..30 {
        let (status, problem) = ca.post("/v1/svids:sign", None, &body)?;
        check!(status == 401, "without an SVID: {status} {problem}");
    }
    let (status, problem) = ca.post("/v1/svids:sign", Some(&ca.gateway.dir().join("tls")), &body)?;
    check!(status == 403, "with the SVID of a workload: {status} {problem}");
    let unknown = json!({ "entry_id": "nonsense", "csr": csr });
    let (status, problem) = ca.post("/v1/svids:sign", Some(&agent), &unknown)?;
    check!(status == 404 || status == 403, "for no entry: {status} {problem}");
    let elsewhere = ca.gateway.ask(
        "POST",
        "/v1/entries",
        &[],
        Some(&json!({
            "spiffe_id": "spiffe://example.org/elsewhere", "selectors": ["unix:uid:1"],
            "parent_id": "spiffe://example.org/portcullis/agent/join_token/another",
        })),
    )?;
    let foreign = json!({ "entry_id": elsewhere.body["id"], "csr": csr });
    let (status, problem) = ca.post("/v1/svids:sign", Some(&agent), &foreign)?;
    check!(status == 404 || status == 403, "for another agent's entry: {status} {problem}");

    let (status, answer) = ca.post("/v1/svids:sign", Some(&agent), &body)?;
    check!(status == 200, "{status} {answer}");
    check!(answer["spiffe_id"] == "spiffe://example.org/web", "{answer}");
    let token = json!({ "entry_id": entry, "audience": ["orders"] });
    let (status, problem) = ca.post("/v1/svids:signJwt", None, &token)?;
    check!(status == 401, "a token without an SVID: {status} {problem}");
    let (status, token) = ca.post("/v1/svids:signJwt", Some(&agent), &token)?;
    check!(status == 200 && token["spiffe_id"] == "spiffe://example.org/web", "{status} {token}");
    ca.store(&dir, &answer)?;
    let text = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(dir.join("svid.pem"))
        .output()?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    check!(
        !text.contains("admin") && text.contains("URI:spiffe://example.org/web"),
        "names of the request came through: {text}"
    );
    let (status, received) = ca.gateway.curl(&dir, "/", &[])?;
    check!(
        status == 200 && received.contains("portcullis-peer: spiffe://example.org/web"),
        "{status} {received}"
    );
    check!(ca.upstream.calls() == 1, "{} calls", ca.upstream.calls());

    // What loopback may see is not for the network.
    for path in ["/metrics", "/docs", "/openapi.json", "/readyz"] {
        let (status, answer) = ca.post(path, None, &json!({}))?;
        check!(status == 404, "{path} on the CA listener: {status} {answer}");
    }

    // Other administration is not an agent's, nor anybody's without an SVID.
    for tls in [None, Some(agent.as_path())] {
        let (status, problem) = ca.post("/v1/agents:token", tls, &json!({}))?;
        check!(status == if tls.is_some() { 403 } else { 401 }, "a token for {tls:?}: {status} {problem}");
        let (status, problem) = ca.post(
            "/v1/entries",
            tls,
            &json!({ "spiffe_id": "spiffe://example.org/x", "selectors": ["unix:uid:1"] }),
        )?;
        check!(status == if tls.is_some() { 403 } else { 401 }, "an entry for {tls:?}: {status} {problem}");
    }
    Ok(())
}
