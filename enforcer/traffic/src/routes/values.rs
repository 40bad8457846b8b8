//! Conditions on all values that a name has in a call: fields of its head, parameters of its query, its cookies.

use std::borrow::Cow;
use std::fmt;

use enforcer_codec::{Call, NotCanonical};

use super::pattern::Pattern;
use crate::{ValuesSpec, cookie};

/// Where values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Header,
    Query,
    Cookie,
}

/// A condition on the values of one name.
#[derive(Debug, Clone)]
pub(super) struct Values {
    place: Place,
    name: Box<str>,
    pattern: Pattern,
    all: bool,
}

/// Names that the gate lets through once at most (CC-10), so that any and all are the same.
const SINGLE: [&str; 5] = ["authorization", "content-type", "origin", "proxy-authorization", "grpc-timeout"];

impl Values {
    /// # Errors
    /// What is wrong with the name or the condition.
    pub(super) fn compile(place: Place, spec: &ValuesSpec) -> Result<Self, String> {
        if spec.name.is_empty() {
            return Err("a name is empty".to_owned());
        }
        if place == Place::Header {
            // A name that a call never shows would make a route that never matches.
            let is_name = http::HeaderName::from_lowercase(spec.name.as_bytes()).is_ok();
            if !is_name || !enforcer_codec::headers::is_judged(spec.name.as_bytes()) {
                return Err(format!("`{}` is no header that a route can read", spec.name));
            }
        }
        if place == Place::Cookie && spec.name.contains(['=', ';', ' ', ',']) {
            return Err(format!("`{}` is no name of a cookie", spec.name));
        }
        let pattern = Pattern::compile(&spec.test).map_err(|cause| format!("`{}`: {cause}", spec.name))?;
        Ok(Self { place, name: spec.name.as_str().into(), pattern, all: spec.all })
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// CC-11 when a field that is read has bytes outside ASCII.
    pub(super) fn hold(&self, call: &Call) -> Result<bool, NotCanonical> {
        let mut seen = Seen { any: false, all: true };
        match self.place {
            Place::Header => {
                for value in call.header(&self.name) {
                    seen.take(self.pattern.matches(text(call, value)?.as_bytes()));
                }
            }
            Place::Cookie => {
                for line in call.header("cookie") {
                    for value in cookie::values(text(call, line)?.as_bytes(), &self.name) {
                        seen.take(self.pattern.matches(value));
                    }
                }
            }
            Place::Query => {
                for value in parameters(call, &self.name) {
                    // What was no UTF-8 shows by this; who really sends it is refused too, where a route reads it (CC-11).
                    if value.contains(char::REPLACEMENT_CHARACTER) {
                        return Err(call.unreadable());
                    }
                    seen.take(self.pattern.matches(value.as_bytes()));
                }
            }
        }
        Ok(if self.all { seen.any && seen.all } else { seen.any })
    }

    /// True when certainly no call satisfies both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let is_single = self.place == Place::Header && SINGLE.contains(&&*self.name);
        self.place == other.place
            && self.name == other.name
            && (self.all || other.all || is_single)
            && self.pattern.excludes(&other.pattern)
    }
}

struct Seen {
    any: bool,
    all: bool,
}

impl Seen {
    fn take(&mut self, matches: bool) {
        self.any |= matches;
        self.all &= matches;
    }
}

fn text<'a>(call: &Call, value: &'a [u8]) -> Result<&'a str, NotCanonical> {
    let text = str::from_utf8(value).ok().filter(|text| text.is_ascii());
    text.ok_or_else(|| call.unreadable())
}

/// The values of a parameter of the query, decoded as policies see them (MO7).
fn parameters<'a>(call: &'a Call, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let pairs = form_urlencoded::parse(call.query().unwrap_or_default().as_bytes());
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value)
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Header => "header",
            Place::Query => "query parameter",
            Place::Cookie => "cookie",
        };
        let whole = if self.all { "every value of " } else { "" };
        write!(f, "{whole}{place} `{}` is {}", self.name, self.pattern)
    }
}
