//! The address of a Workload API, as given on the command line or in `SPIFFE_ENDPOINT_SOCKET` (WE-04).
//!
//! Only `unix:///absolute/path` is taken. TCP is legal SPIFFE, but this client has no use for an endpoint that cannot
//! know its caller.

use std::path::PathBuf;

/// Why an address is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("the address of the Workload API is empty; write `unix:///path/to/socket`")]
    Empty,
    /// `tcp://..`.
    #[error("`{0}` is a TCP address; only Unix sockets are supported, `unix:///path/to/socket`")]
    Tcp(String),
    /// Any other scheme, or none.
    #[error("`{0}` does not start with `unix://`; write `unix:///path/to/socket`")]
    Scheme(String),
    /// A host, a relative path, or no path.
    #[error("`{0}` has no absolute path after `unix://`; write `unix:///path/to/socket` with three slashes")]
    NotAbsolute(String),
    /// A query, a fragment, an escape or a control character.
    #[error("`{0}` has more than a plain path; `?`, `#`, `%` and control characters are not taken")]
    NotPlain(String),
}

pub(crate) fn parse(address: &str) -> Result<PathBuf, AddressError> {
    if address.is_empty() {
        return Err(AddressError::Empty);
    }
    if address.starts_with("tcp:") {
        return Err(AddressError::Tcp(address.to_owned()));
    }
    let path = address.strip_prefix("unix://").ok_or_else(|| AddressError::Scheme(address.to_owned()))?;
    if !path.starts_with('/') || path.trim_start_matches('/').is_empty() {
        return Err(AddressError::NotAbsolute(address.to_owned()));
    }
    if path.chars().any(|letter| matches!(letter, '?' | '#' | '%') || letter.is_control()) {
        return Err(AddressError::NotPlain(address.to_owned()));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_04_an_absolute_unix_path_is_taken() {
        assert_eq!(parse("unix:///run/p/workload.sock"), Ok(PathBuf::from("/run/p/workload.sock")));
        assert_eq!(parse("unix:///a b"), Ok(PathBuf::from("/a b")));
    }

    #[test]
    fn we_04_everything_else_is_refused_with_its_reason() {
        let no = |text: &str| parse(text).unwrap_err();
        assert_eq!(no(""), AddressError::Empty);
        for text in ["tcp://127.0.0.1:8081", "tcp:127.0.0.1"] {
            assert_eq!(no(text), AddressError::Tcp(text.to_owned()));
        }
        for text in ["/run/x.sock", "unix:/run/x", "unix:run", "http://x/", "UNIX:///x", " unix:///x"] {
            assert_eq!(no(text), AddressError::Scheme(text.to_owned()));
        }
        for text in ["unix://", "unix:///", "unix://run/x", "unix://host/run/x", "unix:////"] {
            assert_eq!(no(text), AddressError::NotAbsolute(text.to_owned()));
        }
        for text in ["unix:///x?y", "unix:///x#y", "unix:///x%20y", "unix:///x\n", "unix:///x\0"] {
            assert_eq!(no(text), AddressError::NotPlain(text.to_owned()));
        }
    }
}
