//! Where the shipped binary is: `PORTCULLIS_BIN`, else beside the test executable, where cargo put both; and its end.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::Result;

/// Path of the portcullis binary under test.
pub fn portcullis() -> PathBuf {
    if let Some(path) = std::env::var_os("PORTCULLIS_BIN") {
        return PathBuf::from(path);
    }
    let own = std::env::current_exe().expect("a test has an executable");
    let target = own.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps/test");
    let path = target.join("portcullis");
    assert!(path.exists(), "{} is missing; run the tests with `cargo test --workspace`", path.display());
    path
}

/// Kills a process with all that it started: a wrapper such as `faketime` would leave the gateway behind.
pub(crate) fn end(mut child: Child) -> Result {
    Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status()?;
    child.kill().ok();
    child.wait()?;
    Ok(())
}
