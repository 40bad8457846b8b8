//! Revocation through the shipped binary: from the command to the last call that was still taken, on open connections and
//! on new ones; what goes on, what comes back, and what a restart keeps.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{CertificateDer, PrivateKey, csr, pem};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests::bytes::Bytes;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::wire::{Caller, Heard, PATIENCE};
use tests::{Gateway, Result, check};

use super::web_entry;
use crate::trial;

/// What a revocation may take, from the start of the command to the last call that is taken (RV-03).
const BOUND: Duration = Duration::from_secs(1);
const ALLOW: &str = "@id(\"all\")\npermit (principal, action in Action::\"call\", resource);\n";

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("rv_03_a_revoked_certificate_ends_within_a_second_and_others_go_on", None, certificate),
        trial("rv_03_a_revoked_identity_loses_connections_svids_and_tokens", None, identity),
        trial("rv_03_a_revoked_token_is_refused_and_a_fresh_one_is_not", None, token),
    ]
}

/// An agent of another host, which has certificates signed for any entry: several of one identity, and of several.
pub(super) struct Issuer {
    port: u16,
    /// Where its own SVID lies.
    agent: PathBuf,
}

impl Issuer {
    /// The lines of `[ca]` for a port that agents enrol at.
    pub(super) fn listen(port: u16) -> String {
        format!("listen = \"https://127.0.0.1:{port}\"")
    }

    pub(super) fn enrol(gateway: &Gateway, port: u16) -> Result<Self> {
        let token = gateway.json(&["agent", "token"])?["token"].clone();
        let key = PrivateKey::generate_p256()?;
        let evidence = json!({ "type": "join_token", "token": token });
        let body = json!({ "evidence": evidence, "csr": STANDARD.encode(csr::build(&key, &[])?) });
        let answer = gateway.ask("POST", "/v1/agents:attest", &[], Some(&body))?;
        check!(answer.status == 200, "{answer:?}");
        let agent = gateway.dir().join("agent");
        store(&agent, &key, &answer.body)?;
        Ok(Self { port, agent })
    }

    /// What the authority answers to a request for that entry, and the key of the request.
    pub(super) fn ask(&self, entry: &str) -> Result<(u16, Value, PrivateKey)> {
        let key = PrivateKey::generate_p256()?;
        let body = json!({ "entry_id": entry, "csr": STANDARD.encode(csr::build(&key, &[])?) }).to_string();
        let mut wire = Caller::new(([127, 0, 0, 1], self.port).into(), &self.agent, b"http/1.1")?.dial()?;
        let head = "POST /v1/svids:sign HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        match wire.hear(false, PATIENCE)? {
            Heard::Reply(reply) => Ok((reply.status, serde_json::from_slice(&reply.body)?, key)),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// A fresh SVID, in a directory laid out as `svid write` does it.
    pub(super) fn issue(&self, gateway: &Gateway, entry: &str, name: &str) -> Result<PathBuf> {
        let (status, answer, key) = self.ask(entry)?;
        check!(status == 200, "{status} {answer}");
        let dir = gateway.dir().join(name);
        store(&dir, &key, &answer)?;
        Ok(dir)
    }
}

fn store(dir: &Path, key: &PrivateKey, answer: &Value) -> Result {
    let list = |list: &Value| -> Result<Vec<CertificateDer<'static>>> {
        let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(|text| Ok(CertificateDer::from(STANDARD.decode(text)?))).collect()
    };
    fs::create_dir_all(dir)?;
    fs::write(dir.join("svid.pem"), pem::write_certificates(&list(&answer["chain"])?))?;
    fs::write(dir.join("bundle.pem"), pem::write_certificates(&list(&answer["bundle"]["authorities"])?))?;
    fs::write(dir.join("svid.key"), pem::write_private_key(key).as_str())?;
    Ok(())
}

/// An entry for this user beside that of the configuration; its id.
fn register(gateway: &Gateway, path: &str) -> Result<String> {
    let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self")?);
    let entry = json!({
        "spiffe_id": format!("spiffe://example.org/{path}"), "selectors": [format!("unix:uid:{uid}")], "jwt_jti": true,
    });
    let created = gateway.ask("POST", "/v1/entries", &[], Some(&entry))?;
    check!(created.status == 201, "{created:?}");
    Ok(created.body["id"].as_str().ok_or("no id")?.to_owned())
}

/// Somebody who calls again and again on one connection until it ends.
pub(super) struct Busy {
    /// When the last answer came, and whether the connection is over.
    running: JoinHandle<(Instant, bool)>,
    stop: Arc<AtomicBool>,
}

impl Busy {
    /// `request` is answered by something that holds `answer`; `alpn` says what is spoken.
    pub(super) fn start(
        address: SocketAddr,
        tls: &Path,
        (alpn, request, answer): (&[u8], &'static str, &'static str),
    ) -> Result<Self> {
        let mut wire = Caller::new(address, tls, alpn)?.dial()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let mut call = move || -> bool {
            wire.send(request.as_bytes());
            if request.starts_with("GET") {
                let heard = wire.hear(false, PATIENCE);
                return matches!(heard, Ok(Heard::Reply(reply)) if reply.status == 200);
            }
            let end = Instant::now() + PATIENCE;
            while tests::wire::find(wire.unread(), answer.as_bytes()).is_none() {
                if !matches!(wire.more(end), Ok(1..)) {
                    return false;
                }
            }
            wire.unread().clear();
            true
        };
        check!(call(), "{request:?} has no answer before anything is revoked");
        let running = std::thread::spawn(move || {
            let mut last = Instant::now();
            while !stopping.load(Ordering::SeqCst) {
                if !call() {
                    return (last, true);
                }
                last = Instant::now();
                std::thread::sleep(Duration::from_millis(2));
            }
            (last, false)
        });
        Ok(Self { running, stop })
    }

    /// When its last call was taken; an error when it still calls.
    pub(super) fn ended(self) -> Result<Instant> {
        let end = Instant::now() + PATIENCE;
        while !self.running.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::SeqCst);
        let (last, is_over) = self.running.join().map_err(|_panic| "a caller panicked")?;
        check!(is_over, "it was never ended");
        Ok(last)
    }

    /// It still calls.
    pub(super) fn goes_on(self) -> Result {
        self.stop.store(true, Ordering::SeqCst);
        let (_, is_over) = self.running.join().map_err(|_panic| "a caller panicked")?;
        check!(!is_over, "it lost its connection");
        Ok(())
    }
}

pub(super) const HTTP: (&[u8], &str, &str) = (b"http/1.1", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "");
const TCP: (&[u8], &str, &str) = (b"bytes", "hello\n", "hello\n");

/// A call on a connection of its own, which is answered with 200.
pub(super) fn call(address: SocketAddr, tls: &Path) -> Result {
    let mut wire = Caller::new(address, tls, b"http/1.1")?.dial()?;
    wire.send(HTTP.1.as_bytes());
    let heard = wire.hear(false, PATIENCE)?;
    check!(matches!(&heard, Heard::Reply(reply) if reply.status == 200), "{heard:?}");
    Ok(())
}

/// Whether a new connection of that identity has a call answered.
pub(super) fn is_taken(gateway: &Gateway, tls: &Path) -> Result<bool> {
    // What the files cannot be used for is no refusal.
    Caller::new(gateway.address, tls, b"http/1.1")?;
    Ok(call(gateway.address, tls).is_ok())
}

/// A gateway for HTTP and, on a second port, for bytes.
fn both() -> Result<(Gateway, Issuer, SocketAddr)> {
    let (site, bytes, port, ca) = (Upstream::echo(), Bytes::start(""), free_port(), free_port());
    let section = format!(
        "[[enforcer.listener]]\nname = \"db\"\nbind = [\"tcp://127.0.0.1:{port}\"]\nprofile = \"tcp\"\n\
         [[enforcer.service]]\nname = \"db\"\n\
         [[enforcer.route]]\nname = \"db\"\nservice = \"db\"\nlistener = \"db\"\nto = [\"tcp://{}\"]\n",
        bytes.address
    );
    let built = Gateway::build().ca(&Issuer::listen(ca)).policy(ALLOW).site(site.address);
    let gateway = built.section(&section).start()?;
    let issuer = Issuer::enrol(&gateway, ca)?;
    Ok((gateway, issuer, ([127, 0, 0, 1], port).into()))
}

/// Runs the command while callers call; how long after its start the last call of each was taken.
pub(super) fn measured(gateway: &Gateway, command: &[&str], lost: Vec<Busy>) -> Result<Value> {
    let began = Instant::now();
    let revoked = gateway.json(command)?;
    for caller in lost {
        let after = caller.ended()?.saturating_duration_since(began);
        println!("{command:?}: the last call was taken {after:?} after the start of the command");
        check!(after < BOUND, "calls were taken for {after:?}");
    }
    Ok(revoked)
}

fn certificate() -> Result {
    let (mut gateway, issuer, bytes) = both()?;
    let entry = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    let (lost, kept) = (issuer.issue(&gateway, &entry, "lost")?, issuer.issue(&gateway, &entry, "kept")?);
    let start = |tls: &Path| -> Result<[Busy; 2]> {
        Ok([Busy::start(gateway.address, tls, HTTP)?, Busy::start(bytes, tls, TCP)?])
    };
    let (ending, staying) = (start(&lost)?, start(&kept)?);
    let file = lost.join("svid.pem").display().to_string();
    let command = ["svid", "revoke", &file, "--reason", "laptop stolen"];
    let asked = gateway.cli(&command)?;
    check!(asked.code != 0 && asked.stderr.contains("ends 1 live certificate;"), "{asked:?}");
    check!(asked.stderr.contains("repeat with --yes"), "{asked:?}");

    let revoked = measured(&gateway, &[&command[..], &["--yes"]].concat(), ending.into())?;
    check!(revoked["what"] == "certificate" && revoked["reason"] == "laptop stolen", "{revoked}");
    check!(revoked["by"].as_str().is_some_and(|by| by.starts_with("local user ")), "{revoked}");
    check!(!is_taken(&gateway, &lost)?, "a new connection is taken in");
    check!(is_taken(&gateway, &kept)?, "another certificate of the same identity is refused");
    std::thread::sleep(Duration::from_millis(300));
    staying.into_iter().try_for_each(Busy::goes_on)?;
    let shown = gateway.json(&["svid", "revocations"])?;
    check!(shown["items"].as_array().is_some_and(|items| items.len() == 1), "{shown}");
    check!(
        shown["items"][0]["id"] == revoked["id"] && shown["items"][0]["until"] == revoked["until"],
        "{shown}"
    );
    let list = gateway.json(&["svid", "list"])?;
    let marked = list["items"].as_array().into_iter().flatten().filter(|svid| svid["revoked"] == true);
    check!(marked.count() == 1, "{list}");

    std::thread::sleep(Duration::from_secs(1));
    let (_, metrics) = gateway.http("/metrics")?;
    for line in ["portcullis_revocations 1\n", "portcullis_ca_expiry_timestamp_seconds{kind=\"root\"} "] {
        check!(metrics.contains(line), "no {line}: {metrics}");
    }

    gateway.restart()?;
    check!(!is_taken(&gateway, &lost)?, "RV-08: forgotten by a restart");
    check!(is_taken(&gateway, &kept)?, "a restart refuses others");
    let id = revoked["id"].as_str().ok_or("no id")?;
    let lifted = gateway.cli(&["svid", "unrevoke", id])?;
    check!(
        lifted.code == 0 && lifted.stdout.contains("undo: portcullis svid revoke --serial "),
        "{lifted:?}"
    );
    check!(is_taken(&gateway, &lost)?, "what was lifted is still refused");
    let events = gateway.records("kind=authority")?;
    for event in ["revoked", "revocation_lifted"] {
        let told = events.iter().find(|record| record["body"]["event"] == event);
        let told = told.ok_or_else(|| format!("no `{event}` on record"))?.to_string();
        check!(told.contains(id) && told.contains("local user "), "{told}");
    }
    Ok(())
}

fn identity() -> Result {
    let (gateway, issuer, bytes) = both()?;
    let web = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    let other = register(&gateway, "other")?;
    let (lost, kept) = (issuer.issue(&gateway, &web, "lost")?, issuer.issue(&gateway, &other, "kept")?);
    let file = gateway.dir().join("web.jwt");
    let socket = gateway.workload_socket();
    let fetched = gateway.json(&[
        "svid",
        "fetch",
        "--audience",
        "orders",
        "--id",
        "spiffe://example.org/web",
        "--socket",
        &socket,
    ])?;
    fs::write(&file, fetched["items"][0]["token"].as_str().ok_or("no token")?)?;
    let path = file.display().to_string();
    let validate = ["svid", "validate", "--audience", "orders", "--socket", &socket, &path];
    check!(gateway.cli(&validate)?.code == 0, "the token is good before");

    let ending = vec![Busy::start(gateway.address, &lost, HTTP)?, Busy::start(bytes, &lost, TCP)?];
    let staying = Busy::start(gateway.address, &kept, HTTP)?;
    let command = ["svid", "revoke", "--id", "spiffe://example.org/web", "--reason", "retired"];
    let asked = gateway.cli(&command)?;
    check!(asked.code != 0 && asked.stderr.contains("and 2 open connections; repeat"), "{asked:?}");
    let revoked = measured(&gateway, &[&command[..], &["--yes"]].concat(), ending)?;
    check!(revoked["id"] == "spiffe://example.org/web" && revoked["until"].is_null(), "{revoked}");
    check!(!is_taken(&gateway, &lost)? && is_taken(&gateway, &kept)?, "only the revoked identity is refused");
    staying.goes_on()?;

    let held = gateway.json(&["svid", "fetch", "--socket", &socket])?;
    let ids: Vec<_> = held["items"].as_array().into_iter().flatten().map(|svid| &svid["spiffe_id"]).collect();
    check!(ids == ["spiffe://example.org/other"], "the agent serves {held}");
    let refused = gateway.cli(&validate)?;
    check!(refused.code != 0 && refused.stderr.contains("revoked"), "{refused:?}");
    let (status, answer, _) = issuer.ask(&web)?;
    check!(status == 403 && answer["code"] == "revoked", "{status} {answer}");

    let own =
        gateway.cli(&["svid", "revoke", "--id", "spiffe://example.org/gateway", "--reason", "x", "--yes"])?;
    check!(own.code != 0 && own.stderr.contains("is a role of this process"), "{own:?}");
    gateway.json(&["svid", "unrevoke", "spiffe://example.org/web"])?;
    check!(is_taken(&gateway, &lost)?, "what was lifted is still refused");
    Ok(())
}

fn token() -> Result {
    let gateway = Gateway::build().entries("").site(Upstream::echo().address).start()?;
    register(&gateway, "other")?;
    let (socket, file) = (gateway.workload_socket(), gateway.dir().join("token.jwt"));
    let path = file.display().to_string();
    let fetch = || -> Result<String> {
        let fetched = gateway.json(&["svid", "fetch", "--audience", "orders", "--socket", &socket])?;
        Ok(fetched["items"][0]["token"].as_str().ok_or("no token")?.to_owned())
    };
    let validate = ["svid", "validate", "--audience", "orders", "--socket", &socket, &path];
    let lost = fetch()?;
    fs::write(&file, &lost)?;
    check!(gateway.cli(&validate)?.code == 0 && fetch()? == lost, "the token is good, and used again");
    let revoked = gateway.json(&["svid", "revoke", &path, "--reason", "leaked", "--yes"])?;
    check!(revoked["what"] == "token" && revoked["until"].is_string(), "{revoked}");
    let refused = gateway.cli(&validate)?;
    check!(refused.code != 0 && refused.stderr.contains("revoked"), "{refused:?}");
    let fresh = fetch()?;
    check!(fresh != lost, "the revoked token is handed out again");
    fs::write(&file, fresh)?;
    check!(gateway.cli(&validate)?.code == 0, "another token of the same identity is refused");
    Ok(())
}
