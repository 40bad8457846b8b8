//! Where the shipped binary is: `PORTCULLIS_BIN`, else beside the test executable, where cargo put both.

use std::path::PathBuf;

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
