//! Identities in files: written when due with exit codes for timers, followed, and handed to a program that is run.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::{Gateway, Outcome, Result, Script, binary, check};

use super::envoy::rotate;
use super::{plain, web_entry};
use crate::trial;

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("ic_03_svid_write_for_timers_says_whether_trying_again_helps", None, timers),
        trial("ic_03_svid_write_tells_a_program_after_the_files_are_there", None, signalled),
        trial("ic_02_svid_watch_prints_each_state_until_the_identity_is_withdrawn", None, watched),
        trial("ic_03_svid_exec_renews_the_files_of_a_program_and_ends_as_it_does", None, supervised),
        trial("ic_03_svid_exec_ends_a_program_whose_identity_is_withdrawn", None, withdrawn),
    ]
}

fn timers() -> Result {
    let gateway = plain()?;
    let (socket, dir) = (gateway.workload_socket(), gateway.dir().join("due").display().to_string());
    let write = |socket: &str, more: &[&str]| {
        let words =
            ["svid", "write", "--once", "--if-due", "--dir", &dir, "--socket", socket, "--timeout", "2s"];
        gateway.cli(&[&words[..], more].concat())
    };
    let first = write(&socket, &["-o", "json"])?;
    let told: Value = serde_json::from_str(&first.stdout)?;
    check!(first.code == 0 && told["written"] == true, "{first:?}");
    let certificate = fs::read(Path::new(&dir).join("svid.pem"))?;
    rotate(&gateway, 1)?;
    let second = write(&socket, &[])?;
    check!(second.code == 0 && second.stdout.contains("not due before"), "{second:?}");
    let nobody = write("unix:///nonexistent.sock", &[])?;
    check!(nobody.code == 0, "what is not due needs no agent: {nobody:?}");

    for (name, bytes) in [("svid.key", &b"broken"[..]), ("svid.pem", b""), ("bundle.pem", b"")] {
        fs::write(Path::new(&dir).join(name), bytes)?;
        let mended = write(&socket, &[])?;
        check!(mended.code == 0 && mended.stdout.contains("wrote"), "{name}: {mended:?}");
    }
    check!(fs::read(Path::new(&dir).join("svid.pem"))? != certificate, "the old certificate was written");

    fs::remove_dir_all(&dir)?;
    let later = write("unix:///nonexistent.sock", &[])?;
    check!(later.code == 75 && later.stderr.contains("PC1001"), "{later:?}");
    let wrong = write("http://localhost", &[])?;
    check!(wrong.code == 1, "{wrong:?}");
    let id = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    check!(gateway.cli(&["entry", "delete", &id, "--yes"])?.code == 0, "not deleted");
    let denied = write(&socket, &[])?;
    check!(denied.code == 1 && denied.stderr.contains("PC1001"), "{denied:?}");
    Ok(())
}

/// A shell that notes each SIGUSR1 (SIGHUP is ignored below `nohup`, and a shell cannot undo that) and what it then finds in the certificate.
fn reader(dir: &Path) -> Result<(Child, String)> {
    let notes = dir.join("notes");
    let script = format!(
        "trap 'cksum < {0}/svid.pem >> {1}' USR1; echo ready >> {1}; while :; do sleep 0.05; done",
        dir.display(),
        notes.display()
    );
    let child = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).process_group(0).spawn()?;
    let file = dir.join("pid");
    fs::write(&file, child.id().to_string())?;
    wait_for(&notes, 1)?;
    Ok((child, file.display().to_string()))
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn wait_for(file: &Path, count: usize) -> Result<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = lines(file);
        if found.len() >= count {
            return Ok(found);
        }
        check!(Instant::now() < end, "{} has {found:?}", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signalled() -> Result {
    let gateway = plain()?;
    let dir = gateway.dir().join("told");
    fs::create_dir(&dir)?;
    let (mut child, pid_file) = reader(&dir)?;
    let (socket, text) = (gateway.workload_socket(), dir.display().to_string());
    let words = ["svid", "write", "--once", "--dir", &text, "--socket", &socket, "--signal", "USR1"];
    let write = |file: &str| gateway.cli(&[&words[..], &["--pid-file", file]].concat());
    let (written, gone) = (write(&pid_file), write("/nonexistent.pid"));
    let notes = wait_for(&dir.join("notes"), 2);
    child.kill()?;
    child.wait()?;
    let (written, gone, notes) = (written?, gone?, notes?);
    check!(written.code == 0, "{written:?}");
    check!(gone.code == 1 && gone.stderr.contains("PC1004"), "{gone:?}");
    check!(!notes[1].ends_with(" 0"), "it was told before the file was there: {notes:?}");
    let alone = gateway.cli(&words)?;
    check!(alone.code == 64 && alone.stderr.contains("--pid-file"), "{alone:?}");
    Ok(())
}

fn command(gateway: &Gateway, words: &[&str]) -> Command {
    let mut command = Command::new(binary::portcullis());
    command.args(words).arg("-c").arg(gateway.dir().join("portcullis.toml"));
    command.env("SPIFFE_ENDPOINT_SOCKET", gateway.workload_socket()).stdin(Stdio::null());
    command
}

fn watched() -> Result {
    let gateway = plain()?;
    let mut watch = Script::of("svid watch", command(&gateway, &["svid", "watch", "-o", "ndjson"]))?;
    let first = watch.next(PATIENCE)?;
    check!(first["kind"] == "SvidState" && first["roots"] == 1, "{first}");
    rotate(&gateway, 1)?;
    let second = watch.next(PATIENCE)?;
    check!(second["svids"][0]["serial"] != first["svids"][0]["serial"], "{second}");
    let id = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    check!(gateway.cli(&["entry", "delete", &id, "--yes"])?.code == 0, "not deleted");
    let last = watch.next(PATIENCE)?;
    check!(last["code"] == "PC1001", "{last}");
    Ok(())
}

/// Runs a script as the program of `svid exec`.
fn exec(gateway: &Gateway, script: &str) -> Command {
    let mut command = Command::new(binary::portcullis());
    command.arg("-c").arg(gateway.dir().join("portcullis.toml"));
    command.args(["svid", "exec", "--signal", "USR1", "--", "bash", "-c", script]);
    command.env("SPIFFE_ENDPOINT_SOCKET", gateway.workload_socket()).stdin(Stdio::null());
    command
}

fn supervised() -> Result {
    let gateway = plain()?;
    let notes = gateway.dir().join("notes");
    let script = format!(
        "trap 'cksum < $SVID_CERT_FILE >> {0}' USR1; stat -c %a $SVID_KEY_FILE $(dirname $SVID_KEY_FILE) >> {0}; \
         echo $SVID_ID >> {0}; dirname $SVID_KEY_FILE >> {0}; test -s $SVID_BUNDLE_FILE; \
         for look in $(seq 400); do [ $(wc -l < {0}) -ge 5 ] && exit 7; sleep 0.05; done; exit 9",
        notes.display()
    );
    let running = exec(&gateway, &script).spawn()?;
    let started = wait_for(&notes, 4)?;
    check!(started[..3] == ["600", "700", "spiffe://example.org/web"], "{started:?}");
    rotate(&gateway, 1)?;
    let output = running.wait_with_output()?;
    check!(output.status.code() == Some(7), "{output:?}: {:?}", lines(&notes));
    check!(!Path::new(&started[3]).exists(), "the files are still there: {started:?}");

    let mut missing = command(&gateway, &["svid", "exec"]);
    let missing: Outcome = missing.args(["--", "/no/such"]).output()?.into();
    check!(missing.code == 1 && missing.stderr.contains("PC1005"), "{missing:?}");
    Ok(())
}

fn withdrawn() -> Result {
    let gateway = plain()?;
    let notes = gateway.dir().join("notes");
    let script = format!(
        "dirname $SVID_KEY_FILE >> {0}; trap 'ls $(dirname $SVID_KEY_FILE) | wc -l >> {0}; exit 0' TERM; while :; do sleep 0.05; done",
        notes.display()
    );
    let running = exec(&gateway, &script).stderr(Stdio::piped()).spawn()?;
    wait_for(&notes, 1)?;
    let id = web_entry(&gateway)?["id"].as_str().ok_or("no id")?.to_owned();
    check!(gateway.cli(&["entry", "delete", &id, "--yes"])?.code == 0, "not deleted");
    let outcome: Outcome = running.wait_with_output()?.into();
    check!(outcome.code == 69 && outcome.stderr.contains("PC1001"), "{outcome:?}");
    let said = lines(&notes);
    check!(said.len() == 2 && said[1].trim() == "1", "only the roots are left when it is told: {said:?}");
    Ok(())
}
