//! Caps of recorded values (RE7), so that no caller decides how large a record gets.
//!
//! What is cut leaves its length and hash, so that the whole can be recognised and a replay knows what it lacks.

use aws_lc_rs::digest;

use super::Truncated;
use crate::cbor::Writer;

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

/// Applies limits and remembers what was cut.
#[derive(Debug)]
pub(crate) struct Caps {
    limits: Limits,
    cut: Vec<Truncated>,
}

impl Caps {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, cut: Vec::new() }
    }

    pub(crate) fn cut(&self) -> &[Truncated] {
        &self.cut
    }

    /// A path.
    pub(crate) fn path<'v>(&mut self, field: &str, value: &'v str) -> &'v str {
        self.keep(field, value, self.limits.path)
    }

    /// Name of an entity: principal, resource, service.
    pub(crate) fn name<'v>(&mut self, field: &str, value: &'v str) -> &'v str {
        self.keep(field, value, self.limits.name)
    }

    /// Any other value.
    pub(crate) fn value<'v>(&mut self, field: &str, value: &'v str) -> &'v str {
        self.keep(field, value, self.limits.value)
    }

    /// As many members of a set as are kept.
    pub(crate) fn set<'v, T: AsRef<str>>(&mut self, field: &str, members: &'v [T]) -> &'v [T] {
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

    /// How many entries of a map or list without texts of its own are kept; the rest is noted by count.
    pub(crate) fn entries(&mut self, field: &str, count: usize) -> usize {
        if count > self.limits.members {
            self.note(field, count, &[]);
        }
        count.min(self.limits.members)
    }

    fn keep<'v>(&mut self, field: &str, value: &'v str, limit: usize) -> &'v str {
        if value.len() <= limit {
            return value;
        }
        self.note(field, value.len(), value.as_bytes());
        // A cut never splits a character.
        let end = (0..=limit).rev().find(|at| value.is_char_boundary(*at)).unwrap_or_default();
        value.get(..end).unwrap_or_default()
    }

    fn note(&mut self, field: &str, length: usize, whole: &[u8]) {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, whole).as_ref());
        self.cut.push(Truncated { field: field.to_owned(), length: length as u64, sha256 });
    }
}
