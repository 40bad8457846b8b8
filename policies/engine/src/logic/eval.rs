//! Evaluates a folded condition on one call. Cedar's order: left before right, an error on the left wins, the right side
//! of a decided `&&` or `||` is not looked at. Allocates only to decode escapes in a path.

use super::{
    apply,
    expr::{Expr, Fact, Subject},
    value::{Const, Value},
};
use crate::{
    AccessRequest, ConnectionFacts, ErrorClass, PrincipalKind, Reason, Token, principal::spiffe_parts,
};
use cedar_policy::pst::{BinaryOp, UnaryOp};
use std::borrow::Cow;

/// One call, as conditions see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) request: &'a AccessRequest<'a>,
    pub(crate) connection: &'a ConnectionFacts,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(request: &'a AccessRequest<'a>) -> Scene<'a> {
        Scene { request, connection: request.facts.connection() }
    }

    /// The token that tells of that entity.
    fn token_of(&self, kind: &str, id: &str) -> Option<&'a Token> {
        if kind != PrincipalKind::User.as_str() {
            return None;
        }
        self.request.token().filter(|token| token.user() == id)
    }
}

/// Why a condition has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The policy errs, as Cedar says.
    Error(ErrorClass),
    /// No policy can be asked: a fact that the schema requires is missing or does not fit.
    Refused(Reason),
}

impl From<ErrorClass> for Stop {
    fn from(class: ErrorClass) -> Stop {
        Stop::Error(class)
    }
}

/// The truth of a condition.
pub(crate) fn truth<'a>(of: &'a Expr, scene: Scene<'a>) -> Result<bool, Stop> {
    match of {
        Expr::And(left, right) => Ok(truth(left, scene)? && truth(right, scene)?),
        Expr::Or(left, right) => Ok(truth(left, scene)? || truth(right, scene)?),
        Expr::If(test, then, otherwise) => truth(if truth(test, scene)? { then } else { otherwise }, scene),
        Expr::Unary(UnaryOp::Not, of) => Ok(!truth(of, scene)?),
        // The usual tests of a request, without a value in between.
        Expr::Has(Fact::Header(name)) => scene.has_lines(name),
        Expr::Like(of, pattern)
            if let Expr::Fact(fact) = &**of
                && let Some(text) = scene.text(fact) =>
        {
            Ok(pattern.matches(text?))
        }
        Expr::Binary(op @ (BinaryOp::Eq | BinaryOp::Contains), left, right)
            if let (Expr::Fact(fact), Expr::Const(Const::Text(wanted))) = (&**left, &**right) =>
        {
            match (op, fact) {
                (BinaryOp::Contains, Fact::Header(name)) => scene.has_line(name, wanted),
                (BinaryOp::Eq, fact) if let Some(text) = scene.text(fact) => Ok(*text? == **wanted),
                _ => general(of, scene),
            }
        }
        _ => general(of, scene),
    }
}

fn general<'a>(of: &'a Expr, scene: Scene<'a>) -> Result<bool, Stop> {
    match value(of, scene)? {
        Value::Bool(truth) => Ok(truth),
        _ => Err(ErrorClass::Type.into()),
    }
}

pub(super) fn value<'a>(of: &'a Expr, scene: Scene<'a>) -> Result<Value<'a>, Stop> {
    match of {
        Expr::Const(known) => Ok(known.view()),
        Expr::Fail(class) => Err((*class).into()),
        Expr::Subject(subject) => Ok(subject_of(*subject, scene)),
        Expr::Fact(fact) => scene.read(fact)?.ok_or(Stop::Error(ErrorClass::MissingAttribute)),
        Expr::Has(fact) => Ok(Value::Bool(scene.read(fact)?.is_some())),
        Expr::HasGroup(group) => Ok(Value::Bool(scene.has_group(*group))),
        Expr::Attr(of, name) => attribute(value(of, scene)?, name, scene),
        Expr::HasAttr(of, name) => match attribute(value(of, scene)?, name, scene) {
            Ok(_) => Ok(Value::Bool(true)),
            Err(Stop::Error(ErrorClass::MissingAttribute | ErrorClass::MissingEntity)) => {
                Ok(Value::Bool(false))
            }
            Err(stop) => Err(stop),
        },
        Expr::Is(of, kind) => Ok(Value::Bool(apply::is(&value(of, scene)?, kind)?)),
        Expr::Like(of, pattern) => Ok(Value::Bool(apply::like(&value(of, scene)?, pattern)?)),
        // INVARIANT: folding made every set constant; lowering keeps those that vary away.
        Expr::Set(_) => Err(ErrorClass::Type.into()),
        Expr::And(..) | Expr::Or(..) => truth(of, scene).map(Value::Bool),
        Expr::If(test, then, otherwise) => value(if truth(test, scene)? { then } else { otherwise }, scene),
        Expr::Unary(op, of) => Ok(apply::unary(*op, value(of, scene)?)?),
        Expr::Binary(op, left, right) => {
            let (left, right) = (value(left, scene)?, value(right, scene)?);
            let token = match left {
                Value::Entity(kind, id) => scene.token_of(kind, id),
                _ => None,
            };
            Ok(match token {
                Some(token) => apply::binary_of_user(*op, token, &left, &right)?,
                None => apply::binary(*op, &left, &right)?,
            })
        }
    }
}

fn subject_of(subject: Subject, scene: Scene<'_>) -> Value<'_> {
    let request = scene.request;
    match subject {
        Subject::Principal => Value::Entity(request.principal.entity_type(), request.principal.id()),
        Subject::Action => Value::Entity(request.action.entity_type(), request.action.as_str()),
        Subject::Resource => Value::Entity(request.resource.entity_type(), request.resource.id()),
    }
}

/// An attribute of a principal whom its token or only its id describes, or a member of a record.
fn attribute<'a>(of: Value<'a>, name: &str, scene: Scene<'a>) -> Result<Value<'a>, Stop> {
    let (kind, id) = match of {
        Value::Entity(kind, id) => (kind, id),
        Value::Record(members) => {
            let found = members.iter().find(|(member, _)| **member == *name);
            return found.map(|(_, known)| known.view()).ok_or(Stop::Error(ErrorClass::MissingAttribute));
        }
        _ => return Err(ErrorClass::Type.into()),
    };
    let found = if kind == PrincipalKind::Workload.as_str() {
        let (domain, path) = spiffe_parts(id).ok_or(Stop::Error(ErrorClass::MissingEntity))?;
        match name {
            "trust_domain" => Some(domain),
            "path" => Some(path),
            _ => None,
        }
    } else if kind == PrincipalKind::Agent.as_str() {
        spiffe_parts(id).filter(|_| name == "path").map(|(_, path)| path)
    } else if let Some(token) = scene.token_of(kind, id) {
        token.attribute(name)
    } else if kind == PrincipalKind::User.as_str() {
        let (issuer, subject) = id.split_once('/').ok_or(Stop::Error(ErrorClass::MissingEntity))?;
        match name {
            "issuer" => Some(issuer),
            "subject" => Some(subject),
            _ => None,
        }
    } else {
        return Err(ErrorClass::MissingEntity.into());
    };
    found.map(|text| Value::Text(Cow::Borrowed(text))).ok_or(Stop::Error(ErrorClass::MissingAttribute))
}
