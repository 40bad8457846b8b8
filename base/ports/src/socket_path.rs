//! What the path of a Unix socket must be, to listen there and to connect there (LT-13): a file, short enough for the
//! kernel, in a directory where nobody else could have put it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

/// Longest path of a Unix socket on Linux, without the closing zero.
pub const MAX_BYTES: usize = 107;
const WRITABLE_BY_ALL: u32 = 0o002;

/// Looks at the path and its directory.
///
/// # Errors
/// An abstract name, a path that the kernel cannot hold, a directory that is missing or that everybody may write.
pub fn check(path: &Path) -> io::Result<()> {
    let shown = path.display();
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.starts_with(b"@") {
        return Err(invalid(format!(
            "`{shown}` is not the path of a socket file; abstract sockets have no permissions"
        )));
    }
    if bytes.len() > MAX_BYTES {
        return Err(invalid(format!(
            "`{shown}` has {} bytes; a unix socket path has at most {MAX_BYTES}",
            bytes.len()
        )));
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent,
        _ => Path::new("."),
    };
    let about = fs::metadata(parent).map_err(|cause| {
        io::Error::new(cause.kind(), format!("directory `{}`: {cause}", parent.display()))
    })?;
    if about.mode() & WRITABLE_BY_ALL != 0 {
        let message =
            format!("directory `{}` of socket `{shown}` is writable by everybody", parent.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
