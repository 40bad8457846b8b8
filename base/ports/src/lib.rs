//! Clock, randomness, disk, network, names and supervised tasks as parameters.
//!
//! Cores take these as values, so rotation, expiry, recovery and balance are deterministic in tests.
//! This crate knows no word of identity, policy or traffic. Five types to know: [`Clock`], [`Rng`], [`Disk`],
//! [`Tasks`], [`UnixTime`].

pub mod clock;
pub mod disk;
pub mod net;
pub mod rate;
pub mod resolve;
pub mod rng;
pub mod socket_path;
pub mod stream;
pub mod task;
pub mod weight;

pub use clock::{Clock, ManualClock, Mono, Now, SystemClock, UnixTime};
pub use disk::{Disk, DiskFile, MemoryDisk, Survive, SystemDisk};
pub use net::{Dialing, ManualNet, Net, NetAddr, SystemNet};
pub use rate::Rate;
pub use resolve::{Addresses, ManualResolver, Resolver, Resolving};
pub use rng::{Rng, SeededRng, SystemRng};
pub use stream::{Detached, Stream};
pub use task::{TaskHandle, Tasks};
pub use weight::give_way;
