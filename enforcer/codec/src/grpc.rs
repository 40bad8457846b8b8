//! gRPC over HTTP/2: recognition, paths, timeouts, statuses and the prefix of messages (dataplane.md 14).
//!
//! Called by the call builder and by the proxy's answers. Messages are never decoded.

mod frames;
mod status;
mod timeout;

pub use frames::Frames;
pub use status::{Code, ErrorInfo, percent_encode, trailers_only};
pub use timeout::{TimeoutText, parse_timeout, print_timeout};

/// True for `application/grpc`, alone, with a `+suffix` or with parameters; gRPC-web is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const KIND: &[u8] = b"application/grpc";
    content_type.split_at_checked(KIND.len()).is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(KIND) && matches!(rest, [] | [b'+' | b';' | b' ', ..])
    })
}

/// Service and method of a path that is exactly `/pkg.Service/Method` (RPC-01).
pub fn service_and_method(path: &str) -> Option<(&str, &str)> {
    split_at(path, method_offset(path)?)
}

/// Where the method starts in a well-formed path.
pub(crate) fn method_offset(path: &str) -> Option<usize> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let is_name = |text: &str, dots: bool| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (dots && b == b'.'))
    };
    (is_name(service, true) && is_name(method, false)).then(|| service.len().saturating_add(2))
}

/// Splits a path at the offset that [`method_offset`] found.
pub(crate) fn split_at(path: &str, method: usize) -> Option<(&str, &str)> {
    Some((path.get(1..method.checked_sub(1)?)?, path.get(method..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpc_01_only_application_grpc_is_grpc() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/GRPC;charset=x"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpcx", "application/json", "application/grp", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn rpc_01_a_path_is_exactly_service_and_method() {
        assert_eq!(service_and_method("/shop.Orders/Get"), Some(("shop.Orders", "Get")));
        for bad in ["/", "/a", "/a/", "//b", "/a/b/c", "a/b", "/a/b-c", "/a%2e/b", "/a/b.c", ""] {
            assert_eq!(service_and_method(bad), None, "{bad}");
        }
    }
}
