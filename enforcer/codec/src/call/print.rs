//! The judged call is printed for the next hop: HTTP/1 bytes, an HTTP/2 head or an HTTP/3 request, from its parts only (CC-09).

use std::borrow::Cow;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TE};
use http::uri::{PathAndQuery, Scheme as UriScheme, Uri};
use http::{Request, Version};

use super::{BodyLength, Call, CallProtocol, Scheme, Text, Upgrade};
use crate::fields::{Fields, Span, length_value, put_extra, put_length};
use crate::h1::SWITCH;
use crate::h2::Encoder;
use crate::headers::{Extra, HOP, is_value};
use crate::{NotCanonical, grpc};

const ODD: NotCanonical = NotCanonical::keeping("CC-09", 400, "the call has no http/2 form");
const GRPC_TIMEOUT: &str = "grpc-timeout";

impl Call {
    /// Appends the HTTP/1.1 head for the upstream. A body of unknown length is announced as chunked.
    pub fn write_h1(&self, out: &mut BytesMut, extra: &[Extra<'_>]) {
        out.reserve(512);
        out.put_slice(self.method().as_bytes());
        out.put_slice(b" ");
        out.put_slice(if self.path().is_empty() { self.authority() } else { self.path() }.as_bytes());
        if let Some(query) = self.query() {
            out.put_slice(b"?");
            out.put_slice(query.as_bytes());
        }
        out.put_slice(b" HTTP/1.1\r\nhost: ");
        out.put_slice(self.authority().as_bytes());
        out.put_slice(b"\r\n");
        self.0.fields.write_h1(out);
        match self.body() {
            BodyLength::None => {}
            BodyLength::Known(length) => put_length(out, length),
            BodyLength::Streamed => out.put_slice(b"transfer-encoding: chunked\r\n"),
        }
        if self.upgrade() == Some(Upgrade::WebSocket) {
            out.put_slice(SWITCH);
        }
        put_extra(out, extra);
        out.put_slice(b"\r\n");
    }

    /// The HTTP/3 request for the upstream; `timeout` replaces a longer `grpc-timeout`, never lengthens it.
    ///
    /// # Errors
    /// When a part cannot stand in such a request.
    pub fn to_h3_request(
        &self,
        timeout: Option<Duration>,
        extra: &[Extra<'_>],
    ) -> Result<Request<()>, NotCanonical> {
        let mut request = Request::new(());
        *request.method_mut() = self.0.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.h3_uri()?;
        let mut map = self.0.fields.to_map(extra);
        if let BodyLength::Known(length) = self.body() {
            map.insert(CONTENT_LENGTH, length_value(length));
        }
        if self.accepts_trailers() {
            map.insert(TE, HeaderValue::from_static("trailers"));
        }
        if self.protocol() == CallProtocol::Grpc
            && let Some(left) = shorter(self.grpc_timeout(), timeout)
            && let Ok(value) = HeaderValue::from_str(grpc::print_timeout(left).as_str())
        {
            map.insert(HeaderName::from_static(GRPC_TIMEOUT), value);
        }
        *request.headers_mut() = map;
        Ok(request)
    }

    /// Appends the HTTP/2 head for the upstream; `timeout` as in [`Self::to_h3_request`]. A call that came without TLS and goes
    /// on under it has the scheme of the connection (RFC 9113 8.3.1).
    ///
    /// # Errors
    /// When a part cannot stand in an HTTP/2 request; then nothing was appended.
    pub fn write_h2<'a>(
        &'a self,
        is_secured: bool,
        timeout: Option<Duration>,
        extra: &'a [Extra<'a>],
    ) -> Result<impl FnOnce(&mut Encoder, &mut Vec<u8>) + 'a, NotCanonical> {
        let target = self.h2_target();
        let is_odd = |text: &str| text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f);
        if is_odd(self.authority()) || is_odd(&target) {
            return Err(ODD);
        }
        let is_grpc = self.protocol() == CallProtocol::Grpc;
        let left = if is_grpc { shorter(self.grpc_timeout(), timeout) } else { None };
        Ok(move |encoder: &mut Encoder, out: &mut Vec<u8>| {
            let path = (!target.is_empty()).then_some((&*target, is_grpc));
            let scheme = path.map(|_| match self.scheme() {
                Scheme::Http if !is_secured => "http",
                Scheme::Http | Scheme::Https => "https",
            });
            encoder.request(self.method(), scheme, self.authority(), path, out);
            for (name, value) in self.headers() {
                let is_replaced = (left.is_some() && name == GRPC_TIMEOUT)
                    || extra.iter().any(|(own, _)| *own == name && name != HOP);
                if !is_replaced {
                    encoder.field(name.as_bytes(), value, out);
                }
            }
            for (name, value) in extra.iter().filter(|(_, value)| is_value(value)) {
                encoder.field(name.as_bytes(), value, out);
            }
            if let BodyLength::Known(length) = self.body() {
                let mut text = itoa::Buffer::new();
                encoder.field(CONTENT_LENGTH.as_str().as_bytes(), text.format(length).as_bytes(), out);
            }
            if self.accepts_trailers() {
                encoder.field(TE.as_str().as_bytes(), b"trailers", out);
            }
            if let Some(left) = left {
                encoder.field(GRPC_TIMEOUT.as_bytes(), grpc::print_timeout(left).as_str().as_bytes(), out);
            }
        })
    }

    /// Path and query; nothing for CONNECT.
    fn h2_target(&self) -> Cow<'_, str> {
        match (self.own_target(), self.query()) {
            (Some(target), _) => Cow::Borrowed(str::from_utf8(target).unwrap_or_default()),
            (None, Some(query)) => Cow::Owned(format!("{}?{query}", self.path())),
            (None, None) => Cow::Borrowed(self.path()),
        }
    }

    /// The request of a call that came without TLS and goes on under it: its scheme is that of the connection
    /// (RFC 9113 8.3.1).
    ///
    /// # Errors
    /// When it has no such form.
    #[cold]
    pub fn under_tls(request: Request<()>) -> Result<Request<()>, NotCanonical> {
        let (mut head, ()) = request.into_parts();
        let mut parts = head.uri.into_parts();
        parts.scheme = parts.path_and_query.is_some().then_some(UriScheme::HTTPS);
        head.uri = Uri::from_parts(parts).map_err(|_odd| ODD)?;
        Ok(Request::from_parts(head, ()))
    }

    fn h3_uri(&self) -> Result<Uri, NotCanonical> {
        let mut parts = http::uri::Parts::default();
        parts.authority = Some(self.authority().parse().map_err(|_odd: http::uri::InvalidUri| ODD)?);
        if !self.path().is_empty() {
            parts.scheme = Some(match self.scheme() {
                Scheme::Http => UriScheme::HTTP,
                Scheme::Https => UriScheme::HTTPS,
            });
            let target = match (self.query(), self.own_target()) {
                (_, Some(target)) => PathAndQuery::try_from(target),
                (None, None) => PathAndQuery::try_from(self.path()),
                (Some(query), None) => PathAndQuery::try_from(format!("{}?{query}", self.path())),
            };
            let target = target.map_err(|_odd| ODD)?;
            parts.path_and_query = Some(target);
        }
        Uri::from_parts(parts).map_err(|_odd| ODD)
    }

    /// Path and query as they stand together in the head that the call came with.
    fn own_target(&self) -> Option<&[u8]> {
        let (Text::Span(path), Fields::Wire { head, .. }) = (&self.0.path, &self.0.fields) else {
            return None;
        };
        let end = match (self.0.has_query, &self.0.query) {
            (false, _) => path.end(),
            (true, Text::Span(query)) if query.start == path.end().saturating_add(1) => query.end(),
            (true, _) => return None,
        };
        let whole = Span { start: path.start, len: end.saturating_sub(path.start) }.of(head);
        (!whole.is_empty()).then_some(whole)
    }
}

fn shorter(own: Option<Duration>, limit: Option<Duration>) -> Option<Duration> {
    match (own, limit) {
        (Some(own), Some(limit)) => Some(own.min(limit)),
        (own, limit) => own.or(limit),
    }
}
