//! Directories as people and machines leave them.

use super::*;
use crate::testing::{READ, STOP, Site};
use std::{fs, os::unix::ffi::OsStrExt};

fn files(rules: &Rules) -> Vec<String> {
    let own = rules.policies().filter(|source| !source.is_baseline);
    own.map(|source| source.file.to_string()).collect()
}

fn findings(site: &Site) -> Vec<Diagnostic> {
    load(&site.dir()).rules.unwrap_err()
}

#[test]
fn files_are_read_by_name_after_the_shipped_ones() {
    let site = Site::new(&[("b.cedar", STOP), ("a.cedar", READ), ("a_test.json", "[]"), ("README.md", "x")]);
    site.write("site.cedarschema", "type SiteHeaders = {};");
    site.write("entities.json", "[]");
    site.write("other.json", "not ours");
    let loaded = load(&site.dir());
    let rules = loaded.rules.unwrap();
    assert_eq!(files(&rules), ["policies/a.cedar", "policies/b.cedar"]);
    assert!(rules.policies().next().unwrap().is_baseline);
    assert_eq!(&*rules.policies().last().unwrap().text, STOP);
    assert_eq!(
        (&*rules.schema().site_file, &*rules.schema().site),
        ("policies/site.cedarschema", "type SiteHeaders = {};")
    );
    assert_eq!(rules.extra.as_deref(), Some(&serde_json::json!([])));
    let cases: Vec<_> = rules.cases().collect();
    assert_eq!(cases, [("policies/a_test.json".to_owned(), Arc::from("[]"))]);
    assert!(rules.files.get("other.json").is_none(), "no case names it");
}

#[test]
fn an_empty_directory_is_the_shipped_policies_alone() {
    assert_eq!(load(&Site::new(&[]).dir()).rules.unwrap(), Rules::shipped());
}

#[test]
fn ps2_what_lies_below_baseline_replaces_what_is_shipped_and_is_watched_like_the_rest() {
    let site = Site::new(&[]);
    let before = Fingerprint::of(&site.dir()).unwrap();
    fs::create_dir(site.dir().join("baseline")).unwrap();
    site.chmod("baseline", 0o755);
    site.write("baseline/roles.cedar", "// ours");
    site.write("baseline/notes.json", "{}");
    assert_ne!(Fingerprint::of(&site.dir()).unwrap(), before);
    let rules = load(&site.dir()).rules.unwrap();
    let names: Vec<&str> = rules.files.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["baseline/roles.cedar"]);
    site.chmod("baseline", 0o777);
    assert_eq!(findings(&site)[0].code, "PC0108", "whoever can write there makes policies");
}

#[test]
fn entity_files_that_cases_name_belong_to_the_rules() {
    let case = r#"[{"entities": "people.json"}, {"entities": []}, {"entities": "../secret.json"}]"#;
    let site = Site::new(&[("a_test.json", case), ("people.json", "[]"), ("more.json", "[]")]);
    let rules = load(&site.dir()).rules.unwrap();
    let names: Vec<&str> = rules.files.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a_test.json", "people.json"]);
}

#[test]
fn a_directory_that_cannot_be_listed_is_one_finding() {
    let site = Site::new(&[("a.cedar", READ)]);
    let loaded = load(&site.dir().join("no"));
    let found = loaded.rules.unwrap_err();
    assert!(found[0].code == "PC2013" && found[0].message.contains("/no`"), "{found:?}");
    assert!(loaded.fingerprint.is_none());
    assert_eq!(load(&site.dir().join("a.cedar")).rules.unwrap_err()[0].code, "PC2013");
}

#[test]
fn va4_a_file_at_the_cap_is_read_and_one_byte_more_is_not() {
    let cap = FILE_BYTES;
    let site = Site::new(&[("a.cedar", &"/".repeat(cap)), ("site.cedarschema", &"/".repeat(cap))]);
    assert!(load(&site.dir()).rules.is_ok());
    site.write("a.cedar", "/".repeat(cap + 1));
    site.write("site.cedarschema", "/".repeat(cap + 1));
    let found = findings(&site);
    assert_eq!(found.len(), 2, "all at once: {found:?}");
    for (found, file) in found.iter().zip(["policies/a.cedar", "policies/site.cedarschema"]) {
        assert_eq!((found.code, &*found.file), ("PC2010", file));
        assert!(found.message.contains("262144"), "the cap is named: {}", found.message);
    }
}

#[test]
fn va4_the_set_has_a_cap_of_its_own() {
    let site = Site::new(&[]);
    let file = "/".repeat(FILE_BYTES);
    let count = SET_BYTES / FILE_BYTES;
    (0..count).for_each(|n| site.write(&format!("{n:04}.cedar"), &file));
    assert!(load(&site.dir()).rules.is_ok());
    site.write("9999.cedar", "//");
    let found = findings(&site);
    assert_eq!((found.len(), found[0].code, &*found[0].file), (1, "PC2010", "policies/9999.cedar"));
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_at_its_byte() {
    let site = Site::new(&[("b.cedar", READ)]);
    site.write("a.cedar", b"// fine\n// \xff here\n");
    let found = findings(&site);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].code, found[0].line, found[0].column), ("PC2014", 2, 4));
    site.write("a.cedar", b"\xff\xfep\0e\0");
    assert_eq!(findings(&site)[0].line, 1);
}

#[test]
fn a_name_that_is_not_utf_8_is_refused() {
    let site = Site::new(&[]);
    fs::write(site.dir().join(OsStr::from_bytes(b"\xff.cedar")), READ).unwrap();
    assert_eq!(findings(&site)[0].code, "PC2014");
}

#[test]
fn a_site_has_one_part_two_and_any_number_of_team_fragments_and_links() {
    let site = Site::new(&[
        ("site.cedarschema", "// part 2"),
        ("shop.cedarschema", "// shop"),
        ("a.cedarschema", "// a"),
    ]);
    site.write("orders.links.json", "[]");
    let rules = load(&site.dir()).rules.unwrap();
    let schema = rules.schema();
    assert_eq!((&*schema.site_file, &*schema.site), ("policies/site.cedarschema", "// part 2"));
    let teams: Vec<_> = schema.teams.iter().map(|team| (&*team.file, &*team.text)).collect();
    assert_eq!(teams, [("policies/a.cedarschema", "// a"), ("policies/shop.cedarschema", "// shop")]);
    assert_eq!(files(&rules), ["policies/orders.links.json"]);
}

#[test]
fn broken_entities_show_their_place() {
    let site = Site::new(&[("entities.json", "[\n  {\"uid\": nonsense}\n]")]);
    let found = findings(&site);
    assert_eq!((found[0].code, found[0].line), ("PC2003", 2));
    assert_eq!(found[0].source_line, "  {\"uid\": nonsense}");
    assert!((9..=12).contains(&found[0].column), "{}", found[0].column);
    site.write("entities.json", "");
    assert_eq!(findings(&site)[0].line, 1);
}

#[test]
fn what_is_no_file_and_a_link_to_nothing_are_findings() {
    let site = Site::new(&[]);
    fs::create_dir(site.dir().join("a.cedar")).unwrap();
    std::os::unix::fs::symlink("nowhere", site.dir().join("b.cedar")).unwrap();
    let found = findings(&site);
    assert_eq!(
        found.iter().map(|found| (found.code, &*found.file)).collect::<Vec<_>>(),
        [("PC2013", "policies/a.cedar"), ("PC2013", "policies/b.cedar")]
    );
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let site = Site::new(&[]);
    site.pipe("a.cedar");
    assert_eq!(findings(&site)[0].code, "PC2013");
}

#[test]
fn fs4_a_file_of_any_kind_that_others_can_write_is_refused_with_the_command_that_mends_it() {
    for (name, text) in
        [("a.cedar", READ), ("s.cedarschema", ""), ("entities.json", "[]"), ("a_test.json", "[]")]
    {
        let site = Site::new(&[(name, text)]);
        for mode in [0o666, 0o664, 0o646] {
            site.chmod(name, mode);
            let found = findings(&site);
            assert_eq!(
                (found.len(), found[0].code, &*found[0].file),
                (1, "PC0108", &*format!("policies/{name}"))
            );
            assert!(found[0].message.contains(&format!("mode {mode:o}")), "{}", found[0].message);
            let mended = format!("chmod go-w {}", site.dir().join(name).display());
            assert_eq!(found[0].help.as_deref(), Some(&*mended));
        }
        site.chmod(name, 0o644);
        assert!(load(&site.dir()).rules.is_ok(), "{name}");
    }
}

#[test]
fn fs4_a_directory_that_others_can_write_is_refused_even_when_it_is_sticky() {
    let site = Site::new(&[("a.cedar", READ)]);
    for mode in [0o777, 0o775, 0o1777] {
        site.chmod("", mode);
        let found = findings(&site);
        assert_eq!((found.len(), found[0].code), (1, "PC0108"), "{found:?}");
        assert_eq!(found[0].help.as_deref(), Some(&*format!("chmod go-w {}", site.dir().display())));
    }
    site.chmod("", 0o755);
    assert!(load(&site.dir()).rules.is_ok());
}

#[test]
fn fs5_a_link_is_judged_by_its_target() {
    let site = Site::new(&[("target.txt", READ)]);
    std::os::unix::fs::symlink("target.txt", site.dir().join("a.cedar")).unwrap();
    assert!(load(&site.dir()).rules.is_ok());
    site.chmod("target.txt", 0o646);
    assert_eq!(findings(&site)[0].code, "PC0108");
}

/// The text of `a.cedar` and `z.cedar` when both are edited after the first of them was read, `edits` times over.
fn read_while_edited(edits: u32) -> Result<Vec<String>, Vec<Diagnostic>> {
    let site = Site::new(&[("a.cedar", "// 0"), ("z.cedar", "// 0")]);
    let mut edited = 0;
    let loaded = read(&site.dir(), |reading, name| {
        reading.file(name);
        if name == "a.cedar" && edited < edits {
            edited += 1;
            ["a.cedar", "z.cedar"].iter().for_each(|name| site.write(name, format!("// {edited}")));
        }
    });
    let rules = loaded.rules?;
    let own = rules.policies().filter(|source| !source.is_baseline);
    Ok(own.map(|source| source.text.to_string()).collect())
}

#[test]
fn ps5_files_edited_while_they_are_read_are_never_a_mixture() {
    assert_eq!(read_while_edited(0).unwrap(), ["// 0", "// 0"]);
    assert_eq!(read_while_edited(1).unwrap(), ["// 1", "// 1"]);
    assert_eq!(read_while_edited(4).unwrap(), ["// 4", "// 4"]);
    assert_eq!(read_while_edited(9).unwrap_err()[0].code, "PC2013", "and not waited for without end");
}
