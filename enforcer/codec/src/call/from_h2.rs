//! The parts of an HTTP/2 or HTTP/3 request become a call: what these forbid in a message, then the same rules as H1.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::{
    BodyLength, CallProtocol, Inner, Profile, Text, Transport, Upgrade, check_query, grpc_shape, media_type,
};
use crate::canonical::{self, Path};
use crate::fields::Fields;
use crate::headers::{Class, Twin, hyphenated, is_value, twin};
use crate::{Limits, NotCanonical, grpc, h1};

pub(super) fn build(
    parts: http::request::Parts,
    end_of_stream: bool,
    transport: &Transport,
) -> Result<Inner, NotCanonical> {
    let http::request::Parts { method, uri, mut headers, version, .. } = parts;
    if method == Method::TRACE {
        return Err(NotCanonical::keeping("H1-05", 405, "trace is not served"));
    }
    if method.as_str().len() > h1::MAX_METHOD {
        return Err(NotCanonical::bad("H1-05", "the method is too long"));
    }
    let seen = Seen::of(&headers, &transport.limits)?;
    let authority = authority(&uri, &headers, transport)?;
    let (path, upgrade) = path(&method, &uri, transport)?;
    if let Some(query) = uri.query() {
        check_query(query.as_bytes())?;
    }
    let body = body(&headers, end_of_stream)?;
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_grpc = content_type.is_some_and(grpc::is_grpc);
    let media_type = content_type.map(|value| media_type(value, None)).transpose()?;
    let has_query = uri.query().is_some();
    let grpc_method = if is_grpc { grpc_shape(&method, uri.path(), has_query)? } else { None };
    let grpc_timeout = match headers.get("grpc-timeout") {
        Some(value) if is_grpc => Some(
            grpc::parse_timeout(value.as_bytes())
                .ok_or(NotCanonical::bad("RPC-04", "grpc-timeout is malformed"))?,
        ),
        _ => None,
    };
    strip(&mut headers, seen.underscores, transport.profile);
    Ok(Inner {
        method,
        scheme: transport.scheme,
        authority,
        path,
        query: Text::Uri,
        has_query,
        media_type,
        body,
        protocol: match version {
            _ if is_grpc => CallProtocol::Grpc,
            Version::HTTP_3 => CallProtocol::H3,
            _ => CallProtocol::H2,
        },
        upgrade,
        grpc_method,
        grpc_timeout,
        trailers: is_grpc || seen.te_trailers,
        fields: Fields::Map(headers),
        uri,
    })
}

/// What one pass over the fields found.
#[derive(Default)]
struct Seen {
    te_trailers: bool,
    underscores: bool,
}

impl Seen {
    fn of(headers: &HeaderMap, limits: &Limits) -> Result<Self, NotCanonical> {
        let mut seen = Self::default();
        let mut size: usize = 0;
        let mut singles = 0_u16;
        if headers.len() > limits.fields {
            return Err(NotCanonical::closing("H1-19", 431, "too many fields"));
        }
        for (name, value) in headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            let field = name.len().saturating_add(value.len());
            size = size.saturating_add(field).saturating_add(32);
            if field > limits.field || size > limits.head {
                return Err(NotCanonical::closing("H1-19", 431, "a field or the head is too large"));
            }
            if !is_value(value) {
                return Err(NotCanonical::bad("H1-10", "a control byte in a value"));
            }
            // RFC 9113 8.2.1: whoever trims such a value reads another one than was judged.
            if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
                return Err(NotCanonical::bad("HX-01", "a value that starts or ends with white space"));
            }
            let single = match Class::of(name) {
                Class::Connection | Class::TransferEncoding | Class::Upgrade => {
                    return Err(NotCanonical::bad("HX-01", "a connection-specific field"));
                }
                Class::Dropped if matches!(name, b"keep-alive" | b"proxy-connection") => {
                    return Err(NotCanonical::bad("HX-01", "a connection-specific field"));
                }
                Class::Te if value == b"trailers" => {
                    seen.te_trailers = true;
                    0
                }
                Class::Te => return Err(NotCanonical::bad("HX-01", "te other than trailers")),
                Class::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
                    return Err(NotCanonical::closing(
                        "H1-23",
                        417,
                        "an expectation other than 100-continue",
                    ));
                }
                Class::Single(bit) => bit,
                Class::Host => 1 << 8,
                Class::ContentLength => 1 << 9,
                Class::ContentType => 1 << 10,
                Class::GrpcTimeout => 1 << 11,
                Class::WebSocketKey => 1 << 12,
                Class::WebSocketVersion => 1 << 13,
                Class::Plain | Class::Dropped | Class::Expect => 0,
            };
            if singles & single != 0 {
                return Err(NotCanonical::bad("CC-10", "a single-valued field is repeated"));
            }
            singles |= single;
            if name.contains(&b'_') {
                seen.underscores = true;
                if twin(name) == Twin::Guarded {
                    return Err(NotCanonical::bad("H1-27", "a look-alike of a guarded name"));
                }
            }
        }
        Ok(seen)
    }
}

fn authority(uri: &http::Uri, headers: &HeaderMap, transport: &Transport) -> Result<Text, NotCanonical> {
    let scheme = transport.scheme;
    if uri.scheme_str().is_some_and(|given| !scheme.is(given)) {
        return Err(NotCanonical::bad("HX-02", "`:scheme` differs from the transport"));
    }
    let host = headers.get(HOST).map(|host| canonical::authority(host.as_bytes(), scheme)).transpose()?;
    let Some(given) = uri.authority() else {
        let host = host.ok_or(NotCanonical::bad("HX-02", "neither `:authority` nor host"))?;
        return Ok(Text::Owned(host.into()));
    };
    let given = canonical::authority(given.as_str().as_bytes(), scheme)?;
    if host.is_some_and(|host| host != given) {
        return Err(NotCanonical::bad("HX-03", "`:authority` and host differ"));
    }
    Ok(match given {
        Cow::Borrowed(text) if uri.authority().is_some_and(|a| a.as_str().len() == text.len()) => Text::Uri,
        other => Text::Owned(other.into()),
    })
}

fn path(
    method: &Method,
    uri: &http::Uri,
    transport: &Transport,
) -> Result<(Text, Option<Upgrade>), NotCanonical> {
    if *method == Method::CONNECT {
        // HX-06: extended CONNECT is not offered in our SETTINGS, so a path can only be a mistake.
        if uri.path_and_query().is_some() || uri.scheme().is_some() {
            return Err(NotCanonical::bad("HX-06", "connect with `:scheme` or `:path`"));
        }
        return Ok((Text::Static(""), Some(Upgrade::Connect)));
    }
    // Without `:authority` the library drops a `:scheme` that it has checked.
    if uri.scheme().is_none() && uri.authority().is_some() {
        return Err(NotCanonical::bad("HX-02", "`:scheme` is missing"));
    }
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if target.len() > transport.limits.target {
        return Err(NotCanonical::closing("H1-07", 414, "the target is too long"));
    }
    match uri.path() {
        "*" if *method == Method::OPTIONS => Ok((Text::Static("*"), None)),
        path => match canonical::path(path.as_bytes())? {
            Path::Canonical(_) => Ok((Text::Uri, None)),
            Path::Other { rule, .. } => Err(NotCanonical::bad(rule, "the path is not in canonical form")),
        },
    }
}

fn body(headers: &HeaderMap, end_of_stream: bool) -> Result<BodyLength, NotCanonical> {
    let declared = match headers.get(CONTENT_LENGTH) {
        Some(value) => Some(
            h1::content_length(value.as_bytes())
                .ok_or(NotCanonical::bad("H1-13", "content-length is malformed"))?,
        ),
        None => None,
    };
    match (declared, end_of_stream) {
        (Some(n), true) if n > 0 => {
            Err(NotCanonical::bad("HX-04", "the stream ended before its content-length"))
        }
        (Some(n), _) => Ok(BodyLength::Known(n)),
        (None, true) => Ok(BodyLength::None),
        (None, false) => Ok(BodyLength::Streamed),
    }
}

/// Takes out what is not end to end. The common request has none of these but `content-length` and `te`.
fn strip(headers: &mut HeaderMap, underscores: bool, profile: Profile) {
    let drops = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        match Class::of(name) {
            Class::Plain if underscores && name.contains(&b'_') => {
                profile == Profile::Edge
                    || HeaderName::from_bytes(&hyphenated(name)).is_ok_and(|twin| headers.contains_key(twin))
            }
            Class::Plain
            | Class::Single(_)
            | Class::ContentType
            | Class::GrpcTimeout
            | Class::WebSocketKey
            | Class::WebSocketVersion => false,
            _ => true,
        }
    };
    let gone: Vec<HeaderName> = headers.keys().filter(|name| drops(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}
