//! What keeps calls at one endpoint: the part of a call whose hash the balancer goes by (LB-09).

use std::net::IpAddr;

use enforcer_codec::Call;
use enforcer_codec::token::is_token;

use crate::balance::hash;
use crate::routes::is_param;
use crate::{Arrival, Template, cookie};

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
    /// A named segment of the path, of routes whose template has it.
    Param(String),
}

impl HashBy {
    /// The written forms.
    pub const FORMS: &'static str = "header:NAME, cookie:NAME, param:NAME, source_id, source_ip";

    /// From one of [`HashBy::FORMS`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("header", name)) if is_token(name.as_bytes()) => {
                Some(Self::Header(name.to_ascii_lowercase()))
            }
            Some(("cookie", name)) if is_token(name.as_bytes()) => Some(Self::Cookie(name.to_owned())),
            Some(("param", name)) if is_param(name) => Some(Self::Param(name.to_owned())),
            None if text == "source_id" => Some(Self::SourceId),
            None if text == "source_ip" => Some(Self::SourceIp),
            _ => None,
        }
    }

    /// The hash of this part of a call that came by a route with that template; none when it has no such part, so that any
    /// endpoint will do.
    #[must_use]
    pub fn key(
        &self,
        call: &Call,
        template: Option<&Template>,
        arrival: &Arrival<'_>,
        seed: u64,
    ) -> Option<u64> {
        match self {
            Self::Header(name) => call.header(name).next().map(|value| hash(seed, value)),
            Self::Cookie(name) => {
                let mut values = call.header("cookie").flat_map(|line| cookie::values(line, name));
                values.next().map(|value| hash(seed, value))
            }
            Self::Param(name) => template?.param(call.path(), name).map(|value| hash(seed, value.as_bytes())),
            Self::SourceId => arrival.identity.map(|id| hash(seed, id.as_str().as_bytes())),
            Self::SourceIp => Some(match arrival.source {
                IpAddr::V4(ip) => hash(seed, &ip.octets()),
                IpAddr::V6(ip) => hash(seed, &ip.octets()),
            }),
        }
    }
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
            ("param:tenant_1", Some(HashBy::Param("tenant_1".into()))),
            ("param:Tenant", None),
            ("header:", None),
            ("header:a b", None),
            ("source", None),
            ("query:q", None),
            ("", None),
        ] {
            assert_eq!(HashBy::parse(text), meant, "{text}");
        }
    }
}
