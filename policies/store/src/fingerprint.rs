//! What a directory looks like from outside, to tell whether something in it has changed. Reads no content.

use crate::files::BASELINE;
use std::{ffi::OsString, fs, io, os::unix::fs::MetadataExt, path::Path};

/// Owner and mode of the directory and of `baseline/` in it; name, inode, length and times of every file that counts,
/// sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    home: (u32, u32),
    baseline: Option<(u32, u32)>,
    files: Vec<Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    name: OsString,
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of the files of `dir` now. Links are followed: a mounted configuration map is a directory of links.
    pub(crate) fn of(dir: &Path) -> io::Result<Fingerprint> {
        let home = fs::metadata(dir)?;
        let mut files = Vec::new();
        look(dir, "", counts, &mut files)?;
        let below = dir.join(BASELINE);
        let baseline = match fs::metadata(&below) {
            Ok(about) if about.is_dir() => {
                let is_policy =
                    |name: &OsString| counts(name) && name.as_encoded_bytes().ends_with(b".cedar");
                look(&below, BASELINE, is_policy, &mut files)?;
                Some((about.uid(), about.mode()))
            }
            _ => None,
        };
        files.sort();
        Ok(Fingerprint { home: (home.uid(), home.mode()), baseline, files })
    }

    /// Names of the files, sorted; those below `baseline/` with it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &OsString> {
        self.files.iter().map(|seen| &seen.name)
    }

    /// Whether there is a directory of replacements for shipped policies.
    pub(crate) fn has_baseline(&self) -> bool {
        self.baseline.is_some()
    }
}

fn look(
    dir: &Path,
    prefix: &str,
    counts: impl Fn(&OsString) -> bool,
    files: &mut Vec<Seen>,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !counts(&entry.file_name()) {
            continue;
        }
        let about = match fs::metadata(entry.path()) {
            Ok(about) => about,
            // Gone since it was listed, or a link to nothing: seen as such.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => entry.metadata()?,
            Err(cause) => return Err(cause),
        };
        let mut name = OsString::from(prefix);
        name.push(entry.file_name());
        files.push(Seen {
            name,
            inode: (about.dev(), about.ino()),
            length: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        });
    }
    Ok(())
}

/// Whether a file is ours to read: policies, schema, entities, cases. Not hidden, not an editor's copy.
fn counts(name: &OsString) -> bool {
    let bytes = name.as_encoded_bytes();
    let ours: [&[u8]; 3] = [b".cedar", b".cedarschema", b".json"];
    !bytes.starts_with(b".") && ours.iter().any(|ending| bytes.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_change_of_content_name_or_number_shows_and_an_editors_copy_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let look = || Fingerprint::of(dir.path()).unwrap();
        let empty = look();
        write("a.cedar", "one");
        let one = look();
        assert_ne!(one, empty);
        for other in [".a.cedar.swp", "a.cedar~", ".hidden.cedar", "notes.txt", "4913"] {
            write(other, "x");
        }
        assert_eq!(look(), one);
        write("a.cedar", "two");
        let two = look();
        assert_ne!(two, one);
        fs::rename(dir.path().join("a.cedar"), dir.path().join("b.cedar")).unwrap();
        assert_ne!(look(), two);
        assert_eq!(look().names().collect::<Vec<_>>(), ["b.cedar"]);
    }

    #[test]
    fn who_can_write_the_directory_shows() {
        let dir = tempfile::tempdir().unwrap();
        let before = Fingerprint::of(dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_ne!(Fingerprint::of(dir.path()).unwrap(), before);
    }

    #[test]
    fn the_target_of_a_link_counts() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("a.cedar"), version).unwrap();
        }
        let seen = dir.path().join("seen");
        fs::create_dir(&seen).unwrap();
        std::os::unix::fs::symlink(dir.path().join("v1"), seen.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.cedar", seen.join("a.cedar")).unwrap();
        let before = Fingerprint::of(&seen).unwrap();
        std::os::unix::fs::symlink(dir.path().join("v2"), seen.join("..new")).unwrap();
        fs::rename(seen.join("..new"), seen.join("..data")).unwrap();
        assert_ne!(Fingerprint::of(&seen).unwrap(), before);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Fingerprint::of(&dir.path().join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
