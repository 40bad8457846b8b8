//! Accept loops with deadlines, caps and drain: the way every byte from outside enters the process (AL-01).
//!
//! The proxy, the admin and enrolment APIs and the agent's socket bind a [`Listener`] and run [`accept_loop`] on it.
//! Knows nothing above TCP, UDP and Unix stream sockets: no TLS, no HTTP, no identity. Never ends on an accept error.
//! Five types to know: [`Listener`], [`Accepted`], [`Gate`], [`Drain`], [`Timers`].

mod accept;
mod backoff;
mod bind;
pub mod deadline;
mod drain;
mod gate;
pub mod handover;
mod leaving;
mod listener;
pub mod notify;
mod owner;
mod peer;
mod sockets;
mod unix;

pub use accept::{Accepted, accept_loop};
pub use base_ports::Stream;
pub use bind::{Bind, UNIX_MODE};
pub use deadline::{DeadlineExceeded, Timers};
pub use drain::{Drain, DrainWatch};
pub use gate::{Activity, Caps, ConnectionPermit, Gate, Refusals, Refused};
pub use listener::{Listener, bind_datagram, connected_datagram};
pub use owner::owner;
pub use peer::Peer;
pub use sockets::{Named, Part, Sockets};
