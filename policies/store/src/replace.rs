//! Replaces a file of a policy directory by a new text, at once: a watching process sees the old one or the new one.
//! Called by `policy lint --fix` and `policy fmt`. Refuses links, which would be replaced by files.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Writes `text` to the file that findings about `path` name `shown`.
///
/// # Errors
/// What the disk said; the old file is whole.
pub(crate) fn replace(path: &Path, shown: &str, text: &str) -> io::Result<()> {
    let file = file_of(path, shown);
    let about = file.symlink_metadata()?;
    if !about.is_file() {
        return Err(io::Error::other(format!("`{}` is a link; its target is not changed", file.display())));
    }
    let beside = file.with_extension("cedar.tmp");
    let mode = std::os::unix::fs::MetadataExt::mode(&about) & 0o777;
    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let written = new
        .write_all(text.as_bytes())
        .and_then(|()| new.sync_all())
        .and_then(|()| fs::rename(&beside, &file));
    if written.is_err() {
        // What is left behind would stop the next try; the first error is the one to tell.
        drop(fs::remove_file(&beside));
    }
    written
}

/// `path` itself when it is a file, else the file of the directory `path` that `shown` ends with.
fn file_of(path: &Path, shown: &str) -> PathBuf {
    let name = shown.rsplit('/').next().unwrap_or(shown);
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}
