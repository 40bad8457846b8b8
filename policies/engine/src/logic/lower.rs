//! From Cedar's public syntax tree to [`Expr`]. An unknown node, a record that is used as a whole, or an operation whose
//! cost would depend on two sets of the call sends the policy to stock Cedar; the answer says why.

use super::{
    expr::{Expr, Fact, Group, Subject, Told},
    literal,
    pattern::Pattern,
    value::{Const, Named},
};
use crate::{ErrorClass, SEGMENTS, uid::type_of};
use cedar_policy::{
    EntityId, EntityUid,
    pst::{self, BinaryOp, UnaryOp},
};
use std::sync::Arc;

/// What a sub-tree is lowered to.
enum Low {
    Expr(Expr),
    /// A record of the context, which only its members can be read of.
    Place(Place),
}

/// Records of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Context,
    Connection,
    Request,
    Segments,
    Params,
    Query,
    Headers,
    Rpc,
    Time,
    Change,
    Token,
    Claims,
}

/// A member of a record.
enum Member {
    Place(Place),
    Fact(Fact),
    /// The schema has it, no call fills it yet.
    Never,
}

type Lowered<T> = Result<T, &'static str>;

const AS_A_WHOLE: &str = "it uses a record of the context as a whole";

/// Lowers one condition.
pub(super) fn condition(of: &pst::Expr) -> Lowered<Expr> {
    match low(of)? {
        Low::Expr(expr) => Ok(expr),
        Low::Place(_) => Err(AS_A_WHOLE),
    }
}

fn shared(of: &pst::Expr) -> Lowered<Arc<Expr>> {
    condition(of).map(Arc::new)
}

fn low(of: &pst::Expr) -> Lowered<Low> {
    let expr = match of {
        pst::Expr::Literal(literal) => Expr::Const(constant(literal)?),
        pst::Expr::Var(pst::Var::Context) => return Ok(Low::Place(Place::Context)),
        pst::Expr::Var(pst::Var::Principal) => Expr::Subject(Subject::Principal),
        pst::Expr::Var(pst::Var::Action) => Expr::Subject(Subject::Action),
        pst::Expr::Var(pst::Var::Resource) => Expr::Subject(Subject::Resource),
        pst::Expr::GetAttr { expr, attr } => match low(expr)? {
            Low::Place(place) => match member(place, attr)? {
                Member::Place(inner) => return Ok(Low::Place(inner)),
                Member::Fact(fact) => Expr::Fact(fact),
                Member::Never => Expr::Fail(ErrorClass::MissingAttribute),
            },
            Low::Expr(of) => Expr::Attr(Arc::new(of), attr.as_str().into()),
        },
        pst::Expr::HasAttr { expr, attrs } => has(low(expr)?, attrs.iter().map(|attr| attr.as_str()))?,
        pst::Expr::Like { expr, pattern } => Expr::Like(shared(expr)?, Pattern::new(pattern)),
        pst::Expr::Is { expr, entity_type, in_expr } => {
            let of = shared(expr)?;
            let is = Expr::Is(Arc::clone(&of), entity_type.to_string().into());
            match in_expr {
                None => is,
                Some(above) => {
                    Expr::And(Arc::new(is), Arc::new(Expr::Binary(BinaryOp::In, of, shared(above)?)))
                }
            }
        }
        pst::Expr::IfThenElse { cond, then_expr, else_expr } => {
            Expr::If(shared(cond)?, shared(then_expr)?, shared(else_expr)?)
        }
        pst::Expr::Set(items) => set(items)?,
        pst::Expr::UnaryOp { op, expr } => unary(*op, expr)?,
        pst::Expr::BinaryOp { op, left, right } => binary(*op, left, right)?,
        pst::Expr::Record(_) => return Err("it builds a record"),
        _ => return Err("it uses an expression this version does not compile"),
    };
    Ok(Low::Expr(expr))
}

fn constant(literal: &pst::Literal) -> Lowered<Const> {
    Ok(match literal {
        pst::Literal::Bool(value) => Const::Bool(*value),
        pst::Literal::Long(value) => Const::Long(*value),
        pst::Literal::String(value) => Const::text(value),
        pst::Literal::EntityUID(uid) => {
            let kind = uid.ty.to_string();
            let name = type_of(&kind).ok_or("it names an entity of a type that cannot be read")?;
            let uid = EntityUid::from_type_name_and_id(name, EntityId::new(uid.eid.as_str()));
            Const::Entity(Named { uid, kind: kind.into() })
        }
        _ => return Err("it uses a literal this version does not compile"),
    })
}

fn set(items: &[Arc<pst::Expr>]) -> Lowered<Expr> {
    let items = items.iter().map(|item| shared(item)).collect::<Lowered<Vec<_>>>()?;
    if items.iter().any(|item| item.varies()) {
        return Err("it builds a set of what calls bring");
    }
    let constants: Option<Vec<Const>> = items
        .iter()
        .map(|item| match &**item {
            Expr::Const(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    Ok(constants.map_or_else(|| Expr::Set(items.into()), |items| Expr::Const(Const::set(items))))
}

fn unary(op: UnaryOp, of: &pst::Expr) -> Lowered<Expr> {
    match op {
        UnaryOp::Ip | UnaryOp::Decimal | UnaryOp::Datetime | UnaryOp::Duration => match of {
            pst::Expr::Literal(pst::Literal::String(text)) => literal::constructed(op, text)
                .map(Expr::Const)
                .ok_or("it builds an extension value this version cannot read"),
            _ => Err("it builds an extension value from something else than a literal"),
        },
        UnaryOp::Not
        | UnaryOp::Neg
        | UnaryOp::IsEmpty
        | UnaryOp::IsIPv4
        | UnaryOp::IsIPV6
        | UnaryOp::IsLoopback
        | UnaryOp::IsMulticast
        | UnaryOp::ToDate
        | UnaryOp::ToTime
        | UnaryOp::ToMilliseconds
        | UnaryOp::ToSeconds
        | UnaryOp::ToMinutes
        | UnaryOp::ToHours
        | UnaryOp::ToDays => Ok(Expr::Unary(op, shared(of)?)),
        _ => Err("it uses an operator this version does not compile"),
    }
}

fn binary(op: BinaryOp, left: &pst::Expr, right: &pst::Expr) -> Lowered<Expr> {
    let (left, right) = (shared(left)?, shared(right)?);
    match op {
        BinaryOp::And => Ok(Expr::And(left, right)),
        BinaryOp::Or => Ok(Expr::Or(left, right)),
        BinaryOp::Eq | BinaryOp::NotEq | BinaryOp::ContainsAll | BinaryOp::ContainsAny
            if left.is_set_of_call() && right.is_set_of_call() =>
        {
            Err("it compares two sets of the call")
        }
        BinaryOp::In if asks_for_groups(&left, &right) => Ok(Expr::Binary(op, left, right)),
        BinaryOp::In if left.reads_call() || right.reads_call() => {
            Err("it asks `in` about something that each call decides")
        }
        BinaryOp::HasTag | BinaryOp::GetTag if left.reads_call() => {
            Err("it asks for tags of something that each call decides")
        }
        BinaryOp::Eq
        | BinaryOp::NotEq
        | BinaryOp::Less
        | BinaryOp::LessEq
        | BinaryOp::Greater
        | BinaryOp::GreaterEq
        | BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::In
        | BinaryOp::Contains
        | BinaryOp::ContainsAll
        | BinaryOp::ContainsAny
        | BinaryOp::GetTag
        | BinaryOp::HasTag
        | BinaryOp::IsInRange
        | BinaryOp::Offset
        | BinaryOp::DurationSince
        | BinaryOp::DecimalLessThan
        | BinaryOp::DecimalLessEq
        | BinaryOp::DecimalGreater
        | BinaryOp::DecimalGreaterEq => Ok(Expr::Binary(op, left, right)),
        _ => Err("it uses an operator this version does not compile"),
    }
}

/// Whether it asks for groups of the person in the token, which the token alone tells of.
fn asks_for_groups(left: &Expr, right: &Expr) -> bool {
    let is_told =
        |high: &Const| matches!(high, Const::Entity(named) if matches!(&*named.kind, "User" | "UserGroup"));
    *left == Expr::Fact(Fact::Token(Told::User))
        && match right {
            Expr::Const(Const::Set(items)) => items.iter().all(is_told),
            Expr::Const(one) => is_told(one),
            _ => false,
        }
}

/// `e has a.b.c` is `e has a && e.a has b && e.a.b has c`.
fn has<'a>(of: Low, path: impl Iterator<Item = &'a str>) -> Lowered<Expr> {
    let mut joined: Option<Expr> = None;
    let mut at = of;
    for name in path {
        let (test, next) = match at {
            Low::Place(place) => match member(place, name)? {
                Member::Place(inner) => (present(place, inner), Low::Place(inner)),
                Member::Fact(fact) => (Expr::Has(fact.clone()), Low::Expr(Expr::Fact(fact))),
                Member::Never => {
                    (Expr::Const(Const::Bool(false)), Low::Expr(Expr::Fail(ErrorClass::MissingAttribute)))
                }
            },
            Low::Expr(of) => {
                let of = Arc::new(of);
                let name: Arc<str> = name.into();
                let test = Expr::HasAttr(Arc::clone(&of), Arc::clone(&name));
                (test, Low::Expr(Expr::Attr(of, name)))
            }
        };
        joined = Some(match joined {
            Some(before) => Expr::And(Arc::new(before), Arc::new(test)),
            None => test,
        });
        at = next;
    }
    joined.ok_or("it asks for no attribute")
}

/// Whether a record of the context is there.
fn present(outer: Place, inner: Place) -> Expr {
    match (outer, inner) {
        (Place::Context, Place::Request) => Expr::HasGroup(Group::Request),
        (Place::Context, Place::Rpc) => Expr::HasGroup(Group::Rpc),
        (Place::Context, Place::Change) => Expr::HasGroup(Group::Change),
        (Place::Context, Place::Token) => Expr::Has(Fact::Token(Told::Token)),
        // Inside the token or the request, which must be there.
        (Place::Token, _) => Expr::Has(Fact::Token(Told::User)),
        (Place::Request, _) => Expr::Has(Fact::Path),
        _ => Expr::Const(Const::Bool(true)),
    }
}

fn member(place: Place, name: &str) -> Lowered<Member> {
    let text = || Arc::from(name);
    Ok(match (place, name) {
        (Place::Context, "connection") => Member::Place(Place::Connection),
        (Place::Context, "request") => Member::Place(Place::Request),
        (Place::Context, "rpc") => Member::Place(Place::Rpc),
        (Place::Context, "time") => Member::Place(Place::Time),
        (Place::Context, "change") => Member::Place(Place::Change),
        (Place::Context, "jwt") => Member::Place(Place::Token),
        (Place::Context, "forwarded_by") => Member::Never,
        (Place::Context, "kind") => Member::Fact(Fact::Kind),
        (Place::Context, "ttl_seconds") => Member::Fact(Fact::TtlSeconds),
        (Place::Context, "audience") => Member::Fact(Fact::Audience),
        (Place::Context, "attested_by") => Member::Fact(Fact::AttestedBy),
        (Place::Context, "selectors") => Member::Fact(Fact::Selectors),
        (Place::Context, "entry") => Member::Fact(Fact::Entry),
        (Place::Connection, "mtls") => Member::Fact(Fact::Mtls),
        (Place::Connection, "tls") => Member::Fact(Fact::Tls),
        (Place::Connection, "source_ip") => Member::Fact(Fact::SourceIp),
        (Place::Connection, "sni") => Member::Fact(Fact::Sni),
        (Place::Connection, "listener") => Member::Fact(Fact::Listener),
        (Place::Connection, "protocol") => Member::Fact(Fact::Protocol),
        (Place::Request, "method") => Member::Fact(Fact::Method),
        (Place::Request, "host") => Member::Fact(Fact::Host),
        (Place::Request, "path") => Member::Fact(Fact::Path),
        (Place::Request, "segments") => Member::Place(Place::Segments),
        (Place::Request, "segment_count") => Member::Fact(Fact::SegmentCount),
        (Place::Request, "params") => Member::Place(Place::Params),
        (Place::Request, "query") => Member::Place(Place::Query),
        (Place::Request, "query_names") => Member::Fact(Fact::QueryNames),
        (Place::Request, "headers") => Member::Place(Place::Headers),
        (Place::Request, "media_type") => Member::Fact(Fact::MediaType),
        (Place::Request, "length") => Member::Fact(Fact::Length),
        (Place::Segments, at) => match at.parse::<usize>() {
            Ok(number) if number < SEGMENTS && number.to_string() == at => {
                Member::Fact(Fact::Segment(number))
            }
            _ => return Err("it reads a segment this version does not know"),
        },
        (Place::Params, _) => Member::Fact(Fact::Param(text())),
        (Place::Query, _) => Member::Fact(Fact::Query(text())),
        (Place::Headers, _) => Member::Fact(Fact::Header(text())),
        (Place::Rpc, "service") => Member::Fact(Fact::RpcService),
        (Place::Rpc, "method") => Member::Fact(Fact::RpcMethod),
        (Place::Time, "now") => Member::Fact(Fact::Now),
        (Place::Time, "weekday") => Member::Fact(Fact::Weekday),
        (Place::Time, "minute") => Member::Fact(Fact::Minute),
        (Place::Change, "scope") => Member::Fact(Fact::Scope),
        (Place::Change, "widens") => Member::Fact(Fact::Widens),
        (Place::Change, "tests_passed") => Member::Fact(Fact::TestsPassed),
        (Place::Change, "coverage") => Member::Fact(Fact::Coverage),
        (Place::Change, "approvals") => Member::Fact(Fact::Approvals),
        (Place::Change, "caller_is_author") => Member::Fact(Fact::CallerIsAuthor),
        (Place::Change, "touches_baseline") => Member::Fact(Fact::TouchesBaseline),
        (Place::Change, "replay_newly_denied") => Member::Fact(Fact::ReplayNewlyDenied),
        (Place::Change, "two_person") => Member::Fact(Fact::TwoPerson),
        (Place::Token, "claims") => Member::Place(Place::Claims),
        (Place::Token, name) => Member::Fact(Fact::Token(match name {
            "user" => Told::User,
            "issuer" => Told::Issuer,
            "subject" => Told::Subject,
            "audience" => Told::Audience,
            "scopes" => Told::Scopes,
            "client" => Told::Client,
            "acr" => Told::Acr,
            "amr" => Told::Amr,
            "issued" => Told::Issued,
            "expires" => Told::Expires,
            _ => return Err("it reads something of a token that this version does not compile"),
        })),
        (Place::Claims, _) => Member::Fact(Fact::Token(Told::Claim(text()))),
        _ => return Err("it reads a fact this version does not compile"),
    })
}
