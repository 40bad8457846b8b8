//! How many streams one user and all users may hold open.
//!
//! Called by `service` for each new stream; the permit counts down when the stream is dropped.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tonic::Status;

const PER_USER: usize = 100;
const IN_ALL: usize = 2_000;

/// The open streams by user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<u32, usize>>>);

/// One open stream.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    streams: Streams,
    uid: u32,
}

impl Streams {
    pub(crate) fn admit(&self, uid: u32) -> Result<StreamPermit, Status> {
        let mut open = self.0.lock();
        let (own, all) = (open.get(&uid).copied().unwrap_or(0), open.values().sum::<usize>());
        if own >= PER_USER || all >= IN_ALL {
            return Err(Status::resource_exhausted("too many open Workload API streams"));
        }
        open.insert(uid, own + 1);
        Ok(StreamPermit { streams: self.clone(), uid })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        if let Some(count) = open.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
        }
        open.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_wa5_one_user_cannot_take_all_streams_and_a_closed_one_is_given_back() {
        let streams = Streams::default();
        let mut held: Vec<_> = (0..PER_USER).map(|_| streams.admit(1).unwrap()).collect();

        assert_eq!(streams.admit(1).unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert!(streams.admit(2).is_ok());

        held.pop();
        assert!(streams.admit(1).is_ok());
        held.clear();
        assert!(streams.0.lock().is_empty());
    }

    #[test]
    fn threat_wa5_all_users_together_are_bounded() {
        let streams = Streams::default();
        let held: Vec<_> =
            (0..IN_ALL).filter_map(|n| streams.admit(u32::try_from(n / 50).unwrap()).ok()).collect();
        assert_eq!(held.len(), IN_ALL);
        assert_eq!(streams.admit(9_999).unwrap_err().code(), tonic::Code::ResourceExhausted);
    }
}
