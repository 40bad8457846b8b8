//! Secrets behind links.

use crate::{
    check_dir, run_cases,
    testing::{READ, Site, shop},
};
use policies_engine::Diagnostic;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

const SECRETS: [&str; 4] =
    ["root:$6$hunter2:19000:0:99999:7:::\n", "hunter2\n", "[\"hunter2\" hunter2]", "{\"name\": \"hunter2\"}"];

/// A site with `name` a link to a file beside the directory.
fn linked(name: &str, text: impl AsRef<[u8]>) -> Site {
    let site = Site::new(&[("ok.cedar", READ)]);
    let secret = site.dir().parent().unwrap().join("shadow");
    fs::write(&secret, text).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../shadow", site.dir().join(name)).unwrap();
    site
}

fn shows_nothing(found: &[Diagnostic], name: &str) {
    assert!(found.iter().any(|finding| finding.file.ends_with(name)), "{found:?}");
    for finding in found {
        let told = format!("{finding:?} {finding}");
        assert!(!told.contains("hunter2") && !told.contains("$6$"), "{told}");
    }
}

#[tokio::test]
async fn fs5_no_finding_shows_text_from_outside_the_directory() {
    for secret in SECRETS {
        for name in ["a.cedar", "a.cedarschema", "entities.json"] {
            if (name == "entities.json") && secret.starts_with('{') {
                continue;
            }
            let site = linked(name, secret);
            shows_nothing(&check_dir(&site.dir(), &shop()).diagnostics, name);
            let store = site.start().await;
            shows_nothing(&store.status().diagnostics, name);
        }
        let site = linked("a_test.json", secret);
        shows_nothing(&run_cases(&site.dir(), &shop()).diagnostics, "a_test.json");
    }
    let site = linked("a.cedar", b"hunter2 \xff");
    shows_nothing(&check_dir(&site.dir(), &shop()).diagnostics, "a.cedar");
}

#[test]
fn a_link_out_of_the_directory_is_obeyed_and_one_inside_shows_its_place() {
    let site = linked("a.cedar", READ.replace("orders-read", "linked"));
    assert_eq!(check_dir(&site.dir(), &shop()).policies, 2);
    let site = Site::new(&[("text", "permit (oops);")]);
    symlink("text", site.dir().join("a.cedar")).unwrap();
    assert_eq!(check_dir(&site.dir(), &shop()).diagnostics[0].source_line, "permit (oops);");
}
