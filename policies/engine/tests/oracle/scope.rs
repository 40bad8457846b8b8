//! Random policy scopes, and what a policy of that scope can see: attributes with their guards, and the relations that
//! its three entities can stand in.

use crate::{
    leaf::{self, Leaf},
    support::dice::Dice,
    world::Site,
};

type Relation = Box<dyn Fn(&mut Dice) -> String>;

/// The head of a policy.
pub(crate) struct Scope {
    /// Constraints on principal, action and resource.
    pub(crate) head: [String; 3],
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) relations: Vec<Relation>,
}

/// Actions that go together: what calls them, what they are asked on, how policies name them.
pub(crate) struct Domain {
    principals: &'static [&'static str],
    pub(crate) resources: &'static [&'static str],
    actions: &'static [&'static str],
    pub(crate) has_request: bool,
    pub(crate) has_rpc: bool,
    pub(crate) has_change: bool,
    pub(crate) has_issue: bool,
}

const CALLERS: &[&str] = &["Workload", "User", "Anonymous", "Portcullis::Agent"];
const PEOPLE: &[&str] = &["Workload", "User", "Portcullis::LocalUser"];

pub(crate) const DOMAINS: [Domain; 11] = [
    Domain {
        resources: &["Route"],
        actions: &[
            "action in Action::\"http\"",
            "action in Action::\"http:read\"",
            "action in Action::\"http:write\"",
            "action == Action::\"http:GET\"",
            "action == Action::\"http:POST\"",
            "action in [Action::\"http:GET\", Action::\"http:OTHER\", Action::\"http:QUERY\"]",
        ],
        has_request: true,
        ..NOTHING
    },
    Domain {
        resources: &["Method"],
        actions: &["action == Action::\"grpc\"", "action in Action::\"rpc\"", "action in [Action::\"grpc\"]"],
        has_request: true,
        has_rpc: true,
        ..NOTHING
    },
    Domain {
        principals: &["Workload", "Anonymous", "Portcullis::Agent"],
        resources: &["Service"],
        actions: &["action == Action::\"tcp:connect\""],
        ..NOTHING
    },
    // Several kinds of call at once: what not all have is guarded.
    Domain {
        resources: &["Route", "Method", "Service"],
        actions: &[
            "action in Action::\"call\"",
            "action in [Action::\"http\", Action::\"grpc\"]",
            "action in [Action::\"tcp:connect\", Action::\"grpc\"]",
        ],
        ..NOTHING
    },
    Domain {
        principals: &["Workload", "User", "Portcullis::LocalUser", "Portcullis::Agent", "Anonymous"],
        resources: &["Portcullis::System"],
        actions: &[
            "action == Portcullis::Action::\"probe\"",
            "action in [Portcullis::Action::\"bundle:read\", Portcullis::Action::\"probe\"]",
        ],
        ..NOTHING
    },
    Domain {
        principals: PEOPLE,
        resources: &["Portcullis::System"],
        actions: &[
            "action == Portcullis::Action::\"system:read\"",
            "action == Portcullis::Action::\"ca:rotate\"",
            "action in Portcullis::Action::\"admin:write\"",
        ],
        ..NOTHING
    },
    Domain {
        principals: &["Portcullis::Agent", "Workload", "User", "Portcullis::LocalUser"],
        resources: &["Workload"],
        actions: &["action == Portcullis::Action::\"identity:issue\""],
        has_issue: true,
        ..NOTHING
    },
    Domain {
        principals: PEOPLE,
        resources: &["Namespace", "TrustDomain"],
        actions: &[
            "action == Portcullis::Action::\"entry:write\"",
            "action in [Portcullis::Action::\"entry:read\", Portcullis::Action::\"decisions:read\"]",
        ],
        ..NOTHING
    },
    Domain {
        principals: PEOPLE,
        resources: &["Portcullis::PolicyScope"],
        actions: &[
            "action == Portcullis::Action::\"policy:publish\"",
            "action in [Portcullis::Action::\"policy:approve\", Portcullis::Action::\"policy:rollback\"]",
        ],
        has_change: true,
        ..NOTHING
    },
    Domain {
        principals: PEOPLE,
        resources: &["Portcullis::Enforcer"],
        actions: &[
            "action == Portcullis::Action::\"enforcer:read\"",
            "action == Portcullis::Action::\"enforcer:operate\"",
        ],
        ..NOTHING
    },
    Domain {
        principals: &["Workload", "User", "Anonymous", "Portcullis::Agent", "Portcullis::LocalUser"],
        resources: &[
            "Route",
            "Method",
            "Service",
            "Portcullis::System",
            "Workload",
            "Portcullis::PolicyScope",
        ],
        actions: &["action"],
        ..NOTHING
    },
];

const NOTHING: Domain = Domain {
    principals: CALLERS,
    resources: &[],
    actions: &[],
    has_request: false,
    has_rpc: false,
    has_change: false,
    has_issue: false,
};

/// What one installation is about: a few domains, calls more often than our own APIs.
pub(crate) fn focus(dice: &mut Dice) -> Vec<usize> {
    (0..2).map(|_| if dice.below(3) == 0 { dice.below(DOMAINS.len()) } else { dice.below(4) }).collect()
}

/// Ids that policies name; not all of them exist.
fn ids(kind: &str) -> &'static [&'static str] {
    match kind {
        "Workload" => &[
            "spiffe://example.org/web",
            "spiffe://example.org/api",
            "spiffe://example.org/batch/nightly",
            "spiffe://other.org/web",
            "spiffe://example.org/named",
        ],
        "User" => &["corp/alice", "corp/named", "ext/eve"],
        "Anonymous" => &["anonymous"],
        "Portcullis::Agent" => {
            &["spiffe://example.org/portcullis/agent/n1", "spiffe://example.org/portcullis/agent/n2"]
        }
        "Portcullis::LocalUser" => &["0", "1000", "4711"],
        "Route" => &["home", "admin", "static"],
        "Method" => &["shop.Orders/Get", "shop.Orders/Refund", "eu:shop.Orders/Get", "none.None/No"],
        "Service" => &["orders", "site", "db", "none"],
        "RpcService" => &["shop.Orders", "eu:shop.Orders", "none"],
        "Namespace" => &["shop", "front", "back", "none"],
        "TrustDomain" => &["example.org", "other.org"],
        "Group" => &["frontends", "money", "all", "empty", "none"],
        "UserGroup" => &["corp/staff", "corp/none"],
        "Portcullis::Role" => &["viewer", "auditor", "author", "approver", "operator"],
        "Portcullis::System" => &["system"],
        "Portcullis::PolicyScope" => &["/", "/shop", "/shop/eu"],
        "Portcullis::Enforcer" => &["spiffe://example.org/gw"],
        other => panic!("`{other}` has no ids here"),
    }
}

/// Types that something of that type can be in.
fn above(kind: &str) -> &'static [&'static str] {
    match kind {
        "Workload" => &["Group", "Namespace", "TrustDomain", "Portcullis::Role"],
        "User" => &["UserGroup", "Portcullis::Role"],
        "Portcullis::LocalUser" => &["Portcullis::Role"],
        "Route" => &["Service", "Group", "Namespace", "TrustDomain"],
        "Method" => &["RpcService", "Service", "Group", "Namespace", "TrustDomain"],
        "Service" => &["Group", "Namespace", "TrustDomain"],
        "Portcullis::PolicyScope" => &["Portcullis::PolicyScope"],
        "Portcullis::Enforcer" => &["Namespace", "TrustDomain"],
        "Namespace" => &["TrustDomain"],
        _ => &[],
    }
}

fn pick<'a>(dice: &mut Dice, from: &[&'a str]) -> &'a str {
    from[dice.below(from.len())]
}

fn named(dice: &mut Dice, kind: &str) -> String {
    format!("{kind}::\"{}\"", pick(dice, ids(kind)))
}

impl Scope {
    /// A scope of one of the domains that the installation is about, or now and then of any.
    pub(crate) fn random(dice: &mut Dice, site: &Site, focus: &[usize]) -> Scope {
        let domain = match dice.below(8) {
            0 => &DOMAINS[dice.below(DOMAINS.len())],
            _ => &DOMAINS[focus[dice.below(focus.len())]],
        };
        let (principal, caller) = constraint(dice, "principal", domain.principals);
        let (resource, target) = constraint(dice, "resource", domain.resources);
        let action = pick(dice, domain.actions);
        let mut leaves = Vec::new();
        match caller {
            Some(kind) => leaf::entity(&mut leaves, "principal", kind, &[]),
            None => domain.principals.iter().for_each(|kind| {
                leaf::entity(&mut leaves, "principal", kind, &[format!("principal is {kind}")]);
            }),
        }
        match target {
            Some(kind) => leaf::entity(&mut leaves, "resource", kind, &[]),
            None if domain.resources.len() == 1 => {
                leaf::entity(&mut leaves, "resource", domain.resources[0], &[])
            }
            None => domain.resources.iter().for_each(|kind| {
                leaf::entity(&mut leaves, "resource", kind, &[format!("resource is {kind}")]);
            }),
        }
        leaf::context(&mut leaves, domain, site);
        let mut relations = relations("principal", caller, domain.principals);
        relations.extend(self::relations("resource", target, domain.resources));
        if domain.has_request {
            for kind in ["UserGroup", "Portcullis::Role"] {
                relations.push(Box::new(move |dice| {
                    let (one, other) = (named(dice, kind), named(dice, "UserGroup"));
                    let over = if dice.below(2) == 0 { one } else { format!("[{one}, {other}]") };
                    format!("(context has jwt && context.jwt.user in {over})")
                }));
            }
            relations.push(Box::new(|dice| {
                format!("(context has jwt && context.jwt.user == {})", named(dice, "User"))
            }));
        }
        if !action.contains("Portcullis") && action != "action" {
            relations.push(Box::new(|dice| {
                let one = "action == Action::\"grpc\"";
                let all = [
                    "action in Action::\"http:read\"",
                    "action in [Action::\"http:GET\", Action::\"grpc\"]",
                    one,
                ];
                pick(dice, &all).to_owned()
            }));
        }
        Scope { head: [principal, action.to_owned(), resource], leaves, relations }
    }
}

/// A constraint of the head, and the one type it leaves.
fn constraint(dice: &mut Dice, var: &str, kinds: &[&'static str]) -> (String, Option<&'static str>) {
    let kind = pick(dice, kinds);
    let over = above(kind);
    match dice.below(14) {
        0..6 => (var.to_owned(), None),
        6 => (format!("{var} == {}", named(dice, kind)), Some(kind)),
        7 | 8 if !over.is_empty() => {
            let over = pick(dice, over);
            (format!("{var} in {}", named(dice, over)), None)
        }
        9 | 10 if !over.is_empty() => {
            let over = pick(dice, over);
            (format!("{var} is {kind} in {}", named(dice, over)), Some(kind))
        }
        _ => (format!("{var} is {kind}"), Some(kind)),
    }
}

fn relations(
    var: &'static str,
    known: Option<&'static str>,
    kinds: &'static [&'static str],
) -> Vec<Relation> {
    let mut all: Vec<Relation> = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| known.is_none_or(|known| known == *kind)) {
        if !above(kind).is_empty() {
            all.push(Box::new(move |dice| {
                let over = pick(dice, above(kind));
                format!("{var} in {}", named(dice, over))
            }));
            all.push(Box::new(move |dice| {
                let over = pick(dice, above(kind));
                format!("{var} in [{}, {}]", named(dice, over), named(dice, over))
            }));
            all.push(Box::new(move |dice| {
                let over = pick(dice, above(kind));
                format!("{var} is {kind} in {}", named(dice, over))
            }));
        }
        let guard = if known.is_some() { String::new() } else { format!("{var} is {kind} && ") };
        let again = guard.clone();
        all.push(Box::new(move |dice| format!("({guard}{var} == {})", named(dice, kind))));
        all.push(Box::new(move |dice| {
            format!("({again}[{}, {}].contains({var}))", named(dice, kind), named(dice, kind))
        }));
        all.push(Box::new(move |_| format!("{var} is {kind}")));
    }
    all
}
