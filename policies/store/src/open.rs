//! Opens what lies in a directory of policies, and refuses what others can write (FS4, FS5).
//!
//! Called for every file that is read, and for the directory. Judges the open descriptor, so that nothing can be put
//! in its place in between; a link is followed and its target is judged. Never waits for the writer of a pipe.

use policies_engine::Diagnostic;
use rustix::fs::OFlags;
use std::{
    fmt,
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// Why something is not opened.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// It is missing, unreadable, or of another kind.
    Unreadable(io::Error),
    /// Others can write it: what is wrong, and the command that mends it.
    Exposed { what: String, remedy: String },
}

impl NotOpened {
    /// As a finding about `shown`.
    pub(crate) fn finding(self, shown: &Arc<str>) -> Diagnostic {
        match self {
            NotOpened::Unreadable(_) => Diagnostic::about("PC2013", shown, self.to_string()),
            NotOpened::Exposed { ref remedy, .. } => {
                Diagnostic::about("PC0108", shown, self.to_string()).help(remedy)
            }
        }
    }
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotOpened::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            NotOpened::Exposed { what, .. } => f.write_str(what),
        }
    }
}

impl From<io::Error> for NotOpened {
    fn from(cause: io::Error) -> NotOpened {
        NotOpened::Unreadable(cause)
    }
}

/// Opens a file for reading that only root and this user can write.
pub(crate) fn file(path: &Path) -> Result<File, NotOpened> {
    let (file, about) = open(path)?;
    if !about.is_file() {
        return Err(io::Error::other("not a file").into());
    }
    judge(path, about.uid(), about.mode(), user())?;
    Ok(file)
}

/// Whether only root and this user can put files into the directory `path`.
pub(crate) fn directory(path: &Path) -> Result<(), NotOpened> {
    let (_, about) = open(path)?;
    judge(path, about.uid(), about.mode(), user())
}

fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let about = file.metadata()?;
    Ok((file, about))
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn judge(path: &Path, owner: u32, mode: u32, user: u32) -> Result<(), NotOpened> {
    let path = quoted(path);
    if owner != 0 && owner != user {
        let what =
            format!("belongs to user {owner}, who is neither root nor the user of this process ({user})");
        return Err(NotOpened::Exposed { what, remedy: format!("chown {user} {path}") });
    }
    if mode & 0o022 != 0 {
        let what = format!("can be written by others (mode {:o})", mode & 0o7777);
        return Err(NotOpened::Exposed { what, remedy: format!("chmod go-w {path}") });
    }
    Ok(())
}

/// A path that a shell reads as one word, whoever chose the name.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(is_plain) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
