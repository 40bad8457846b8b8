//! Which calls of a route are sent to another cluster as well, to see what that makes of them (RT-05).
//!
//! `portcullis` fills the spec; the proxy asks [`Mirror::takes`] for each call and sends what it takes to the cluster,
//! which is one of the mirror's own: nothing that happens to mirrored calls is held against calls.

use std::sync::Arc;

use crate::{Cluster, Share};

/// What a share is told in.
const WHOLE: u16 = 10_000;

/// A mirror as the configuration means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSpec {
    /// Where the calls go besides; its weight says nothing.
    pub to: Share,
    /// So many of 10,000 calls, from 1.
    pub share: u16,
}

/// A mirror in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where the calls go besides: endpoints as those of the cluster that is named, with a state of their own.
    pub to: Arc<Cluster>,
    /// So many of 10,000 calls.
    pub share: u16,
}

impl Mirror {
    /// Whether the mirror takes the call that drew `roll`, any 64 bits.
    #[must_use]
    pub fn takes(&self, roll: u64) -> bool {
        (u128::from(roll) * u128::from(WHOLE)) >> 64 < u128::from(self.share)
    }

    /// The name of the cluster that a mirror to that one has to itself.
    pub(crate) fn cluster_name(of: &str) -> String {
        format!("{of} (mirror)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterSpec, Labels};
    use proptest::prelude::*;

    fn mirror(share: u16) -> Mirror {
        Mirror { to: Arc::new(Cluster::new(0, &ClusterSpec::default(), &Labels::default())), share }
    }

    proptest! {
        #[test]
        fn rt_05_a_mirror_takes_its_exact_share(share in 1..=WHOLE) {
            let mirror = mirror(share);
            // The middle of each part of the line.
            let roll = |part: u16| ((u128::from(part) << 64) + (1 << 63)) / u128::from(WHOLE);
            let taken = (0..WHOLE).filter(|part| mirror.takes(u64::try_from(roll(*part)).unwrap())).count();
            prop_assert_eq!(taken, usize::from(share));
        }
    }

    #[test]
    fn rt_05_the_whole_is_every_call_and_the_least_share_some() {
        assert!(mirror(WHOLE).takes(u64::MAX) && mirror(WHOLE).takes(0));
        assert!(mirror(1).takes(0) && !mirror(1).takes(u64::MAX));
    }
}
