//! Sockets of listeners by reload: one comes, moves, changes and goes under load, and callers of another notice nothing; a
//! port that cannot be had changes nothing (RD-01).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check, h3};

use super::Story;
use crate::chaos::load::Load;
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "rd_01_a_listener_comes_moves_and_goes_under_load_and_no_caller_of_another_notices",
            missing("curl"),
            comes_and_goes,
        ),
        trial("rd_01_a_port_that_cannot_be_had_leaves_all_as_it_was", missing("curl"), taken),
        trial(
            "dr_02_a_call_of_a_listener_that_was_taken_away_has_the_grace_of_the_process",
            missing("curl"),
            grace,
        ),
    ]
}

/// A listener, written before what follows `[decisions]`.
fn with(text: &str, listener: &str) -> String {
    text.replacen("[decisions]", &format!("{listener}\n[decisions]"), 1)
}

fn written(name: &str, binds: &[String], lines: &str) -> String {
    format!("[[enforcer.listener]]\nname = \"{name}\"\nbind = {binds:?}\n{lines}\n")
}

/// The same gateway at another port.
fn ask(story: &Story, tls: &Path, port: u16, path: &str) -> Result<u16> {
    let site = "https://localhost";
    let url = format!("{site}:{port}{path}");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]);
    curl.arg(tls.join("bundle.pem")).arg("--cert").arg(tls.join("svid.pem"));
    let output = curl.arg("--key").arg(tls.join("svid.key")).arg(url).output()?;
    if !output.status.success() {
        return Err(format!("{}\n{}", String::from_utf8_lossy(&output.stderr), story.gateway.log()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).parse()?)
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn urls(story: &Story) -> Result<Vec<String>> {
    let status = story.gateway.json(&["status"])?;
    let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
    Ok(listeners.iter().filter_map(|listener| listener["address"].as_str().map(str::to_owned)).collect())
}

fn comes_and_goes() -> Result {
    let upstream = Upstream::echo();
    let site = Gateway::build()
        .policy("@id(\"reads\")\npermit (principal, action == Action::\"http:GET\", resource);\n")
        .site(upstream.address);
    let story = Story::start(site.quic().start()?)?;
    let tls = story.gateway.identity()?;
    let load = Load::start(story.gateway.address, &tls)?;
    let file = story.gateway.dir().join("more.sock");
    let (one, two) = (free_port(), free_port());
    let places = |port: u16| {
        [
            format!("tcp://127.0.0.1:{port}"),
            format!("quic://127.0.0.1:{port}"),
            format!("unix://{}", file.display()),
        ]
    };

    let told = story.reloaded(&with(&story.text, &written("more", &places(one), "")))?;
    check!(told.contains("enforcer.listener[more]"), "what changed: {told}");
    check!(ask(&story, &tls, one, "/hello")? == 200, "over tcp");
    check!(h3::get(at(one), &tls, true, "/hello")?.0 == 200, "over quic");
    let socket = file.display().to_string();
    let over_file = ["--unix-socket", &socket];
    check!(story.gateway.curl(&tls, "/hello", &over_file)?.0 == 200, "over its file");
    check!(urls(&story)?.len() == 5, "status: {:?}", urls(&story)?);

    // It moves, and observes; a call that runs is not cut, and the address that stays is not touched.
    let body = story.gateway.dir().join("body");
    std::fs::write(&body, vec![b'x'; 40_000])?;
    let upload = format!("@{}", body.display());
    let mut curl = story.gateway.curl_command(&tls, "/slow");
    let slow = [
        "--limit-rate",
        "20k",
        "-w",
        "\n%{http_code}",
        "-H",
        "expect:",
        "-X",
        "GET",
        "--data-binary",
        &upload,
    ];
    let moved = format!("localhost:{}:localhost:{one}", story.gateway.address.port());
    let running = curl.args(slow).args(["--connect-to", &moved]).stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    story.reloaded(&with(&story.text, &written("more", &places(two), "mode = \"observe\"")))?;
    check!(ask(&story, &tls, two, "/hello")? == 200, "where it moved to, over tcp");
    check!(h3::get(at(two), &tls, true, "/hello")?.0 == 200, "where it moved to, over quic");
    check!(story.gateway.curl(&tls, "/hello", &over_file)?.0 == 200, "over its file");
    check!(TcpStream::connect(at(one)).is_err(), "nobody listens where it was");
    let observed = [&over_file[..], &["-X", "DELETE"]].concat();
    check!(story.gateway.curl(&tls, "/hello", &observed)?.0 == 200, "it observes");
    check!(story.gateway.curl(&tls, "/hello", &["-X", "DELETE"])?.0 == 403, "the other enforces");
    let text = String::from_utf8_lossy(&running.wait_with_output()?.stdout).into_owned();
    check!(text.ends_with("\n200"), "the call that ran: {text}");

    // It goes, and comes again.
    for _ in 0..3 {
        story.reloaded(&story.text)?;
        check!(TcpStream::connect(at(two)).is_err() && !file.exists(), "it is still there");
        check!(urls(&story)?.len() == 2, "status: {:?}", urls(&story)?);
        story.reloaded(&with(&story.text, &written("more", &places(two), "")))?;
        check!(ask(&story, &tls, two, "/hello")? == 200, "over tcp again");
        check!(h3::get(at(two), &tls, true, "/hello")?.0 == 200, "over quic again");
        check!(story.gateway.curl(&tls, "/hello", &observed)?.0 == 403, "it enforces");
    }
    let seen = load.stop()?;
    for (protocol, seen) in &seen {
        check!(seen.lost.is_empty() && seen.again == 0 && seen.answered > 50, "{protocol}: {seen:?}");
    }
    Ok(())
}

fn taken() -> Result {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let story = Story::start(Gateway::before(one.address)?)?;
    let (tls, before) = (story.gateway.identity()?, story.standing()?);
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let (held, free) = (holder.local_addr()?.port(), free_port());
    let binds = [format!("tcp://127.0.0.1:{free}"), format!("tcp://127.0.0.1:{held}")];
    // In the same file a change that could be made.
    let text = with(&story.text, &written("more", &binds, ""))
        .replace(&one.address.to_string(), &two.address.to_string());
    story.write(&text)?;
    let outcome = story.reload()?;
    check!(outcome.code != 0, "reloaded: {outcome:?}");
    let place = format!("cannot listen on `tcp://127.0.0.1:{held}` for `more`");
    for part in ["PC4001", "PC0120", &place, "the configuration in force stays"] {
        check!(outcome.stderr.contains(part), "no `{part}` in {}", outcome.stderr);
    }
    check!(story.standing()?["in_force"] == before["in_force"], "half of it is in force");
    check!(story.gateway.curl(&tls, "/", &[])?.0 == 200 && two.calls() == 0, "half of it was applied");
    check!(TcpListener::bind(at(free)).is_ok(), "the port beside it is held");
    drop(holder);
    story.reloaded(&text)?;
    check!(ask(&story, &tls, held, "/")? == 200 && ask(&story, &tls, free, "/")? == 200, "once it is free");
    check!(two.calls() == 2, "the rest came with it");
    Ok(())
}

fn grace() -> Result {
    let upstream = Upstream::echo();
    let site = Gateway::build().site(upstream.address).run(&["--drain-grace", "1s"]);
    let story = Story::start(site.start()?)?;
    let (tls, port) = (story.gateway.identity()?, free_port());
    story.reloaded(&with(&story.text, &written("more", &[format!("tcp://127.0.0.1:{port}")], "")))?;
    let body = story.gateway.dir().join("body");
    std::fs::write(&body, vec![b'x'; 600_000])?;
    let (upload, moved) = (
        format!("@{}", body.display()),
        format!("localhost:{}:localhost:{port}", story.gateway.address.port()),
    );
    let mut curl = story.gateway.curl_command(&tls, "/slow");
    curl.args(["--limit-rate", "20k", "-H", "expect:", "--data-binary", &upload, "--connect-to", &moved]);
    let running = curl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    story.reloaded(&story.text)?;
    let ended = running.wait_with_output()?;
    let took = began.elapsed();
    check!(!ended.status.success(), "a call of thirty seconds ended well");
    // Other stories run beside it.
    check!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "it ended after {took:?}");
    check!(story.gateway.log().contains("drain_cut"), "{}", story.gateway.log());
    check!(story.gateway.curl(&tls, "/", &[])?.0 == 200, "the other listener");
    Ok(())
}
