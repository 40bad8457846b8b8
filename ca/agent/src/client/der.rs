//! Concatenated certificates, apart again.
//!
//! The Workload API writes certificates one behind the other. Only the outer length of each is read here, by DER's
//! rules; whether it is a certificate is seen by whoever parses it next. Refused: anything left over or cut short.

use ca_identity::CertificateDer;

/// Why bytes are not concatenated certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// No certificate at all.
    #[error("there is no certificate")]
    Empty,
    /// Something else than a DER SEQUENCE stands at this place.
    #[error("no certificate begins at byte {at}")]
    NotSequence {
        /// Where.
        at: usize,
    },
    /// A length that DER would write differently, or longer than four bytes.
    #[error("the length of the certificate at byte {at} is not DER")]
    Length {
        /// Where.
        at: usize,
    },
    /// The last certificate is cut short.
    #[error("the certificate at byte {at} is cut short")]
    Truncated {
        /// Where.
        at: usize,
    },
}

const SEQUENCE: u8 = 0x30;

pub(crate) fn split(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, DerError> {
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (certificate, behind) =
            rest.split_at_checked(outer_length(rest, at)?).ok_or(DerError::Truncated { at })?;
        certificates.push(CertificateDer::from(certificate.to_vec()));
        rest = behind;
    }
    if certificates.is_empty() { Err(DerError::Empty) } else { Ok(certificates) }
}

/// The length of the element at the start, header included.
fn outer_length(bytes: &[u8], at: usize) -> Result<usize, DerError> {
    let (&tag, bytes) = bytes.split_first().ok_or(DerError::Truncated { at })?;
    if tag != SEQUENCE {
        return Err(DerError::NotSequence { at });
    }
    let (&first, bytes) = bytes.split_first().ok_or(DerError::Truncated { at })?;
    let (header, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let digits = bytes.get(..count).ok_or(DerError::Truncated { at })?;
            let length = digits.iter().fold(0_usize, |value, digit| value << 8 | usize::from(*digit));
            if length < 0x80 || digits.first() == Some(&0) {
                return Err(DerError::Length { at });
            }
            (2 + count, length)
        }
        _ => return Err(DerError::Length { at }),
    };
    length.checked_add(header).ok_or(DerError::Length { at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = vec![SEQUENCE];
        match length {
            0..=0x7f => bytes.push(u8::try_from(length).unwrap()),
            0x80..=0xff => bytes.extend([0x81, u8::try_from(length).unwrap()]),
            _ => {
                bytes.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()])
            }
        }
        bytes.extend(content);
        bytes
    }

    #[test]
    fn nothing_cut_short_foreign_or_oddly_written_is_taken() {
        assert_eq!(split(&[]), Err(DerError::Empty));
        assert_eq!(split(&[0x31, 0]), Err(DerError::NotSequence { at: 0 }));
        assert_eq!(split(&[0x30, 0, 0x2d]), Err(DerError::NotSequence { at: 2 }));
        assert_eq!(split(b"-----BEGIN"), Err(DerError::NotSequence { at: 0 }));
        assert_eq!(split(&[0x30]), Err(DerError::Truncated { at: 0 }));
        assert_eq!(split(&[0x30, 2, 1]), Err(DerError::Truncated { at: 0 }));
        assert_eq!(split(&[0x30, 0x82, 1]), Err(DerError::Truncated { at: 0 }));
        for odd in
            [&[0x30, 0x80][..], &[0x30, 0x81, 0x7f], &[0x30, 0x82, 0, 0x80], &[0x30, 0x85, 1, 0, 0, 0, 0]]
        {
            assert_eq!(split(odd), Err(DerError::Length { at: 0 }));
        }
        assert_eq!(split(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(DerError::Truncated { at: 0 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_put_together_comes_apart(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..5)) {
            let parts: Vec<Vec<u8>> = contents.iter().map(|content| element(content)).collect();
            let apart = split(&parts.concat()).unwrap();
            prop_assert_eq!(apart.iter().map(|part| part.to_vec()).collect::<Vec<_>>(), parts.clone());
            let cut = parts.concat();
            prop_assert!(split(cut.get(..cut.len() - 1).unwrap()).is_err());
        }

        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(parts) = split(&bytes) {
                prop_assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), bytes.len());
            }
        }
    }
}
