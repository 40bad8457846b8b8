//! Accept loops with deadlines, caps and drain, for every listener of every role.
//!
//! This crate knows no protocol above TCP and Unix sockets. Five types to know: [`Listener`], [`Accepted`],
//! [`Caps`], [`Timers`], [`Drain`].

mod accept;
mod caps;
pub mod deadline;
mod drain;
mod listener;
pub mod notify;
mod stream;
mod timers;

pub use accept::accept_loop;
pub use caps::{Caps, ConnectionPermit};
pub use drain::{Drain, DrainWatch};
pub use listener::{Bind, Listener};
pub use stream::{Accepted, Peer, Stream};
pub use timers::Timers;
