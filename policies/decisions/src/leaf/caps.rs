//! Caps of recorded values (RE7), so that no caller decides how large a record gets.
//!
//! What is cut leaves its length and hash, so that the whole can be recognised and a replay knows what it lacks. What the
//! site leaves out leaves its length alone.

use std::fmt;

use aws_lc_rs::digest;

use super::Truncated;
use crate::{cbor::Writer, redact::Redaction};

/// How much of each kind of value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    path: usize,
    value: usize,
    name: usize,
    members: usize,
}

impl Limits {
    /// What RE7 says. Names of entities get what SPIFFE allows an id, else no query would find them.
    pub(crate) const NORMAL: Limits = Limits { path: 1_024, value: 512, name: 2_048, members: 64 };

    /// For a record that is over 32 KiB even so: with every set and value at these caps it is under 20 KiB.
    pub(crate) const TIGHT: Limits = Limits { path: 256, value: 64, name: 512, members: 8 };
}

/// Cuts that are listed one by one; of the others only the number is kept, as field `*`.
const LISTED: usize = 32;

/// Longest field name that is noted; names of headers stand in it.
const FIELD: usize = 64;

/// Name of what may be cut; put together only when it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field<'f> {
    /// A member of the leaf.
    Of(&'f str),
    /// One entry of such a member.
    In(&'f str, &'f str),
}

impl<'f> From<&'f str> for Field<'f> {
    fn from(name: &'f str) -> Self {
        Field::Of(name)
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Of(name) => f.write_str(name),
            Field::In(name, entry) => write!(f, "{name}.{entry}"),
        }
    }
}

/// Applies limits and remembers what was cut.
#[derive(Debug)]
pub(crate) struct Caps<'r> {
    limits: Limits,
    redaction: &'r Redaction,
    cut: Vec<Truncated>,
    /// Apart from what is cut, so that however much is cut each of them is listed.
    dropped: Vec<Truncated>,
}

impl<'r> Caps<'r> {
    pub(crate) fn new(limits: Limits, redaction: &'r Redaction) -> Self {
        Self { limits, redaction, cut: Vec::new(), dropped: Vec::new() }
    }

    /// Whether the site leaves that field out; then its length is noted, unless nothing was there.
    pub(crate) fn drops<'f>(&mut self, field: impl Into<Field<'f>>, length: impl FnOnce() -> usize) -> bool {
        let field = field.into();
        let is_dropped = self.redaction.drops(field);
        if is_dropped {
            let length = length() as u64;
            if length > 0 {
                self.dropped.push(Truncated { field: named(field), length, sha256: None });
            }
        }
        is_dropped
    }

    /// What was cut, then what was left out.
    pub(crate) fn cut(&self) -> Vec<&Truncated> {
        self.cut.iter().chain(&self.dropped).collect()
    }

    /// How many members of a set are kept.
    pub(crate) fn members(&self) -> usize {
        self.limits.members
    }

    /// A path.
    pub(crate) fn path<'v>(&mut self, field: &str, value: &'v str) -> &'v str {
        self.keep(field.into(), value, self.limits.path)
    }

    /// Name of an entity: principal, resource, service.
    pub(crate) fn name<'v>(&mut self, field: &str, value: &'v str) -> &'v str {
        self.keep(field.into(), value, self.limits.name)
    }

    /// Any other value.
    pub(crate) fn value<'v, 'f>(&mut self, field: impl Into<Field<'f>>, value: &'v str) -> &'v str {
        self.keep(field.into(), value, self.limits.value)
    }

    /// As many members of a set as are kept.
    pub(crate) fn set<'v, T: AsRef<str>>(&mut self, field: Field<'_>, members: &'v [T]) -> &'v [T] {
        let Some((kept, _)) =
            members.split_at_checked(self.limits.members).filter(|(_, rest)| !rest.is_empty())
        else {
            return members;
        };
        let mut whole = Vec::new();
        let mut writer = Writer::new(&mut whole);
        writer.array(members.len());
        members.iter().for_each(|member| writer.text(member.as_ref()));
        self.note(field, members.len(), &whole);
        kept
    }

    /// Whether a member may keep its name.
    pub(crate) fn fits(&self, name: &str) -> bool {
        name.len() <= self.limits.value
    }

    /// Whether a member may keep its name; one with a longer name is left out and noted.
    pub(crate) fn has_fit_name(&mut self, field: &str, name: &str) -> bool {
        let is_fit = self.fits(name);
        if !is_fit {
            self.note(field.into(), name.len(), name.as_bytes());
        }
        is_fit
    }

    /// How many entries of a map or list without texts of its own are kept; the rest is noted by count.
    pub(crate) fn entries(&mut self, field: &str, count: usize) -> usize {
        if count > self.limits.members {
            self.note(field.into(), count, &[]);
        }
        count.min(self.limits.members)
    }

    fn keep<'v>(&mut self, field: Field<'_>, value: &'v str, limit: usize) -> &'v str {
        if value.len() <= limit {
            return value;
        }
        self.note(field, value.len(), value.as_bytes());
        within(value, limit)
    }

    fn note(&mut self, field: Field<'_>, length: usize, whole: &[u8]) {
        if self.cut.len() == LISTED {
            self.cut.push(Truncated { field: "*".to_owned(), length: 0, sha256: Some([0; 32]) });
        }
        if let Some(others) = self.cut.get_mut(LISTED) {
            others.length += 1;
            return;
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, whole).as_ref());
        self.cut.push(Truncated { field: named(field), length: length as u64, sha256: Some(sha256) });
    }
}

/// The name of a field, no longer than is noted.
fn named(field: Field<'_>) -> String {
    let mut name = field.to_string();
    name.truncate(within(&name, FIELD).len());
    name
}

/// As much of a text as fits; a cut never splits a character.
fn within(text: &str, limit: usize) -> &str {
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.get(..end).unwrap_or(text)
}
