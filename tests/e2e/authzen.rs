//! OpenID AuthZEN over the shipped binary: questions as its standard writes them, each answer on record.

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::gateway::ALLOW_WEB;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("az_a_decision_point_answers_and_records", missing("curl"), answers)]
}

/// POSTs to the admin socket; status and document.
fn ask(gateway: &Gateway, path: &str, body: &Value) -> Result<(u16, Value)> {
    let socket = gateway.dir().join("data/admin.sock").display().to_string();
    let output = std::process::Command::new("curl")
        .args([
            "-sS",
            "--unix-socket",
            &socket,
            "-w",
            "\n%{http_code}",
            "-H",
            "content-type: application/json",
        ])
        .args(["-d", &body.to_string(), &format!("http://localhost{path}")])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').ok_or("no answer")?;
    Ok((status.parse()?, serde_json::from_str(body).unwrap_or_default()))
}

fn answers() -> Result {
    let gateway = Gateway::build()
        .site(Upstream::echo().address)
        .policy(ALLOW_WEB)
        .section("[authzen]\nurl = \"https://localhost:8443\"\n[[authzen.type]]\nname = \"app\"\nentity = \"Workload\"\n")
        .start()?;
    let question = |who: &str| {
        json!({
            "subject": { "type": "app", "id": format!("spiffe://example.org/{who}") },
            "action": { "name": "http:GET" },
            "resource": { "type": "Route", "id": "site" },
            "context": {
                "connection": { "mtls": true, "tls": 13, "source_ip": "10.0.0.7", "listener": "public", "protocol": "h2" },
                "request": { "method": "GET", "host": "localhost", "path": "/" },
            },
        })
    };
    let (status, answer) = ask(&gateway, "/access/v1/evaluation", &question("web"))?;
    check!(status == 200 && answer["decision"] == true, "{status} {answer}");
    let id = answer["context"]["decision_id"].as_str().unwrap_or_default().to_owned();
    let record = gateway.json(&["decisions", "get", &id])?;
    check!(record["phase"] == "authzen" && record["effect"] == "allow", "{record}");
    let (status, answer) = ask(&gateway, "/access/v1/evaluation", &question("stranger"))?;
    check!(status == 200 && answer["decision"] == false, "{status} {answer}");
    check!(answer["context"]["reason"] == "no_permit", "{answer}");
    let mut many = question("web");
    many["evaluations"] = json!([{}, { "resource": { "type": "Route", "id": "nowhere" } }, { "subject": 1 }]);
    let (status, answer) = ask(&gateway, "/access/v1/evaluations", &many)?;
    let decisions: Vec<_> =
        answer["evaluations"].as_array().into_iter().flatten().map(|one| one["decision"].clone()).collect();
    check!(status == 200 && decisions == [json!(true), json!(false), json!(false)], "{status} {answer}");
    let (status, _) = ask(&gateway, "/access/v1/evaluation", &json!({}))?;
    check!(status == 400, "an empty question: {status}");
    Ok(())
}
