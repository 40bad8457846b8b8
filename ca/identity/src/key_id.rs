//! Names of keys and certificates: the key identifier and the serial number, as values that hash and compare.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// Identifier of a public key: the first 20 bytes of SHA-256 over the bits of the key (RFC 7093 method 1, XT-07).
///
/// Always computed from the key, never read from a certificate's extension.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 20]);

impl KeyId {
    /// Of the content of a SubjectPublicKeyInfo BIT STRING.
    pub fn of_public_key(bits: &[u8]) -> Self {
        let hash = digest(&SHA256, bits);
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// The 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// From bytes read back from a record.
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// From the 40 hexadecimal digits that `Display` writes.
    pub fn parse_hex(text: &str) -> Option<Self> {
        Some(Self(from_hex(text)?.try_into().ok()?))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Serial number of a certificate, big-endian, without leading zero bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// From the content of a DER INTEGER or from a plain big-endian number.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        Self(bytes.get(start..).unwrap_or_default().into())
    }

    /// From the hexadecimal text that `Display` writes.
    pub fn parse_hex(text: &str) -> Option<Self> {
        from_hex(text).map(|bytes| Self::from_bytes(&bytes))
    }

    /// Big-endian bytes, without leading zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("00") } else { write_hex(f, &self.0) }
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// SHA-256 over a DER SubjectPublicKeyInfo, the name under which issuance records and pins know a key.
pub fn spki_sha256(spki_der: &[u8]) -> [u8; 32] {
    sha256(&[spki_der])
}

/// SHA-256 over the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high << 4) | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_texts_of_serials_and_key_ids_read_back() {
        let serial = Serial::from_bytes(&[0, 0, 0x7f, 0x01]);
        assert_eq!(serial.to_string(), "7f01");
        assert_eq!(Serial::parse_hex("7F01"), Some(serial));
        assert_eq!(Serial::parse_hex("7f0"), None);
        assert_eq!(Serial::parse_hex("zz"), None);
        assert_eq!(Serial::from_bytes(&[0]).to_string(), "00");
        let id = KeyId::of_public_key(b"bits");
        assert_eq!(KeyId::parse_hex(&id.to_string()), Some(id));
        assert_eq!(KeyId::parse_hex("00"), None);
    }
}
