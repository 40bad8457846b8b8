//! Builders for tests over the shipped binary: a gateway in a temporary directory on free ports, real peers, upstreams.
//! A test is five lines: build, start, call, look, done. Everything a builder started ends with it.

pub mod binary;
pub mod bytes;
mod curl;
pub mod envoy;
pub mod forge;
pub mod frames;
pub mod gateway;
pub mod h3;
pub mod host;
mod outcome;
pub mod peers;
mod people;
mod policies;
pub mod port;
mod process;
pub mod recorder;
mod rest;
pub mod script;
pub mod upstream;
pub mod wire;

pub use gateway::Gateway;
pub use outcome::Outcome;
pub use people::own_uid;
pub use rest::Answer;
pub use script::Script;

/// What a test returns: any error fails it with its text.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Fails a test with a text unless `holds`.
#[macro_export]
macro_rules! check {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+).into());
        }
    };
}
