//! Real peers: which are installed, and the Python that has the packages.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Why a test that needs `program` cannot run; `None` when it can.
pub fn missing(program: &str) -> Option<String> {
    let found = std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()));
    (!found).then(|| format!("{program} is not installed"))
}

/// Where `program` is: what `.ci/run` installed, else on the path.
pub fn program(program: &str) -> Option<PathBuf> {
    let beside = python().with_file_name(program);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(beside)
        .chain(std::env::split_paths(&paths).map(|dir| dir.join(program)))
        // Servers of Debian, which are not on everybody's path.
        .chain([PathBuf::from("/usr/sbin").join(program)])
        .find(|file| file.is_absolute() && file.is_file())
}

/// Why a test cannot run that needs a peer which `.ci/run` may have put beside the Python; `None` when it can.
pub fn absent(peer: &str) -> Option<String> {
    program(peer).is_none().then(|| format!("{peer} is not installed"))
}

/// Why a test with several local users cannot run; `None` when it can.
pub fn missing_users() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0);
    if is_root { missing("setpriv") } else { Some("other users can be tried by root only".to_owned()) }
}

/// Why a test cannot have a copy of this host for itself (`tests/peers/room`); `None` when it can.
pub fn missing_room() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let lacking = missing_users().or_else(|| missing("unshare")).or_else(|| missing("python3"));
        if lacking.is_some() {
            return lacking;
        }
        let dir = tempfile::tempdir().ok()?;
        let tried = Command::new(crate::script::file("room")).arg(dir.path()).arg("true").output().ok()?;
        let why = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        (!tried.status.success()).then(|| format!("no copy of this host can be made: {why}"))
    };
    FOUND.get_or_init(ask).clone()
}

/// The Python whose packages `.ci/run` installed: `target/peers/venv`, else `python3`.
pub fn python() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .map(|dir| dir.join("peers/venv/bin/python"))
        .find(|python| python.is_file())
        .unwrap_or_else(|| PathBuf::from("python3"))
}

/// Why a test that imports the Python module cannot run; `None` when it can.
pub fn missing_module(module: &str) -> Option<String> {
    static FOUND: OnceLock<std::sync::Mutex<std::collections::HashMap<String, bool>>> = OnceLock::new();
    let mut found = FOUND.get_or_init(Default::default).lock().expect("not poisoned");
    let has = *found.entry(module.to_owned()).or_insert_with(|| {
        Command::new(python())
            .args(["-c", &format!("import {module}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    (!has).then(|| format!("the Python package of `{module}` is not installed"))
}
