//! Reading entity uids as people and records write them, and hashing of values that key plans.
//! Does not check names against a schema.

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::LazyLock,
};

/// Seeded per process, so that callers cannot aim at one slot of a plan cache.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

pub(crate) fn hash_of<T: Hash>(value: &T) -> u64 {
    SEED.hash_one(value)
}

/// Type names that were parsed already: Cedar reads a name with its whole grammar. Bounded, because policies name types.
static TYPES: LazyLock<RwLock<HashMap<Box<str>, EntityTypeName>>> = LazyLock::new(RwLock::default);
const TYPES_KEPT: usize = 1_024;

/// The Cedar type of that name; `None` when it is not a name.
pub(crate) fn type_of(name: &str) -> Option<EntityTypeName> {
    if let Some(known) = TYPES.read().get(name) {
        return Some(known.clone());
    }
    let parsed: EntityTypeName = name.parse().ok()?;
    let mut types = TYPES.write();
    if types.len() < TYPES_KEPT {
        types.insert(name.into(), parsed.clone());
    }
    Some(parsed)
}

/// A Cedar type of the shipped schema.
#[expect(
    clippy::expect_used,
    reason = "INVARIANT: only names written in this crate come here; a test parses each kind"
)]
pub(crate) fn type_name(name: &'static str) -> EntityTypeName {
    type_of(name).expect("a type name of the shipped schema")
}

/// A Cedar uid of a type of the shipped schema.
pub(crate) fn cedar_uid(name: &'static str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(type_name(name), EntityId::new(id))
}

/// The same entity without the place in a text that Cedar keeps with it, and the text.
pub(crate) fn placeless(uid: &EntityUid) -> EntityUid {
    let kind = placeless_type(uid.type_name());
    EntityUid::from_type_name_and_id(kind, EntityId::new(uid.id().unescaped()))
}

/// The same for a type.
pub(crate) fn placeless_type(name: &EntityTypeName) -> EntityTypeName {
    type_of(&name.to_string()).unwrap_or_else(|| name.clone())
}

/// Splits `Type::"id"`; `\"` and `\\` are the only escapes.
pub(crate) fn parse_uid(text: &str) -> Option<(String, String)> {
    let (entity_type, rest) = text.split_once("::\"")?;
    let quoted = rest.strip_suffix('"')?;
    let mut id = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => match chars.next()? {
                c @ ('"' | '\\') => id.push(c),
                _ => return None,
            },
            c => id.push(c),
        }
    }
    (!entity_type.is_empty()).then(|| (entity_type.to_owned(), id))
}

/// Writes `Type::"id"` so that [`parse_uid`] and Cedar read it back.
pub(crate) fn format_uid(entity_type: &str, id: &str) -> String {
    let mut text = String::with_capacity(entity_type.len() + id.len() + 4);
    text.push_str(entity_type);
    text.push_str("::\"");
    for c in id.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_split_and_unescaped() {
        assert_eq!(parse_uid("A::B::\"x\""), Some(("A::B".into(), "x".into())));
        assert_eq!(parse_uid(r#"A::"x\"y\\""#), Some(("A".into(), "x\"y\\".into())));
        assert_eq!(parse_uid(&format_uid("A", "x\"\\y'é")), Some(("A".into(), "x\"\\y'é".into())));
        for bad in ["", "A", "A::x", "A::\"x", "::\"x\"", r#"A::"x"y""#, r#"A::"\n""#] {
            assert_eq!(parse_uid(bad), None, "{bad}");
        }
    }
}
