//! `why`: one sentence per reason word, with the values of this call (EX4, RW1). No two words read alike.

use super::{Candidate, Explanation, PolicyPlace, RequestForExplain};
use crate::{Action, Effect, Facts, Reason, Resource, ResourceKind, Snapshot, explain::terms::short_type};

impl Explanation {
    /// The sentence behind `why`.
    #[must_use]
    pub fn cause(&self, request: &RequestForExplain, snapshot: &Snapshot) -> String {
        match &request.recorded {
            Some(recorded) if recorded.is_observed() => {
                format!("observe mode; would deny: {}", self.sentence(request, snapshot))
            }
            _ => self.sentence(request, snapshot),
        }
    }

    fn sentence(&self, request: &RequestForExplain, snapshot: &Snapshot) -> String {
        let facts = &request.facts;
        let connection = facts.connection();
        let listener = &connection.listener;
        let detail = request.recorded.as_ref().and_then(|recorded| recorded.detail.as_deref());
        let fixed = self.reason.sentence();
        match self.reason {
            Reason::Permit if !self.determining.is_empty() => {
                let ids: Vec<&str> = self.determining.iter().map(|of| &*of.place.policy).collect();
                format!("permit matched: {}", ids.join(", "))
            }
            Reason::Forbid if !self.determining.is_empty() => {
                format!("forbid matched: {}", places(&self.determining))
            }
            Reason::ForbidError => {
                let forbids = self.errors.iter().filter(|error| error.candidate.place.effect == Effect::Deny);
                let told: Vec<String> = forbids
                    .map(|error| format!("{}: {}", error.candidate.place.policy, error.message))
                    .collect();
                if told.is_empty() {
                    fixed.to_owned()
                } else {
                    format!("forbid could not be evaluated: {}", told.join("; "))
                }
            }
            Reason::NoPermit => match self.nearest.first() {
                Some(nearest) => format!("no permit matched; nearest: {}", nearest.place.spaced()),
                None => "no permit matched, and none is near".to_owned(),
            },
            Reason::EntityMissing if snapshot.knows(&request.resource) => {
                let principal = &request.principal;
                let kind = short_type(principal.entity_type());
                format!("the policies know nothing of the caller {kind} \"{}\"", principal.id())
            }
            Reason::EntityMissing => format!("the policies know nothing of {}", named(&request.resource)),
            Reason::NoIdentity => {
                format!("the caller presented no certificate; listener {listener} requires one")
            }
            Reason::IdentityUntrusted | Reason::IdentityExpired | Reason::IdentityRevoked => {
                // The word of `verify_svid`, e.g. `unknown_trust_domain`.
                let word = detail.map(|word| format!(": {}", word.replace('_', " "))).unwrap_or_default();
                format!("{fixed}{word} (listener {listener})")
            }
            Reason::NotCanonical => {
                match detail.map(|detail| detail.split_once(": ").unwrap_or((detail, ""))) {
                    Some((rule, "")) => format!("{fixed}: rule {rule} (listener {listener})"),
                    Some((rule, flaw)) if is_limit(flaw) => {
                        format!("the request is above a limit: {flaw} (rule {rule}, listener {listener})")
                    }
                    Some((rule, flaw)) => format!("{fixed}: {flaw} (rule {rule}, listener {listener})"),
                    None => format!("{fixed} (listener {listener})"),
                }
            }
            Reason::AuthorityMismatch => {
                let sni = connection.sni.as_deref().unwrap_or("absent");
                let authority = facts.request().map_or("absent", |view| view.host);
                format!("{fixed}: sni is {sni}, authority is {authority} (listener {listener})")
            }
            Reason::UnknownRoute => match facts.request() {
                Some(view) => format!(
                    "no route matches {} {} on host {} (listener {listener})",
                    view.method, view.path, view.host
                ),
                None => format!("{fixed} (listener {listener})"),
            },
            Reason::UnknownMethod => match (facts.rpc(), facts.request()) {
                (Some((service, method)), _) => {
                    format!("no service offers {service}/{method} (listener {listener})")
                }
                (None, Some(view)) => format!("no service offers {} (listener {listener})", view.path),
                (None, None) => format!("{fixed} (listener {listener})"),
            },
            Reason::PolicyStale => {
                format!("{fixed}: policies v{}", snapshot.versions().numbers.policies)
            }
            _ => match detail {
                Some(detail) => format!("{fixed}: {detail}"),
                None => fixed.to_owned(),
            },
        }
    }
}

/// Rules of the gate that bound sizes say so.
fn is_limit(flaw: &str) -> bool {
    ["too large", "too many", "too long"].iter().any(|words| flaw.contains(words))
}

/// `Method "shop.Orders/Get"`.
fn named(resource: &Resource) -> String {
    match resource.kind() {
        ResourceKind::Unknown => "what was called".to_owned(),
        kind => format!("{} \"{}\"", short_type(kind.as_str()), resource.id()),
    }
}

fn places(candidates: &[Candidate]) -> String {
    candidates.iter().map(|candidate| candidate.place.joined()).collect::<Vec<_>>().join(", ")
}

impl PolicyPlace {
    /// `orders-read  [policies/orders.cedar:4]`, at the end of a line.
    pub(super) fn spaced(&self) -> String {
        format!("{}  [{}]", self.policy, self.stands())
    }

    /// The same inside a list.
    pub(super) fn joined(&self) -> String {
        format!("{} [{}]", self.policy, self.stands())
    }

    fn stands(&self) -> String {
        let template = self.template.as_ref().map(|template| format!(", link of {template}"));
        format!("{}:{}{}", self.file, self.line, template.unwrap_or_default())
    }
}

/// What was asked for, as `POST /shop.Orders/Refund`; for what never became a call, what there was.
pub(super) fn what(request: &RequestForExplain) -> String {
    match (request.action, Facts::request(&request.facts)) {
        (Action::Admin(action), _) => format!("{} {}", action.as_str(), request.resource.id()),
        (_, Some(view)) => format!("{} {}", view.method, view.path),
        (action, None) if request.resource.kind() != ResourceKind::Unknown => {
            format!("{action} {}", request.resource.id())
        }
        (Action::TcpConnect, None) => "handshake".to_owned(),
        (_, None) => "malformed request".to_owned(),
    }
}

/// The called service; for a call of nothing the name it asked for.
pub(super) fn target(request: &RequestForExplain, service: Option<&str>) -> String {
    let (resource, facts) = (&request.resource, &request.facts);
    if let Some(service) = service.or_else(|| resource.service()) {
        return service.to_owned();
    }
    if resource.kind() != ResourceKind::Unknown {
        return resource.id().to_owned();
    }
    let connection = facts.connection();
    let host = facts.request().map(|view| view.host).filter(|host| !host.is_empty());
    match host.or(connection.sni.as_deref()) {
        Some(name) => name.to_owned(),
        None => format!("listener {}", connection.listener),
    }
}
