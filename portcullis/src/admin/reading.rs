//! Who may read which decisions: asked of the policies in force by namespace, with one snapshot per question (RR1).
//!
//! The ledger holds rows against what stands here. One decision goes on record for each call, that on the first resource
//! through which the caller reads anything: the trust domain, else a namespace.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base_ports::UnixTime;
use ca_authority::service::Caller;
use policies_decisions::{Reader, Sight, Visibility};
use policies_engine::{
    AccessRequest, Action, AdminAction, Credential, OwnedFacts, Principal, ReadRecord, Record, Resource,
    Snapshot,
};

use super::problem::Problem;
use super::{Api, facts};
use crate::assemble::judge::Judge;

const READ: &[AdminAction] = &[AdminAction::DecisionsRead];
const REVEAL: &[AdminAction] = &[AdminAction::DecisionsRead, AdminAction::DecisionsReveal];
const EXPORT: &[AdminAction] = &[AdminAction::DecisionsRead, AdminAction::DecisionsExport];

/// Who calls and what he proved himself with, for handlers that ask for rights themselves.
pub(super) struct Who {
    pub(super) caller: Caller,
    pub(super) credential: Option<Arc<Credential>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or(Caller::Anonymous);
        Ok(Who { caller, credential: parts.extensions.get::<Arc<Credential>>().cloned() })
    }
}

/// The rights of one caller at one moment.
#[derive(Clone)]
struct Gate {
    judge: Arc<Judge>,
    snapshot: Option<Arc<Snapshot>>,
    principal: Principal,
    needs: &'static [AdminAction],
    facts: OwnedFacts,
    domain: String,
    now: UnixTime,
}

/// Puts into the request what its caller sees, and gives the resource that the call is judged by.
pub(super) fn admit(
    api: &Api,
    caller: &Caller,
    principal: &Principal,
    action: AdminAction,
    request: &mut Request,
) -> Resource {
    let needs = match action {
        AdminAction::DecisionsExport => EXPORT,
        AdminAction::DecisionsReveal => REVEAL,
        _ => READ,
    };
    let gate = Gate::of(api, caller, principal, needs);
    let resource = gate.foothold();
    let credential = request.extensions().get::<Arc<Credential>>().cloned();
    let reveals = Sight::new(Gate { needs: REVEAL, ..gate.clone() });
    let reader = Reader { principal: principal.clone(), sight: Sight::new(gate), reveals, credential };
    request.extensions_mut().insert(reader);
    resource
}

/// The rows that a caller may have judged again: those that he sees whole.
pub(super) fn whole(api: &Api, caller: &Caller, principal: &Principal) -> Sight {
    Sight::new(Gate::of(api, caller, principal, READ)).whole_only()
}

/// Puts a read on record; without that there is no answer (RR4). It does not wait for the disk.
pub(super) fn on_record(api: &Api, read: ReadRecord) -> Result<(), Problem> {
    match api.ledger.append(Record::Read(read)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the read could not be recorded")
            .detail(error.to_string())),
    }
}

impl Gate {
    fn of(api: &Api, caller: &Caller, principal: &Principal, needs: &'static [AdminAction]) -> Gate {
        Gate {
            judge: Arc::clone(&api.judge),
            snapshot: api.judge.snapshot(),
            principal: principal.clone(),
            needs,
            facts: facts(caller),
            domain: api.trust_domain.as_str().to_owned(),
            now: api.clock.now().wall,
        }
    }

    /// What the caller may read at all, else the trust domain, which he may not.
    fn foothold(&self) -> Resource {
        let namespaces = || self.snapshot.iter().flat_map(|snapshot| snapshot.namespaces());
        let found = match self.may_read(None) {
            true => None,
            false => namespaces().find(|namespace| self.may_read(Some(namespace))),
        };
        self.resource(found.as_deref())
    }

    fn resource(&self, namespace: Option<&str>) -> Resource {
        namespace.map_or_else(|| Resource::trust_domain(&self.domain), Resource::namespace_named)
    }
}

impl Visibility for Gate {
    fn may_read(&self, namespace: Option<&str>) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let resource = self.resource(namespace);
        self.needs.iter().all(|action| {
            let request = AccessRequest {
                principal: &self.principal,
                action: Action::Admin(*action),
                resource: &resource,
                facts: &self.facts,
                now: self.now,
                extra: None,
            };
            snapshot.decide(&request).is_allowed()
        })
    }

    fn is_current(&self) -> bool {
        match (&self.snapshot, self.judge.snapshot()) {
            (Some(pinned), Some(current)) => Arc::ptr_eq(pinned, &current),
            (pinned, current) => pinned.is_none() && current.is_none(),
        }
    }
}
