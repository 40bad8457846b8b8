//! What keeps calls at one endpoint: the part of a call whose hash the balancer goes by (LB-09).

use std::net::IpAddr;

use enforcer_codec::Call;

use crate::Arrival;
use crate::balance::hash;

/// A part of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The first value of a header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The verified identity of the caller.
    SourceId,
    /// The address of the caller.
    SourceIp,
}

impl HashBy {
    /// From its written form: `header:NAME`, `cookie:NAME`, `source_id` or `source_ip`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("header", name)) if is_token(name) => Some(Self::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) if is_token(name) => Some(Self::Cookie(name.to_owned())),
            None if text == "source_id" => Some(Self::SourceId),
            None if text == "source_ip" => Some(Self::SourceIp),
            _ => None,
        }
    }

    /// The hash of this part of a call; none when the call has no such part, so that any endpoint will do.
    #[must_use]
    pub fn key(&self, call: &Call, arrival: &Arrival<'_>, seed: u64) -> Option<u64> {
        match self {
            Self::Header(name) => call.header(name).next().map(|value| hash(seed, value)),
            Self::Cookie(name) => {
                let mut values = call.header("cookie").filter_map(|value| cookie(value, name.as_bytes()));
                values.next().map(|value| hash(seed, value))
            }
            Self::SourceId => arrival.identity.map(|id| hash(seed, id.as_str().as_bytes())),
            Self::SourceIp => Some(match arrival.source {
                IpAddr::V4(ip) => hash(seed, &ip.octets()),
                IpAddr::V6(ip) => hash(seed, &ip.octets()),
            }),
        }
    }
}

/// The value of the first cookie of that name (RFC 6265 4.2.1).
fn cookie<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let (known, value) = pair.trim_ascii().split_at_checked(name.len())?;
        (known == name).then(|| value.strip_prefix(b"=")).flatten()
    })
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lb_09_the_written_forms_are_read_and_others_refused() {
        for (text, meant) in [
            ("header:X-User", Some(HashBy::Header("x-user".into()))),
            ("cookie:Session", Some(HashBy::Cookie("Session".into()))),
            ("source_id", Some(HashBy::SourceId)),
            ("source_ip", Some(HashBy::SourceIp)),
            ("header:", None),
            ("header:a b", None),
            ("source", None),
            ("query:q", None),
            ("", None),
        ] {
            assert_eq!(HashBy::parse(text), meant, "{text}");
        }
    }

    #[test]
    fn lb_09_a_cookie_is_found_among_others_by_its_whole_name() {
        let field = b"a=1; session=two;sessionx=3 ; empty=";
        for (name, value) in
            [("a", Some("1")), ("session", Some("two")), ("sess", None), ("empty", Some("")), ("b", None)]
        {
            assert_eq!(cookie(field, name.as_bytes()), value.map(str::as_bytes), "{name}");
        }
    }
}
