//! Operations on values: the one place where an operator means something. Folding and evaluation both come here.

use super::{
    pattern::Pattern,
    value::{Const, Several, Value},
};
use crate::{ErrorClass, Token};
use cedar_policy::pst::{BinaryOp, UnaryOp};
use std::cmp::Ordering;

const DAY: i64 = 86_400_000;

type Applied<'a> = Result<Value<'a>, ErrorClass>;

pub(super) fn is(of: &Value<'_>, kind: &str) -> Result<bool, ErrorClass> {
    match of {
        Value::Entity(found, _) => Ok(*found == kind),
        _ => Err(ErrorClass::Type),
    }
}

pub(super) fn like(of: &Value<'_>, pattern: &Pattern) -> Result<bool, ErrorClass> {
    match of {
        Value::Text(text) => Ok(pattern.matches(text)),
        _ => Err(ErrorClass::Type),
    }
}

pub(super) fn unary(op: UnaryOp, of: Value<'_>) -> Applied<'_> {
    Ok(match (op, of) {
        (UnaryOp::Not, Value::Bool(value)) => Value::Bool(!value),
        (UnaryOp::Neg, Value::Long(value)) => Value::Long(value.checked_neg().ok_or(ErrorClass::Overflow)?),
        (UnaryOp::IsEmpty, Value::Set(items)) => Value::Bool(items.is_empty()),
        (UnaryOp::IsIPv4, Value::Ip(range)) => Value::Bool(range.is_v4()),
        (UnaryOp::IsIPV6, Value::Ip(range)) => Value::Bool(!range.is_v4()),
        (UnaryOp::IsLoopback, Value::Ip(range)) => Value::Bool(range.is_loopback()),
        (UnaryOp::IsMulticast, Value::Ip(range)) => Value::Bool(range.is_multicast()),
        (UnaryOp::ToDate, Value::Moment(at)) => {
            Value::Moment(at.checked_sub(at.rem_euclid(DAY)).ok_or(ErrorClass::Overflow)?)
        }
        (UnaryOp::ToTime, Value::Moment(at)) => Value::Span(at.rem_euclid(DAY)),
        (UnaryOp::ToMilliseconds, Value::Span(span)) => Value::Long(span),
        (UnaryOp::ToSeconds, Value::Span(span)) => Value::Long(span / 1_000),
        (UnaryOp::ToMinutes, Value::Span(span)) => Value::Long(span / 60_000),
        (UnaryOp::ToHours, Value::Span(span)) => Value::Long(span / 3_600_000),
        (UnaryOp::ToDays, Value::Span(span)) => Value::Long(span / DAY),
        _ => return Err(ErrorClass::Type),
    })
}

pub(super) fn binary<'a>(op: BinaryOp, left: &Value<'a>, right: &Value<'a>) -> Applied<'a> {
    let truth = match op {
        BinaryOp::Eq => left == right,
        BinaryOp::NotEq => left != right,
        BinaryOp::Less => order(left, right)?.is_lt(),
        BinaryOp::LessEq => order(left, right)?.is_le(),
        BinaryOp::Greater => order(left, right)?.is_gt(),
        BinaryOp::GreaterEq => order(left, right)?.is_ge(),
        BinaryOp::DecimalLessThan => decimals(left, right)?.is_lt(),
        BinaryOp::DecimalLessEq => decimals(left, right)?.is_le(),
        BinaryOp::DecimalGreater => decimals(left, right)?.is_gt(),
        BinaryOp::DecimalGreaterEq => decimals(left, right)?.is_ge(),
        BinaryOp::In => is_in(left, right)?,
        BinaryOp::Contains => match left {
            Value::Set(items) => items.holds(right),
            _ => return Err(ErrorClass::Type),
        },
        BinaryOp::ContainsAll | BinaryOp::ContainsAny => match (left, right) {
            (Value::Set(items), Value::Set(others)) if op == BinaryOp::ContainsAll => items.holds_all(others),
            (Value::Set(items), Value::Set(others)) => items.holds_any(others),
            _ => return Err(ErrorClass::Type),
        },
        BinaryOp::IsInRange => match (left, right) {
            (Value::Ip(range), Value::Ip(other)) => range.is_in(*other),
            _ => return Err(ErrorClass::Type),
        },
        BinaryOp::HasTag => tag(left, right)?.is_some(),
        BinaryOp::GetTag => return tag(left, right)?.ok_or(ErrorClass::MissingTag),
        _ => return number(op, left, right),
    };
    Ok(Value::Bool(truth))
}

fn number<'a>(op: BinaryOp, left: &Value<'a>, right: &Value<'a>) -> Applied<'a> {
    match (op, left, right) {
        (BinaryOp::Add, Value::Long(a), Value::Long(b)) => a.checked_add(*b).map(Value::Long),
        (BinaryOp::Sub, Value::Long(a), Value::Long(b)) => a.checked_sub(*b).map(Value::Long),
        (BinaryOp::Mul, Value::Long(a), Value::Long(b)) => a.checked_mul(*b).map(Value::Long),
        (BinaryOp::Offset, Value::Moment(at), Value::Span(span)) => at.checked_add(*span).map(Value::Moment),
        (BinaryOp::DurationSince, Value::Moment(a), Value::Moment(b)) => a.checked_sub(*b).map(Value::Span),
        _ => return Err(ErrorClass::Type),
    }
    .ok_or(ErrorClass::Overflow)
}

/// The same for a person whose token tells of tags and groups.
pub(super) fn binary_of_user<'a>(
    op: BinaryOp,
    token: &'a Token,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Applied<'a> {
    let claim = |name: &str| token.claims.get(name).map(|words| Value::Set(Several::Words(words)));
    match (op, right) {
        (BinaryOp::HasTag, Value::Text(name)) => Ok(Value::Bool(claim(name).is_some())),
        (BinaryOp::GetTag, Value::Text(name)) => claim(name).ok_or(ErrorClass::MissingTag),
        (BinaryOp::In, Value::Entity(kind, id)) => Ok(Value::Bool(token.is_in(kind, id))),
        (BinaryOp::In, Value::Set(Several::Fixed(items))) => {
            let is_in =
                |item: &Const| matches!(item, Const::Entity(named) if token.is_in(&named.kind, named.id()));
            Ok(Value::Bool(items.iter().any(is_in)))
        }
        _ => binary(op, left, right),
    }
}

/// Folding made a record of the tags of an entity; whom only an id describes has none.
fn tag<'a>(of: &Value<'a>, name: &Value<'_>) -> Result<Option<Value<'a>>, ErrorClass> {
    match (of, name) {
        (Value::Record(tags), Value::Text(name)) => {
            Ok(tags.iter().find(|(tag, _)| **tag == **name).map(|(_, value)| value.view()))
        }
        (Value::Entity(..), Value::Text(_)) => Ok(None),
        _ => Err(ErrorClass::Type),
    }
}

fn order(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, ErrorClass> {
    match (left, right) {
        (Value::Long(a), Value::Long(b))
        | (Value::Moment(a), Value::Moment(b))
        | (Value::Span(a), Value::Span(b)) => Ok(a.cmp(b)),
        _ => Err(ErrorClass::Type),
    }
}

fn decimals(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, ErrorClass> {
    match (left, right) {
        (Value::Decimal(a), Value::Decimal(b)) => Ok(a.cmp(b)),
        _ => Err(ErrorClass::Type),
    }
}

/// Equality is all of `in` that folding leaves: what an entity is in by its parents is decided then.
fn is_in(left: &Value<'_>, right: &Value<'_>) -> Result<bool, ErrorClass> {
    match (left, right) {
        (Value::Entity(..), Value::Entity(..)) => Ok(left == right),
        (Value::Entity(..), Value::Set(items)) => Ok(items.holds(left)),
        _ => Err(ErrorClass::Type),
    }
}
