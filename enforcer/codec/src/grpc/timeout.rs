//! `grpc-timeout`: parsed strictly, printed rounded down, so that it never grows on the way (RPC-04).

use std::time::Duration;

/// Parses 1 to 8 digits and a unit of `H M S m u n`.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount = digits.iter().try_fold(0_u64, |sum, &byte| {
        sum.checked_mul(10)?.checked_add(u64::from(char::from(byte).to_digit(10)?))
    })?;
    Some(match unit {
        b'H' => Duration::from_secs(amount.checked_mul(3600)?),
        b'M' => Duration::from_secs(amount.checked_mul(60)?),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Prints with the finest unit that fits eight digits, rounded down.
pub fn print_timeout(timeout: Duration) -> TimeoutText {
    const LIMIT: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    let units = [
        (1, b'n'),
        (1_000, b'u'),
        (1_000_000, b'm'),
        (1_000_000_000, b'S'),
        (60_000_000_000, b'M'),
        (3_600_000_000_000, b'H'),
    ];
    let fits = units.iter().find_map(|&(size, unit)| {
        let amount = nanos.checked_div(size)?;
        (amount <= LIMIT).then_some((amount, unit))
    });
    let (amount, unit) = fits.unwrap_or((LIMIT, b'H'));
    let mut text = TimeoutText { bytes: [0; 9], length: 0 };
    text.push(itoa::Buffer::new().format(amount).as_bytes());
    text.push(&[unit]);
    text
}

/// A printed timeout, without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct TimeoutText {
    bytes: [u8; 9],
    length: usize,
}

impl TimeoutText {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(part) {
            *slot = *byte;
        }
        self.length = self.length.saturating_add(part.len()).min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rpc_04_timeouts_are_parsed_strictly() {
        assert_eq!(parse_timeout(b"1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse_timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout(b"250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", " 1S", "1S ", "+1S", "1h"] {
            assert_eq!(parse_timeout(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
            #[test]
            fn rpc_04_a_printed_timeout_is_never_longer(nanos in any::<u64>()) {
                let timeout = Duration::from_nanos(nanos);
                let text = print_timeout(timeout);
                let back = parse_timeout(text.as_str().as_bytes()).unwrap();
                prop_assert!(back <= timeout);
    // A coarser unit is taken at eight digits, and drops at most three of them.
                prop_assert!(timeout - back <= timeout / 99_999, "{}", text.as_str());
            }
        }
}
