//! The first page: what the README begins with, its commands as somebody new types them, and the same commands in Chinese.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;
use tests::peers::missing;
use tests::port::free_port;
use tests::upstream::Upstream;
use tests::{Outcome, Result, binary, check};

use crate::{guide::commands, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("qs1_the_readme_begins_with_the_two_commands", None, begins),
        trial("xa10_the_quickstart_has_the_same_commands_in_chinese", None, chinese),
        trial("xa10_the_commands_of_the_readme_work_as_written", missing("curl"), works),
    ]
}

fn page(below: &str) -> Result<String> {
    Ok(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(below))?)
}

/// Lines of the shell blocks, without comments.
fn typed(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut is_shell = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_shell = line == "```sh";
        } else if is_shell {
            lines.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
        }
    }
    lines
}

fn begins() -> Result {
    let text = page("README.md")?;
    let screen: Vec<&str> = text.lines().take(25).collect();
    let screen = screen.join("\n");
    let wanted = ["cargo run --release --locked -p portcullis -- demo", "cargo test --workspace --locked"];
    check!(typed(&screen) == wanted, "the first screen says {:?}", typed(&screen));
    for word in ["Rust toolchain", "C compiler", "No root, no Docker, no protoc"] {
        check!(screen.contains(word), "the first screen does not say `{word}`");
    }
    // It is the version that Cargo asks for, and the test command is the one that CI runs.
    let version = page("Cargo.toml")?;
    let version =
        version.lines().find_map(|line| line.strip_prefix("rust-version = ")).ok_or("no version")?;
    check!(screen.contains(version.trim_matches('"')), "the first screen does not say {version}");
    check!(page(".ci/run")?.lines().any(|line| line == wanted[1]), "CI runs another command");
    Ok(())
}

fn chinese() -> Result {
    let (english, chinese) = (typed(&page("README.md")?), typed(&page("docs/quickstart.zh.md")?));
    check!(english == chinese && english.len() > 8, "README: {english:?}\nChinese: {chinese:?}");
    Ok(())
}

/// Somebody's terminal.
struct Terminal(PathBuf);

impl Terminal {
    fn type_in(&self, line: &str) -> Result<Outcome> {
        let bin = binary::portcullis();
        let folder = bin.parent().unwrap_or(Path::new("/"));
        let path = format!("{}:{}", folder.display(), std::env::var("PATH")?);
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(&self.0).env("PATH", path).stdin(Stdio::null());
        Ok(shell.output()?.into())
    }
}

/// It ends with the story.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

fn works() -> Result {
    let dir = tempfile::tempdir()?;
    let terminal = Terminal(dir.path().to_owned());
    let lines = commands(&page("README.md")?);
    let told: Vec<&str> = lines.iter().map(String::as_str).collect();
    let [init, run, rest @ ..] = told.as_slice() else { return Err("the README has no commands".into()) };
    check!(*init == "portcullis init my-gateway", "{init}");
    let made = terminal.type_in(init)?;
    check!(made.code == 0, "{made:?}");

    // What the editor is for, and ports that are free here.
    let upstream = Upstream::echo();
    let (listener, admin) = (free_port(), free_port());
    let file = dir.path().join("my-gateway/portcullis.toml");
    let written = fs::read_to_string(&file)?;
    check!(written.contains("http://127.0.0.1:8000") && written.contains("mode = \"observe\""), "{written}");
    let edited = written
        .replace("127.0.0.1:8000", &upstream.address.to_string())
        .replace("127.0.0.1:9443", &format!("127.0.0.1:{listener}"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{admin}"));
    fs::write(&file, &edited)?;

    let configured = "-c my-gateway/portcullis.toml";
    check!(*run == format!("portcullis run {configured}"), "{run}");
    let words: Vec<_> = run.split(' ').skip(1).collect();
    let log = fs::File::create(dir.path().join("log"))?;
    let child = Command::new(binary::portcullis())
        .args(words)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let _running = Running(child);
    let waited = terminal.type_in(&format!("portcullis wait {configured} --timeout 60s"))?;
    check!(waited.code == 0, "{waited:?}");

    let call = |method: &str| {
        let files = "--cacert tls/bundle.pem --cert tls/svid.pem --key tls/svid.key";
        terminal.type_in(&format!("curl -sS {files} -X {method} https://localhost:{listener}/"))
    };
    let mut would = String::new();
    for line in rest {
        let line = match *line {
            "portcullis policy suggest DECISION_ID" => line.replace("DECISION_ID", &would),
            other => other.to_owned(),
        };
        if line == "portcullis explain --last-deny" {
            fs::write(&file, edited.replace("mode = \"observe\"", "mode = \"enforce\""))?;
            let reloaded = terminal.type_in(&format!("portcullis config reload {configured}"))?;
            check!(reloaded.code == 0, "{reloaded:?}");
            let refused = call("DELETE")?;
            check!(refused.stdout.contains("decision_id"), "not refused: {refused:?}");
        }
        let done = terminal.type_in(&format!("{line} {configured}"))?;
        check!(done.code == 0, "{line}: {done:?}");
        match line.as_str() {
            "portcullis svid write --dir tls --once" => {
                let passed = call("POST")?;
                check!(passed.stdout.starts_with("POST / HTTP/1.1"), "observe mode refused: {passed:?}");
            }
            "portcullis decisions query --would deny" => {
                let query = terminal.type_in(&format!("{line} {configured} -o json"))?;
                let found: Value = serde_json::from_str(&query.stdout)?;
                would = found["items"][0]["id"].as_str().ok_or("no would-be denial")?.to_owned();
            }
            "portcullis explain --last-deny" => check!(done.stdout.contains("DENY  "), "{done:?}"),
            _ => {}
        }
    }
    check!(rest.len() == 6 && !would.is_empty(), "{rest:?}");
    Ok(())
}
