//! Partial evaluation: everything that principal, action, resource and their entities decide is decided once per plan
//! (EN4). What stays is a tree over the facts of a call; sub-trees that do not change are shared with the policy.

use super::{
    apply,
    expr::{Expr, Subject},
    read,
    value::{Const, Named, Value},
};
use crate::{AccessRequest, ErrorClass, Snapshot, cast::Cast};
use cedar_policy::{Entity, EntityUid, pst::BinaryOp};
use std::sync::Arc;

/// What a plan fixes.
pub(crate) struct Fold<'a> {
    snapshot: &'a Snapshot,
    cast: &'a Cast,
    request: &'a AccessRequest<'a>,
    /// `None` when callers share the plan: then the principal is whoever calls.
    principal: Option<Arc<Expr>>,
    action: Arc<Expr>,
    resource: Arc<Expr>,
}

impl<'a> Fold<'a> {
    /// `is_own`: the plan is this principal's alone.
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        cast: &'a Cast,
        request: &'a AccessRequest<'a>,
        is_own: bool,
    ) -> Fold<'a> {
        let entity = |uid: &EntityUid, kind: &str| {
            Arc::new(Expr::Const(Const::Entity(Named { uid: uid.clone(), kind: kind.into() })))
        };
        Fold {
            snapshot,
            cast,
            request,
            principal: is_own.then(|| entity(&cast.triple.principal.uid, request.principal.entity_type())),
            action: entity(&cast.triple.action.uid, request.action.entity_type()),
            resource: entity(&cast.triple.resource.uid, request.resource.entity_type()),
        }
    }

    /// What is left of `of`.
    pub(crate) fn fold(&self, of: &Arc<Expr>) -> Arc<Expr> {
        match &**of {
            Expr::Const(_) | Expr::Fail(_) | Expr::Fact(_) | Expr::Has(_) => Arc::clone(of),
            Expr::HasGroup(group) => truth(read::has_group(self.request.action, *group)),
            Expr::Subject(Subject::Principal) => Arc::clone(self.principal.as_ref().unwrap_or(of)),
            Expr::Subject(Subject::Action) => Arc::clone(&self.action),
            Expr::Subject(Subject::Resource) => Arc::clone(&self.resource),
            Expr::Attr(inner, name) => self.attribute(of, inner, name),
            Expr::HasAttr(inner, name) => self.has_attribute(of, inner, name),
            Expr::Is(inner, kind) => {
                let folded = self.fold(inner);
                match &*folded {
                    Expr::Subject(_) => truth(self.request.principal.entity_type() == &**kind),
                    Expr::Const(known) => known_truth(apply::is(&known.view(), kind)),
                    Expr::Fail(_) => folded,
                    _ => rebuilt(of, &[(inner, &folded)], || Expr::Is(Arc::clone(&folded), Arc::clone(kind))),
                }
            }
            Expr::Like(inner, pattern) => {
                let folded = self.fold(inner);
                match &*folded {
                    Expr::Const(known) => known_truth(apply::like(&known.view(), pattern)),
                    Expr::Fail(_) => folded,
                    _ => {
                        rebuilt(of, &[(inner, &folded)], || Expr::Like(Arc::clone(&folded), pattern.clone()))
                    }
                }
            }
            Expr::Set(items) => self.set(items),
            Expr::And(left, right) => self.connective(of, left, right, true),
            Expr::Or(left, right) => self.connective(of, left, right, false),
            Expr::If(test, then, otherwise) => {
                let folded = self.fold(test);
                match &*folded {
                    Expr::Const(Const::Bool(true)) => self.fold(then),
                    Expr::Const(Const::Bool(false)) => self.fold(otherwise),
                    Expr::Const(_) => fail(ErrorClass::Type),
                    Expr::Fail(_) => folded,
                    _ => {
                        let (a, b) = (self.fold(then), self.fold(otherwise));
                        rebuilt(of, &[(test, &folded), (then, &a), (otherwise, &b)], || {
                            Expr::If(Arc::clone(&folded), Arc::clone(&a), Arc::clone(&b))
                        })
                    }
                }
            }
            Expr::Unary(op, inner) => {
                let folded = self.fold(inner);
                match &*folded {
                    Expr::Const(known) => lifted(apply::unary(*op, known.view())),
                    Expr::Fail(_) => folded,
                    _ => rebuilt(of, &[(inner, &folded)], || Expr::Unary(*op, Arc::clone(&folded))),
                }
            }
            Expr::Binary(op, left, right) => self.binary(of, *op, left, right),
        }
    }

    fn connective(&self, of: &Arc<Expr>, left: &Arc<Expr>, right: &Arc<Expr>, is_and: bool) -> Arc<Expr> {
        let folded = self.fold(left);
        match &*folded {
            // The side that decides alone.
            Expr::Const(Const::Bool(known)) if *known != is_and => return folded,
            Expr::Const(Const::Bool(_)) => {
                let right = self.fold(right);
                return match &*right {
                    Expr::Const(known) if !matches!(known, Const::Bool(_)) => fail(ErrorClass::Type),
                    _ => right,
                };
            }
            Expr::Const(_) => return fail(ErrorClass::Type),
            Expr::Fail(_) => return folded,
            _ => {}
        }
        let after = self.fold(right);
        rebuilt(of, &[(left, &folded), (right, &after)], || {
            let (left, right) = (Arc::clone(&folded), Arc::clone(&after));
            if is_and { Expr::And(left, right) } else { Expr::Or(left, right) }
        })
    }

    fn set(&self, items: &[Arc<Expr>]) -> Arc<Expr> {
        let mut known = Vec::with_capacity(items.len());
        for item in items {
            let folded = self.fold(item);
            match &*folded {
                Expr::Const(value) => known.push(value.clone()),
                Expr::Fail(_) => return folded,
                _ => return fail(ErrorClass::Type),
            }
        }
        Arc::new(Expr::Const(Const::set(known)))
    }

    fn attribute(&self, of: &Arc<Expr>, inner: &Arc<Expr>, name: &Arc<str>) -> Arc<Expr> {
        let folded = self.fold(inner);
        match &*folded {
            Expr::Const(Const::Entity(named)) => match self.entity(&named.uid) {
                None => fail(ErrorClass::MissingEntity),
                Some(entity) => known_or(entity.attr(name), ErrorClass::MissingAttribute),
            },
            Expr::Const(Const::Record(members)) => {
                members.iter().find(|(member, _)| member == name).map_or_else(
                    || fail(ErrorClass::MissingAttribute),
                    |(_, value)| Arc::new(Expr::Const(value.clone())),
                )
            }
            Expr::Const(_) => fail(ErrorClass::Type),
            Expr::Fail(_) => folded,
            _ => rebuilt(of, &[(inner, &folded)], || Expr::Attr(Arc::clone(&folded), Arc::clone(name))),
        }
    }

    fn has_attribute(&self, of: &Arc<Expr>, inner: &Arc<Expr>, name: &Arc<str>) -> Arc<Expr> {
        let folded = self.fold(inner);
        match &*folded {
            Expr::Const(Const::Entity(named)) => {
                truth(self.entity(&named.uid).is_some_and(|entity| entity.attr(name).is_some()))
            }
            Expr::Const(Const::Record(members)) => truth(members.iter().any(|(member, _)| member == name)),
            Expr::Const(_) => fail(ErrorClass::Type),
            Expr::Fail(_) => folded,
            _ => rebuilt(of, &[(inner, &folded)], || Expr::HasAttr(Arc::clone(&folded), Arc::clone(name))),
        }
    }

    fn binary(&self, of: &Arc<Expr>, op: BinaryOp, left: &Arc<Expr>, right: &Arc<Expr>) -> Arc<Expr> {
        let (mut first, second) = (self.fold(left), self.fold(right));
        if let (BinaryOp::HasTag | BinaryOp::GetTag, Expr::Const(Const::Entity(named))) = (op, &*first) {
            first = self.tags(named);
        }
        match (&*first, &*second) {
            (Expr::Fail(_), _) => return first,
            (Expr::Const(_), Expr::Fail(_)) => return second,
            (Expr::Const(a), Expr::Const(b)) if op == BinaryOp::In => return known_truth(self.is_in(a, b)),
            (Expr::Const(a), Expr::Const(b)) => return lifted(apply::binary(op, &a.view(), &b.view())),
            (Expr::Subject(_), Expr::Const(known)) => match op {
                BinaryOp::In => {
                    if let Some(decided) = self.is_caller_in(known) {
                        return decided;
                    }
                }
                BinaryOp::Eq if !self.may_be_caller(known) => return truth(false),
                BinaryOp::NotEq if !self.may_be_caller(known) => return truth(true),
                _ => {}
            },
            _ => {}
        }
        rebuilt(of, &[(left, &first), (right, &second)], || {
            Expr::Binary(op, Arc::clone(&first), Arc::clone(&second))
        })
    }

    /// The tags of an entity as a record, so that a tag name of a call can be looked up in them.
    fn tags(&self, of: &Named) -> Arc<Expr> {
        let entity = self.entity(&of.uid);
        let tags = entity.into_iter().flat_map(Entity::tags).filter_map(|(name, value)| {
            let value = value.ok().and_then(|value| Const::of(&value))?;
            Some((Arc::from(name), value))
        });
        Arc::new(Expr::Const(Const::record(tags)))
    }

    fn is_in(&self, low: &Const, high: &Const) -> Result<bool, ErrorClass> {
        let Const::Entity(low) = low else { return Err(ErrorClass::Type) };
        let above = |high: &Named| low == high || self.is_descendant(&low.uid, &high.uid);
        match high {
            Const::Entity(high) => Ok(above(high)),
            Const::Set(items) => {
                let named = items.iter().map(|item| match item {
                    Const::Entity(named) => Ok(named),
                    _ => Err(ErrorClass::Type),
                });
                let named = named.collect::<Result<Vec<_>, _>>()?;
                Ok(named.into_iter().any(above))
            }
            _ => Err(ErrorClass::Type),
        }
    }

    /// Whether a caller of this plan's class is in `high`; `None` when it depends on which one.
    fn is_caller_in(&self, high: &Const) -> Option<Arc<Expr>> {
        let items = match high {
            Const::Set(items) => items,
            one => std::slice::from_ref(one),
        };
        let mut may_be = false;
        let mut is_in = false;
        for item in items {
            let Const::Entity(named) = item else { return Some(fail(ErrorClass::Type)) };
            is_in |= self.cast.triple.principal.has_ancestor(&named.uid);
            may_be |= self.may_be_caller(item);
        }
        match (is_in, may_be) {
            (true, _) => Some(truth(true)),
            (false, false) => Some(truth(false)),
            (false, true) => None,
        }
    }

    fn may_be_caller(&self, known: &Const) -> bool {
        matches!(known, Const::Entity(named) if *named.kind == *self.request.principal.entity_type())
    }

    fn is_descendant(&self, low: &EntityUid, high: &EntityUid) -> bool {
        let triple = &self.cast.triple;
        for lineage in [&triple.principal, &triple.action, &triple.resource] {
            if lineage.uid == *low {
                return lineage.is_in(high);
            }
        }
        self.snapshot.parts().entities.is_ancestor_of(high, low)
    }

    fn entity(&self, uid: &EntityUid) -> Option<&'a Entity> {
        let own = self.cast.overlay.iter().find(|entity| entity.uid() == *uid);
        own.or_else(|| self.snapshot.parts().entities.get(uid))
    }
}

fn truth(value: bool) -> Arc<Expr> {
    Arc::new(Expr::Const(Const::Bool(value)))
}

fn fail(class: ErrorClass) -> Arc<Expr> {
    Arc::new(Expr::Fail(class))
}

fn known_truth(value: Result<bool, ErrorClass>) -> Arc<Expr> {
    value.map_or_else(fail, truth)
}

fn lifted(value: Result<Value<'_>, ErrorClass>) -> Arc<Expr> {
    match value.map(|value| value.keep()) {
        Ok(Some(known)) => Arc::new(Expr::Const(known)),
        Ok(None) => fail(ErrorClass::Type),
        Err(class) => fail(class),
    }
}

fn known_or<E>(value: Option<Result<cedar_policy::EvalResult, E>>, absent: ErrorClass) -> Arc<Expr> {
    match value {
        None => fail(absent),
        // An extension type this version does not know cannot have passed the schema.
        Some(value) => match value.ok().and_then(|value| Const::of(&value)) {
            Some(known) => Arc::new(Expr::Const(known)),
            None => fail(ErrorClass::Extension),
        },
    }
}

/// `of` itself when no part changed.
fn rebuilt(of: &Arc<Expr>, parts: &[(&Arc<Expr>, &Arc<Expr>)], build: impl FnOnce() -> Expr) -> Arc<Expr> {
    if parts.iter().all(|(before, after)| Arc::ptr_eq(before, after)) {
        Arc::clone(of)
    } else {
        Arc::new(build())
    }
}
