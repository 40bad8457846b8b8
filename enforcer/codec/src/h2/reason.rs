//! Why a stream or a connection ends (RFC 9113 7).

/// An error code. Unknown ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(pub u32);

impl Reason {
    /// Nothing went wrong.
    pub const NO_ERROR: Self = Self(0);
    /// A rule of the protocol was broken.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A fault of the sender's own.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than there was room for.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// Settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    /// A frame for a stream that has ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame of a length that it cannot have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was refused before anything was done for it.
    pub const REFUSED_STREAM: Self = Self(7);
    /// The stream is not needed any more.
    pub const CANCEL: Self = Self(8);
    /// The state of the header compression is lost.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The peer costs more than it should.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}
