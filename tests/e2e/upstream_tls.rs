//! Endpoints under mutual TLS behind the shipped gateway: a stock TLS server with an SVID of our own authority sees who
//! calls it, and an endpoint that is not who the cluster expects gets nothing (TL-09, OUT1).

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::forge::{Forge, LEAF};
use tests::peers::missing;
use tests::port::free_port;
use tests::script::Script;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let tools = || missing("curl").or_else(|| missing("openssl"));
    vec![
        trial(
            "out1_an_endpoint_under_tls_is_who_the_cluster_expects_or_gets_no_call",
            missing("curl"),
            expected,
        ),
        trial("tl_09_a_server_outside_is_called_by_its_name_and_told_nothing_of_ours", tools(), outside),
    ]
}

fn outside() -> Result {
    let (port, files) = (free_port(), tempfile::TempDir::new()?);
    let maker = Forge::apart(files.path(), "partner.test")?;
    let leaf = maker.leaf("api", &format!("{LEAF}subjectAltName=DNS:api.partner.test\n"))?;
    let cluster = |name: &str, sni: &str, roots: &str| {
        format!(
            "[[enforcer.cluster]]\nname = \"{name}\"\nendpoints = [\"https://127.0.0.1:{port}\"]\nexternal = true\nsni = \"{sni}\"\n{roots}\n"
        )
    };
    let route = |name: &str| {
        format!(
            "[[enforcer.route]]\nname = \"{name}\"\nservice = \"site\"\nmatch = {{ path = \"/{name}\" }}\ncluster = \"{name}\"\n"
        )
    };
    let strange = Forge::apart(&files.path().join("strange"), "partner.test")?.leaf("api", LEAF)?;
    let roots = |of: &Path| format!("roots = \"{}\"", of.join("issuer.pem").display());
    let gateway = Gateway::build()
        .service("site", &[])
        .section(&cluster("partner", "api.partner.test", &roots(&leaf)))
        .section(&cluster("other", "other.partner.test", &roots(&leaf)))
        .section(&cluster("strange", "api.partner.test", &roots(&strange)))
        .section(&["partner", "other", "strange"].map(route).concat())
        .start()?;
    let tls = gateway.identity()?;
    let (chain, key) = (leaf.join("svid.pem"), leaf.join("svid.key"));
    let words = [port.to_string(), chain.display().to_string(), key.display().to_string()];
    let mut origin = Script::start("https_origin", &words.each_ref().map(String::as_str))?;
    origin.next(Duration::from_secs(20))?;
    for _ in 0..3 {
        let (status, body) = gateway.curl(&tls, "/partner", &[])?;
        check!(status == 200, "{status} {body}\n{}", gateway.log());
        let told: Value = serde_json::from_str(&body)?;
        let host = format!("api.partner.test:{port}");
        check!(told["sni"] == "api.partner.test" && told["host"] == *host, "{told}");
        check!(told["caller"] == json!([]) && told["ours"] == json!(["portcullis-decision-id"]), "{told}");
    }
    for path in ["/other", "/strange"] {
        let (status, body) = gateway.curl(&tls, path, &[])?;
        check!(status == 502, "{path}: {status} {body}");
    }
    let log = gateway.log();
    for told in ["external other.partner.test", "the certificate is for"] {
        check!(log.contains(told), "the log does not say `{told}`:\n{log}");
    }
    Ok(())
}

fn expected() -> Result {
    let port = free_port();
    let cluster = |name: &str, expect: &str, more: &str| {
        format!(
            "[[enforcer.cluster]]\nname = \"{name}\"\nendpoints = [\"https://127.0.0.1:{port}\"]\nexpect = [\"{expect}\"]\n{more}\n"
        )
    };
    let route = |name: &str, path: &str| {
        format!(
            "[[enforcer.route]]\nname = \"{name}\"\nservice = \"site\"\nmatch = {{ path = \"{path}\" }}\ncluster = \"{name}\"\n"
        )
    };
    let gateway = Gateway::build()
        .enforcer("trail = \"calls.json\"")
        .service("site", &[])
        .section(&cluster("right", "spiffe://example.org/web", "sni = \"shop.example.org\""))
        .section(&cluster("below", "spiffe://example.org/*", ""))
        .section(&cluster("wrong", "spiffe://example.org/billing", ""))
        .section(&route("right", "/right"))
        .section(&route("below", "/below"))
        .section(&route("wrong", "/wrong"))
        .start()?;
    let tls = gateway.identity()?;
    let (status, body) = gateway.curl(&tls, "/right", &[])?;
    check!(status == 503, "nobody listens yet: {status} {body}");
    let mut origin = Script::start("https_origin", &[&port.to_string(), &tls.display().to_string()])?;
    origin.next(Duration::from_secs(20))?;
    for (path, sni) in [("/right", "shop.example.org"), ("/below", "example.org")] {
        for _ in 0..3 {
            let (status, body) = gateway.curl(&tls, path, &[])?;
            check!(status == 200, "{path}: {status} {body}\n{}", gateway.log());
            let told: Value = serde_json::from_str(&body)?;
            check!(told["version"] == "TLSv1.3" && told["sni"] == sni, "{told}");
            let caller = told["caller"].as_array().and_then(|names| names.first()).and_then(Value::as_str);
            check!(caller == Some("spiffe://example.org/gateway"), "the origin saw {told}");
        }
    }
    let (status, body) = gateway.curl(&tls, "/wrong", &[])?;
    check!(status == 502 && !body.contains("spiffe://"), "{status} {body}");
    let log = gateway.log();
    let told = log.lines().find(|line| line.contains("upstream_identity")).unwrap_or_default();
    check!(
        told.contains("spiffe://example.org/billing") && told.contains("spiffe://example.org/web"),
        "the log does not say who was expected and who was seen:\n{log}"
    );
    let (_, metrics) = gateway.http("/metrics")?;
    check!(metrics.contains("portcullis_pool_dials_total{result=\"unexpected_id\"} 1"), "{metrics}");
    // Record, answer and trail agree: the permit is withdrawn by a denial of its own.
    let denied = gateway.decisions(&["--effect", "deny"])?;
    check!(denied.len() == 1 && denied[0]["reason"] == "upstream_identity", "{denied:?}");
    let id = denied[0]["id"].as_str().ok_or("no id")?;
    check!(body.contains(id), "the answer names another decision than {id}: {body}");
    let trail = std::fs::read_to_string(gateway.dir().join("calls.json"))?;
    let lines: Vec<Value> = trail.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let wrong = lines.iter().find(|line| line["path"] == "/wrong").ok_or_else(|| trail.clone())?;
    check!(wrong["decision_id"] == id && wrong["reason"] == "upstream_identity", "{wrong}");
    let right = lines.iter().rev().find(|line| line["path"] == "/right").ok_or_else(|| trail.clone())?;
    check!(right["upstream_identity"] == "spiffe://example.org/web" && right["status"] == 200, "{right}");
    Ok(())
}
