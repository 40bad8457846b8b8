//! HTTP/3 over the shipped binary: the same policies, the same records, beside HTTP/1 and HTTP/2 on the same port.

use libtest_mimic::Trial;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check, h3};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("lt_07_a_caller_over_http_3_is_known_judged_and_on_record", None, judged)]
}

fn judged() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::build()
        .policy("@id(\"hello\")\npermit (principal == Workload::\"spiffe://example.org/web\", action == Action::\"http:GET\", resource)\nwhen { context.request.path == \"/hello\" };\n")
        .service("site", &[])
        .route("site", "site", "{ path = \"/\" }", &format!("http://{}", upstream.address))
        .quic()
        .start()?;
    let tls = gateway.identity()?;
    let (status, body) = h3::get(gateway.address, &tls, true, "/hello")?;
    check!(status == 200, "{status} {body}");
    check!(body.starts_with("GET /hello HTTP/1.1\r\n"), "upstream received {body}");
    check!(body.contains("portcullis-peer: spiffe://example.org/web"), "upstream was not told: {body}");
    let (status, body) = h3::get(gateway.address, &tls, true, "/other")?;
    check!(status == 403 && body.contains("decision_id"), "{status} {body}");
    check!(upstream.calls() == 1, "the upstream saw a refused call");
    let recorded = gateway.decisions(&["--effect", "allow", "--action", "http:GET"])?;
    check!(recorded.len() == 1 && recorded[0]["determining"][0] == "hello", "records: {recorded:?}");
    let refused = h3::get(gateway.address, &tls, false, "/hello");
    check!(refused.is_err(), "answered without a certificate: {refused:?}");
    let told = gateway.json(&["status"])?.to_string();
    check!(told.contains(&format!("quic://{}", gateway.address)), "status: {told}");
    Ok(())
}
