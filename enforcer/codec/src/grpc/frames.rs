//! The five-byte prefix of gRPC messages, watched as bytes pass by: flag and length, never the content.

use crate::NotCanonical;

/// A watcher of one direction of a gRPC stream.
#[derive(Debug, Clone)]
pub struct Frames {
    limit: Option<u32>,
    prefix: [u8; 5],
    filled: usize,
    left: u32,
}

impl Frames {
    /// Refuses messages longer than `limit`.
    pub fn new(limit: Option<u32>) -> Self {
        Self { limit, prefix: [0; 5], filled: 0, left: 0 }
    }

    /// Watches the next bytes.
    ///
    /// # Errors
    /// RPC-04 when a flag is neither 0 nor 1 (400) or a message is too long (431: RESOURCE_EXHAUSTED).
    pub fn observe(&mut self, mut bytes: &[u8]) -> Result<(), NotCanonical> {
        while !bytes.is_empty() {
            let skip = bytes.len().min(self.left as usize);
            self.left = self.left.saturating_sub(u32::try_from(skip).unwrap_or(u32::MAX));
            bytes = bytes.get(skip..).unwrap_or_default();
            while self.left == 0
                && let Some((&byte, rest)) = bytes.split_first()
            {
                bytes = rest;
                if let Some(slot) = self.prefix.get_mut(self.filled) {
                    *slot = byte;
                }
                self.filled = self.filled.saturating_add(1);
                if self.filled == self.prefix.len() {
                    self.begin()?;
                }
            }
        }
        Ok(())
    }

    /// True between messages: an end of the stream here cuts nothing.
    pub fn is_between(&self) -> bool {
        self.left == 0 && self.filled == 0
    }

    fn begin(&mut self) -> Result<(), NotCanonical> {
        let [flag, length @ ..] = self.prefix;
        if flag > 1 {
            return Err(NotCanonical::keeping("RPC-04", 400, "the flag of a message is neither 0 nor 1"));
        }
        let length = u32::from_be_bytes(length);
        if self.limit.is_some_and(|limit| length > limit) {
            return Err(NotCanonical::keeping("RPC-04", 431, "a message is too long"));
        }
        self.filled = 0;
        self.left = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(flag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![flag];
        out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn rpc_04_a_message_over_the_limit_is_refused_at_its_prefix() {
        let mut frames = Frames::new(Some(4));
        frames.observe(&message(0, b"1234")).unwrap();
        assert!(frames.is_between());
        assert_eq!(frames.observe(&message(0, b"12345")[..5]).unwrap_err().status, 431);
    }

    #[test]
    fn rpc_04_a_flag_of_two_is_refused() {
        assert_eq!(Frames::new(None).observe(&message(2, b"")).unwrap_err().status, 400);
    }

    proptest! {
        #[test]
        fn any_split_of_messages_gives_the_same_end(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 1_usize..7,
            drop in 0_usize..6,
        ) {
            let mut bytes: Vec<u8> = bodies.iter().flat_map(|body| message(1, body)).collect();
            bytes.truncate(bytes.len().saturating_sub(drop));
            let mut whole = Frames::new(None);
            whole.observe(&bytes).unwrap();
            let mut split = Frames::new(None);
            for part in bytes.chunks(cut) {
                split.observe(part).unwrap();
            }
            prop_assert_eq!(whole.is_between(), split.is_between());
            prop_assert!(whole.is_between() || drop > 0);
        }
    }
}
