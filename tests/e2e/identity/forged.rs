//! Certificates that must not open the gateway, most of them signed by its own signing CA: each gets a TLS alert, and
//! nothing of the call reaches the upstream.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use tests::forge::{Forge, LEAF};
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tools = missing("curl").or_else(|| missing("openssl")).or_else(|| missing("faketime"));
    vec![trial("vs_certificates_that_break_one_rule_get_a_tls_alert", tools, refused)]
}

fn refused() -> Result {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(upstream.address)?;
    let tls = gateway.identity()?;
    let forge = Forge::of(&gateway, &tls)?;
    let web = "subjectAltName=URI:spiffe://example.org/web\n";
    let good = format!("{LEAF}{web}");

    let control = forge.leaf("good", &good)?;
    let (status, body) = gateway.curl(&control, "/", &[])?;
    check!(status == 200, "the leaf with which nothing is wrong: {status} {body}");
    let said = handshake(&gateway, &control)?;
    check!(
        !said.contains("alert") && said.contains("TLSv1.3"),
        "the leaf with which nothing is wrong: {said}"
    );

    let with = |san: &str| format!("{LEAF}subjectAltName={san}\n");
    let of = |key: &str, value: &str| {
        let lines = good.lines().filter(|line| !line.starts_with(key));
        lines.chain((!value.is_empty()).then_some(value)).map(|line| format!("{line}\n")).collect::<String>()
    };
    let foreign = Forge::foreign(&gateway, "other.org", &tls)?;
    let namesake = Forge::foreign(&gateway, "example.org", &tls)?;
    let leaves = [
        ("wrong trust domain", forge.leaf("domain", &with("URI:spiffe://other.org/web"))?),
        ("wrong trust domain, its own CA", foreign.leaf("foreign", &with("URI:spiffe://other.org/web"))?),
        ("a CA of the same name", namesake.leaf("namesake", &good)?),
        ("expired", forge.expired("expired", &good)?),
        (
            "two URI names",
            forge.leaf("two", &with("URI:spiffe://example.org/web,URI:spiffe://example.org/admin"))?,
        ),
        ("a URI name that is no SPIFFE ID", forge.leaf("https", &with("URI:https://example.org/web"))?),
        ("a DNS name only", forge.leaf("dns", &with("DNS:web.example.org"))?),
        ("no path", forge.leaf("root", &with("URI:spiffe://example.org"))?),
        ("a CA certificate", forge.leaf("ca", &of("basicConstraints", "basicConstraints=critical,CA:TRUE"))?),
        ("the signing CA itself", forge.itself()?),
        (
            "a leaf that may sign",
            forge.leaf("sign", &of("keyUsage", "keyUsage=critical,digitalSignature,keyCertSign"))?,
        ),
        ("no keyUsage", forge.leaf("usage", &of("keyUsage", ""))?),
        ("another purpose", forge.leaf("purpose", &of("extendedKeyUsage", "extendedKeyUsage=serverAuth"))?),
        (
            "an unknown critical extension",
            forge.leaf("critical", &format!("{good}1.2.3.4=critical,ASN1:NULL\n"))?,
        ),
        ("self-signed", forge.self_signed("self", &good)?),
    ];
    for (what, leaf) in &leaves {
        let said = handshake(&gateway, leaf)?;
        check!(said.contains("SSL alert number"), "{what}: no alert, but {said}");
        for version in ["--http1.1", "--http2"] {
            if let Ok((status, body)) = gateway.curl(leaf, "/", &[version, "-X", "POST", "-d", "x"]) {
                return Err(format!("{what}, {version}: {status} {body}").into());
            }
        }
    }
    check!(upstream.calls() == 1, "{} calls reached the upstream", upstream.calls());
    check!(gateway.curl(&tls, "/", &[])?.0 == 200, "the real SVID is accepted afterwards");
    Ok(())
}

/// What openssl says of a handshake with this leaf; it sends nothing after it.
fn handshake(gateway: &Gateway, leaf: &Path) -> Result<String> {
    let mut child = Command::new("timeout")
        .args([
            "1",
            "openssl",
            "s_client",
            "-connect",
            &gateway.address.to_string(),
            "-servername",
            "localhost",
        ])
        .args(["-cert", "svid.pem", "-cert_chain", "issuer.pem", "-key", "svid.key", "-CAfile", "bundle.pem"])
        .current_dir(leaf)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // An end of its input would end the connection before the alert is read.
    let input = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(input);
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
