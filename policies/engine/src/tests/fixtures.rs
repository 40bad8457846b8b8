//! Broken policies and schemas, each with what is said about it: `tests/broken/*/NN-name.{cedar,cedarschema}` beside
//! `NN-name.txt`. `PORTCULLIS_BLESS=1` writes the texts anew; read them as somebody who has to find the mistake.

use super::*;
use std::{fs, path::PathBuf};

fn compare(kind: &str, extension: &str, at_least: usize, judge: impl Fn(&str, &str) -> Vec<Diagnostic>) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broken").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|name| name == extension));
    files.sort();
    assert!(files.len() >= at_least, "{} in {}", files.len(), dir.display());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let found = judge(&name, &fs::read_to_string(&file).unwrap());
        assert!(!found.is_empty(), "{name} is not broken");
        let said = found.iter().map(|finding| format!("{finding}\n")).collect::<Vec<_>>().join("\n");
        let expected = file.with_extension("txt");
        if std::env::var_os("PORTCULLIS_BLESS").is_some() {
            fs::write(&expected, said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{name}:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "not as reviewed:\n{}", wrong.join("\n"));
}

#[test]
fn er3_broken_policies_say_where_what_and_what_to_do() {
    compare("policies", "cedar", 50, |name, text| {
        let input = shop_input(&[(name, text)]);
        let sources = input.policies.clone();
        match compiled(input) {
            Ok(snapshot) => lint::warnings(&snapshot, &sources),
            Err(found) => found,
        }
    });
}

#[test]
fn er3_broken_schemas_say_where_what_and_what_to_do() {
    compare("schemas", "cedarschema", 30, |name, text| {
        SchemaText::with_site(name, text).check().err().unwrap_or_default()
    });
}
