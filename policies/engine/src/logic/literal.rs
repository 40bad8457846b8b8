//! Extension values as numbers. Cedar's own evaluator reads the texts, so what it accepts and what it means is Cedar's.

use super::{range::Range, value::Const};
use cedar_policy::{Context, Entities, EvalResult, Expression, Request, eval_expression, pst::UnaryOp};

/// `ip("..")`, `decimal("..")`, `datetime("..")` or `duration("..")`.
pub(super) fn constructed(op: UnaryOp, text: &str) -> Option<Const> {
    let quoted = format!("{text:?}");
    match op {
        UnaryOp::Ip => Range::parse(text).map(Const::Ip),
        UnaryOp::Decimal => decimal(text).map(Const::Decimal),
        UnaryOp::Datetime => moment(&format!("datetime({quoted})")).map(Const::Moment),
        UnaryOp::Duration => span(&format!("duration({quoted})")).map(Const::Span),
        _ => None,
    }
}

/// A value of an entity, as Cedar prints it.
pub(super) fn extension(text: &str) -> Option<Const> {
    let argument = |name: &str| text.strip_prefix(name)?.strip_prefix("(\"")?.strip_suffix("\")");
    if let Some(range) = argument("ip") {
        return Range::parse(range).map(Const::Ip);
    }
    if let Some(number) = argument("decimal") {
        return decimal(number).map(Const::Decimal);
    }
    moment(text).map(Const::Moment).or_else(|| span(text).map(Const::Span))
}

fn moment(expression: &str) -> Option<i64> {
    span(&format!("{expression}.durationSince(datetime(\"1970-01-01\"))"))
}

fn span(expression: &str) -> Option<i64> {
    let expression = format!("{expression}.toMilliseconds()").parse::<Expression>().ok()?;
    let anybody = || r#"A::"a""#.parse().ok();
    let request = Request::new(anybody()?, anybody()?, anybody()?, Context::empty(), None).ok()?;
    match eval_expression(&request, &Entities::empty(), &expression).ok()? {
        EvalResult::Long(milliseconds) => Some(milliseconds),
        _ => None,
    }
}

/// In ten-thousandths.
fn decimal(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.')?;
    let (digits, number) = (part.len(), part.parse::<i64>().ok()?);
    let number = number.checked_mul(10_i64.checked_pow(4_u32.checked_sub(digits.try_into().ok()?)?)?)?;
    let whole_number = whole.parse::<i64>().ok()?.checked_mul(10_000)?;
    if whole.starts_with('-') { whole_number.checked_sub(number) } else { whole_number.checked_add(number) }
}
