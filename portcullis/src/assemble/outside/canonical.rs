//! A request that another enforcer holds, through our own canonicalizer. What that would change is refused, because the
//! other enforcer would forward what it holds.

use enforcer_codec::{Call, CallProtocol, Scheme, Transport, headers};
use enforcer_proxy::request_of;
use http::{HeaderName, HeaderValue, Uri, Version};
use policies_adapters::{Canonical, Held, Target};
use policies_engine::{Action, Declared, OwnedRequest};

/// The call as our own listeners would have read it, or the rule it breaks.
pub(super) fn call(held: &Held) -> Result<Call, String> {
    let scheme = if held.scheme == "http" { Scheme::Http } else { Scheme::Https };
    let uri = Uri::builder()
        .scheme(if scheme == Scheme::Http { "http" } else { "https" })
        .authority(held.host.as_str())
        .path_and_query(held.path.as_str())
        .build()
        .map_err(|cause| format!("target: {cause}"))?;
    let mut request = http::Request::builder().method(held.method.as_str()).uri(uri).version(Version::HTTP_2);
    for (name, value) in held.headers.iter().filter(|(name, _)| !headers::is_hop_by_hop(name.as_bytes())) {
        let key =
            HeaderName::from_bytes(name.as_bytes()).map_err(|cause| format!("header `{name}`: {cause}"))?;
        let value =
            HeaderValue::from_bytes(value).map_err(|cause| format!("value of header `{name}`: {cause}"))?;
        request = request.header(key, value);
    }
    let (parts, ()) = request.body(()).map_err(|cause| cause.to_string())?.into_parts();
    let call = Call::from_parts(&parts, !held.has_body, &Transport::new(scheme))
        .map_err(|flaw| format!("{}: {}", flaw.rule, flaw.detail))?;
    let ours = match call.query() {
        Some(query) => format!("{}?{query}", call.path()),
        None => call.path().to_owned(),
    };
    if ours == held.path {
        Ok(call)
    } else {
        Err(format!("path `{}` is not canonical, `{ours}` would be", held.path))
    }
}

/// What policies may know of it.
pub(super) fn of(call: &Call, target: Target, declared: &Declared) -> Canonical {
    let view = request_of(call);
    let mut request = OwnedRequest {
        method: view.method.to_owned(),
        host: view.host.to_owned(),
        path: view.path.to_owned(),
        media_type: view.media_type.map(str::to_owned),
        length: view.length,
        ..OwnedRequest::default()
    };
    for (name, value) in view.query_pairs() {
        if declared.query.contains(&*name) {
            request.query.entry(name.to_string()).or_default().push(value.into_owned());
        }
        request.query_names.insert(name.into_owned());
    }
    for (name, value) in call.headers() {
        // INVARIANT: what is declared is text, or the call was refused.
        let Ok(value) = std::str::from_utf8(value) else { continue };
        if declared.headers.contains(name) {
            let value = value.trim_matches([' ', '\t']).to_owned();
            request.headers.entry(name.to_owned()).or_default().push(value);
        }
    }
    let is_grpc = call.protocol() == CallProtocol::Grpc;
    Canonical {
        action: if is_grpc { Action::Grpc } else { Action::from_http_method(call.method()) },
        target,
        request,
        rpc: call.grpc().map(|(service, method)| (service.to_owned(), method.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &str) -> Held {
        let headers = vec![
            ("x-tenant".to_owned(), b"a".to_vec()),
            ("x-tenant".to_owned(), b"b".to_vec()),
            ("cookie".to_owned(), b"secret".to_vec()),
            ("connection".to_owned(), b"close".to_vec()),
        ];
        let text = |text: &str| text.to_owned();
        Held {
            method: text("GET"),
            scheme: text("https"),
            host: text("shop.example"),
            path: text(path),
            headers,
            has_body: false,
        }
    }

    #[test]
    fn what_would_be_forwarded_in_another_form_is_refused() {
        for path in ["/a/../b", "/a//b", "/a%2fb", "/%61", "/a#b", "a", "", "/a\u{7f}"] {
            let refused = call(&held(path));
            assert!(refused.is_err(), "{path}: {refused:?}");
        }
        assert!(call(&Held::default()).is_err());
        assert!(call(&held("/orders?page=2")).is_ok());
    }

    #[test]
    fn only_declared_headers_are_seen_and_their_lines_are_not_joined() {
        let declared = Declared { headers: ["x-tenant".into()].into(), ..Declared::default() };
        let seen = of(&call(&held("/orders?page=2")).unwrap(), Target::UnknownRoute, &declared);
        assert_eq!((seen.action, seen.request.path.as_str()), (Action::HttpGet, "/orders"));
        assert_eq!(seen.request.headers.len(), 1, "credentials are no facts");
        assert_eq!(seen.request.headers["x-tenant"], ["a", "b"]);
        assert!(seen.request.query_names.contains("page") && seen.request.query.is_empty());
    }
}
