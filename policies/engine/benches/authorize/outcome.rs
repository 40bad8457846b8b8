//! What both benches are told and what they say about themselves; `tests/load/policy.py` makes the page from it.

use serde_json::{Map, Value, json};

/// Options after `--`: `--quick` measures and verifies less, `--sizes 10,100` leaves sizes out.
pub(crate) struct Options {
    pub(crate) is_quick: bool,
    pub(crate) sizes: Vec<usize>,
}

impl Options {
    pub(crate) fn read() -> Options {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let after = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
        let sizes = after("--sizes").map_or("10,100,1000,10000", String::as_str);
        let sizes = sizes.split(',').map(|size| size.parse().expect("--sizes takes numbers, e.g. 10,100"));
        Options { is_quick: words.iter().any(|word| word == "--quick"), sizes: sizes.collect() }
    }

    /// A number of repetitions, or a tenth of it.
    pub(crate) fn times(&self, full: usize) -> usize {
        if self.is_quick { full / 10 } else { full }
    }
}

/// What was built how, as far as the binary can tell.
pub(crate) fn build() -> Map<String, Value> {
    let path = std::env::current_exe().unwrap_or_default();
    // target/PROFILE/deps/NAME
    let profile = path.ancestors().nth(2).and_then(|dir| dir.file_name()).unwrap_or_default();
    let mut about = Map::new();
    about.insert("profile".to_owned(), json!(profile.to_string_lossy()));
    about.insert("is_debug".to_owned(), json!(cfg!(debug_assertions)));
    about.insert("cedar".to_owned(), json!(cedar_policy::get_sdk_version().to_string()));
    about.insert("entities".to_owned(), json!(crate::world::ENTITIES));
    about
}
