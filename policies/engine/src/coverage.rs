//! What cases show of each policy (TE4): whether it was ever a candidate, ever matched, and whether each clause was seen
//! true and seen false. Filled by `run_cases_seen`, read by `policy test --coverage`, lint and the gates of the store.
//! A clause is a conjunct of a `when`, or an `unless` as a whole; each is judged alone, by stock Cedar.

use crate::{
    AccessRequest, Snapshot, cast::Cast, compile::Conditions, context, explain::expression,
    lint::on_large_stack, rule::Rule, stock, walk::Reads,
};
use cedar_policy::{
    Authorizer, Policy, PolicyId, PolicySet,
    pst::{self, Clause, Expr},
};
use std::{collections::HashMap, sync::Arc};

/// What cases cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Every policy, file by file.
    pub policies: Vec<PolicyCoverage>,
}

/// What cases cover of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCoverage {
    /// Its id.
    pub id: Arc<str>,
    /// Its file.
    pub file: Arc<str>,
    /// Line of its effect.
    pub line: usize,
    /// Shipped with the product.
    pub is_baseline: bool,
    /// What there is to show.
    pub points: usize,
    /// What no case shows, in words.
    pub missing: Vec<String>,
}

impl PolicyCoverage {
    /// Rounded down; a policy of which there is nothing to show is covered.
    #[must_use]
    pub fn percent(&self) -> u8 {
        percent(self.points.saturating_sub(self.missing.len()), self.points)
    }
}

impl Coverage {
    /// Over the policies that are not shipped, rounded down.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let own = || self.policies.iter().filter(|policy| !policy.is_baseline);
        let points: usize = own().map(|policy| policy.points).sum();
        let missing: usize = own().map(|policy| policy.missing.len()).sum();
        percent(points.saturating_sub(missing), points)
    }
}

fn percent(covered: usize, points: usize) -> u8 {
    let share = covered.saturating_mul(100).checked_div(points).unwrap_or(100);
    u8::try_from(share).unwrap_or(100)
}

/// Watches cases and adds up what they show.
#[derive(Debug, Default)]
pub struct CoverageTally {
    /// By policy id, of those that any case asked.
    seen: HashMap<Arc<str>, Seen>,
    is_blind: bool,
}

/// What was seen of one policy.
#[derive(Debug)]
struct Seen {
    /// The whole condition as a permit; `None` when it has none.
    whole: Option<Policy>,
    is_matched: bool,
    clauses: Vec<SeenClause>,
}

#[derive(Debug)]
struct SeenClause {
    text: String,
    probe: Policy,
    was_true: bool,
    was_false: bool,
}

impl CoverageTally {
    /// One that looks away, for runs that ask only whether cases pass.
    pub(crate) fn none() -> CoverageTally {
        CoverageTally { is_blind: true, ..CoverageTally::default() }
    }

    /// Takes in one request.
    pub(crate) fn see(&mut self, snapshot: &Snapshot, request: &AccessRequest<'_>) {
        if self.is_blind {
            return;
        }
        let Ok(cast) = snapshot.cast(request) else { return };
        let triple = &cast.triple;
        let near = snapshot.parts().index.find(&triple.principal, &triple.resource);
        let candidates: Vec<&Rule> = near
            .into_iter()
            .filter_map(|at| snapshot.parts().rules.get(at).map(|rule| &**rule))
            .filter(|rule| triple.action.matches_action(&rule.scope.action))
            .collect();
        for rule in &candidates {
            if !self.seen.contains_key(&rule.id) {
                let seen = on_large_stack(|| Seen::of(rule)).flatten();
                self.seen.extend(seen.map(|seen| (Arc::clone(&rule.id), seen)));
            }
        }
        let ids: Vec<&Arc<str>> = candidates.iter().map(|rule| &rule.id).collect();
        self.judge(&ids, snapshot, request, &cast);
    }

    /// One question to stock Cedar about all clauses of all candidates.
    fn judge(&mut self, ids: &[&Arc<str>], snapshot: &Snapshot, request: &AccessRequest<'_>, cast: &Cast) {
        let mut probes = PolicySet::new();
        for id in ids {
            let Some(seen) = self.seen.get(*id) else { continue };
            for (name, probe) in seen.probes() {
                // Names are distinct, so a probe is never refused.
                drop(probes.add(probe.new_id(name_of(id, name))));
            }
        }
        let declared = &snapshot.versions().declared;
        let asked = context::build(request, Reads::ALL, declared).and_then(|context| {
            let stage = snapshot.stage(cast)?;
            Ok((stock::question(&stage, context)?, stage.entities))
        });
        let Ok((question, entities)) = asked else { return };
        let answer = Authorizer::new().is_authorized(&question, &probes, &entities);
        let is_true = |name: &PolicyId| answer.diagnostics().reason().any(|id| id == name);
        let is_error = |name: &PolicyId| answer.diagnostics().errors().any(|error| error_id(error) == name);
        for id in ids {
            let Some(seen) = self.seen.get_mut(*id) else { continue };
            seen.is_matched |= seen.whole.is_none() || is_true(&name_of(id, None));
            for (at, clause) in seen.clauses.iter_mut().enumerate() {
                let name = name_of(id, Some(at));
                let holds = is_true(&name);
                clause.was_true |= holds;
                clause.was_false |= !holds && !is_error(&name);
            }
        }
    }

    /// What was seen of the policies of `snapshot`.
    #[must_use]
    pub fn finish(self, snapshot: &Snapshot) -> Coverage {
        let of_all = || {
            // What is missing of a policy that no case asked follows from its conditions, which many have in common.
            let mut unasked: HashMap<Option<*const Conditions>, (usize, Vec<String>)> = HashMap::new();
            let mut of_rule = |rule: &Arc<Rule>| {
                let (points, missing) = match self.seen.get(&rule.id) {
                    Some(seen) => seen.result(),
                    None => {
                        let conditions = rule.conditions.as_ref().map(Arc::as_ptr);
                        unasked.entry(conditions).or_insert_with(|| unseen(rule)).clone()
                    }
                };
                PolicyCoverage {
                    id: Arc::clone(&rule.id),
                    file: Arc::clone(&rule.place.file),
                    line: rule.place.line,
                    is_baseline: rule.is_baseline,
                    points,
                    missing,
                }
            };
            Coverage { policies: snapshot.parts().rules.iter().map(&mut of_rule).collect() }
        };
        on_large_stack(of_all).unwrap_or_default()
    }
}

/// A policy that no case asked: nothing of it is shown.
fn unseen(rule: &Rule) -> (usize, Vec<String>) {
    let (points, parts) = Seen::of(rule).map_or((1, Vec::new()), |seen| seen.result());
    let mut missing = vec!["no case asks a question that its scope matches".to_owned()];
    missing.extend(parts);
    missing.truncate(points);
    (points, missing)
}

impl Seen {
    /// `None` when the policy cannot be taken apart.
    fn of(rule: &Rule) -> Option<Seen> {
        let tree = rule.policy().ok()?.to_pst().ok()?;
        let clauses = tree.body().clauses();
        let whole = if clauses.is_empty() { None } else { Some(probe(clauses.clone())?) };
        let mut parts = Vec::new();
        for clause in clauses {
            match clause {
                Clause::When(body) => conjuncts(body, &mut parts),
                Clause::Unless(_) => parts.push(clause.clone()),
            }
        }
        let clauses = parts.into_iter().map(|clause| {
            let probe = probe(vec![clause])?;
            let text = text_of(&probe);
            Some(SeenClause { text, probe, was_true: false, was_false: false })
        });
        Some(Seen { whole, is_matched: false, clauses: clauses.collect::<Option<Vec<_>>>()? })
    }

    fn probes(&self) -> impl Iterator<Item = (Option<usize>, &Policy)> {
        let whole = self.whole.iter().map(|policy| (None, policy));
        whole.chain(self.clauses.iter().enumerate().map(|(at, clause)| (Some(at), &clause.probe)))
    }

    /// The number of points, and what is missing.
    fn result(&self) -> (usize, Vec<String>) {
        let points = 1 + usize::from(self.whole.is_some()) + 2 * self.clauses.len();
        let mut missing = Vec::new();
        if self.whole.is_some() && !self.is_matched {
            missing.push("no case matches all of its conditions".to_owned());
        }
        for SeenClause { text, was_true, was_false, .. } in &self.clauses {
            if !was_true {
                missing.push(format!("never seen true: {text}"));
            }
            if !was_false {
                missing.push(format!("never seen false: {text}"));
            }
        }
        (points, missing)
    }
}

fn name_of(id: &str, clause: Option<usize>) -> PolicyId {
    // `#` is in no policy id.
    PolicyId::new(clause.map_or_else(|| id.to_owned(), |at| format!("{id}#{at}")))
}

fn error_id(error: &cedar_policy::AuthorizationError) -> &PolicyId {
    let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
    error.policy_id()
}

/// A permit for everybody under these conditions.
fn probe(clauses: Vec<Clause>) -> Option<Policy> {
    let template = pst::Template::new(
        pst::PolicyID("probe".into()),
        pst::Effect::Permit,
        pst::PrincipalConstraint::Any,
        pst::ActionConstraint::Any,
        pst::ResourceConstraint::Any,
    );
    let template = template.try_with_clauses(clauses).ok()?;
    Policy::from_pst(pst::Policy::Static(template.try_into().ok()?)).ok()
}

/// The one condition of `probe`, as it was written.
fn text_of(probe: &Policy) -> String {
    let json = probe.to_json().unwrap_or_default();
    let condition = json.pointer("/conditions/0");
    let text =
        condition.and_then(|condition| condition.get("body")).map(expression::to_text).unwrap_or_default();
    match condition.and_then(|condition| condition.get("kind")?.as_str()) {
        Some("unless") => format!("unless {text}"),
        _ => text,
    }
}

fn conjuncts(body: &Arc<Expr>, parts: &mut Vec<Clause>) {
    match &**body {
        Expr::BinaryOp { op: pst::BinaryOp::And, left, right } => {
            conjuncts(left, parts);
            conjuncts(right, parts);
        }
        _ => parts.push(Clause::When(Arc::clone(body))),
    }
}
