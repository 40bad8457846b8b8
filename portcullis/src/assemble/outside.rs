//! Decides and records for enforcers that are not ours (`policies/adapters`): the policies and routes in force, one lane.

mod canonical;

use std::net::Ipv4Addr;
use std::sync::Arc;

use base_ports::{Clock, Now};
use ca_identity::IdentitySnapshot;
use ca_identity::tls::Trust;
use enforcer_codec::Call;
use enforcer_codec::canonical::Kept;
use enforcer_proxy::request_of;
use enforcer_traffic::{Arrival, Found, Params, Routes, TargetKind};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use policies_adapters::{Canonical, Held, Judge, Question, Target, Unrecorded, Verdict};
use policies_decisions::Ledger;
use policies_engine::{
    AccessRequest, Audit, Decision, DecisionRecord, Engine, Facts, Lane, Reason, Receipt, Resource, Snapshot,
};
use tokio::sync::watch;

use super::{CONTROL_LANE, entities, judge::refresh};
use crate::config::Config;
use crate::messages::Message;

/// After that of the control runtime.
const LANE: u16 = CONTROL_LANE + 1;

/// The judge of those that may ask by the configuration.
pub(super) fn ask(
    config: &Config,
    snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
    ledger: &Ledger,
    trust: Option<&Arc<Trust>>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn Judge>>, Message> {
    if config.ext_authz.is_none() && config.authzen.is_none() {
        return Ok(None);
    }
    let routes = entities::routes(config)?;
    let state = Mutex::new(State { engine: None, lane: ledger.lane(LANE) });
    let (snapshots, trust, clock) = (snapshots.clone(), trust.cloned(), Arc::clone(clock));
    Ok(Some(Arc::new(Outside { snapshots, state, routes, trust, clock })))
}

struct Outside {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    state: Mutex<State>,
    routes: Routes,
    trust: Option<Arc<Trust>>,
    clock: Arc<dyn Clock>,
}

struct State {
    engine: Option<Engine>,
    lane: Box<dyn Lane>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

impl Outside {
    /// `reason`: why no policy is asked.
    fn answer(
        &self,
        question: Question,
        reason: Option<Reason>,
    ) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        let now = self.clock.now();
        let snapshot = self.snapshots.borrow().clone();
        let mut state = self.state.lock();
        refresh(&mut state.engine, snapshot.clone());
        let decision = match (reason, &mut state.engine) {
            (Some(reason), _) => Decision::refusal(reason),
            (None, None) => Decision::refusal(Reason::NoPolicy),
            (None, Some(engine)) => engine.decide(&AccessRequest {
                principal: &question.principal,
                action: question.action,
                resource: &question.resource,
                facts: &question.facts,
                now: now.wall,
                extra: None,
            }),
        };
        let audit = decision.audit;
        let record = DecisionRecord {
            detail: Some(question.detail),
            phase: question.phase,
            credential: question.credential.map(Arc::new),
            versions: snapshot.as_ref().map(|snapshot| Arc::clone(snapshot.versions())),
            facts: Some(Arc::new(question.facts) as Arc<dyn Facts>),
            audit,
            ..DecisionRecord::new(
                decision.clone(),
                question.principal,
                question.action,
                question.resource,
                now,
            )
        };
        let (id, receipt) = state.lane.record(record);
        drop(state);
        let advice = snapshot.as_ref().filter(|_| !decision.is_allowed()).and_then(|snapshot| {
            decision.determining.iter().find_map(|policy| snapshot.policy(policy)?.advice)
        });
        let policies = snapshot.map_or(0, |snapshot| snapshot.versions().numbers.policies);
        Box::pin(async move {
            match receipt {
                Receipt::Taken | Receipt::Lost => {}
                Receipt::Pending(accepted) => match (accepted.await, audit) {
                    (Ok(()), _) | (Err(_), Audit::BestEffort) => {}
                    (Err(cause), _) => return Err(Unrecorded(cause.to_string())),
                },
            }
            Ok(Verdict { decision, id, policies, advice })
        })
    }

    fn named(&self, name: &str, call: &Call) -> Target {
        let found = self.routes.targets().iter().filter(|target| *target.route.name == *name);
        let wanted = call.grpc().map(|(service, method)| format!("{service}/{method}"));
        for target in found {
            match (&target.kind, &wanted) {
                (TargetKind::Route, None) => return Target::Resource(Resource::route(name)),
                (TargetKind::Method(id), Some(wanted)) if id.rsplit(':').next() == Some(wanted) => {
                    return Target::Resource(Resource::method(id));
                }
                _ => {}
            }
        }
        if wanted.is_some() { Target::UnknownMethod } else { Target::UnknownRoute }
    }
}

impl Judge for Outside {
    fn judge(&self, question: Question) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        self.answer(question, None)
    }

    fn refuse(&self, question: Question, reason: Reason) -> BoxFuture<'static, Result<Verdict, Unrecorded>> {
        self.answer(question, Some(reason))
    }

    fn canonical(&self, held: &Held, listener: &str, route: Option<&str>) -> Result<Canonical, String> {
        let call = canonical::call(held)?;
        let mut params = Params::new();
        let target = match route {
            Some(name) => {
                let route = self.routes.routes().iter().find(|route| *route.name == *name);
                let flaw = route.map_or_else(
                    || call.misspelled(Kept::default(), false),
                    |route| route.handling.misread(&call),
                );
                if let Some(flaw) = flaw {
                    return Err(format!("{}: {}", flaw.rule, flaw.detail));
                }
                self.named(name, &call)
            }
            None => match self.routes.find(&call, &arrival(listener)) {
                Found::Unreadable(flaw) => return Err(format!("{}: {}", flaw.rule, flaw.detail)),
                Found::Target(target) => {
                    let template = target.route.template.as_ref();
                    params = template.map(|template| template.params(call.path())).unwrap_or_default();
                    Target::Resource(match &target.kind {
                        TargetKind::Route => Resource::route(&target.route.name),
                        TargetKind::Service => Resource::service_named(&target.route.service),
                        TargetKind::Method(id) => Resource::method(id),
                    })
                }
                Found::UnknownRoute => Target::UnknownRoute,
                Found::UnknownMethod => Target::UnknownMethod,
            },
        };
        let snapshot = self.snapshots.borrow().clone();
        let declared = snapshot.map(|snapshot| Arc::clone(&snapshot.versions().declared)).unwrap_or_default();
        if let Some(flaw) = call.unread(|name| declared.headers.contains(name)) {
            return Err(format!("{}: {}", flaw.rule, flaw.detail));
        }
        if !request_of(&call).query_is_text(|name| declared.query.contains(name)) {
            let flaw = call.unreadable();
            return Err(format!("{}: {}", flaw.rule, flaw.detail));
        }
        let mut held = canonical::of(&call, target, &declared);
        let known = params.into_iter().filter(|(name, _)| declared.params.contains(name));
        held.request.params.extend(known.map(|(name, value)| (name.to_string(), value.into())));
        Ok(held)
    }

    fn trust(&self) -> Arc<IdentitySnapshot> {
        self.trust.as_ref().map(|trust| trust.snapshot()).unwrap_or_default()
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}

/// What is known of a connection that another enforcer holds: routes that ask for more take none of its calls.
fn arrival(listener: &str) -> Arrival<'_> {
    Arrival {
        listener,
        port: 0,
        source: Ipv4Addr::UNSPECIFIED.into(),
        sni: None,
        passed: false,
        identity: None,
    }
}
