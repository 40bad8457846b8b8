//! Values: those that are known when a plan is made, and those a call brings, borrowed from it.

use super::range::Range;
use crate::Facts;
use cedar_policy::{EntityUid, EvalResult};
use std::{borrow::Cow, cmp::Ordering, hash, sync::Arc};

/// A value that outlives calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Const {
    Bool(bool),
    Long(i64),
    Text(Arc<str>),
    Entity(Named),
    Ip(Range),
    /// In ten-thousandths.
    Decimal(i64),
    /// Milliseconds since 1970.
    Moment(i64),
    /// Milliseconds.
    Span(i64),
    /// Sorted, each once.
    Set(Arc<[Const]>),
    /// Sorted by name.
    Record(Arc<[(Arc<str>, Const)]>),
}

/// An entity by its uid.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) uid: EntityUid,
    pub(crate) kind: Arc<str>,
}

impl Named {
    pub(crate) fn new(uid: EntityUid) -> Named {
        Named { kind: uid.type_name().to_string().into(), uid }
    }

    pub(crate) fn id(&self) -> &str {
        self.uid.id().unescaped()
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.id() == other.id()
    }
}

impl Eq for Named {}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.kind, self.id()).cmp(&(&other.kind, other.id()))
    }
}

impl hash::Hash for Named {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        (&self.kind, self.id()).hash(state);
    }
}

impl Const {
    pub(crate) fn truth(&self) -> Option<bool> {
        match self {
            Const::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn text(text: &str) -> Const {
        Const::Text(text.into())
    }

    pub(crate) fn set(items: impl IntoIterator<Item = Const>) -> Const {
        let mut items: Vec<Const> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        Const::Set(items.into())
    }

    pub(crate) fn record(members: impl IntoIterator<Item = (Arc<str>, Const)>) -> Const {
        let mut members: Vec<(Arc<str>, Const)> = members.into_iter().collect();
        members.sort_unstable();
        Const::Record(members.into())
    }

    /// What an entity holds, from Cedar's own value. `None` for an extension type this version does not know.
    pub(crate) fn of(value: &EvalResult) -> Option<Const> {
        Some(match value {
            EvalResult::Bool(value) => Const::Bool(*value),
            EvalResult::Long(value) => Const::Long(*value),
            EvalResult::String(value) => Const::text(value),
            EvalResult::EntityUid(uid) => Const::Entity(Named::new(uid.clone())),
            EvalResult::Set(set) => Const::set(set.iter().map(Const::of).collect::<Option<Vec<_>>>()?),
            EvalResult::Record(record) => {
                let members =
                    record.iter().map(|(name, value)| Some((name.as_str().into(), Const::of(value)?)));
                Const::record(members.collect::<Option<Vec<_>>>()?)
            }
            EvalResult::ExtensionValue(text) => super::literal::extension(text)?,
        })
    }

    pub(crate) fn view(&self) -> Value<'_> {
        match self {
            Const::Bool(value) => Value::Bool(*value),
            Const::Long(value) => Value::Long(*value),
            Const::Text(value) => Value::Text(Cow::Borrowed(value)),
            Const::Entity(named) => Value::Entity(&named.kind, named.id()),
            Const::Ip(value) => Value::Ip(*value),
            Const::Decimal(value) => Value::Decimal(*value),
            Const::Moment(value) => Value::Moment(*value),
            Const::Span(value) => Value::Span(*value),
            Const::Set(items) => Value::Set(Several::Fixed(items)),
            Const::Record(members) => Value::Record(members),
        }
    }
}

/// A value while a condition is evaluated.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Bool(bool),
    Long(i64),
    Text(Cow<'a, str>),
    /// Type and id.
    Entity(&'a str, &'a str),
    Ip(Range),
    Decimal(i64),
    Moment(i64),
    Span(i64),
    Set(Several<'a>),
    Record(&'a [(Arc<str>, Const)]),
}

/// A set, not copied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Several<'a> {
    Fixed(&'a [Const]),
    /// Lines of a header.
    Header(&'a dyn Facts, &'a str),
    /// Values of a query name.
    Query(Option<&'a str>, &'a str),
    /// All query names.
    QueryNames(Option<&'a str>),
    Words(&'a [String]),
}

impl Value<'_> {
    /// The same value, owned; sets of a call are copied.
    pub(crate) fn keep(&self) -> Option<Const> {
        Some(match self {
            Value::Bool(value) => Const::Bool(*value),
            Value::Long(value) => Const::Long(*value),
            Value::Text(value) => Const::text(value),
            Value::Ip(value) => Const::Ip(*value),
            Value::Decimal(value) => Const::Decimal(*value),
            Value::Moment(value) => Const::Moment(*value),
            Value::Span(value) => Const::Span(*value),
            Value::Set(Several::Fixed(items)) => Const::Set((*items).into()),
            Value::Record(members) => Const::Record((*members).into()),
            Value::Entity(..) | Value::Set(_) => return None,
        })
    }
}

impl PartialEq<Const> for Value<'_> {
    fn eq(&self, other: &Const) -> bool {
        *self == other.view()
    }
}

impl PartialEq for Value<'_> {
    /// Cedar's `==`: values of different types differ, sets are equal when each holds the other.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Long(a), Value::Long(b))
            | (Value::Decimal(a), Value::Decimal(b))
            | (Value::Moment(a), Value::Moment(b))
            | (Value::Span(a), Value::Span(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Entity(kind_a, a), Value::Entity(kind_b, b)) => a == b && kind_a == kind_b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Set(a), Value::Set(b)) => a.holds_all(b) && b.holds_all(a),
            (Value::Record(a), Value::Record(b)) => a == b,
            _ => false,
        }
    }
}

impl Several<'_> {
    /// Calls `each` with every text of a set that the call brings. A fixed set has none here.
    fn each(&self, each: &mut dyn FnMut(&str)) {
        match self {
            Several::Fixed(_) => {}
            Several::Header(facts, name) => facts.header(name, each),
            Several::Query(query, name) => {
                crate::facts::pairs(*query)
                    .filter(|(found, _)| found == name)
                    .for_each(|(_, value)| each(&value));
            }
            Several::QueryNames(query) => crate::facts::pairs(*query).for_each(|(name, _)| each(&name)),
            Several::Words(words) => words.iter().for_each(|word| each(word)),
        }
    }

    pub(crate) fn holds(&self, wanted: &Value<'_>) -> bool {
        if let Several::Fixed(items) = self {
            return items.iter().any(|item| *wanted == *item);
        }
        let Value::Text(wanted) = wanted else { return false };
        self.holds_text(wanted)
    }

    fn holds_text(&self, wanted: &str) -> bool {
        if let Several::Fixed(items) = self {
            return items.iter().any(|item| matches!(item, Const::Text(text) if **text == *wanted));
        }
        let mut is_found = false;
        self.each(&mut |text| is_found |= text == wanted);
        is_found
    }

    pub(crate) fn holds_all(&self, others: &Several<'_>) -> bool {
        if let Several::Fixed(items) = others {
            return items.iter().all(|item| self.holds(&item.view()));
        }
        let mut are_all = true;
        others.each(&mut |text| are_all = are_all && self.holds_text(text));
        are_all
    }

    pub(crate) fn holds_any(&self, others: &Several<'_>) -> bool {
        if let Several::Fixed(items) = others {
            return items.iter().any(|item| self.holds(&item.view()));
        }
        let mut is_any = false;
        others.each(&mut |text| is_any = is_any || self.holds_text(text));
        is_any
    }

    pub(crate) fn is_empty(&self) -> bool {
        if let Several::Fixed(items) = self {
            return items.is_empty();
        }
        let mut is_empty = true;
        self.each(&mut |_| is_empty = false);
        is_empty
    }
}
