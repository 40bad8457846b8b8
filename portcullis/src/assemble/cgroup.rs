//! The control groups that this process is in (cgroups(7)): where the kernel says what it may use.

use std::fs;
use std::path::{Path, PathBuf};

/// Where they are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// Whose names the files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// What the kernel says of this process; nothing when it says nothing.
pub(super) fn own() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The directories for that controller, from the own group up, as `text` of `/proc/self/cgroup` tells them. A container sees its own
/// group as the root, whatever the text says; so some of them may not be there.
pub(super) fn directories(text: &str, root: &Path, controller: &str) -> Vec<(Version, PathBuf)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (version, top) = match controllers {
            "" => (Version::Two, root.to_owned()),
            some if some.split(',').any(|one| one == controller) => (Version::One, root.join(controller)),
            _ => continue,
        };
        let own = top.join(path.trim_start_matches('/'));
        let above = own.ancestors().take_while(|dir| dir.starts_with(&top));
        found.extend(above.map(|dir| (version, dir.to_owned())));
    }
    found
}
