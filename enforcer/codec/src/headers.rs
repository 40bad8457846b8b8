//! What a header name means to a proxy: hop-by-hop, reserved, framing, single-valued, or simply passed on.
//!
//! Called for each field by the parsers and by the HTTP/2 mapping; names are lower-case here.

use std::borrow::Cow;

use http::HeaderMap;

/// A header that the proxy adds: a lower-case name and a value without control bytes.
pub type Extra<'a> = (&'a str, &'a [u8]);

/// Names the processes that a call went through (SC-05). Each adds its own mark and passes the others on.
pub const HOP: &str = "portcullis-hop";

/// True for names that only the proxy may set towards the next hop (HV-11). `alt-svc` of an endpoint would lead callers
/// past the proxy.
pub fn is_reserved(name: &[u8]) -> bool {
    match name.first() {
        Some(b'a') => name == b"alt-svc",
        Some(b'p') => name.starts_with(b"portcullis-"),
        Some(b'x') => {
            name.starts_with(b"x-forwarded-") || name.starts_with(b"x-envoy-") || name == b"x-real-ip"
        }
        Some(b'f') => name == b"forwarded",
        _ => false,
    }
}

/// True for names of fields that a call can show to policies and routes.
pub fn is_judged(name: &[u8]) -> bool {
    use Class::{ContentType, GrpcTimeout, Plain, Single, WebSocketKey, WebSocketVersion};
    matches!(Class::of(name), Plain | Single(_) | ContentType | GrpcTimeout | WebSocketKey | WebSocketVersion)
}

/// True for fields that concern one connection only (RFC 9110 7.6.1).
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// True for fields that must not stand in a trailer section, spelled with `-` or with `_` (H1-18).
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    let name = if name.contains(&b'_') { Cow::Owned(hyphenated(name)) } else { Cow::Borrowed(name) };
    Class::of(&name) != Class::Plain
        || is_guarded(&name)
        || matches!(
            &*name,
            b"content-encoding"
                | b"content-range"
                | b"proxy-authenticate"
                | b"www-authenticate"
                | b"set-cookie"
                | b"max-forwards"
                | b"cache-control"
                | b"age"
                | b"range"
        )
        || name.first() == Some(&b':')
}

/// Removes from an HTTP/2 trailer section what must not be passed on (RPC-03: all else is unchanged).
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let bad: Vec<_> =
        trailers.keys().filter(|name| is_forbidden_trailer(name.as_str().as_bytes())).cloned().collect();
    for name in bad {
        trailers.remove(name);
    }
}

/// True for bytes that may stand in a field value on any wire.
pub fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f)
}

/// Fields that neither `Connection` nor an `_` twin may touch: framing, routing, credentials.
pub(crate) fn is_guarded(name: &[u8]) -> bool {
    matches!(name, b"host" | b"content-length" | b"transfer-encoding" | b"authorization" | b"cookie")
}

/// What a parser does with a request field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Judged and passed on.
    Plain,
    /// Judged and passed on; a second one is refused (CC-10). The number is a bit of a set.
    Single(u16),
    ContentType,
    GrpcTimeout,
    WebSocketKey,
    WebSocketVersion,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Te,
    Upgrade,
    Expect,
    /// Never judged, never passed on.
    Dropped,
}

impl Class {
    /// The class of a lower-case request field name. The length decides first, so most names cost one
    /// comparison.
    pub(crate) fn of(name: &[u8]) -> Self {
        match name.len() {
            2 if name == b"te" => Self::Te,
            4 if name == b"host" => Self::Host,
            6 if name == b"expect" => Self::Expect,
            6 if name == b"origin" => Self::Single(4),
            7 if name == b"upgrade" => Self::Upgrade,
            7 if name == b"trailer" => Self::Dropped,
            10 if name == b"connection" => Self::Connection,
            10 if name == b"keep-alive" => Self::Dropped,
            12 if name == b"content-type" => Self::ContentType,
            12 if name == b"grpc-timeout" => Self::GrpcTimeout,
            13 if name == b"authorization" => Self::Single(1),
            13 if name == b"x-http-method" || name == b"x-rewrite-url" => Self::Dropped,
            14 if name == b"x-original-url" => Self::Dropped,
            14 if name == b"content-length" => Self::ContentLength,
            14 if name == HOP.as_bytes() => Self::Plain,
            14 if name == b"http2-settings" => Self::Dropped,
            16 if name == b"proxy-connection" => Self::Dropped,
            17 if name == b"transfer-encoding" => Self::TransferEncoding,
            17 if name == b"sec-websocket-key" => Self::WebSocketKey,
            17 if name == b"x-method-override" => Self::Dropped,
            19 if name == b"proxy-authorization" => Self::Single(2),
            21 if name == b"sec-websocket-version" => Self::WebSocketVersion,
            22 if name == b"x-http-method-override" => Self::Dropped,
            _ if is_reserved(name) => Self::Dropped,
            _ => Self::Plain,
        }
    }
}

/// What an underscore in a name leads to (H1-27, H1-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twin {
    /// The hyphen form is judged, dropped or set by the proxy.
    Guarded,
    /// The hyphen form is an ordinary name.
    Plain,
}

/// Judges a name that contains `_` by its hyphen twin.
pub(crate) fn twin(name: &[u8]) -> Twin {
    if Class::of(&hyphenated(name)) == Class::Plain { Twin::Plain } else { Twin::Guarded }
}

/// The name with every `_` as `-`.
pub(crate) fn hyphenated(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that a parser judges or drops, each with a hyphen that an attacker may bend.
    const JUDGED: [&str; 19] = [
        "portcullis-peer",
        "x-forwarded-for",
        "x-forwarded-client-cert",
        "x-envoy-original-path",
        "x-real-ip",
        "x-http-method",
        "x-method-override",
        "x-http-method-override",
        "content-length",
        "content-type",
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "http2-settings",
        "grpc-timeout",
        "sec-websocket-key",
        "sec-websocket-version",
        "x-forwarded-host",
    ];

    #[test]
    fn hr_08_reserved_names_are_known_by_prefix() {
        for name in [
            "alt-svc",
            "portcullis-peer",
            "x-forwarded-for",
            "x-forwarded-client-cert",
            "x-envoy-original-path",
        ] {
            assert!(is_reserved(name.as_bytes()), "{name}");
            assert_eq!(Class::of(name.as_bytes()), Class::Dropped, "{name}");
        }
        for name in
            ["alt-svcs", "portcullis", "x-forwardedfor", "forwarded-for", "x-real-ipx", "x-request-id"]
        {
            assert!(!is_reserved(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn trailers_keep_grpc_fields_and_lose_framing() {
        let mut trailers = HeaderMap::new();
        for (name, value) in
            [("grpc-status", "0"), ("grpc-message", "ok"), ("content-length", "3"), ("portcullis-peer", "x")]
        {
            trailers.insert(name, http::HeaderValue::from_static(value));
        }
        strip_trailers(&mut trailers);
        let mut names: Vec<_> = trailers.keys().map(|n| n.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["grpc-message", "grpc-status"]);
    }

    #[test]
    fn underscores_are_judged_by_their_hyphen_twin() {
        for name in JUDGED {
            assert_eq!(twin(name.replace('-', "_").as_bytes()), Twin::Guarded, "{name}");
            assert_eq!(twin(name.replacen('-', "_", 1).as_bytes()), Twin::Guarded, "{name}");
        }
        for name in ["my_header", "x_request_id", "x_http_method_overrides"] {
            assert_eq!(twin(name.as_bytes()), Twin::Plain, "{name}");
        }
    }

    #[test]
    fn h1_18_no_spelling_of_a_judged_name_is_a_trailer() {
        let mut trailers = HeaderMap::new();
        let value = http::HeaderValue::from_static("EVIL");
        for name in JUDGED {
            for name in [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)] {
                assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
                trailers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.clone());
            }
        }
        for name in ["set_cookie", "cache_control", "www_authenticate"] {
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
        }
        trailers.insert("my_sum", value);
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["my_sum"]);
    }
}
