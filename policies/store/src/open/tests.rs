//! Owners and modes, and names that would be commands.

use super::*;

fn verdict(owner: u32, mode: u32, user: u32) -> Option<String> {
    match judge(Path::new("/p/a.cedar"), owner, mode, user) {
        Ok(()) => None,
        Err(NotOpened::Exposed { remedy, .. }) => Some(remedy),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn fs4_root_and_the_own_user_are_trusted_and_nobody_else() {
    assert_eq!(verdict(0, 0o100_644, 1000), None);
    assert_eq!(verdict(1000, 0o100_644, 1000), None);
    assert_eq!(verdict(1001, 0o100_600, 1000).as_deref(), Some("chown 1000 /p/a.cedar"));
    assert_eq!(verdict(1000, 0o100_600, 0).as_deref(), Some("chown 0 /p/a.cedar"));
    for mode in [0o100_620, 0o100_602, 0o040_775, 0o041_777] {
        assert_eq!(verdict(0, mode, 0).as_deref(), Some("chmod go-w /p/a.cedar"), "{mode:o}");
    }
}

#[test]
fn a_name_is_one_word_of_the_command() {
    assert_eq!(quoted(Path::new("/p/a_b-1.cedar")), "/p/a_b-1.cedar");
    assert_eq!(quoted(Path::new("/p/$(id);x.cedar")), "'/p/$(id);x.cedar'");
    assert_eq!(quoted(Path::new("/p/it's.cedar")), r"'/p/it'\''s.cedar'");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let site = crate::testing::Site::new(&[]);
    site.pipe("a");
    assert!(matches!(file(&site.dir().join("a")), Err(NotOpened::Unreadable(_))));
    assert!(matches!(file(&site.dir()), Err(NotOpened::Unreadable(_))), "nor is a directory a file");
}
