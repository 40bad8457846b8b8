//! The channel between a process and the one that takes its place (UP-01): messages with descriptors over a Unix socket
//! that only the same user reaches, and whose other end the kernel names.
//!
//! Both ends block and belong to a thread of their own. What the messages say is not known here. Refuses peers of other
//! users, messages that are cut, and anything after the time is over.

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
        accept_with, bind, connect, listen, recvmsg, sendmsg, socket_with,
        sockopt::{self, Timeout},
    },
};
use std::{
    fs, io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Descriptors that one message carries at most.
pub const BATCH: usize = 64;
/// Bytes of one message at most.
const MESSAGE: usize = 64 * 1024;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A place where one other process of this user may connect. The socket file goes with it.
#[derive(Debug)]
pub struct Meeting {
    socket: OwnedFd,
    path: PathBuf,
}

/// One end of the channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Meeting {
    /// Waits for a connection at `path`, whose directory is made with mode 0700 and must belong to this user alone.
    ///
    /// # Errors
    /// A directory that others may write, a path that is taken or too long for a socket.
    pub fn at(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let about = fs::metadata(dir)?;
            if about.uid() != user() || about.mode() & WRITABLE_BY_OTHERS != 0 {
                let text = format!("directory `{}` can be written by others", dir.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
        }
        let socket = seqpacket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let meeting = Self { socket, path: path.to_owned() };
        listen(&meeting.socket, 8)?;
        Ok(meeting)
    }

    /// The next peer of this user within `wait`; others are turned away, told by `refused`, and do not end the waiting.
    ///
    /// # Errors
    /// Nobody came in time.
    pub fn next(&self, wait: Duration, mut refused: impl FnMut(u32)) -> io::Result<Channel> {
        readable(self.socket.as_fd(), wait)?;
        let socket = accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        let peer = sockopt::socket_peercred(&socket)?.uid.as_raw();
        if peer == user() {
            return Ok(Channel { socket });
        }
        refused(peer);
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %cause, "socket file not removed");
        }
    }
}

impl Channel {
    /// Connects to the process that waits at `path`, which must be one of this user.
    ///
    /// # Errors
    /// Nobody waits there, or another user does.
    pub fn to(path: &Path) -> io::Result<Self> {
        let socket = seqpacket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let peer = sockopt::socket_peercred(&socket)?.uid.as_raw();
        if peer != user() {
            let text = format!("user {peer} waits at `{}`, this process is user {}", path.display(), user());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { socket })
    }

    /// Sends a message with at most [`BATCH`] descriptors.
    ///
    /// # Errors
    /// The other end is gone, or takes nothing for ten seconds.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        sockopt::set_socket_timeout(&self.socket, Timeout::Send, Some(Duration::from_secs(10)))?;
        sendmsg(&self.socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message within `wait`, and what descriptors came with it; none when the other end is gone.
    ///
    /// # Errors
    /// Nothing came in time; a message that is too long.
    pub fn receive(&self, wait: Option<Duration>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        if let Some(wait) = wait {
            readable(self.socket.as_fd(), wait)?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; MESSAGE];
        let mut into = [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(cause) => return Err(cause.into()),
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the other process was cut"));
        }
        if received.bytes == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        bytes.truncate(received.bytes);
        Ok(Some((bytes, descriptors)))
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Waits until something can be read.
fn readable(socket: BorrowedFd<'_>, wait: Duration) -> io::Result<()> {
    let wait = rustix::time::Timespec::try_from(wait)
        .map_err(|cause| io::Error::new(io::ErrorKind::InvalidInput, cause.to_string()))?;
    let mut wanted = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    match poll(&mut wanted, Some(&wait)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) => Ok(()),
        Err(cause) => Err(cause.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn up_01_descriptors_and_messages_arrive_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m").join("s");
        let meeting = Meeting::at(&path).unwrap();
        let sent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = std::thread::spawn(move || {
            let channel = Channel::to(&path).unwrap();
            let sockets = [sent.as_fd(); BATCH];
            channel.send(b"first", &sockets).unwrap();
            channel.send(b"second", &[]).unwrap();
            sent.local_addr().unwrap()
        });
        let here = meeting.next(Duration::from_secs(5), |_| {}).unwrap();
        let (message, sockets) = here.receive(Some(Duration::from_secs(5))).unwrap().unwrap();
        assert_eq!((message.as_slice(), sockets.len()), (&b"first"[..], BATCH));
        let (message, none) = here.receive(None).unwrap().unwrap();
        assert_eq!((message.as_slice(), none.len()), (&b"second"[..], 0));
        let address = there.join().unwrap();
        assert!(here.receive(None).unwrap().is_none(), "the other end is gone");
        for socket in sockets {
            assert_eq!(std::net::TcpListener::from(socket).local_addr().unwrap(), address);
        }
    }

    #[test]
    fn up_01_who_does_not_come_or_says_nothing_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let meeting = Meeting::at(&path).unwrap();
        let none = meeting.next(Duration::from_millis(5), |_| {}).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::TimedOut);
        let there = Channel::to(&path).unwrap();
        let here = meeting.next(Duration::from_secs(5), |_| {}).unwrap();
        let silent = here.receive(Some(Duration::from_millis(5))).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        drop((there, meeting));
        assert!(!path.exists());
    }

    #[test]
    fn up_01_a_directory_that_others_may_write_is_no_place_to_meet() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let refused = Meeting::at(&dir.path().join("s")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
