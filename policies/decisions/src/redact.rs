//! What of a record is never written in clear: ids of people become keyed hashes, and fields that the site names are left
//! out (CM2, S35).
//!
//! The encoder asks for every value, questions ask how an id stands in records. A name that is no field of a record, or
//! one that every record needs, is refused. The key is the ledger's own and reaches no file of this crate.

use std::{borrow::Cow, fmt};

use aws_lc_rs::hmac;
use policies_engine::{Principal, PrincipalKind};

use crate::{
    leaf::{Field, hex},
    query::{is_filter, nearest},
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

/// What is hashed, and what is left out.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    people: Option<Key>,
    dropped: DropList,
}

#[derive(Clone)]
struct Key(hmac::Key);

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
        Redaction { people: Some(Key(hmac::Key::new(hmac::HMAC_SHA256, key))), dropped }
    }

    /// The id under which a caller goes on record; that of a person is hashed, an empty one never.
    pub(crate) fn id_of<'p>(&self, principal: &'p Principal) -> Cow<'p, str> {
        let id = principal.id();
        let hashed = (principal.kind() == PrincipalKind::User).then(|| self.hashed(id)).flatten();
        hashed.map_or(Cow::Borrowed(id), Cow::Owned)
    }

    /// A caller as text, by the id that goes on record.
    pub(crate) fn shown(&self, principal: &Principal) -> String {
        Principal::from_parts(principal.entity_type(), &self.id_of(principal))
            .map_or_else(|| principal.entity_type().to_owned(), |shown| shown.to_string())
    }

    /// How the id of a person stands on record; `None` where it stands as it is.
    pub(crate) fn hashed(&self, id: &str) -> Option<String> {
        let Key(key) = self.people.as_ref().filter(|_| !id.is_empty())?;
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
        let is_open = name != "principal"
            || id == "anonymous"
            || ["spiffe://", HASHED].iter().any(|known| id.starts_with(known));
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

/// Whether the caller of that type and id is on record by a hash alone.
pub(crate) fn is_hashed(kind: &str, id: &str) -> bool {
    kind == PrincipalKind::User.as_str() && id.starts_with(HASHED)
}

#[cfg(test)]
mod tests;
