//! Rules about conditions: PC2108, PC2109, PC2111, PC2112, PC2116, PC2119.

use super::{
    subject::Subject,
    walk::{Sign, clauses, each, is_context, path},
};
use crate::{
    Diagnostic, Snapshot,
    logic::{Expr as Asked, Fact, Logic},
    rule::Rule,
};
use cedar_policy::pst::{BinaryOp, Expr, Literal, PatternElem, UnaryOp, Var};
use std::ops::Range;

/// Every part of every condition that `is_wanted` takes, with its sign and its place.
fn parts<'a>(
    subject: &'a Subject<'_>,
    is_wanted: impl Fn(&Expr) -> bool,
) -> Vec<(&'a Expr, Sign, Option<Range<usize>>)> {
    let mut finder = subject.finder();
    let mut found = Vec::new();
    for (expression, sign) in clauses(subject.template) {
        each(expression, sign, &mut |part, sign| {
            if is_wanted(part) {
                found.push((part, sign, finder.range(part)));
            }
        });
    }
    found
}

/// PC2108: `like` on a path, with a `*` that was meant to stay within one segment.
pub(crate) fn path_patterns(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let is_path = |part: &Expr| matches!(part, Expr::Like { expr, pattern } if is_context(expr, &["request", "path"]) && crosses_segments(pattern));
    let told = |(_, _, range)| {
        let found = subject.at(range, "`*` in this pattern also matches `/`");
        found.label("matches more paths than it shows").help(
            "test segments: `context.request.segments has \"1\" && context.request.segments[\"1\"] == \"..\"`; only `/prefix/*` is safe as a pattern",
        )
    };
    parts(subject, is_path).into_iter().map(told).collect()
}

/// Everything but `/prefix/*`: there a `*` stands for the rest of the path, which is what it matches.
fn crosses_segments(pattern: &[PatternElem]) -> bool {
    let stars = pattern.iter().filter(|part| **part == PatternElem::Wildcard).count();
    let is_prefix = matches!(pattern, [.., PatternElem::Char('/'), PatternElem::Wildcard]);
    stars > 1 || (stars == 1 && !is_prefix)
}

/// PC2109: the path of a SPIFFE ID compared as text.
pub(crate) fn identity_paths(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let is_path = |part: &Expr| match path(part) {
        Some((Var::Principal, names)) => names == ["path"],
        Some((Var::Context, names)) => names == ["forwarded_by", "path"],
        _ => false,
    };
    let is_compared = |part: &Expr| match part {
        Expr::Like { expr, .. } => is_path(expr),
        Expr::BinaryOp { op: BinaryOp::Eq | BinaryOp::NotEq, left, right } => is_path(left) || is_path(right),
        Expr::BinaryOp { op: BinaryOp::Contains, right, .. } => is_path(right),
        _ => false,
    };
    let told = |(_, _, range)| {
        let found = subject.at(range, "the path of a SPIFFE ID is compared as text");
        found.label("says nothing about who may have such a path").help(
            "give the callers a group (`groups` of the registration entry) and write `principal in Group::\"..\"`; or name the caller: `principal == Workload::\"spiffe://..\"`",
        )
    };
    parts(subject, is_compared).into_iter().map(told).collect()
}

/// PC2111: a question about a header, query member or capture that the site does not declare; the answer is always no.
pub(crate) fn undeclared(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let declared = &subject.snapshot.versions().declared;
    let unknown = |part: &Expr| match part {
        Expr::HasAttr { expr, attrs } => {
            let name: &str = attrs.first();
            let lists = [
                ("headers", "SiteHeaders", "header", &declared.headers),
                ("query", "SiteQuery", "query member", &declared.query),
                ("params", "SiteParams", "capture", &declared.params),
            ];
            let list = lists.into_iter().find(|(member, ..)| is_exactly(expr, &["request", member]))?;
            (!list.3.contains(name)).then(|| (list.1, list.2, name.to_owned()))
        }
        _ => None,
    };
    let told = |(part, _, range): (&Expr, Sign, Option<Range<usize>>)| {
        let (kind, what, name) = unknown(part)?;
        let found = subject.at(range, format!("the site declares no {what} `{name}`"));
        Some(
            found
                .label("false for every request")
                .help(format!("add it to `{kind}` in the *.cedarschema of the policies")),
        )
    };
    parts(subject, |part| unknown(part).is_some()).into_iter().filter_map(told).collect()
}

/// Whether it asks for none that is not declared, as far as its compiled form tells.
pub(crate) fn is_declared(rule: &Rule, snapshot: &Snapshot) -> bool {
    let declared = &snapshot.versions().declared;
    match &rule.logic {
        Logic::Always => true,
        Logic::When(when) => !when.any(&|part| match part {
            Asked::Has(Fact::Header(name)) => !declared.headers.contains(&**name),
            Asked::Has(Fact::Query(name)) => !declared.query.contains(&**name),
            Asked::Has(Fact::Param(name)) => !declared.params.contains(&**name),
            _ => false,
        }),
        Logic::Slow(_) => false,
    }
}

fn is_exactly(expression: &Expr, names: &[&str]) -> bool {
    path(expression).is_some_and(|(variable, path)| *variable == Var::Context && path == names)
}

/// PC2112: a permit that is content with one of several header or query values.
pub(crate) fn one_of_many(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let is_values =
        |part: &Expr| is_context(part, &["request", "headers"]) || is_context(part, &["request", "query"]);
    let is_asked = |part: &Expr| match part {
        Expr::BinaryOp {
            op: BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny,
            left,
            ..
        } => is_values(left),
        _ => false,
    };
    if !subject.rule.is_permit() {
        return Vec::new();
    }
    let told = |(part, sign, range): (&Expr, Sign, Option<Range<usize>>)| {
        let found = subject.at(range.clone(), "a request with a second value passes this test too");
        let found = found
            .label("the service may use the other one")
            .help("compare the whole set: `.. == [\"value\"]`; or let the schema refuse a second line with `@lines(\"one\")`");
        match (part, sign, range) {
            (Expr::BinaryOp { op: BinaryOp::Contains, right, .. }, Sign::More, Some(range)) => {
                match as_equality(subject, range.clone(), right) {
                    Some(text) => found.fix(range, text),
                    None => found,
                }
            }
            _ => found,
        }
    };
    let asked = parts(subject, is_asked).into_iter();
    asked.filter(|(_, sign, _)| *sign != Sign::Less).map(told).collect()
}

/// `X.contains(v)` as `X == [v]`, in the words of the policy.
fn as_equality(subject: &Subject<'_>, range: Range<usize>, value: &Expr) -> Option<String> {
    // A value that can fail would fail in another place; only plain ones are rewritten.
    if !matches!(value, Expr::Literal(_)) && path(value).is_none() {
        return None;
    }
    let text = subject.text(range);
    let (set, rest) = text.split_once(".contains")?;
    let value = rest.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    Some(format!("{} == [{value}]", set.trim_end()))
}

/// PC2116: a forbid with arithmetic, which can overflow; then it denies what it was not about.
pub(crate) fn fallible_forbids(subject: &Subject<'_>) -> Vec<Diagnostic> {
    if subject.rule.is_permit() {
        return Vec::new();
    }
    let is_fixed = |part: &Expr| matches!(part, Expr::Literal(Literal::Long(_)));
    let can_fail = |part: &Expr| match part {
        Expr::BinaryOp { op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, left, right } => {
            !(is_fixed(left) && is_fixed(right))
        }
        Expr::BinaryOp { op: BinaryOp::Offset | BinaryOp::DurationSince, .. } => true,
        Expr::UnaryOp { op: UnaryOp::Neg, expr } => !is_fixed(expr),
        _ => false,
    };
    let told = |(_, _, range)| {
        let found =
            subject.at(range, "this calculation can overflow, and a forbid that cannot be evaluated denies");
        found
            .label("may deny what the policy is not about")
            .help("compare the values themselves: `a < b` instead of `a - b < 0`")
    };
    parts(subject, can_fail).into_iter().map(told).collect()
}

/// PC2119: a condition on time that decides about streams.
pub(crate) fn timed_streams(subject: &Subject<'_>) -> Vec<Diagnostic> {
    const LONG: [&str; 3] = ["grpc", "tcp:connect", "http:CONNECT"];
    let is_long = subject.calls().any(|(action, _)| LONG.contains(&action.as_str()));
    if !is_long {
        return Vec::new();
    }
    let is_time = |part: &Expr| {
        path(part).is_some_and(|(variable, names)| {
            *variable == Var::Context && names.len() == 2 && names.first() == Some(&"time")
        })
    };
    let told = |(_, _, range)| {
        let found = subject.at(range, "a stream can outlive this condition");
        found.label("judged again every 10 s while the stream runs").help(
            "a stream ends when the condition no longer holds; limit the policy to single calls (`http:read`, `http:write`) if that is not meant",
        )
    };
    parts(subject, is_time).into_iter().take(1).map(told).collect()
}
