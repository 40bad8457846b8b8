//! What of a record is never written in clear: ids of people become commitments or keyed hashes, and fields that the site
//! names are left out (CM2, S35).
//!
//! The encoder asks for every value, questions ask how an id stands in records. A name that is no field of a record, or
//! one that every record needs, is refused. The key is the ledger's own and reaches no file of this crate.

use std::{borrow::Cow, fmt, io, path::Path, sync::Arc};

use aws_lc_rs::hmac;
use base_ports::{Disk, Rng};
use policies_engine::{DecisionId, Principal, PrincipalKind};

use crate::{
    commit::{Commitment, SHOWN, WORD},
    leaf::{Field, hex},
    query::{is_filter, nearest},
    side::{LONGEST, Side},
};

/// Begins the id of a person that is on record as a hash.
const HASHED: &str = "hashed:";

/// Bytes of a hash that are kept: enough that no two people of a ledger share one.
const KEPT: usize = 16;

/// Fields that may be left out. Who, what, whereto and the verdict stay: without them a record is none.
const FIELDS: [&str; 11] = [
    "connection.sni",
    "connection.source_ip",
    "request.headers",
    "request.host",
    "request.length",
    "request.media_type",
    "request.params",
    "request.path",
    "request.query",
    "request.query_names",
    "trace",
];

/// Those of which single members may be left out, by name: `request.query.token`.
const MAPS: [&str; 3] = ["request.headers", "request.params", "request.query"];

/// How ids of people stand on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum People {
    /// By a commitment that says nothing; who they are lies in the side store, and can be erased.
    Committed,
    /// By a hash under the key of the ledger, for as long as the record lives.
    #[default]
    Hashed,
    /// As they are.
    Clear,
}

/// What does not go on record in clear, and what goes there instead.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    people: People,
    key: Option<Key>,
    rng: Option<Arc<dyn Rng>>,
    side: Option<Arc<Side>>,
    dropped: DropList,
}

/// How the id of a caller goes on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stands<'p> {
    Text(Cow<'p, str>),
    Committed(Commitment),
}

#[derive(Clone)]
struct Key([u8; 32], hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Fields that are left out of decisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DropList(Vec<String>);

/// A name that is no field which may be left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is no field that can be dropped{}",
    suggestion.as_deref().map(|text| format!(", did you mean `{text}`?")).unwrap_or_default()
)]
pub struct DropError {
    /// What was given.
    pub name: String,
    /// The nearest name that would do.
    pub suggestion: Option<String>,
}

impl DropList {
    /// Every field that may be left out; of maps also single members.
    pub fn fields() -> impl Iterator<Item = &'static str> {
        FIELDS.into_iter()
    }

    /// Reads names as the configuration has them. Names of headers are those of HTTP, in any case.
    ///
    /// # Errors
    /// The first name that is none, with the nearest one.
    pub fn read<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<DropList, DropError> {
        names.into_iter().map(field).collect::<Result<_, _>>().map(DropList)
    }

    fn has(&self, field: Field<'_>) -> bool {
        self.0.iter().any(|name| match field {
            Field::Of(wanted) => name == wanted,
            Field::In(map, member) => {
                name.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) == Some(member)
            }
        })
    }
}

fn field(name: &str) -> Result<String, DropError> {
    if FIELDS.contains(&name) {
        return Ok(name.to_owned());
    }
    let of_map = |map: &&str| name.strip_prefix(*map)?.strip_prefix('.').filter(|member| !member.is_empty());
    match MAPS.iter().find_map(|map| of_map(map).map(|member| (*map, member))) {
        Some(("request.headers", member)) => Ok(format!("request.headers.{}", member.to_ascii_lowercase())),
        Some((map, member)) => Ok(format!("{map}.{member}")),
        None => Err(DropError { name: name.to_owned(), suggestion: near(name) }),
    }
}

/// The nearest field; of a member, that member of the nearest map.
fn near(name: &str) -> Option<String> {
    if let Some(found) = nearest(name, FIELDS) {
        return Some(found);
    }
    let (at, _) = name.match_indices('.').nth(1)?;
    let (map, member) = name.split_at_checked(at)?;
    nearest(map, MAPS).map(|map| format!("{map}{member}"))
}

impl Redaction {
    /// Hashes ids of people under `key` and leaves out what `dropped` names.
    #[must_use]
    pub fn new(key: &[u8; 32], dropped: DropList) -> Redaction {
        let key = Key(*key, hmac::Key::new(hmac::HMAC_SHA256, key));
        Redaction { key: Some(key), dropped, ..Redaction::default() }
    }

    /// The same with people on record as `people` says. What was committed before is opened in any case.
    #[must_use]
    pub fn with(self, people: People, rng: Arc<dyn Rng>) -> Redaction {
        Redaction { people, rng: Some(rng), ..self }
    }

    /// The same beside the log in `dir`.
    pub(crate) fn beside(&self, dir: &Path, disk: &Arc<dyn Disk>) -> Redaction {
        let parts = self.key.as_ref().zip(self.rng.as_ref());
        let side = parts.map(|(Key(key, _), rng)| Arc::new(Side::new(dir, disk, rng, key)));
        Redaction { side, ..self.clone() }
    }

    /// Where the clear values of commitments are.
    pub(crate) fn side(&self) -> Option<&Arc<Side>> {
        self.side.as_ref()
    }

    /// Whether ids of people are committed.
    pub(crate) fn commits(&self) -> bool {
        self.people == People::Committed && self.side.is_some()
    }

    /// How a caller stands in that field of that record. Of a person who is committed the key is durable after [`Redaction::flush`].
    pub(crate) fn stands<'p>(&self, field: &str, principal: &'p Principal, record: DecisionId) -> Stands<'p> {
        let id = principal.id();
        let side = self.side.as_ref().filter(|_| self.people == People::Committed);
        match side.filter(|_| is_person(principal) && !id.is_empty() && id.len() <= LONGEST) {
            Some(side) => Stands::Committed(side.commit(field, id, record)),
            None => Stands::Text(self.id_of(principal)),
        }
    }

    /// Before records are written: what opens them is on disk.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.side.as_ref().map_or(Ok(()), |side| side.flush())
    }

    /// The id of a caller where nothing can be committed: that of a person is hashed, an empty one never.
    fn id_of<'p>(&self, principal: &'p Principal) -> Cow<'p, str> {
        let id = principal.id();
        let is_hidden = self.people != People::Clear && is_person(principal);
        let hashed = is_hidden.then(|| self.hashed(id)).flatten();
        hashed.map_or(Cow::Borrowed(id), Cow::Owned)
    }

    /// A caller as text, by the id that goes on record.
    pub(crate) fn shown(&self, principal: &Principal) -> String {
        Principal::from_parts(principal.entity_type(), &self.id_of(principal))
            .map_or_else(|| principal.entity_type().to_owned(), |shown| shown.to_string())
    }

    /// The hash of the id of a person; `None` where there is nothing to hash, or no key.
    pub(crate) fn hashed(&self, id: &str) -> Option<String> {
        let Key(_, key) = self.key.as_ref().filter(|_| !id.is_empty())?;
        let mut context = hmac::Context::with_key(key);
        context.update(b"portcullis-user/1\0");
        context.update(id.as_bytes());
        let kept: Vec<u8> = context.sign().as_ref().iter().copied().take(KEPT).collect();
        Some(format!("{HASHED}{}", hex(&kept)))
    }

    /// The value of a filter as it goes on record: who asks for a person must not write the name into the ledger, nor by
    /// a slip of the filter's name.
    pub(crate) fn told<'v>(&self, name: &str, value: &'v str) -> Cow<'v, str> {
        if !is_filter(name) {
            return Cow::Borrowed("?");
        }
        let (prefix, id) = match value.strip_prefix("prefix:") {
            Some(id) => ("prefix:", id),
            None => ("", value),
        };
        let is_open = name != "principal" || self.people == People::Clear || !may_be_person(id);
        match self.hashed(id).filter(|_| !is_open) {
            Some(hashed) => Cow::Owned(format!("{prefix}{hashed}")),
            None => Cow::Borrowed(value),
        }
    }

    /// Whether that field is left out.
    pub(crate) fn drops(&self, field: Field<'_>) -> bool {
        self.dropped.has(field)
    }
}

/// Whether somebody who is looked for by that id may be a person, and it says who.
pub(crate) fn may_be_person(id: &str) -> bool {
    let known = ["spiffe://", HASHED, SHOWN];
    id != "anonymous" && id != WORD && !known.iter().any(|known| id.starts_with(known))
}

fn is_person(principal: &Principal) -> bool {
    principal.kind() == PrincipalKind::User
}

/// Whether what stands on record for the caller of that type says nothing of who it is.
pub(crate) fn is_hidden(kind: &str, id: &str) -> bool {
    let is_shown = id == WORD || [HASHED, SHOWN].iter().any(|word| id.starts_with(word));
    kind == PrincipalKind::User.as_str() && is_shown
}

#[cfg(test)]
mod tests;
