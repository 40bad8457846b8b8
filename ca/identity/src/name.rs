//! The byte rules of SPIFFE names, used by the trust domain and the SPIFFE ID parsers and by nobody else.
//!
//! Strict on purpose (ID-09): the standard compares without case yet demands lower case, so we refuse upper case.

/// Why a text is not a SPIFFE ID or a trust domain name. One variant per rule of SPIFFE-ID chapters 2.1-2.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IdError {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// Longer than 2048 bytes (SPIFFE ID) or 255 bytes (trust domain).
    #[error("the name is longer than {limit} bytes")]
    TooLong {
        /// The limit that was exceeded.
        limit: usize,
    },
    /// The scheme is not exactly `spiffe://`.
    #[error("a SPIFFE ID starts with `spiffe://`, in lower case")]
    Scheme,
    /// `spiffe:///path` names no trust domain.
    #[error("the trust domain is missing")]
    NoTrustDomain,
    /// A byte that a trust domain may not hold: user info, port, percent sign, upper case, non-ASCII.
    #[error("the trust domain may hold only a-z, 0-9, `.`, `-` and `_`")]
    TrustDomainByte,
    /// A byte that a path may not hold: percent sign, query, fragment, non-ASCII.
    #[error("a path may hold only a-z, A-Z, 0-9, `.`, `-`, `_` and `/`")]
    PathByte,
    /// `//` inside the path.
    #[error("the path holds an empty segment")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("the path holds a segment `.` or `..`")]
    DotSegment,
    /// The path ends with `/`.
    #[error("the path ends with `/`")]
    TrailingSlash,
}

/// Longest trust domain name, SPIFFE-ID 2.3.
pub(crate) const TRUST_DOMAIN_LIMIT: usize = 255;
/// Longest SPIFFE ID, SPIFFE-ID 2.3.
pub(crate) const ID_LIMIT: usize = 2048;

/// Checks a trust domain name, SPIFFE-ID 2.1.
pub(crate) fn check_trust_domain(name: &str) -> Result<(), IdError> {
    if name.len() > TRUST_DOMAIN_LIMIT {
        return Err(IdError::TooLong { limit: TRUST_DOMAIN_LIMIT });
    }
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if name.bytes().all(allowed) { Ok(()) } else { Err(IdError::TrustDomainByte) }
}

/// Checks a path that is empty or starts with `/`, SPIFFE-ID 2.2.
pub(crate) fn check_path(path: &str) -> Result<(), IdError> {
    let Some(body) = path.strip_prefix('/') else {
        return if path.is_empty() { Ok(()) } else { Err(IdError::PathByte) };
    };
    if body.is_empty() || body.ends_with('/') {
        return Err(IdError::TrailingSlash);
    }
    body.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match segment {
        "" => Err(IdError::EmptySegment),
        "." | ".." => Err(IdError::DotSegment),
        _ if segment.bytes().all(allowed) => Ok(()),
        _ => Err(IdError::PathByte),
    }
}
