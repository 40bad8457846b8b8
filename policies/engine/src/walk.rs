//! Walks over the conditions of a policy in Cedar's public syntax tree: what they read, and how costly they are to
//! look at. Called once per policy text by `compile`.

use crate::uid::type_of;
use cedar_policy::{
    EntityId, EntityUid,
    pst::{Clause, Expr, Literal, PatternElem, Var},
};

/// Top-level members of the context that a set of conditions reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reads {
    pub(crate) connection: bool,
    pub(crate) request: bool,
    pub(crate) rpc: bool,
    pub(crate) time: bool,
    pub(crate) jwt: bool,
    pub(crate) extra: bool,
}

impl Reads {
    pub(crate) const ALL: Reads =
        Reads { connection: true, request: true, rpc: true, time: true, jwt: true, extra: true };

    pub(crate) fn and(self, other: Reads) -> Reads {
        Reads {
            connection: self.connection | other.connection,
            request: self.request | other.request,
            rpc: self.rpc | other.rpc,
            time: self.time | other.time,
            jwt: self.jwt | other.jwt,
            extra: self.extra | other.extra,
        }
    }

    fn member(&mut self, name: &str) {
        match name {
            "connection" => self.connection = true,
            "request" => self.request = true,
            "rpc" => self.rpc = true,
            "time" => self.time = true,
            "jwt" => self.jwt = true,
            _ => self.extra = true,
        }
    }
}

/// What the conditions of one policy are like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Look {
    /// What they read of the context. A context that is used as a whole reads everything.
    pub(crate) reads: Reads,
    /// They look at attributes or tags of entities.
    pub(crate) attributes: bool,
    /// Largest number of wildcards in one `like` pattern.
    pub(crate) wildcards: usize,
    /// Deepest nesting; chains such as `a && b && c` and `a.b.c` count once.
    pub(crate) depth: usize,
    /// Entities they name, as often as they do.
    pub(crate) literals: Vec<EntityUid>,
    /// There is syntax in them that this build does not know.
    pub(crate) is_unknown: bool,
}

impl Look {
    pub(crate) fn of(clauses: &[Clause]) -> Look {
        let mut look = Look::default();
        for clause in clauses {
            let (Clause::When(expression) | Clause::Unless(expression)) = clause;
            look.visit(expression, 1);
        }
        look
    }

    fn visit(&mut self, expression: &Expr, depth: usize) {
        self.depth = self.depth.max(depth);
        let below = depth.saturating_add(1);
        match expression {
            Expr::Literal(Literal::EntityUID(uid)) => match type_of(&uid.ty.to_string()) {
                Some(kind) => {
                    let id = EntityId::new(uid.eid.as_str());
                    self.literals.push(EntityUid::from_type_name_and_id(kind, id));
                }
                None => self.is_unknown = true,
            },
            Expr::Literal(_) | Expr::Slot(_) | Expr::Var(Var::Principal | Var::Action | Var::Resource) => {}
            Expr::Var(Var::Context) => self.reads = Reads::ALL,
            Expr::UnaryOp { expr, .. } => self.visit(expr, below),
            Expr::BinaryOp { left, right, op } => {
                self.attributes |= is_tag(*op);
                self.visit(left, depth);
                self.visit(right, below);
            }
            Expr::GetAttr { expr, attr } => self.member(expr, attr, depth),
            Expr::HasAttr { expr, attrs } => self.member(expr, &attrs.head, depth),
            Expr::Like { expr, pattern } => {
                let wildcards = pattern.iter().filter(|part| matches!(part, PatternElem::Wildcard)).count();
                self.wildcards = self.wildcards.max(wildcards);
                self.visit(expr, below);
            }
            Expr::Is { expr, in_expr, .. } => {
                self.visit(expr, below);
                in_expr.iter().for_each(|group| self.visit(group, below));
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                [cond, then_expr, else_expr].into_iter().for_each(|part| self.visit(part, below));
            }
            Expr::Set(items) => items.iter().for_each(|item| self.visit(item, below)),
            Expr::Record(members) => members.values().for_each(|member| self.visit(member, below)),
            _ => {
                self.reads = Reads::ALL;
                self.attributes = true;
                self.is_unknown = true;
            }
        }
    }

    /// `of.name` or `of has name`.
    fn member(&mut self, of: &Expr, name: &str, depth: usize) {
        if matches!(of, Expr::Var(Var::Context)) {
            self.reads.member(name);
        } else {
            self.attributes |= !matches!(of, Expr::GetAttr { .. }) || is_of_entity(of);
            self.visit(of, depth);
        }
    }
}

/// Whether a chain of members starts at something other than the context.
fn is_of_entity(expression: &Expr) -> bool {
    match expression {
        Expr::GetAttr { expr, .. } => is_of_entity(expr),
        Expr::Var(Var::Context) => false,
        _ => true,
    }
}

fn is_tag(op: cedar_policy::pst::BinaryOp) -> bool {
    use cedar_policy::pst::BinaryOp;
    matches!(op, BinaryOp::GetTag | BinaryOp::HasTag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn look(condition: &str) -> Look {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        Look::of(Policy::parse(None, text).unwrap().to_pst().unwrap().body().clauses())
    }

    #[test]
    fn only_what_conditions_read_is_noted() {
        let none = Reads::default();
        let reads = |condition: &str| look(condition).reads;
        assert_eq!(reads("principal == resource"), none);
        assert_eq!(reads("context.connection.mtls"), Reads { connection: true, ..none });
        assert_eq!(reads("context has request"), Reads { request: true, ..none });
        assert_eq!(reads("context has request.path"), Reads { request: true, ..none });
        assert_eq!(
            reads("[context.time.minute].contains(3) || context.rpc.method like \"G*\""),
            Reads { time: true, rpc: true, ..none }
        );
        assert_eq!(reads("context.change.widens"), Reads { extra: true, ..none });
        assert_eq!(reads("context == {}"), Reads::ALL);
    }

    #[test]
    fn attributes_of_entities_are_told_from_members_of_the_context() {
        assert!(!look("context.connection.mtls && context has request.path").attributes);
        for of in [
            "principal.path == \"/x\"",
            "principal has unit",
            "resource.hasTag(\"a\")",
            "context.jwt.user.email == \"\"",
        ] {
            assert_eq!(look(of).attributes, !of.starts_with("context"), "{of}");
        }
    }

    #[test]
    fn wildcards_are_counted_per_pattern() {
        let wildcards = |condition: &str| look(condition).wildcards;
        assert_eq!(wildcards(r#"context.request.path like "*a*" || context.request.host like "*""#), 2);
        assert_eq!(wildcards(r#"context.request.path like "\*""#), 0);
    }

    #[test]
    fn chains_are_flat_and_nesting_is_deep() {
        let chain = vec!["context.connection.mtls"; 20].join(" && ");
        assert!(look(&chain).depth < 5, "{}", look(&chain).depth);
        let nested = (0..5).fold("true".to_owned(), |inner, _| format!("if true then {inner} else false"));
        assert!(look(&nested).depth > 5);
    }
}
