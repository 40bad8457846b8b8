//! The shipped binary from the command line, as far as no running process is needed: files, exit codes, streams.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use given::{dir_with, ends, portcullis, text};
use tempfile::TempDir;

const GOOD: &str = "version = 1\ntrust_domain = \"example.org\"\ndata_dir = \"./data\"\n[ca]\n";

#[cfg(test)]
mod given {
    use super::*;

    /// The binary without any variable of the caller.
    pub(super) fn portcullis(dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(arguments).env_clear().current_dir(dir).stdin(Stdio::null());
        command
    }

    pub(super) fn dir_with(files: &[(&str, &[u8])]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    pub(super) fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[track_caller]
    pub(super) fn ends(output: &Output, code: i32) {
        assert_eq!(
            output.status.code(),
            Some(code),
            "stdout: {}\nstderr: {}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

#[test]
fn files_that_cannot_be_used_say_why_and_exit_3() {
    let large = "# 4 MiB and more\n".repeat(330_000);
    let dir = dir_with(&[
        ("large.toml", large.as_bytes()),
        ("latin1.toml", b"# caf\xe9\n"),
        ("open.toml", GOOD.as_bytes()),
        ("d/x", b""),
    ]);
    fs::set_permissions(dir.path().join("open.toml"), Permissions::from_mode(0o666)).unwrap();
    for (file, code, said) in [
        ("missing.toml", "PC0107", "does not exist\nnext: portcullis init"),
        ("large.toml", "PC0107", "is larger than 4 MiB"),
        ("latin1.toml", "PC0107", "is not UTF-8: invalid utf-8 sequence of 1 bytes from index 5"),
        ("open.toml", "PC0108", "next: chmod o-w open.toml"),
        ("d", "PC0107", "cannot be read"),
        ("large.toml/x", "PC0107", "cannot be read"),
    ] {
        for verb in [&["config", "validate"][..], &["config", "view"], &["check"], &["run"], &["status"]] {
            let output = portcullis(dir.path(), &[verb, &["-c", file]].concat()).output().unwrap();
            ends(&output, 3);
            let stderr = text(&output.stderr);
            assert!(
                stderr.starts_with(&format!("error[{code}]: ")) && stderr.contains(said),
                "{verb:?} {file}: {stderr}"
            );
            assert_eq!(text(&output.stdout), "", "{verb:?} {file}");
        }
    }
}

#[test]
fn a_broken_file_is_told_in_text_and_in_json_with_line_and_column() {
    let dir = dir_with(&[("portcullis.toml", GOOD.replace("[ca]", "[ca]\nsvid_tll = \"1h\"").as_bytes())]);
    let output = portcullis(dir.path(), &["config", "validate"]).output().unwrap();
    ends(&output, 3);
    assert_eq!(
        text(&output.stderr),
        "error[PC0103]: unknown key `svid_tll` in [ca]\n --> portcullis.toml:5:1\n5 | svid_tll = \"1h\"\n  | ^^^^^^^^ did you mean `svid_ttl`?\nhelp: keys are listen, svid_ttl, jwt_ttl, agent_ttl, entry, bundle, federation, web_roots, fetch_from\nnext: portcullis config explain ca\n\n"
    );
    let output = portcullis(dir.path(), &["config", "validate", "-o", "json"]).output().unwrap();
    ends(&output, 3);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let item = &said["items"][0];
    assert_eq!(
        (&item["code"], &item["line"], &item["column"]),
        (&"PC0103".into(), &5.into(), &1.into()),
        "{said}"
    );
    let output = portcullis(dir.path(), &["config", "validate", "-o", "ndjson"]).output().unwrap();
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(&line, item);
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_place() {
    let dir = dir_with(&[
        ("portcullis.toml", GOOD.as_bytes()),
        ("b.toml", GOOD.replace("example", "b").as_bytes()),
        ("c.toml", GOOD.replace("example", "c").as_bytes()),
    ]);
    let domain = |arguments: &[&str], variable: Option<&str>| {
        let mut command = portcullis(dir.path(), &[&["config", "view", "-o", "json"], arguments].concat());
        command.envs(variable.map(|file| ("PORTCULLIS_CONFIG", file)));
        let output = command.output().unwrap();
        ends(&output, 0);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["values"]["trust_domain"].as_str().unwrap().to_owned()
    };
    assert_eq!(domain(&[], None), "example.org");
    assert_eq!(domain(&[], Some("b.toml")), "b.org");
    assert_eq!(domain(&["-c", "c.toml"], Some("b.toml")), "c.org");
    // A relative path starts at the file and is absolute in what is asked of others.
    fs::write(dir.path().join("agent.toml"), format!("{GOOD}[agent]\n")).unwrap();
    let fetch = portcullis(dir.path(), &["svid", "fetch", "-c", "agent.toml"]).output().unwrap();
    let socket = format!("{}/data/workload.sock", dir.path().canonicalize().unwrap().display());
    assert!(text(&fetch.stderr).contains(&format!("`{socket}`")), "{}", text(&fetch.stderr));
    assert!(!text(&fetch.stderr).contains("no absolute path"), "{}", text(&fetch.stderr));
}

#[test]
fn cf2_the_environment_overrides_and_what_is_unknown_or_not_text_is_no_failure() {
    let dir = dir_with(&[("portcullis.toml", GOOD.as_bytes())]);
    let output = portcullis(dir.path(), &["config", "view", "--origin"])
        .env("PORTCULLIS_ADMIN__LOG", "debug")
        .env("PORTCULLIS_PORT", "tcp://10.0.0.1:80")
        .env("NOT_TEXT", OsStr::from_bytes(b"\xff"))
        .env("PORTCULLIS_NOT_TEXT", OsStr::from_bytes(b"\xff"))
        .env(OsStr::from_bytes(b"PORTCULLIS_\xff"), "x")
        .output()
        .unwrap();
    ends(&output, 0);
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        view["admin"]["log"],
        serde_json::json!({ "value": "debug", "origin": "PORTCULLIS_ADMIN__LOG" })
    );
    let output =
        portcullis(dir.path(), &["config", "validate"]).env("PORTCULLIS_PORT", "x").output().unwrap();
    ends(&output, 0);
    assert!(text(&output.stderr).starts_with("warning[PC0110]: environment variable `PORTCULLIS_PORT`"));
    assert!(text(&output.stdout).contains("valid, 1 warning"), "{}", text(&output.stdout));
    let output =
        portcullis(dir.path(), &["config", "validate"]).env("PORTCULLIS_CA__SVID_TTL", "9").output().unwrap();
    ends(&output, 3);
    assert!(
        text(&output.stderr).contains("environment variable PORTCULLIS_CA__SVID_TTL"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn init_writes_what_validates_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    ends(&portcullis(dir.path(), &["init", "gw", "--trust-domain", "corp.example"]).output().unwrap(), 0);
    let before = fs::read(dir.path().join("gw/portcullis.toml")).unwrap();
    let again = portcullis(dir.path(), &["init", "gw"]).output().unwrap();
    ends(&again, 1);
    assert!(text(&again.stderr).contains("PC0150"), "{}", text(&again.stderr));
    assert_eq!(fs::read(dir.path().join("gw/portcullis.toml")).unwrap(), before);
    ends(&portcullis(dir.path(), &["init", "other", "--trust-domain", "Not A Domain"]).output().unwrap(), 64);
    assert!(!dir.path().join("other").exists());
    for verb in
        [&["config", "validate"][..], &["policy", "validate"], &["policy", "test"], &["check", "--pre"]]
    {
        let output =
            portcullis(dir.path(), &[verb, &["-c", "gw/portcullis.toml"]].concat()).output().unwrap();
        ends(&output, 0);
    }
    let test = portcullis(dir.path(), &["policy", "test", "-c", "gw/portcullis.toml"]).output().unwrap();
    assert!(text(&test.stdout).ends_with("3 passed, 0 failed\n"), "{}", text(&test.stdout));
}

#[test]
fn every_exit_code_that_needs_no_process() {
    let dir = dir_with(&[
        ("portcullis.toml", GOOD.as_bytes()),
        ("bad.toml", b"version = 2"),
        ("good/p.cedar", b"@id(\"a\")\npermit (principal, action, resource);"),
        ("bad/p.cedar", b"permit (principal, action, resource)"),
    ]);
    let tail = ["-c", "portcullis.toml"];
    for (code, arguments) in [
        (0, &["version"][..]),
        (0, &["--help"]),
        (0, &["policy", "--help"]),
        (0, &["code", "pc0103"]),
        (0, &["config", "schema"]),
        (0, &["config", "explain", "ca.entry"]),
        (0, &["policy", "validate", "good"]),
        (1, &["check"]),
        (3, &["config", "explain", "ca.entri"]),
        (3, &["policy", "validate", "bad"]),
        (3, &["policy", "validate", "absent"]),
        (3, &["policy", "test", "bad"]),
        (64, &[]),
        (64, &["banana"]),
        (64, &["config"]),
        (64, &["policy", "suggest"]),
        (64, &["explain"]),
        (64, &["explain", "--last-deny", "x"]),
        (64, &["wait", "--timeout", "5"]),
        (64, &["status", "-o", "yaml"]),
        (64, &["status", "--server", "http://localhost"]),
        (64, &["code", "PC99"]),
        (64, &["can", "anonymous", "http:GET", "Route::\"x\"", "--context", "absent.json"]),
        (69, &["status"]),
        (69, &["policy", "list"]),
        (69, &["explain", "--last-deny"]),
        (69, &["decisions", "query"]),
        (69, &["decisions", "tail"]),
        (69, &["entry", "list"]),
        (69, &["status", "--server", "unix:///nowhere/admin.sock"]),
        (75, &["wait", "--timeout", "100ms"]),
    ] {
        let with_config = arguments.first().is_some_and(|first| !first.starts_with('-'));
        let output = portcullis(dir.path(), &[arguments, if with_config { &tail } else { &[] }].concat())
            .output()
            .unwrap();
        let shown =
            format!("{arguments:?}\nstdout: {}\nstderr: {}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{shown}");
        if code != 0 && code != 1 {
            assert!(!output.stderr.is_empty(), "nothing is said: {shown}");
        }
        assert!(!shown.contains("panicked"), "{shown}");
    }
    ends(&portcullis(dir.path(), &["run", "-c", "bad.toml"]).output().unwrap(), 3);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_exit_69_with_its_name() {
    let dir = dir_with(&[("portcullis.toml", GOOD.as_bytes()), ("data", b"a file")]);
    let output = portcullis(dir.path(), &["run"]).output().unwrap();
    ends(&output, 69);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("PC6001") && stderr.contains("data"), "{stderr}");
}

#[test]
fn completions_exist_for_each_shell_and_name_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = portcullis(dir.path(), &["completion", shell]).output().unwrap();
        ends(&output, 0);
        let script = text(&output.stdout);
        assert!(
            ["suggest", "explain", "svid"].iter().all(|word| script.contains(word)),
            "{shell}: {} bytes",
            script.len()
        );
    }
    ends(&portcullis(dir.path(), &["completion", "dos"]).output().unwrap(), 64);
}

#[test]
fn a_reader_that_leaves_early_ends_the_command_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_portcullis");
    for arguments in ["config schema", "completion zsh", "--help"] {
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("set -o pipefail; '{binary}' {arguments} | true")])
            .current_dir(dir.path());
        let output = command.output().unwrap();
        assert_eq!(text(&output.stderr), "", "{arguments}");
        ends(&output, 0);
    }
    for redirection in [">&-", ">&- 2>&-", "2>&-"] {
        let output = Command::new("bash")
            .args(["-c", &format!("'{binary}' config schema {redirection}")])
            .output()
            .unwrap();
        ends(&output, 0);
    }
}

#[test]
fn ou_without_a_terminal_there_is_no_colour_and_no_escape() {
    let dir = dir_with(&[("portcullis.toml", b"x\x1b[31m = 1\n"), ("good.toml", GOOD.as_bytes())]);
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "xterm-256color"), ("TERM", "dumb")] {
        for arguments in
            [&["--help"][..], &["config", "validate"], &["check", "-c", "good.toml"], &["banana"]]
        {
            let output = portcullis(dir.path(), arguments).env(variable, value).output().unwrap();
            let shown = [output.stdout, output.stderr].concat();
            assert!(!shown.contains(&0x1b), "{variable} {arguments:?}: {}", text(&shown));
        }
    }
}

#[test]
fn check_names_unsafe_files_and_the_command_that_repairs_them() {
    let dir = dir_with(&[
        ("portcullis.toml", GOOD.as_bytes()),
        ("data/keys/signing.key", b"x"),
        ("data/seal.key", b"x"),
    ]);
    fs::set_permissions(dir.path().join("data"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path().join("data/seal.key"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(dir.path().join("data/keys/signing.key"), Permissions::from_mode(0o600)).unwrap();
    let output = portcullis(dir.path(), &["check", "--pre"]).output().unwrap();
    ends(&output, 1);
    let stdout = text(&output.stdout);
    let data = dir.path().canonicalize().unwrap().join("data").display().to_string();
    for said in [
        format!("next: chmod 700 {data}\n"),
        format!("key file `{data}/seal.key` has mode 644"),
        format!("next: chmod 600 {data}/seal.key"),
    ] {
        assert!(stdout.contains(&said), "no `{said}` in {stdout}");
    }
    assert!(!stdout.contains("signing.key"), "{stdout}");
    // A link to a private file is as good as the file.
    symlink(dir.path().join("portcullis.toml"), dir.path().join("link.toml")).unwrap();
    ends(&portcullis(dir.path(), &["config", "validate", "-c", "link.toml"]).output().unwrap(), 0);
}
