//! Everybody and everything that two snapshots can tell apart: what entities or policies of either name, one by one,
//! and one stand-in for each class of those that they do not (EN5). Between them they cover every call.

use super::{Caller, Target};
use crate::{Principal, PrincipalKind, Resource, ResourceKind, Role, Snapshot};
use cedar_policy::EntityUid;
use std::collections::{BTreeMap, BTreeSet};

/// Callers and targets, each with one that stands for it.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) callers: Vec<(Caller, Principal)>,
    pub(super) targets: Vec<(Target, Resource)>,
}

impl Classes {
    pub(super) fn of(snapshots: [&Snapshot; 2]) -> Classes {
        let mut named = Named::default();
        let [old, new] = snapshots;
        uids(old).for_each(|uid| named.add(&uid));
        let (entities, policies) = (&old.parts().entities, &old.parts().named);
        let is_known = |uid: &EntityUid| policies.contains(uid) || entities.get(uid).is_some();
        uids(new).filter(|uid| !is_known(uid)).for_each(|uid| named.add(&uid));
        Classes { callers: named.callers(), targets: named.targets() }
    }
}

/// Uids of entities and of what policies name.
fn uids(snapshot: &Snapshot) -> impl Iterator<Item = EntityUid> + '_ {
    let parts = snapshot.parts();
    parts.entities.iter().map(cedar_policy::Entity::uid).chain(parts.named.iter().cloned())
}

/// What is named, by type.
#[derive(Default)]
struct Named {
    principals: BTreeMap<(PrincipalKind, String), Principal>,
    resources: BTreeMap<(ResourceKind, String), Resource>,
    domains: BTreeSet<String>,
}

impl Named {
    fn add(&mut self, uid: &EntityUid) {
        let (kind, id) = (uid.type_name().to_string(), uid.id().unescaped());
        if let Some(resource) = Resource::from_parts(&kind, id) {
            if resource.kind() == ResourceKind::TrustDomain {
                self.domains.insert(id.to_owned());
            }
            self.resources.insert((resource.kind(), id.to_owned()), resource);
        }
        if let Some(principal) = Principal::from_parts(&kind, id) {
            self.domains.extend(principal.trust_domain().map(str::to_owned));
            self.principals.insert((principal.kind(), id.to_owned()), principal);
        }
    }

    fn callers(&self) -> Vec<(Caller, Principal)> {
        let mut all = Vec::new();
        let mut one = |principal: Principal| all.push((Caller::One(principal.clone()), principal));
        for principal in self.principals.values() {
            match (principal.kind(), principal.id().parse::<u32>()) {
                (PrincipalKind::LocalUser, Ok(uid)) => {
                    role_sets().for_each(|roles| one(Principal::local_user(uid, None, &roles)));
                }
                (PrincipalKind::Anonymous, _) => {}
                _ => one(principal.clone()),
            }
        }
        one(Principal::anonymous());
        let mut others = |kind, trust_domain, roles, stands: Principal| {
            all.push((Caller::Others { kind, trust_domain, roles }, stands));
        };
        let stranger = self.stranger();
        let workload = |domain: &str| {
            let id = self.free(PrincipalKind::Workload, |n| format!("spiffe://{domain}/unnamed-{n}"));
            Principal::workload(&id)
        };
        for domain in &self.domains {
            others(PrincipalKind::Workload, Some(domain.clone()), Vec::new(), workload(domain));
        }
        others(PrincipalKind::Workload, None, Vec::new(), workload(&stranger));
        let agent =
            self.free(PrincipalKind::Agent, |n| format!("spiffe://{stranger}/portcullis/agent/unnamed-{n}"));
        others(PrincipalKind::Agent, None, Vec::new(), Principal::agent(&agent));
        let user = self.free(PrincipalKind::User, |n| format!("unnamed/unnamed-{n}"));
        if let Some(user) = Principal::from_parts(PrincipalKind::User.as_str(), &user) {
            others(PrincipalKind::User, None, Vec::new(), user);
        }
        let uid = self.free(PrincipalKind::LocalUser, |n| (u32::MAX - n).to_string());
        let uid = uid.parse().unwrap_or(u32::MAX);
        for roles in role_sets() {
            let stands = Principal::local_user(uid, None, &roles);
            others(PrincipalKind::LocalUser, None, roles, stands);
        }
        all
    }

    fn targets(&self) -> Vec<(Target, Resource)> {
        let mut resources = self.resources.clone();
        for own in [Resource::system(), Resource::policy_scope("/")] {
            resources.insert((own.kind(), own.id().to_owned()), own);
        }
        let mut all: Vec<(Target, Resource)> = resources
            .values()
            .filter(|resource| resource.kind() != ResourceKind::Unknown)
            .map(|resource| (Target::One(resource.clone()), resource.clone()))
            .collect();
        let taken = |kind: ResourceKind, id: &str| resources.contains_key(&(kind, id.to_owned()));
        let free = |kind: ResourceKind, name: &dyn Fn(usize) -> String| {
            let id = (0..=resources.len()).map(name).find(|id| !taken(kind, id)).unwrap_or_default();
            Resource::from_parts(kind.as_str(), &id)
        };
        let mut others = |kind: ResourceKind, within: Option<String>, name: &dyn Fn(usize) -> String| {
            all.extend(free(kind, name).map(|stands| (Target::Others { kind, within }, stands)));
        };
        let stranger = self.stranger();
        for domain in &self.domains {
            let within = Some(domain.clone());
            others(ResourceKind::Workload, within, &|n| format!("spiffe://{domain}/unnamed-{n}"));
        }
        others(ResourceKind::Workload, None, &|n| format!("spiffe://{stranger}/unnamed-{n}"));
        for (kind, scope) in resources.keys().filter(|(kind, _)| *kind == ResourceKind::PolicyScope) {
            let above = scope.trim_end_matches('/');
            others(*kind, Some(scope.clone()), &|n| format!("{above}/unnamed-{n}"));
        }
        others(ResourceKind::Namespace, None, &|n| format!("unnamed-{n}"));
        others(ResourceKind::TrustDomain, None, &|n| format!("unnamed-{n}.invalid"));
        others(ResourceKind::Enforcer, None, &|n| format!("spiffe://{stranger}/unnamed-{n}"));
        all
    }

    /// A trust domain that nothing names.
    fn stranger(&self) -> String {
        let mut names = (0..=self.domains.len()).map(|n| format!("unnamed-{n}.invalid"));
        names.find(|name| !self.domains.contains(name)).unwrap_or_default()
    }

    /// An id of that kind that nothing names: of as many as are named, and one more, one is free.
    fn free(&self, kind: PrincipalKind, name: impl Fn(u32) -> String) -> String {
        let most = u32::try_from(self.principals.len()).unwrap_or(u32::MAX);
        let is_free = |id: &String| !self.principals.contains_key(&(kind, id.clone()));
        (0..=most).map(name).find(is_free).unwrap_or_default()
    }
}

/// Every set of roles: a local user has the rights of all its roles together.
fn role_sets() -> impl Iterator<Item = Vec<Role>> {
    (0..1_u32 << Role::ALL.len()).map(|bits| {
        let has = |(at, _): &(usize, &Role)| bits & (1 << at) != 0;
        Role::ALL.iter().enumerate().filter(has).map(|(_, role)| *role).collect()
    })
}

#[cfg(test)]
impl Classes {
    /// Places of the caller and the target that stand for these.
    pub(super) fn find(&self, principal: &Principal, resource: &Resource) -> Option<(usize, usize)> {
        let is_one = |(caller, _): &(Caller, Principal)| matches!(caller, Caller::One(one) if (one.kind(), one.id(), one.roles()) == (principal.kind(), principal.id(), principal.roles()));
        let domain = Some(principal.kind())
            .filter(|kind| *kind == PrincipalKind::Workload)
            .and_then(|_| principal.trust_domain());
        let is_other = |wanted: Option<&str>| {
            self.callers.iter().position(|(caller, _)| matches!(caller, Caller::Others { kind, trust_domain, roles } if *kind == principal.kind() && trust_domain.as_deref() == wanted && roles == principal.roles()))
        };
        let caller =
            self.callers.iter().position(is_one).or_else(|| is_other(domain)).or_else(|| is_other(None))?;
        let target = self.targets.iter().position(|(target, _)| *target == Target::One(resource.clone()));
        let others = |wanted: Option<&str>| {
            self.targets.iter().position(|(target, _)| matches!(target, Target::Others { kind, within } if *kind == resource.kind() && within.as_deref() == wanted))
        };
        let target = target.or_else(|| {
            let mut within: Vec<String> = match resource.kind() {
                ResourceKind::Workload => crate::principal::spiffe_parts(resource.id())
                    .map(|(domain, _)| domain.to_owned())
                    .into_iter()
                    .collect(),
                _ => Vec::new(),
            };
            if resource.kind() == ResourceKind::PolicyScope {
                let mut scope = resource.id();
                while let Some((above, _)) = scope.rsplit_once('/') {
                    within.push(if above.is_empty() { "/".to_owned() } else { above.to_owned() });
                    scope = above;
                }
            }
            within.iter().find_map(|within| others(Some(within))).or_else(|| others(None))
        })?;
        Some((caller, target))
    }
}
