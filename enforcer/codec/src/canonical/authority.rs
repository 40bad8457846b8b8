//! Canonical authorities: lower-case host without trailing dot, port only when it is not the scheme's own.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::{NotCanonical, Scheme};

/// Judges `host[:port]`. A borrowed result is a prefix of the input.
///
/// # Errors
/// H1-08 when it is empty, longer than 255 bytes, has userinfo, a path, a list, bytes outside ASCII names,
/// or a bad port.
pub fn authority(bytes: &[u8], scheme: Scheme) -> Result<Cow<'_, str>, NotCanonical> {
    const BAD: NotCanonical = NotCanonical::bad("H1-08", "the authority is not a host with an optional port");
    if bytes.is_empty() || bytes.len() > 255 {
        return Err(BAD);
    }
    let text = str::from_utf8(bytes).ok().filter(|text| text.is_ascii()).ok_or(BAD)?;
    let (host, port) = split(text).ok_or(BAD)?;
    let port = match port {
        Some(port) if !is_port(port) => return Err(BAD),
        Some(port) if port == scheme.default_port() => None,
        port => port,
    };
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_odd: std::net::AddrParseError| BAD)?;
        return Ok(join(text, &format!("[{address}]"), port));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() || !name.split('.').all(is_label) {
        return Err(BAD);
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(join(text, &name.to_ascii_lowercase(), port));
    }
    Ok(join(text, name, port))
}

/// Host and port; the port is what follows the last colon outside brackets.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let (inner, rest) = text.split_once(']')?;
        let host = text.get(..inner.len().checked_add(1)?)?;
        return if rest.is_empty() {
            Some((host, None))
        } else {
            rest.strip_prefix(':').map(|p| (host, Some(p)))
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0')
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|number| number != 0)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Borrows from the input when that is a prefix of it.
fn join<'a>(text: &'a str, host: &str, port: Option<&str>) -> Cow<'a, str> {
    let length = port.map_or(host.len(), |port| host.len().saturating_add(port.len()).saturating_add(1));
    match (text.get(..length), port) {
        (Some(prefix), None) if prefix == host => Cow::Borrowed(prefix),
        (Some(prefix), Some(port))
            if prefix.strip_prefix(host).and_then(|p| p.strip_prefix(':')) == Some(port) =>
        {
            Cow::Borrowed(prefix)
        }
        (_, None) => Cow::Owned(host.to_owned()),
        (_, Some(port)) => Cow::Owned(format!("{host}:{port}")),
    }
}
