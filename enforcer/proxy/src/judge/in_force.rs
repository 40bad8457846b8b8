//! The view in force as one worker uses it: what a call asks for, and what refuses it before any policy is asked.

use std::sync::Arc;

use base_ports::Now;
use enforcer_codec::{Call, CallProtocol, NotCanonical, Upgrade};
use enforcer_traffic::{Found, RateLimit, Route, Target, TargetKind};
use policies_engine::{
    Action, Decision, DecisionRecord, Facts, Freshness, Mode, Principal, Reason, Resource, Versions,
};

use crate::View;
use crate::authorize::unread;
use crate::fleets::Taker;
use crate::inbound::Connection;
use crate::meter::RouteMeter;
use crate::upstream::{Upstream, Upstreams};
use crate::worker::Worker;

/// A view as one worker uses it: with a resource per target and connections per route. Shared by this worker's calls
/// only, so that no two workers count references of the same value.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(super) view: Arc<View>,
    pub(super) versions: Option<Arc<Versions>>,
    pub(super) resources: Vec<Resource>,
    pub(super) clusters: Vec<Arc<Upstream>>,
    pub(super) routes: Vec<Upstreams>,
    /// What the listeners take, in their order.
    pub(super) rates: Vec<Option<Arc<RateLimit>>>,
    pub(super) unknown: Resource,
    pub(super) nowhere: Arc<RouteMeter>,
}

/// What a call asks for.
pub(super) struct Question<'a> {
    pub(super) resource: &'a Resource,
    /// The route, when there is one.
    pub(super) route: Option<&'a Route>,
    pub(super) mode: Mode,
    pub(super) meter: &'a Arc<RouteMeter>,
    /// Why the call cannot be read by the routes.
    pub(super) flaw: Option<NotCanonical>,
}

impl InForce {
    /// Version of its policies; 0 = there are none.
    pub(crate) fn version(&self) -> u64 {
        self.versions.as_ref().map_or(0, |versions| versions.numbers.policies)
    }

    pub(super) fn of(view: Arc<View>, before: &Self, worker: &Worker) -> Self {
        let resource = |target: &Target| {
            let resource = match &target.kind {
                TargetKind::Route => Resource::route(&target.route.name),
                TargetKind::Service => Resource::service_named(&target.route.service),
                TargetKind::Method(id) => Resource::method(id),
            };
            let namespace = Some(&*target.route.namespace).filter(|namespace| !namespace.is_empty());
            resource.within(&target.route.service, namespace)
        };
        let clusters = view.routes.clusters().iter();
        let clusters: Vec<_> =
            clusters.map(|cluster| Upstream::of(cluster, &before.clusters, worker)).collect();
        let routes = view.routes.routes().iter().map(|route| Upstreams::new(route, &clusters, worker));
        let rates = view.rates.iter().enumerate().map(|(number, settings)| {
            settings.as_ref().map(|settings| worker.fleets.rate(Taker::Listener(number), settings))
        });
        Self {
            // A value of this worker's own, so that its reference count is too.
            versions: view.policy.as_ref().map(|snapshot| Arc::new(Versions::clone(snapshot.versions()))),
            resources: view.routes.targets().iter().map(resource).collect(),
            routes: routes.collect(),
            rates: rates.collect(),
            clusters,
            unknown: Resource::unknown(),
            nowhere: Arc::clone(&worker.nowhere),
            view,
        }
    }

    /// The clusters of the view.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.clusters.iter()
    }

    /// What a call asks for.
    pub(crate) fn resource(&self, conn: &Connection, call: &Call) -> &Resource {
        self.question(conn, call).resource
    }

    /// The way of a permitted call.
    pub(crate) fn route(&self, route: usize) -> Option<&Upstreams> {
        self.routes.get(route)
    }

    /// What goes on record about a decision of this view.
    pub(super) fn record(
        &self,
        conn: &Connection,
        decision: Decision,
        (action, resource): (Action, &Resource),
        facts: Arc<dyn Facts>,
        mode: Mode,
        now: Now,
    ) -> DecisionRecord {
        DecisionRecord {
            mode,
            credential: conn.secured.credential.clone(),
            versions: self.versions.clone(),
            stale: self.view.freshness(None) != Freshness::Fresh,
            facts: Some(facts),
            ..DecisionRecord::new(decision, conn.secured.principal.clone(), action, resource.clone(), now)
        }
    }

    /// Whether a call that `since` judged may be judged otherwise by this.
    pub(super) fn concerns(
        &self,
        since: &Self,
        principal: &Principal,
        action: Action,
        resource: &Resource,
    ) -> bool {
        match (&since.view.policy, &self.view.policy) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => false,
            (Some(old), Some(new)) => match &self.view.changes {
                Some(changes) if changes.is_between(old, new) => {
                    changes.concerns(principal, action, resource)
                }
                _ => true,
            },
            _ => true,
        }
    }

    pub(super) fn question<'a>(&'a self, conn: &Connection, call: &Call) -> Question<'a> {
        let nothing = || Question {
            resource: &self.unknown,
            route: None,
            mode: self.view.mode(conn.listening.number),
            meter: &self.nowhere,
            flaw: None,
        };
        let target = match self.view.routes.find(call, &conn.secured.arrival()) {
            Found::Target(target) => target,
            Found::Unreadable(flaw) => return Question { flaw: Some(flaw), ..nothing() },
            Found::UnknownRoute | Found::UnknownMethod => return nothing(),
        };
        let (Some(resource), Some(upstreams)) =
            (self.resources.get(target.index as usize), self.routes.get(target.route.index as usize))
        else {
            return nothing();
        };
        let mode = self.mode_of(Some(&target.route), conn);
        let flaw = unread(self.versions.as_deref(), call);
        Question { resource, route: Some(&target.route), mode, meter: &upstreams.meter, flaw }
    }

    /// Whether denials of a call are carried out.
    pub(super) fn mode_of(&self, route: Option<&Route>, conn: &Connection) -> Mode {
        match route.and_then(|route| route.observe) {
            Some(true) => Mode::Observe,
            Some(false) => Mode::Enforce,
            None => self.view.mode(conn.listening.number),
        }
    }

    /// The same for a call that `began` permitted: as the route of that name says now, or the listener where it is gone.
    pub(super) fn mode_after(&self, began: &Self, question: &Question<'_>, conn: &Connection) -> Mode {
        let (old, new) = (&began.view, &self.view);
        if Arc::ptr_eq(&old.routes, &new.routes) && Arc::ptr_eq(&old.modes, &new.modes) {
            return question.mode;
        }
        let name = question.route.map(|began| &began.name);
        let route = new.routes.routes().iter().find(|route| Some(&route.name) == name);
        self.mode_of(route.map(|route| &**route), conn)
    }

    /// What refuses a call before any policy is asked, in the order of RW1.
    pub(super) fn refuses(
        &self,
        conn: &Connection,
        call: &Call,
        question: &Question<'_>,
        now: Now,
    ) -> Option<Reason> {
        if let Some(lapsed) = conn.secured.lapsed(&conn.worker.trust, now) {
            return Some(lapsed);
        }
        // What carries no HTTP, or asks for another place, is for whom its caller asked in the handshake, if for anybody.
        let host = match (call.protocol(), call.upgrade()) {
            (CallProtocol::Tcp, _) | (_, Some(Upgrade::Connect)) => conn.secured.sni(),
            _ => Some(call.host()),
        };
        if host.is_some_and(|host| !conn.secured.serves(&conn.listening, &self.view.routes, host)) {
            return Some(Reason::AuthorityMismatch);
        }
        if question.flaw.is_some() {
            return Some(Reason::NotCanonical);
        }
        if self.view.policy.is_none() {
            return Some(Reason::NoPolicy);
        }
        if self.view.freshness(question.route) == Freshness::Expired {
            return Some(Reason::PolicyStale);
        }
        if question.route.is_none() {
            let grpc = call.protocol() == CallProtocol::Grpc;
            return Some(if grpc { Reason::UnknownMethod } else { Reason::UnknownRoute });
        }
        None
    }
}
