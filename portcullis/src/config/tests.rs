//! Tables over `parse`: what is refused, with which code, where, and what the person is told to do.

use std::collections::BTreeMap;
use std::path::Path;

use super::parse;

#[test]
fn an_empty_file_misses_the_required_keys() {
    let faults = parse(Path::new("portcullis.toml"), "", &BTreeMap::new()).unwrap_err();
    assert!(faults.iter().any(|fault| fault.code == "PC0102"));
}
