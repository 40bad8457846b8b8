//! Rules about who may do what to what: PC2103, PC2104, PC2106, PC2113, PC2115.

use super::{
    subject::{Subject, target_kind},
    survey::Survey,
    walk::{has_part, is_context},
};
use crate::{Diagnostic, Snapshot, rule::Rule, scope::Term, uid::cedar_uid};
use cedar_policy::{
    ActionConstraint, EntityUid,
    pst::{Clause, Expr, Literal, Var},
};

/// What services, routes and methods are made of.
const TARGETS: [&str; 4] = ["Service", "RpcService", "Method", "Route"];

/// PC2103: a permit that narrows nothing.
pub(crate) fn everything(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let found = permits_everything(subject).then(|| {
        let found = subject.at_effect("this permit allows everybody everything");
        found.label("no principal, no action, no resource, no condition").help(
            "name who (`principal in Group::\"..\"`), what (`action in Action::\"http:read\"`) or on what (`resource in Service::\"..\"`)",
        )
    });
    found.into_iter().collect()
}

fn permits_everything(subject: &Subject<'_>) -> bool {
    let scope = &subject.rule.scope;
    let is_open = *scope.principal == Term::Any && *scope.resource == Term::Any;
    let is_true = |clause: &Clause| matches!(clause, Clause::When(body) if **body == Expr::Literal(Literal::Bool(true)));
    subject.rule.is_permit()
        && is_open
        && matches!(*scope.action, ActionConstraint::Any)
        && subject.template.clauses().iter().all(is_true)
}

/// PC2104: a name of a target that no service offers.
pub(crate) fn offered(subject: &Subject<'_>) -> Vec<Diagnostic> {
    if !subject.survey.knows_targets() {
        return Vec::new();
    }
    let mut missing = missing(subject.rule, subject.snapshot);
    missing.sort_unstable();
    missing.dedup();
    let mut found: Vec<Diagnostic> = missing.into_iter().map(|uid| absent(subject, uid)).collect();
    found.extend(offered_action(subject));
    found
}

/// Whether there is something to say about `rule`, without its text.
pub(crate) fn is_offered(rule: &Rule, snapshot: &Snapshot, survey: &Survey<'_>) -> bool {
    !survey.knows_targets() || (missing(rule, snapshot).is_empty() && never_asked(rule, survey).is_none())
}

/// Targets it names that are no entities.
fn missing<'a>(rule: &'a Rule, snapshot: &Snapshot) -> Vec<&'a EntityUid> {
    let entities = &snapshot.parts().entities;
    let absent = rule.literals().filter(|uid| entities.get(uid).is_none());
    absent.filter(|uid| TARGETS.contains(&uid.type_name().to_string().as_str())).collect()
}

fn absent(subject: &Subject<'_>, uid: &EntityUid) -> Diagnostic {
    let found = subject.at_uid(uid, format!("no service offers `{uid}`"));
    let written: &str = uid.id().as_ref();
    let far = 2.max(written.len() / 4);
    let ids = subject.snapshot.parts().entities.iter().map(cedar_policy::Entity::uid);
    let same = ids.filter(|known| known.type_name() == uid.type_name());
    // Most names are told apart by their length.
    let close = same.filter(|known| AsRef::<str>::as_ref(known.id()).len().abs_diff(written.len()) <= far);
    let near = close.map(|known| (distance(written, known.id().as_ref()), known.to_string())).min();
    let found = match near {
        Some((distance, name)) if distance <= far => found.label(format!("did you mean `{name}`?")),
        _ => found.label("nothing has this name"),
    };
    let way = match uid.type_name().to_string().as_str() {
        "Method" | "RpcService" => {
            "names are `package.Service/Method`, case-sensitive; list them in `methods` of [[enforcer.service]]"
        }
        "Route" => "routes are the `name`s of [[enforcer.route]]",
        _ => "services are the `name`s of [[enforcer.service]]",
    };
    found.help(way)
}

fn distance(written: &str, known: &str) -> usize {
    // Case is what people get wrong most.
    if written.eq_ignore_ascii_case(known) { 1 } else { strsim::damerau_levenshtein(written, known) }
}

/// The action scope covers calls, but nothing that can be called that way exists.
fn offered_action(subject: &Subject<'_>) -> Option<Diagnostic> {
    let first = never_asked(subject.rule, subject.survey)?;
    let (kind, way) = match target_kind(first) {
        "Method" => ("method", "methods of [[enforcer.service]] are called with `grpc`"),
        "Route" => ("route", "routes of [[enforcer.route]] are called with `http:..`"),
        _ => ("service", "services of [[enforcer.service]] are called with `tcp:connect`"),
    };
    let found = subject.at_effect(format!("no {kind} exists that this action could call"));
    Some(found.label("never asked").help(way))
}

/// The first of the calls it is about, where there is nothing that any of them could call.
fn never_asked(rule: &Rule, survey: &Survey<'_>) -> Option<crate::Action> {
    // The usual site has something of each type.
    if matches!(*rule.scope.action, ActionConstraint::Any) || survey.has_all_targets() {
        return None;
    }
    let calls: Vec<_> = survey.calls_of(rule).map(|(action, _)| action).collect();
    let first = calls.first().copied();
    first.filter(|_| !calls.iter().any(|action| survey.has(target_kind(*action))))
}

/// PC2106: a permit that some forbid always overrules.
pub(crate) fn overruled(subject: &Subject<'_>) -> Vec<Diagnostic> {
    if !subject.rule.is_permit() || subject.rule.notes.is_shadow {
        return Vec::new();
    }
    let mut always = subject.survey.forbids.iter().filter(|forbid| covers(subject, forbid));
    if let Some(forbid) = always.next() {
        let place = format!("{}:{}", forbid.place.file, forbid.place.line);
        let found = subject.at_effect(format!(
            "`{}` grants nothing: `{}` forbids all of it",
            subject.id(),
            forbid.id
        ));
        return vec![
            found.label(format!("overruled by {place}")).help("remove the permit, or narrow the forbid"),
        ];
    }
    let usage = subject.input.usage;
    let overruled =
        usage.and_then(|usage| Some((usage, usage.policies.get(&**subject.id())?.overruled.as_ref()?)));
    let found = overruled.map(|(usage, (forbid, calls))| {
        let text = format!(
            "`{}` granted nothing in {}: `{forbid}` refused all {calls} calls it matched",
            subject.id(),
            days(usage.window)
        );
        subject.at_effect(text).help("remove the permit, or narrow the forbid")
    });
    found.into_iter().collect()
}

pub(crate) fn days(window: std::time::Duration) -> String {
    match window.as_secs() / 86_400 {
        0 => format!("{} hours", window.as_secs() / 3_600),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}

/// Whether each request that the scope of the subject matches is matched by the scope of `forbid` as well.
fn covers(subject: &Subject<'_>, forbid: &Rule) -> bool {
    let (narrow, wide) = (&subject.rule.scope, &forbid.scope);
    let is_within =
        |uid: &EntityUid, group: &EntityUid| uid == group || subject.ancestors(uid).contains(group);
    let term = |narrow: &Term, wide: &Term| match (wide, narrow) {
        (Term::Any, _) => true,
        (wide, narrow) if wide == narrow => true,
        (Term::Is(kind), Term::Eq(uid)) => uid.type_name() == kind,
        (Term::Is(kind), Term::IsIn(narrow, _)) => narrow == kind,
        (Term::In(group), Term::Eq(uid) | Term::In(uid) | Term::IsIn(_, uid)) => is_within(uid, group),
        (Term::IsIn(kind, group), Term::Eq(uid)) => uid.type_name() == kind && is_within(uid, group),
        (Term::IsIn(kind, group), Term::IsIn(narrow, uid)) => narrow == kind && is_within(uid, group),
        _ => false,
    };
    let action = |uid: &EntityUid| match &*wide.action {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(only) => uid == only,
        ActionConstraint::In(groups) => groups.iter().any(|group| is_within(uid, group)),
    };
    let is_action = match &*narrow.action {
        ActionConstraint::Any => matches!(*wide.action, ActionConstraint::Any),
        ActionConstraint::Eq(uid) => action(uid),
        ActionConstraint::In(uids) => {
            // `in` a single action of the wider side would miss the actions below.
            !matches!(*wide.action, ActionConstraint::Eq(_)) && uids.iter().all(action)
        }
    };
    is_action && term(&narrow.principal, &wide.principal) && term(&narrow.resource, &wide.resource)
}

/// PC2113: a permit for whoever has any identity.
pub(crate) fn anybody(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let is_trust_domain = |uid: &EntityUid| uid.type_name().to_string() == "TrustDomain";
    let whole = match &*subject.rule.scope.principal {
        Term::Any => "every caller",
        Term::Is(kind) if kind.to_string() == "Workload" => "every workload",
        Term::Is(kind) if kind.to_string() == "User" => "every user of every issuer",
        Term::In(uid) | Term::IsIn(_, uid) if is_trust_domain(uid) => "every workload of the trust domain",
        _ => return Vec::new(),
    };
    let is_other = !subject.rule.is_permit() || permits_everything(subject) || is_narrowed(subject);
    if is_other || !anonymous_writes(subject).is_empty() {
        return Vec::new();
    }
    let found = subject.at_effect(format!("this permit is for {whole}"));
    vec![
        found
            .label("also for those that come later")
            .help("name a group (`principal in Group::\"..\"`) or the callers themselves"),
    ]
}

/// Conditions that are about who calls.
fn is_narrowed(subject: &Subject<'_>) -> bool {
    has_part(subject.template, &|part| *part == Expr::Var(Var::Principal) || is_context(part, &["jwt"]))
}

/// PC2115: a permit that lets nobody in particular write.
pub(crate) fn anonymous_writes(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let is_open = match &*subject.rule.scope.principal {
        Term::Any => !permits_everything(subject),
        Term::Is(kind) => kind.to_string() == "Anonymous",
        Term::Eq(uid) => uid.type_name().to_string() == "Anonymous",
        Term::In(_) | Term::IsIn(..) => false,
    };
    let asks_mtls = || has_part(subject.template, &|part| is_context(part, &["connection", "mtls"]));
    if !subject.rule.is_permit() || !is_open || is_narrowed(subject) || asks_mtls() {
        return Vec::new();
    }
    let write = cedar_uid("Action", "http:write");
    let is_write = |action: crate::Action, lineage: &crate::scope::Lineage| match target_kind(action) {
        "Route" => lineage.is_in(&write),
        "Method" => !is_read_only(subject),
        _ => true,
    };
    let first = subject.calls().find(|(action, lineage)| is_write(*action, lineage));
    let found = first.map(|(action, _)| {
        let found = subject.at_effect(format!("callers without identity may `{}`", action.as_str()));
        found.label("anonymous callers may change things").help(
            "limit the action (`action in Action::\"http:read\"`), or ask for an identity (`principal is Workload`, `context.connection.mtls`)",
        )
    });
    found.into_iter().collect()
}

/// Whether the resource scope is a method that changes nothing, or one every server offers about itself.
fn is_read_only(subject: &Subject<'_>) -> bool {
    let id: &str = match &*subject.rule.scope.resource {
        Term::Eq(uid) | Term::In(uid) | Term::IsIn(_, uid) => uid.id().as_ref(),
        Term::Any | Term::Is(_) => return false,
    };
    let name = id.rsplit(':').next().unwrap_or(id);
    subject.snapshot.parts().read_only.contains(id)
        || name.starts_with("grpc.health.")
        || name.starts_with("grpc.reflection.")
}
