//! Why a call goes where it goes: what each route says to it. For people; the proxy asks [`Routes::find`] only.

use std::sync::Arc;

use enforcer_codec::{Call, CallProtocol, NotCanonical, Upgrade};

use super::plan::Plan;
use super::{Found, Routes, TargetKind};
use crate::Arrival;

/// What one route says to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The route.
    pub route: Arc<str>,
    /// What it says.
    pub verdict: Verdict,
}

/// What a route says to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the call.
    Taken,
    /// It would take it; the route that does ranks higher.
    Outranked,
    /// It does not take it: the first condition that does not hold, in words.
    Unmet(String),
}

impl Routes {
    /// What every route says to a call, in their order.
    ///
    /// # Errors
    /// CC-11 when a route reads a field that is no text.
    pub fn explain(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Vec<Standing>, NotCanonical> {
        let taken = match self.find(call, arrival) {
            Found::Target(target) => Some(target.route.index),
            Found::Unreadable(flaw) => return Err(flaw),
            Found::UnknownRoute | Found::UnknownMethod => None,
        };
        let is_tcp = call.protocol() == CallProtocol::Tcp;
        let asked = (is_tcp, call.upgrade() == Some(Upgrade::Connect), is_tcp && arrival.passed);
        let standings = self.routes.iter().zip(&self.plans).map(|(route, plan)| {
            let is_bytes =
                self.route_target(route.index).is_some_and(|target| target.kind == TargetKind::Service);
            let kind = (is_bytes, !route.connect.is_empty(), !plan.passes.is_empty());
            let unmet = match kind {
                _ if kind == asked => plan.unmet(call, arrival)?,
                (true, _, passes) if is_tcp && passes => {
                    Some("the TLS of its server name passes through".to_owned())
                }
                (true, ..) if is_tcp => Some("the TLS of its server name ends here".to_owned()),
                (true, ..) => Some("the connection carries no HTTP".to_owned()),
                (_, true, _) => Some("the call asks for a tunnel".to_owned()),
                _ => Some("the call is HTTP and no tunnel".to_owned()),
            };
            let verdict = match unmet {
                Some(unmet) => Verdict::Unmet(unmet),
                None if taken == Some(route.index) => Verdict::Taken,
                None => Verdict::Outranked,
            };
            Ok(Standing { route: Arc::clone(&route.name), verdict })
        });
        standings.collect()
    }
}

impl Plan {
    /// The first condition that does not hold.
    fn unmet(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<String>, NotCanonical> {
        if !self.hosts.iter().any(|host| host.has(call.host())) {
            let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
            return Ok(Some(format!("host is {}", hosts.join(" or "))));
        }
        if !self.shape.takes(call.path()) {
            return Ok(Some(format!("path is {}", self.shape)));
        }
        self.matchers.missing(call, arrival)
    }
}
