//! Certificates and names of a listener change by a reload: new connections see them, open ones go on, a bad one changes
//! nothing (RD-01).

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let needs = missing("openssl").or_else(|| missing("curl"));
    vec![trial("rd_01_certificates_change_by_a_reload_and_a_bad_one_changes_nothing", needs, reloaded)]
}

/// A certificate for these names, signed by itself.
pub(crate) fn make(dir: &Path, file: &str, names: &str) -> Result {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=shop", "-addext", &format!("subjectAltName={names}")])
        .arg("-keyout")
        .arg(dir.join(format!("{file}.key")))
        .arg("-out")
        .arg(dir.join(format!("{file}.pem")))
        .output()?;
    check!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// What has a listener show it.
pub(crate) fn section(dir: &Path, file: &str) -> String {
    let place = dir.join(file);
    format!("[[enforcer.listener.certificate]]\nchain = \"{0}.pem\"\nkey = \"{0}.key\"\n", place.display())
}

/// The status of a call to that server name, for that host when it is another one; `000` when there is no connection.
pub(crate) fn asked(
    gateway: &Gateway,
    tls: &Path,
    name: &str,
    host: Option<&str>,
    roots: &Path,
) -> Result<String> {
    let port = gateway.address.port();
    let host = host.map(|host| format!("host: {host}"));
    let output = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", "--cacert"])
        .arg(roots)
        .arg("--cert")
        .arg(tls.join("svid.pem"))
        .arg("--key")
        .arg(tls.join("svid.key"))
        .args(["--resolve", &format!("{name}:{port}:127.0.0.1"), &format!("https://{name}:{port}/x")])
        .args(host.iter().flat_map(|host| ["-H", host]))
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn reloaded() -> Result {
    let upstream = Upstream::echo();
    let home = tempfile::tempdir()?;
    let dir = home.path();
    make(dir, "shop", "DNS:shop.test")?;
    make(dir, "more", "DNS:more.test")?;
    let lines = format!("hosts = [\"localhost\"]\n{}", section(dir, "shop"));
    let gateway = Gateway::build().site(upstream.address).listener(&lines).start()?;
    let tls = gateway.identity()?;
    let ask = |name: &str, roots: &Path| asked(&gateway, &tls, name, None, roots);
    let reload = || gateway.cli(&["config", "reload"]);
    let (shop, more, path) =
        (dir.join("shop.pem"), dir.join("more.pem"), gateway.dir().join("portcullis.toml"));
    let text = fs::read_to_string(&path)?;
    check!(ask("shop.test", &shop)? == "200" && ask("more.test", &more)? == "000", "before");

    // A connection from before goes on, whatever its listener shows by now.
    let mut open = gateway.curl_command(&tls, "/slow");
    fs::write(gateway.dir().join("body"), vec![b'x'; 60_000])?;
    let upload = format!("@{}", gateway.dir().join("body").display());
    let open = open
        .args(["--limit-rate", "20k", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", &upload])
        .stdout(std::process::Stdio::piped())
        .spawn()?;

    // One more, and a name of the own SVID less.
    let wider = text.replace(
        &lines,
        &format!("hosts = [\"other.test\"]\n{}{}", section(dir, "shop"), section(dir, "more")),
    );
    check!(wider != text, "{text}");
    fs::write(&path, &wider)?;
    let outcome = reload()?;
    check!(outcome.code == 0, "{outcome:?}");
    check!(
        ask("shop.test", &shop)? == "200" && ask("more.test", &more)? == "200",
        "after: {}",
        gateway.log()
    );
    check!(gateway.curl(&tls, "/x", &[])?.0 == 421, "localhost is none of its names any more");

    // The same file says another certificate.
    let before = fs::read(&shop)?;
    make(dir, "shop", "DNS:shop.test")?;
    let outcome = reload()?;
    check!(
        outcome.code == 0 && outcome.stdout.contains("enforcer.listener[public].certificate"),
        "{outcome:?}"
    );
    check!(ask("shop.test", &shop)? == "200", "the new one");
    let old = dir.join("old.pem");
    fs::write(&old, before)?;
    check!(ask("shop.test", &old)? == "000", "the one before is not shown any more");

    // A bad one, and nothing of the file comes into force.
    fs::write(&path, wider.replace("other.test", "localhost"))?;
    fs::write(&more, "nonsense")?;
    let outcome = reload()?;
    check!(outcome.code != 0 && outcome.stderr.contains("more.pem"), "{outcome:?}");
    check!(ask("shop.test", &shop)? == "200", "what was in force stays");
    check!(gateway.curl(&tls, "/x", &[])?.0 == 421, "nothing is half applied");
    let answer = open.wait_with_output()?;
    check!(answer.stdout == b"200", "an open connection was touched: {answer:?}");
    Ok(())
}
