//! The tree a condition is lowered to, and the facts its leaves read.

use super::{pattern::Pattern, value::Const};
use crate::ErrorClass;
use cedar_policy::pst::{BinaryOp, UnaryOp};
use std::sync::Arc;

/// One operation. Sub-trees are shared between plans as long as folding does not change them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Expr {
    /// A value that is known.
    Const(Const),
    /// An error that is known.
    Fail(ErrorClass),
    /// Principal, action or resource.
    Subject(Subject),
    /// A fact of the call; an error where it is absent.
    Fact(Fact),
    /// Whether the call has that fact.
    Has(Fact),
    /// Whether the context has that part at all.
    HasGroup(Group),
    /// An attribute of an entity, or a member of a record an entity holds.
    Attr(Arc<Expr>, Arc<str>),
    /// Whether there is that attribute.
    HasAttr(Arc<Expr>, Arc<str>),
    /// Whether an entity is of that type.
    Is(Arc<Expr>, Arc<str>),
    /// Text against a pattern.
    Like(Arc<Expr>, Pattern),
    /// A set of values that folding makes constant.
    Set(Arc<[Arc<Expr>]>),
    /// `&&`, left first.
    And(Arc<Expr>, Arc<Expr>),
    /// `||`, left first.
    Or(Arc<Expr>, Arc<Expr>),
    /// `if then else`.
    If(Arc<Expr>, Arc<Expr>, Arc<Expr>),
    /// One operand.
    Unary(UnaryOp, Arc<Expr>),
    /// Two operands, left first.
    Binary(BinaryOp, Arc<Expr>, Arc<Expr>),
}

/// A variable of Cedar that is an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Principal,
    Action,
    Resource,
}

/// A member of the context that only some actions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    Request,
    Rpc,
    Change,
}

/// A leaf of the context, by its place in the schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Fact {
    Mtls,
    Tls,
    SourceIp,
    Sni,
    Listener,
    Protocol,
    Method,
    Host,
    Path,
    Segment(usize),
    SegmentCount,
    Param(Arc<str>),
    Query(Arc<str>),
    QueryNames,
    Header(Arc<str>),
    MediaType,
    Length,
    RpcService,
    RpcMethod,
    Now,
    Weekday,
    Minute,
    Kind,
    TtlSeconds,
    Audience,
    AttestedBy,
    Selectors,
    Entry,
    Scope,
    Widens,
    TestsPassed,
    Coverage,
    Approvals,
    CallerIsAuthor,
    TouchesBaseline,
    ReplayNewlyDenied,
    TwoPerson,
    Token(Told),
}

/// What the token of a person tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    /// That there is one.
    Token,
    User,
    Issuer,
    Subject,
    Audience,
    Scopes,
    Client,
    Acr,
    Amr,
    Issued,
    Expires,
    Claim(Arc<str>),
}

impl Expr {
    pub(crate) fn not(of: Expr) -> Expr {
        Expr::Unary(UnaryOp::Not, Arc::new(of))
    }

    /// Its value where folding has settled that: true or false, or an error.
    pub(crate) fn as_truth(&self) -> Option<Result<bool, ()>> {
        match self {
            Expr::Const(Const::Bool(known)) => Some(Ok(*known)),
            Expr::Const(_) | Expr::Fail(_) => Some(Err(())),
            _ => None,
        }
    }

    /// Whether its value is a set that each call brings.
    pub(super) fn is_set_of_call(&self) -> bool {
        match self {
            Expr::Fact(fact) => fact.is_set(),
            Expr::If(_, then, otherwise) => then.is_set_of_call() || otherwise.is_set_of_call(),
            _ => false,
        }
    }

    /// Whether it reads the call, or a principal that several callers share.
    pub(super) fn varies(&self) -> bool {
        self.any(&|leaf| {
            !matches!(
                leaf,
                Expr::Const(_) | Expr::Fail(_) | Expr::Subject(Subject::Action | Subject::Resource)
            )
        })
    }

    /// Whether it reads the call.
    pub(super) fn reads_call(&self) -> bool {
        self.any(&|leaf| matches!(leaf, Expr::Fact(_) | Expr::Has(_)))
    }

    /// Whether it reads the clock.
    pub(crate) fn reads_time(&self) -> bool {
        self.any(&|leaf| matches!(leaf, Expr::Fact(Fact::Now | Fact::Weekday | Fact::Minute)))
    }

    /// Number of operations.
    pub(super) fn nodes(&self) -> usize {
        1 + self.parts().map(|part| part.nodes()).sum::<usize>()
    }

    /// Whether a leaf is so.
    pub(crate) fn any(&self, is: &dyn Fn(&Expr) -> bool) -> bool {
        match self {
            Expr::Const(_)
            | Expr::Fail(_)
            | Expr::Subject(_)
            | Expr::Fact(_)
            | Expr::Has(_)
            | Expr::HasGroup(_) => is(self),
            _ => self.parts().any(|part| part.any(is)),
        }
    }

    /// What it is made of, in order; nothing for a leaf.
    fn parts(&self) -> impl Iterator<Item = &Arc<Expr>> {
        let (few, items): ([Option<&Arc<Expr>>; 3], &[Arc<Expr>]) = match self {
            Expr::Const(_)
            | Expr::Fail(_)
            | Expr::Subject(_)
            | Expr::Fact(_)
            | Expr::Has(_)
            | Expr::HasGroup(_) => ([None; 3], &[]),
            Expr::Attr(of, _)
            | Expr::HasAttr(of, _)
            | Expr::Is(of, _)
            | Expr::Like(of, _)
            | Expr::Unary(_, of) => ([Some(of), None, None], &[]),
            Expr::And(left, right) | Expr::Or(left, right) | Expr::Binary(_, left, right) => {
                ([Some(left), Some(right), None], &[])
            }
            Expr::If(test, then, otherwise) => ([Some(test), Some(then), Some(otherwise)], &[]),
            Expr::Set(items) => ([None; 3], items),
        };
        few.into_iter().flatten().chain(items)
    }
}

impl Fact {
    pub(super) fn is_set(&self) -> bool {
        matches!(
            self,
            Fact::Query(_)
                | Fact::QueryNames
                | Fact::Header(_)
                | Fact::Audience
                | Fact::AttestedBy
                | Fact::Selectors
                | Fact::Token(Told::Audience | Told::Scopes | Told::Amr | Told::Claim(_))
        )
    }
}
