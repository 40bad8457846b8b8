//! How a call ends that has no answer of its upstream.

use crate::authorize::Denied;
use crate::fault::Fault;
use crate::reply::Reply;

/// Why a call has no answer of its upstream.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its route answers it.
    Reply(Box<Reply>),
    Denied(Denied),
    Fault(Fault),
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
