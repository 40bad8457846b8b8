//! The sizes a head or a body may have (hardening.md 1), as one value that the proxy hands to the parsers.

/// Limits of one listener or one upstream; the default is the shipped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request target (414).
    pub target: usize,
    /// Fields of a head (431).
    pub fields: usize,
    /// Bytes of one field: name and value (431).
    pub field: usize,
    /// Bytes of all fields of a head, each with 32 bytes of overhead (431).
    pub head: usize,
    /// Fields of a trailer section (431).
    pub trailers: usize,
    /// Bytes of a trailer section (431).
    pub trailer_bytes: usize,
    /// Interim (1xx) answers before the final one (502).
    pub interim: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target: 8 * 1024,
            fields: 100,
            field: 16 * 1024,
            head: 64 * 1024,
            trailers: 32,
            trailer_bytes: 8 * 1024,
            interim: 8,
        }
    }
}
