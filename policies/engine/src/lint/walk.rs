//! Walks over the conditions of one policy in Cedar's public syntax tree, and knows whether a part helps the policy to
//! match or keeps it from matching. Called by the rules of lint.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Template, UnaryOp, Var};

/// What becomes of the policy when a part is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It can only match more.
    More,
    /// It can only match less.
    Less,
    /// Either.
    Unknown,
}

impl Sign {
    const fn flipped(self) -> Sign {
        match self {
            Sign::More => Sign::Less,
            Sign::Less => Sign::More,
            Sign::Unknown => Sign::Unknown,
        }
    }
}

/// The conditions of a policy with the sign of each.
pub(crate) fn clauses(template: &Template) -> impl Iterator<Item = (&Expr, Sign)> {
    template.clauses().iter().map(|clause| match clause {
        Clause::When(expression) => (&**expression, Sign::More),
        Clause::Unless(expression) => (&**expression, Sign::Less),
    })
}

/// Shows `expression` and all its parts, in the order in which they are written.
pub(crate) fn each<'a>(expression: &'a Expr, sign: Sign, see: &mut dyn FnMut(&'a Expr, Sign)) {
    see(expression, sign);
    match expression {
        Expr::UnaryOp { op: UnaryOp::Not, expr } => each(expr, sign.flipped(), see),
        Expr::BinaryOp { op: BinaryOp::And | BinaryOp::Or, left, right } => {
            each(left, sign, see);
            each(right, sign, see);
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            each(cond, Sign::Unknown, see);
            each(then_expr, sign, see);
            each(else_expr, sign, see);
        }
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => {
            each(expr, Sign::Unknown, see);
        }
        Expr::BinaryOp { left, right, .. } => {
            each(left, Sign::Unknown, see);
            each(right, Sign::Unknown, see);
        }
        Expr::Is { expr, in_expr, .. } => {
            each(expr, Sign::Unknown, see);
            in_expr.iter().for_each(|inner| each(inner, Sign::Unknown, see));
        }
        Expr::Set(items) => items.iter().for_each(|item| each(item, Sign::Unknown, see)),
        Expr::Record(members) => members.values().for_each(|member| each(member, Sign::Unknown, see)),
        _ => {}
    }
}

/// `principal.a.b` as its variable and `["a", "b"]`.
pub(crate) fn path(expression: &Expr) -> Option<(&Var, Vec<&str>)> {
    match expression {
        Expr::Var(variable) => Some((variable, Vec::new())),
        Expr::GetAttr { expr, attr } => {
            let (variable, mut names) = path(expr)?;
            names.push(attr);
            Some((variable, names))
        }
        _ => None,
    }
}

/// Whether `expression` is an attribute somewhere below `context` that begins with `names`.
pub(crate) fn is_context(expression: &Expr, names: &[&str]) -> bool {
    path(expression).is_some_and(|(variable, path)| *variable == Var::Context && path.starts_with(names))
}

/// Whether any condition of the policy has such a part.
pub(crate) fn has_part(template: &Template, is_wanted: &dyn Fn(&Expr) -> bool) -> bool {
    let mut is_found = false;
    for (expression, sign) in clauses(template) {
        each(expression, sign, &mut |part, _| is_found |= is_wanted(part));
    }
    is_found
}
