//! A parsed HTTP/1 head becomes a call: target form, Host, canonical path, upgrade.

use std::borrow::Cow;

use http::Method;

use super::{
    BodyLength, CallProtocol, Inner, Profile, Scheme, Spelling, Text, Transport, Upgrade, media_type,
    split_target,
};
use crate::canonical;
use crate::fields::{Fields, Span};
use crate::h1::{Framing, RequestHead, Version};
use crate::headers::{hyphenated, is_guarded, is_reserved};
use crate::{NotCanonical, grpc};

pub(super) fn build(mut head: RequestHead, transport: &Transport) -> Result<Inner, NotCanonical> {
    if head.method == Method::TRACE {
        return Err(NotCanonical::keeping("H1-05", 405, "trace is not served"));
    }
    if head.expect_unknown {
        return Err(NotCanonical::keeping("H1-23", 417, "an expectation other than 100-continue"));
    }
    connection_names(&mut head)?;
    underscores(&mut head, transport.profile);

    let target = Target::of(&head)?;
    let authority = authority(&head, &target, transport)?;
    let (path, query, spelling) = path_and_query(&head, &target)?;
    let upgrade = if head.method == Method::CONNECT {
        Some(Upgrade::Connect)
    } else {
        head.websocket.then_some(Upgrade::WebSocket)
    };
    let media_type = head.content_type.map(|span| media_type(span.of(&head.head), Some(span))).transpose()?;
    if head.content_type.is_some_and(|span| grpc::is_grpc(span.of(&head.head))) {
        return Err(NotCanonical::closing("RPC-01", 415, "grpc needs http/2"));
    }
    Ok(Inner {
        method: head.method,
        scheme: transport.scheme,
        authority,
        path,
        has_query: query.is_some(),
        query: Text::Span(query.unwrap_or_default()),
        media_type,
        body: match head.framing {
            Framing::Empty | Framing::UntilClose => BodyLength::None,
            Framing::Length(n) => BodyLength::Known(n),
            Framing::Chunked => BodyLength::Streamed,
        },
        protocol: CallProtocol::H1,
        upgrade,
        grpc_method: None,
        grpc_timeout: None,
        trailers: head.te_trailers,
        spelling,
        fields: Fields::Wire { head: head.head, table: head.table },
    })
}

/// The four forms of RFC 9112 3.2, as ranges of the head.
enum Target {
    Origin(Span),
    Absolute { scheme: Span, authority: Span, rest: Span },
    Authority(Span),
    Asterisk,
}

impl Target {
    fn of(head: &RequestHead) -> Result<Self, NotCanonical> {
        const UNFIT: NotCanonical = NotCanonical::bad("H1-06", "the target does not fit the method");
        let bytes = head.target.of(&head.head);
        let start = head.target.start as usize;
        if head.method == Method::CONNECT {
            let fits = bytes.first() != Some(&b'/') && bytes.contains(&b':');
            return if fits { Ok(Self::Authority(head.target)) } else { Err(UNFIT) };
        }
        if bytes.first() == Some(&b'/') {
            return Ok(Self::Origin(head.target));
        }
        if bytes == b"*" {
            return if head.method == Method::OPTIONS { Ok(Self::Asterisk) } else { Err(UNFIT) };
        }
        let colon = memchr::memmem::find(bytes, b"://").ok_or(UNFIT)?;
        let host = colon.saturating_add(3);
        let tail = bytes.get(host..).unwrap_or_default();
        let end = tail.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(tail.len());
        if tail.get(end) == Some(&b'?') {
            return Err(UNFIT);
        }
        let rest = host.saturating_add(end);
        Ok(Self::Absolute {
            scheme: Span::new(start, colon),
            authority: Span::new(start.saturating_add(host), end),
            rest: Span::new(start.saturating_add(rest), bytes.len().saturating_sub(rest)),
        })
    }
}

fn authority(head: &RequestHead, target: &Target, transport: &Transport) -> Result<Text, NotCanonical> {
    let scheme = transport.scheme;
    let Some(host) = head.host else {
        return match (&transport.default_host, head.version, target) {
            (Some(host), Version::Http10, Target::Origin(_) | Target::Asterisk) => {
                Ok(Text::Owned(canonical::authority(host.as_bytes(), scheme)?.into()))
            }
            _ => Err(NotCanonical::bad("H1-08", "host is missing")),
        };
    };
    let canonical = canonical::authority(host.of(&head.head), scheme)?;
    let same =
        |span: Span| canonical::authority(span.of(&head.head), scheme).is_ok_and(|other| other == canonical);
    let agrees = match target {
        Target::Origin(_) | Target::Asterisk => true,
        Target::Absolute { scheme: given, authority, .. } => {
            given.of(&head.head).eq_ignore_ascii_case(scheme.as_str().as_bytes()) && same(*authority)
        }
        Target::Authority(span) => same(*span),
    };
    if !agrees {
        return Err(NotCanonical::bad(
            "H1-06",
            "scheme or authority of the target differ from transport or host",
        ));
    }
    Ok(match canonical {
        // A borrowed authority is a prefix of its input.
        Cow::Borrowed(text) => Text::Span(Span::new(host.start as usize, text.len())),
        Cow::Owned(text) => Text::Owned(text.into()),
    })
}

fn path_and_query(
    head: &RequestHead,
    target: &Target,
) -> Result<(Text, Option<Span>, Spelling), NotCanonical> {
    let fixed = |text| Ok((Text::Static(text), None, Spelling::default()));
    let span = match target {
        Target::Asterisk => return fixed("*"),
        Target::Authority(_) => return fixed(""),
        Target::Absolute { rest, .. } if rest.len == 0 => return fixed("/"),
        Target::Absolute { rest, .. } => *rest,
        Target::Origin(span) => *span,
    };
    split_target(&head.head, span)
}

/// Fields named by `Connection` concern this hop only (H1-21, H1-22).
fn connection_names(head: &mut RequestHead) -> Result<(), NotCanonical> {
    for option in std::mem::take(&mut head.connection_names) {
        let name = option.of(&head.head).to_ascii_lowercase();
        if is_guarded(&name) || is_reserved(&name) {
            return Err(NotCanonical::bad("H1-21", "connection names a field that must reach the next hop"));
        }
        let bytes = &head.head;
        head.table.retain(|field| field.name.of(bytes) != name);
        if name == b"content-type" {
            head.content_type = None;
        }
    }
    Ok(())
}

/// Names with `_` that have an ordinary hyphen twin; guarded twins were refused by the gate (H1-28).
fn underscores(head: &mut RequestHead, profile: Profile) {
    if !head.underscores {
        return;
    }
    let bytes = &head.head;
    let names: Vec<_> = head.table.iter().map(|field| field.name).collect();
    head.table.retain(|field| {
        let name = field.name.of(bytes);
        if !name.contains(&b'_') {
            return true;
        }
        let twin = hyphenated(name);
        profile == Profile::Mesh && !names.iter().any(|other| other.of(bytes) == twin)
    });
}

impl Scheme {
    /// True when the bytes name this scheme.
    pub(super) fn is(self, given: &str) -> bool {
        given.eq_ignore_ascii_case(self.as_str())
    }
}
