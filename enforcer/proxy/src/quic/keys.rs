//! Keys of QUIC that all endpoints of a process share (QU-04).
//!
//! Tokens of Retry are sealed with a key that changes every hour; the one before still opens what it sealed. The key of
//! stateless resets outlives the process, so that the next one ends the connections of this one at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use base_ports::{Clock, Mono, Rng};
use parking_lot::Mutex;
use quinn::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};

const ROTATED: Duration = Duration::from_secs(3600);
const SECRET: usize = 32;

/// What every endpoint of the process is given.
pub(crate) struct Keys {
    pub(super) reset: Arc<dyn HmacKey>,
    pub(super) retry: Arc<RetryKey>,
}

impl Keys {
    /// `reset` is the secret of this process and those after it; none = it ends with this one.
    pub(crate) fn new(reset: Option<&[u8; SECRET]>, clock: &Arc<dyn Clock>, rng: &Arc<dyn Rng>) -> Arc<Self> {
        let reset = reset.copied().unwrap_or_else(|| secret(&**rng));
        Arc::new(Self {
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)),
            retry: Arc::new(RetryKey {
                keys: Mutex::new(Pair { since: clock.mono(), latest: key(&**rng), before: None }),
                clock: Arc::clone(clock),
                rng: Arc::clone(rng),
            }),
        })
    }
}

fn secret(rng: &dyn Rng) -> [u8; SECRET] {
    let mut secret = [0; SECRET];
    rng.fill(&mut secret);
    secret
}

fn key(rng: &dyn Rng) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret(rng))
}

/// Seals the tokens of Retry.
pub(super) struct RetryKey {
    keys: Mutex<Pair>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

struct Pair {
    since: Mono,
    latest: hkdf::Prk,
    before: Option<hkdf::Prk>,
}

impl HandshakeTokenKey for RetryKey {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        let now = self.clock.mono();
        let mut keys = self.keys.lock();
        if now.saturating_since(keys.since) >= ROTATED {
            let former = std::mem::replace(&mut keys.latest, key(&*self.rng));
            (keys.since, keys.before) = (now, Some(former));
        }
        let before = keys.before.as_ref().map(|before| before.aead_from_hkdf(random_bytes));
        Box::new(Either { latest: keys.latest.aead_from_hkdf(random_bytes), before })
    }
}

/// Seals with the latest key and opens with the one before too.
struct Either {
    latest: Box<dyn AeadKey>,
    before: Option<Box<dyn AeadKey>>,
}

impl AeadKey for Either {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        self.latest.seal(data, additional_data)
    }

    fn open<'a>(&self, data: &'a mut [u8], additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        // What fails to open is not what it was.
        let mut copy = data.to_vec();
        let opened = match (self.latest.open(&mut copy, additional_data), &self.before) {
            (Ok(opened), _) => opened.len(),
            (Err(failed), None) => return Err(failed),
            (Err(_), Some(before)) => return before.open(data, additional_data),
        };
        data.copy_from_slice(&copy);
        data.get_mut(..opened).ok_or(CryptoError)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base_ports::{ManualClock, SystemRng, UnixTime};

    use super::*;

    #[test]
    fn qu_04_a_token_opens_for_an_hour_after_its_key_was_replaced_and_then_no_more() {
        let manual = Arc::new(ManualClock::new(UnixTime::from_secs(1_000_000)));
        let clock: Arc<dyn Clock> = Arc::clone(&manual) as _;
        let rng: Arc<dyn Rng> = Arc::new(SystemRng);
        let keys = Keys::new(None, &clock, &rng);
        let seal = || {
            let mut token = b"who and where".to_vec();
            keys.retry.aead_from_hkdf(b"nonce").seal(&mut token, b"more").unwrap();
            token
        };
        let opens = |token: &[u8], nonce: &[u8]| {
            let mut token = token.to_vec();
            let opened =
                keys.retry.aead_from_hkdf(nonce).open(&mut token, b"more").map(|plain| plain.to_vec());
            opened.is_ok_and(|plain| plain == b"who and where")
        };
        let first = seal();
        assert!(opens(&first, b"nonce") && !opens(&first, b"other"));
        assert_eq!(seal(), first, "one key for all endpoints");
        manual.advance(ROTATED);
        let second = seal();
        assert_ne!(first, second);
        assert!(opens(&first, b"nonce") && opens(&second, b"nonce"));
        manual.advance(ROTATED);
        assert!(!opens(&first, b"nonce") && opens(&second, b"nonce"));
    }
}
