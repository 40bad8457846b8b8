//! Unix socket files: permissions before the first connection, stale files told from living ones (LT-13).
//! Refuses abstract names, paths the kernel cannot hold, directories everybody may write, files that are no sockets.

use crate::listener::BACKLOG;
use base_ports::socket_path;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// Binds, sets the mode, and only then listens: until then every connect is refused, so nobody slips in while the
/// file still has the mode of the umask.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    check(path, mode)?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

fn check(path: &Path, mode: u32) -> io::Result<()> {
    socket_path::check(path)?;
    if mode > 0o777 {
        return Err(invalid(format!("`{mode:o}` is not the mode of a socket")));
    }
    Ok(())
}

/// A socket file nobody answers on is what a killed process left behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cause),
    };
    let shown = path.display();
    if !about.file_type().is_socket() {
        let message = format!("`{shown}` exists and is not a socket");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, format!("somebody listens on `{shown}` already")))
        }
        Err(cause) => {
            Err(io::Error::new(cause.kind(), format!("`{shown}` exists and cannot be examined: {cause}")))
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Removes the socket file when the listener goes, unless another one stands there by now.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// It stays where it is: another process has the socket now.
    pub(crate) fn leave(mut self) {
        self.path = PathBuf::new();
    }

    pub(crate) fn of(path: &Path) -> io::Result<SocketFile> {
        let about = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), inode: (about.dev(), about.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.inode);
        if is_ours && let Err(cause) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %cause, "socket file not removed");
        }
    }
}

#[cfg(test)]
mod tests;
