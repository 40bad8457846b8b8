//! The sockets that a process listens on, by the name of what they are for: bound here, given by the service manager
//! (LT-17), or handed over by the process before (UP-01).
//!
//! Every role asks here for its sockets. A copy of each descriptor is kept, so that the very same sockets can be handed
//! on: closing one would reset the connections that nobody has accepted yet (UP-02). Refuses what came from outside and
//! is none of the configuration's, when it is asked ([`Sockets::unclaimed`]).

mod activation;

use crate::{
    Bind, Listener,
    listener::{self, bind_datagram},
    unix::SocketFile,
};
use parking_lot::Mutex;
use socket2::{SockRef, Type};
use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

/// Descriptors of listening sockets with the names of what they are for.
pub type Named = Vec<(String, OwnedFd)>;

/// All sockets of a process that others connect to.
#[derive(Debug, Default)]
pub struct Sockets {
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    name: String,
    place: Place,
    socket: OwnedFd,
    /// The file goes with the socket that was bound here.
    file: Option<SocketFile>,
    /// It was bound by another process.
    is_given: bool,
    is_claimed: bool,
}

/// Where a socket takes what comes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// Which of how many workers asks for its part of a port.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// From 0.
    pub number: usize,
    /// At least 1.
    pub of: usize,
}

impl Part {
    /// There is one worker only.
    pub const WHOLE: Part = Part { number: 0, of: 1 };
}

impl Sockets {
    /// None yet: everything is bound when it is asked for.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sockets that another process has bound.
    ///
    /// # Errors
    /// One that is no listening socket, or no datagram socket, of a known kind.
    pub fn given(named: Named) -> io::Result<Arc<Self>> {
        let held = named.into_iter().map(|(name, socket)| {
            let place = Place::of(&socket).map_err(|cause| {
                io::Error::new(cause.kind(), format!("the socket named `{name}`: {cause}"))
            })?;
            Ok(Held { name, place, socket, file: None, is_given: true, is_claimed: false })
        });
        Ok(Arc::new(Self { held: Mutex::new(held.collect::<io::Result<_>>()?) }))
    }

    /// What the service manager gave (`LISTEN_FDS`, `LISTEN_FDNAMES`); none when it gave nothing. To be called before the
    /// process has a second thread.
    ///
    /// # Errors
    /// A descriptor without a name, or that is no socket of a known kind.
    pub fn activated() -> io::Result<Option<Arc<Self>>> {
        activation::named()?.map(Self::given).transpose()
    }

    /// Listens there for `name`, alone.
    ///
    /// # Errors
    /// As [`Listener::bind`]; a descriptor cannot be copied.
    pub fn listen(&self, name: &str, bind: &Bind) -> io::Result<Listener> {
        let mut listeners = self.share(name, bind, Part::WHOLE)?;
        listeners.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The part of one worker of what listens there for `name`. The first asks first. The workers of a process that bound
    /// the port have a socket each; of those that were given, every one is served by somebody, and who would get none
    /// shares one. A Unix socket is shared by all. Must be called inside the runtime that will accept.
    ///
    /// # Errors
    /// As [`Listener::bind`]; a descriptor cannot be copied.
    pub fn share(&self, name: &str, bind: &Bind, part: Part) -> io::Result<Vec<Listener>> {
        let mut held = self.held.lock();
        let wanted = Place::from(bind);
        let found: Vec<_> = held.iter_mut().filter(|held| held.serves(name, &wanted)).collect();
        if found.iter().any(|held| held.is_given || matches!(held.place, Place::Unix(_))) {
            let count = found.len();
            let mine = found.into_iter().enumerate().filter(|(at, _)| {
                at % part.of == part.number || (part.number >= count && part.number % count == *at)
            });
            return mine.map(|(_, held)| held.listener(bind)).collect();
        }
        // The first worker finds a free port, the others join it there.
        let real = found.first().filter(|_| part.number > 0).and_then(|held| match held.place {
            Place::Tcp(address) => Some(Bind::Tcp(address)),
            _ => None,
        });
        let shares = matches!(bind, Bind::Tcp(_)) && (part.of > 1 || real.is_some());
        if shares && real.is_none() {
            // Workers share a port on purpose; with another process it would be stolen in silence.
            drop(Listener::bind(bind, false)?);
        }
        let mut listener = Listener::bind(real.as_ref().unwrap_or(bind), shares)?;
        let (socket, place) = (listener.as_fd().try_clone_to_owned()?, Place::from(listener.bound()));
        let file = listener.take_file();
        let name = name.to_owned();
        held.push(Held { name, place, socket, file, is_given: false, is_claimed: true });
        Ok(vec![listener])
    }

    /// The datagram sockets there for `name` of one worker. The first asks first. Each worker of a process that bound the
    /// port has one; those that were given are spread, and a worker may get none: nobody else may read what one reads.
    ///
    /// # Errors
    /// The address is in use, not ours, or not permitted; a descriptor cannot be copied.
    pub fn datagrams(&self, name: &str, address: SocketAddr, part: Part) -> io::Result<Vec<UdpSocket>> {
        let mut held = self.held.lock();
        let wanted = Place::Udp(address);
        let found: Vec<_> = held.iter_mut().filter(|held| held.serves(name, &wanted)).collect();
        let is_given = found.iter().any(|held| held.is_given);
        let real = found.first().and_then(|held| match held.place {
            Place::Udp(address) => Some(address),
            _ => None,
        });
        // Those of an entrance that was closed are there still.
        let mine = |at: usize| if is_given { at % part.of == part.number } else { at == part.number };
        let mine: Vec<_> = found
            .into_iter()
            .enumerate()
            .filter(|(at, _)| mine(*at))
            .map(|(_, held)| held.datagrams())
            .collect();
        if is_given || !mine.is_empty() {
            return mine.into_iter().collect();
        }
        let real = real.filter(|_| part.number > 0);
        if part.of > 1 && real.is_none() {
            // Workers share a port on purpose; with another process it would be stolen in silence.
            drop(bind_datagram(address, false)?);
        }
        let socket = bind_datagram(real.unwrap_or(address), part.of > 1)?;
        held.push(Held {
            name: name.to_owned(),
            place: Place::Udp(socket.local_addr()?),
            socket: socket.try_clone()?.into(),
            file: None,
            is_given: false,
            is_claimed: true,
        });
        Ok(vec![socket])
    }

    /// What was given and nobody asked for, as `name (tcp://127.0.0.1:80)`.
    #[must_use]
    pub fn unclaimed(&self) -> Vec<String> {
        let held = self.held.lock();
        let surplus = held.iter().filter(|held| !held.is_claimed);
        surplus.map(|held| format!("{} ({})", held.name, held.place)).collect()
    }

    /// Names for which sockets were given.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.held.lock().iter().filter(|held| held.is_given).map(|held| held.name.clone()).collect()
    }

    /// Whether a socket was given for `name` there.
    #[must_use]
    pub fn is_given(&self, name: &str, place: &impl fmt::Display) -> bool {
        let place = place.to_string();
        self.held
            .lock()
            .iter()
            .any(|held| held.is_given && held.name == name && held.place.to_string() == place)
    }

    /// Gives up what nobody asked for.
    pub fn drop_unclaimed(&self) {
        self.held.lock().retain(|held| held.is_claimed);
    }

    /// Who listened here has ended and will ask again: for the same sockets.
    pub fn keep(&self) {
        self.held.lock().iter_mut().for_each(|held| held.is_given = true);
    }

    /// From now on nothing is kept for `name`; who listens goes on.
    pub fn release(&self, name: &str) {
        self.held.lock().retain(|held| held.name != name);
    }

    /// The same of one place, written as `tcp://127.0.0.1:80`. The file of a Unix socket stays where it is kept for another
    /// name too.
    pub fn release_place(&self, name: &str, place: &str) {
        let mut held = self.held.lock();
        let is_released = |one: &mut Held| one.name == name && one.place.to_string() == place;
        let mut released: Vec<_> = held.extract_if(.., is_released).collect();
        for file in released.iter_mut().filter_map(|released| released.file.take()) {
            match held.iter_mut().find(|other| other.place.to_string() == place) {
                Some(other) => other.file = Some(file),
                None => drop(file),
            }
        }
    }

    /// The very sockets that are kept there for one name are kept for another one too, which then shares them: what nobody
    /// accepted yet is not lost when only that is left.
    ///
    /// # Errors
    /// A descriptor cannot be copied; then nothing has changed.
    pub fn lend_place(&self, from: &str, to: &str, place: &str) -> io::Result<()> {
        let mut held = self.held.lock();
        let lent = held.iter().filter(|held| held.name == from && held.place.to_string() == place);
        let copies = lent.map(|held| {
            let socket = held.socket.try_clone()?;
            let (name, place) = (to.to_owned(), held.place.clone());
            Ok(Held { name, place, socket, file: None, is_given: true, is_claimed: true })
        });
        let copies = copies.collect::<io::Result<Vec<_>>>()?;
        held.extend(copies);
        Ok(())
    }

    /// From now on nothing is kept: what listens ends with who listens. Files of Unix sockets go.
    pub fn close(&self) {
        self.held.lock().clear();
    }

    /// Copies of all, for another process.
    ///
    /// # Errors
    /// A descriptor cannot be copied.
    pub fn copies(&self) -> io::Result<Named> {
        let held = self.held.lock();
        held.iter().map(|held| Ok((held.name.clone(), held.socket.try_clone()?))).collect()
    }

    /// Another process has them all now: nothing is kept here, and the files are its own.
    pub fn hand_over(&self) {
        for held in self.held.lock().drain(..) {
            held.file.into_iter().for_each(SocketFile::leave);
        }
    }

    /// They were handed over: files of Unix sockets go with this process from now on.
    pub fn own_files(&self) {
        for held in self.held.lock().iter_mut() {
            if let (Place::Unix(path), None) = (&held.place, &held.file) {
                held.file = SocketFile::of(path).ok();
            }
        }
    }
}

impl Held {
    fn serves(&self, name: &str, wanted: &Place) -> bool {
        self.name == name
            && match (&self.place, wanted) {
                (Place::Tcp(is), Place::Tcp(wanted)) | (Place::Udp(is), Place::Udp(wanted)) => {
                    is == wanted || (wanted.port() == 0 && is.ip() == wanted.ip())
                }
                (is, wanted) => is == wanted,
            }
    }

    fn datagrams(&mut self) -> io::Result<UdpSocket> {
        self.is_claimed = true;
        let socket = UdpSocket::from(self.socket.try_clone()?);
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn listener(&mut self, bind: &Bind) -> io::Result<Listener> {
        self.is_claimed = true;
        let bind = match (&self.place, bind) {
            (Place::Tcp(address), _) => Bind::Tcp(*address),
            (_, bind) => bind.clone(),
        };
        listener::listening(self.socket.try_clone()?, bind)
    }
}

impl Place {
    /// Looks at a socket of another process.
    fn of(socket: &OwnedFd) -> io::Result<Self> {
        let about = SockRef::from(socket);
        let address = about.local_addr()?;
        let is_stream = about.r#type()? == Type::STREAM;
        if is_stream && !about.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) if is_stream => Ok(Self::Tcp(address)),
            (Some(address), _) => Ok(Self::Udp(address)),
            (None, Some(path)) if is_stream => Ok(Self::Unix(path.to_owned())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no tcp, udp or unix stream socket")),
        }
    }
}

impl From<&Bind> for Place {
    fn from(bind: &Bind) -> Self {
        match bind {
            Bind::Tcp(address) => Self::Tcp(*address),
            Bind::Unix { path, .. } => Self::Unix(path.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "quic://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
