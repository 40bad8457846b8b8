//! The questions of both benches: a fixed list of (principal, action, resource) triples that policies have something to
//! say about, each with facts that vary.

use crate::{
    support::dice::Dice,
    world::{GROUPS, NAMESPACES, SERVICES, Topic, WORKLOADS, method, route, skewed, workload},
};
use base_ports::UnixTime;
use policies_engine::{
    AccessRequest, Action, ConnectionFacts, Facts, Principal, Protocol, RequestView, Resource,
};
use std::{collections::HashSet, net::IpAddr, sync::Arc};

/// 2026-11-25T12:00:00Z.
pub(crate) const NOON: UnixTime = UnixTime::from_secs(1_795_608_000);

/// One call as the proxy holds it: what the codec made, not what policies see.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) connection: ConnectionFacts,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) tenant: Option<&'static str>,
}

impl Facts for Call {
    fn connection(&self) -> &ConnectionFacts {
        &self.connection
    }

    fn request(&self) -> Option<RequestView<'_>> {
        Some(RequestView {
            method: self.method,
            host: "shop.example.org",
            path: &self.path,
            query: None,
            media_type: Some("application/json"),
            length: Some(120),
        })
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        self.path.get(1..)?.split_once('/')
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        match (name, self.tenant) {
            ("user-agent", _) => each("bench/1"),
            ("x-tenant", Some(tenant)) => each(tenant),
            _ => {}
        }
    }
}

/// One question.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) principal: Principal,
    pub(crate) action: Action,
    pub(crate) resource: Resource,
    pub(crate) call: Arc<Call>,
}

impl Ask {
    pub(crate) fn request<'a>(&'a self, facts: &'a dyn Facts) -> AccessRequest<'a> {
        AccessRequest {
            principal: &self.principal,
            action: self.action,
            resource: &self.resource,
            facts,
            now: NOON,
            extra: None,
        }
    }
}

/// `count` different triples, two calls each, in a shuffled order. `salt` makes another list.
pub(crate) fn asks(topics: &[Topic], count: usize, salt: u64) -> Vec<Ask> {
    let mut dice = Dice(salt);
    let pool = pool(&mut dice);
    let mut seen = HashSet::new();
    let mut asks = Vec::with_capacity(count * 2);
    while seen.len() < count {
        let topic = if dice.below(8) == 0 { Topic::Nobody } else { topics[dice.below(topics.len())] };
        let (principal, action, resource) = triple(&mut dice, topic);
        if !seen.insert((principal.clone(), action, resource.clone())) {
            continue;
        }
        for _ in 0..2 {
            let call = Arc::clone(&pool[usize::from(action == Action::Grpc)][dice.below(64)]);
            asks.push(Ask { principal: principal.clone(), action, resource: resource.clone(), call });
        }
    }
    for at in (1..asks.len()).rev() {
        asks.swap(at, dice.below(at + 1));
    }
    asks
}

fn triple(dice: &mut Dice, topic: Topic) -> (Principal, Action, Resource) {
    let anyone = |dice: &mut Dice| skewed(dice, WORKLOADS);
    let (caller, service, called) = match topic {
        Topic::Nobody => (anyone(dice), skewed(dice, SERVICES), None),
        Topic::Pair { workload, service } => (workload, service, None),
        // Workloads and services are numbered round the namespaces, workloads round the groups.
        Topic::Spaces { from, to } => (
            from + NAMESPACES * skewed(dice, WORKLOADS / NAMESPACES),
            to + NAMESPACES * skewed(dice, SERVICES / NAMESPACES),
            None,
        ),
        Topic::Group { group, service, method } => {
            (group + GROUPS * skewed(dice, WORKLOADS / GROUPS), service, Some(method))
        }
        Topic::Method { service, method } => (anyone(dice), service, Some(method)),
        Topic::Caller { workload } => (workload, skewed(dice, SERVICES), None),
    };
    let principal = Principal::workload(&workload(caller));
    match called {
        None if dice.below(2) == 0 => {
            let action = [Action::HttpGet, Action::HttpPost][dice.below(2)];
            (principal, action, Resource::route(&route(service, dice.below(2))))
        }
        called => {
            let which = called.unwrap_or_else(|| dice.below(4));
            (principal, Action::Grpc, Resource::method(&method(service, which)))
        }
    }
}

/// 64 HTTP calls and 64 gRPC calls.
fn pool(dice: &mut Dice) -> [Vec<Arc<Call>>; 2] {
    let mut call = |is_grpc: bool| {
        let net: u8 = dice.below(20) as u8;
        let source_ip: IpAddr = match net {
            0..16 => [10, net, 3, 7].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(net)].into(),
        };
        let connection = ConnectionFacts {
            mtls: dice.below(10) > 0,
            tls: match dice.below(20) {
                0 => 0,
                1..5 => 12,
                _ => 13,
            },
            source_ip,
            sni: Some("shop.example.org".into()),
            listener: "public".into(),
            protocol: if is_grpc { Protocol::Grpc } else { Protocol::H2 },
        };
        let (method, path) = match is_grpc {
            true => ("POST", format!("/{}", method(dice.below(SERVICES), dice.below(4)))),
            false => ("GET", format!("/v{}/orders/{}", dice.below(3), dice.below(10_000))),
        };
        let tenant = [Some("acme"), Some("umbrella"), None][dice.below(3)];
        Arc::new(Call { connection, method, path, tenant })
    };
    [(0..64).map(|_| call(false)).collect(), (0..64).map(|_| call(true)).collect()]
}
