//! The conditions of a plan, one after the other in one block: a call walks it from test to test and reads little else.
//!
//! Built by `plan` from folded trees; `&&`, `||`, `!` and `if` become jumps, what they join stays one test each. The
//! order is Cedar's, and an error ends its condition.

use super::{
    eval::{Scene, Stop, truth},
    expr::{Expr, Fact},
    value::Const,
};
use crate::{Reason, plan::Outcome};
use base_ports::UnixTime;
use cedar_policy::pst::{BinaryOp, UnaryOp};
use std::{net::IpAddr, sync::Arc};

/// Conditions in order.
#[derive(Debug, Default)]
pub(crate) struct Steps(Box<[Step]>);

/// One test, and where to go from there: a number of steps ahead, or one of the two ends.
#[derive(Debug)]
struct Step {
    test: Test,
    then: u16,
    otherwise: u16,
    /// Steps to the next condition.
    rest: u16,
}

const SATISFIED: u16 = u16::MAX;
const UNSATISFIED: u16 = u16::MAX - 1;

/// A question to one call. The common ones lie in the step itself, the others behind a pointer.
#[derive(Debug)]
enum Test {
    Mtls,
    /// The TLS version lies between these, ends included.
    Tls(u8, u8),
    /// The caller's address lies between these IPv4 addresses, ends included.
    Source(u32, u32),
    /// It is not that late yet.
    Before(UnixTime),
    Tree(Arc<Expr>),
}

impl Steps {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes they hold.
    pub(crate) fn weight(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Tells `each` what came of every condition, in order, or that it could not be asked.
    ///
    /// # Errors
    /// Those of `each`, at once.
    #[inline]
    pub(crate) fn run(
        &self,
        scene: Scene<'_>,
        mut each: impl FnMut(Result<Outcome, Reason>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let mut rest = &*self.0;
        while let Some(step) = rest.first() {
            let (ahead, came) = match step.test.holds(scene) {
                Ok(is_so) => match if is_so { step.then } else { step.otherwise } {
                    SATISFIED => (step.rest, Ok(Outcome::Satisfied)),
                    UNSATISFIED => (step.rest, Ok(Outcome::Unsatisfied)),
                    ahead => {
                        rest = rest.get(usize::from(ahead)..).unwrap_or_default();
                        continue;
                    }
                },
                Err(Stop::Error(class)) => (step.rest, Ok(Outcome::Failed(class))),
                Err(Stop::Refused(reason)) => (step.rest, Err(reason)),
            };
            each(came)?;
            rest = rest.get(usize::from(ahead)..).unwrap_or_default();
        }
        Ok(())
    }
}

impl Test {
    fn of(leaf: &Arc<Expr>, share: &mut dyn FnMut(&Arc<Expr>) -> Arc<Expr>) -> Test {
        Test::in_place(leaf).unwrap_or_else(|| Test::Tree(share(leaf)))
    }

    /// The test where it fits into a step.
    fn in_place(leaf: &Expr) -> Option<Test> {
        let (op, left, right) = match leaf {
            Expr::Fact(Fact::Mtls) => return Some(Test::Mtls),
            Expr::Binary(op, left, right) => (*op, &**left, &**right),
            _ => return None,
        };
        match (left, right) {
            (Expr::Fact(Fact::Tls), Expr::Const(Const::Long(bound))) => {
                let clamped = |bound: i64| u8::try_from(bound.clamp(0, u8::MAX.into())).unwrap_or_default();
                let none = (1, 0);
                let up_to = |last: i64| if last < 0 { none } else { (0, clamped(last)) };
                let from = |first: i64| if first > u8::MAX.into() { none } else { (clamped(first), u8::MAX) };
                let (first, last) = match op {
                    BinaryOp::Less => up_to(bound.saturating_sub(1)),
                    BinaryOp::LessEq => up_to(*bound),
                    BinaryOp::Greater => from(bound.saturating_add(1)),
                    BinaryOp::GreaterEq => from(*bound),
                    BinaryOp::Eq => u8::try_from(*bound).map_or(none, |version| (version, version)),
                    _ => return None,
                };
                Some(Test::Tls(first, last))
            }
            (Expr::Fact(Fact::SourceIp), Expr::Const(Const::Ip(range))) if op == BinaryOp::IsInRange => {
                range.v4_ends().map(|(first, last)| Test::Source(first, last))
            }
            _ => None,
        }
    }

    #[inline]
    fn holds(&self, scene: Scene<'_>) -> Result<bool, Stop> {
        Ok(match self {
            Test::Mtls => scene.connection.mtls,
            Test::Tls(first, last) => (*first..=*last).contains(&scene.connection.tls),
            Test::Source(first, last) => match scene.connection.source_ip {
                IpAddr::V4(address) => (*first..=*last).contains(&address.to_bits()),
                IpAddr::V6(_) => false,
            },
            Test::Before(end) => scene.request.now < *end,
            Test::Tree(tree) => return truth(tree, scene),
        })
    }
}

/// Lays conditions out.
pub(crate) struct Layout<'a> {
    steps: Vec<Step>,
    cost: usize,
    /// Gives a tree that other plans test as well.
    share: &'a mut dyn FnMut(&Arc<Expr>) -> Arc<Expr>,
}

/// A step of the condition being laid out, its targets counted from the condition's start.
struct Placed {
    test: Test,
    then: usize,
    otherwise: usize,
}

const YES: usize = usize::MAX;
const NO: usize = usize::MAX - 1;

impl<'a> Layout<'a> {
    pub(crate) fn new(share: &'a mut dyn FnMut(&Arc<Expr>) -> Arc<Expr>) -> Layout<'a> {
        Layout { steps: Vec::new(), cost: 0, share }
    }

    /// The next condition: `when`, or satisfied, until `expires`.
    pub(crate) fn add(&mut self, when: Option<&Arc<Expr>>, expires: Option<UnixTime>) {
        let mut placed = Vec::new();
        let skip = usize::from(expires.is_some());
        if let Some(end) = expires {
            let then = if when.is_some() { skip } else { YES };
            placed.push(Placed { test: Test::Before(end), then, otherwise: NO });
        }
        self.cost = self.cost.saturating_add(skip).saturating_add(when.map_or(0, |when| when.nodes()));
        if let Some(when) = when {
            // Policies are too small to come near the bound; a condition beyond it is one test.
            if size(when) < usize::from(UNSATISFIED) - skip {
                self.place(&mut placed, when, YES, NO);
            } else {
                placed.push(Placed { test: Test::Tree(Arc::clone(when)), then: YES, otherwise: NO });
            }
        }
        let count = placed.len();
        let ahead = |target: usize, at: usize| match target {
            YES => SATISFIED,
            NO => UNSATISFIED,
            target => u16::try_from(target.saturating_sub(at)).unwrap_or(UNSATISFIED),
        };
        self.steps.extend(placed.into_iter().enumerate().map(|(at, step)| Step {
            test: step.test,
            then: ahead(step.then, at),
            otherwise: ahead(step.otherwise, at),
            rest: u16::try_from(count.saturating_sub(at)).unwrap_or(u16::MAX),
        }));
    }

    /// The conditions, and the operations of a call that has to do them all.
    pub(crate) fn finish(self) -> (Steps, usize) {
        (Steps(self.steps.into()), self.cost)
    }

    fn place(&mut self, placed: &mut Vec<Placed>, of: &Arc<Expr>, then: usize, otherwise: usize) {
        let here = placed.len();
        match &**of {
            Expr::And(left, right) => {
                self.place(placed, left, here + size(left), otherwise);
                self.place(placed, right, then, otherwise);
            }
            Expr::Or(left, right) => {
                self.place(placed, left, then, here + size(left));
                self.place(placed, right, then, otherwise);
            }
            Expr::Unary(UnaryOp::Not, inner) => self.place(placed, inner, otherwise, then),
            Expr::If(test, yes, no) => {
                let second = here + size(test);
                self.place(placed, test, second, second + size(yes));
                self.place(placed, yes, then, otherwise);
                self.place(placed, no, then, otherwise);
            }
            _ => {
                let test = Test::of(of, self.share);
                placed.push(Placed { test, then, otherwise });
            }
        }
    }
}

/// Steps that a condition takes.
fn size(of: &Expr) -> usize {
    match of {
        Expr::And(left, right) | Expr::Or(left, right) => size(left) + size(right),
        Expr::Unary(UnaryOp::Not, inner) => size(inner),
        Expr::If(test, yes, no) => size(test) + size(yes) + size(no),
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
