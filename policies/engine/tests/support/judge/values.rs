//! Short ways to Cedar's values.

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Value};

pub(super) fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a type name");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

pub(super) type Pairs = Vec<(String, Value)>;

pub(super) fn entity(kind: &str, id: &str, attributes: Pairs, parents: Vec<EntityUid>) -> Entity {
    tagged(kind, id, attributes, parents, &[])
}

pub(super) fn tagged(
    kind: &str,
    id: &str,
    attributes: Pairs,
    parents: Vec<EntityUid>,
    tags: &[(String, String)],
) -> Entity {
    let tags = tags.iter().map(|(name, value)| text(name, value));
    Entity::new_with_tags(uid(kind, id), attributes, parents, tags).expect("values, not expressions")
}

pub(super) fn text(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), string(value))
}

pub(super) fn string(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

pub(super) fn strings(values: &[String]) -> Value {
    Value::new_set(values.iter().map(|value| string(value)))
}

pub(super) fn record<N: Into<String>>(pairs: Vec<(N, Value)>) -> Value {
    Value::new_record(pairs.into_iter().map(|(name, value)| (name.into(), value))).expect("names are unique")
}
