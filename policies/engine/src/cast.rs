//! Who and what of a request as Cedar sees them: the entity of the snapshot where there is one, else what the id
//! alone yields (MO6, S37). A route, method or service without an entity is refused as `entity_missing`.

use crate::{
    AccessRequest, Principal, PrincipalKind, Reason, Resource, ResourceKind, Snapshot, Token,
    principal::spiffe_parts,
    scope::{Lineage, Triple},
    uid::{cedar_uid, type_name},
};
use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};
use std::collections::{HashMap, HashSet};

/// A request's three uids with their ancestors, and the entities the snapshot does not have.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) triple: Triple,
    pub(crate) overlay: Vec<Entity>,
    /// Whom the token of the call tells of, where that is not the principal.
    user: Option<Lineage>,
}

/// Everything stock Cedar needs besides policies and context.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) principal: EntityUid,
    pub(crate) action: EntityUid,
    pub(crate) resource: EntityUid,
    pub(crate) entities: Entities,
}

/// A lineage, and the entity where the snapshot has none.
type Found = (Lineage, Option<Entity>);

impl Snapshot {
    /// The cast of a request, or why no policy can be asked about it.
    pub(crate) fn cast(&self, request: &AccessRequest<'_>) -> Result<Cast, Reason> {
        let (resource, resource_entity) = self.resource(request.resource)?;
        let environment = (request.principal.kind(), request.action, request.resource.kind());
        if !self.parts().environments.contains(&environment) {
            return Err(Reason::NoPermit);
        }
        let (principal, principal_entity) = match request.own_token() {
            Some(token) => self.user(request.principal.id(), token.groups(), Some(token))?,
            None => self.principal(request.principal)?,
        };
        let action = self.lineage(cedar_uid(request.action.entity_type(), request.action.as_str()));
        let beside = request.token().filter(|_| request.own_token().is_none());
        let (user, user_entity) =
            beside.map(|token| self.user(token.user(), token.groups(), Some(token))).transpose()?.unzip();
        let overlay =
            principal_entity.into_iter().chain(resource_entity).chain(user_entity.flatten()).collect();
        Ok(Cast { triple: Triple { principal, action, resource }, overlay, user })
    }

    /// Whether plans of this principal are its own, or shared with all that only its kind and trust domain tell apart.
    pub(crate) fn is_distinct(&self, principal: &Principal) -> bool {
        match principal.kind() {
            PrincipalKind::Anonymous | PrincipalKind::LocalUser => true,
            PrincipalKind::Workload | PrincipalKind::User | PrincipalKind::Agent => {
                let uid = cedar_uid(principal.entity_type(), principal.id());
                self.parts().named.contains(&uid) || self.parts().entities.get(&uid).is_some()
            }
        }
    }

    /// The entities that evaluating a policy over `cast` can touch: the cast and all that it is in. Policies cannot look
    /// into entities they name themselves, level 1 forbids it.
    pub(crate) fn stage(&self, cast: &Cast) -> Result<Stage, Reason> {
        let Triple { principal, action, resource } = &cast.triple;
        let wanted: HashSet<&EntityUid> =
            [principal, action, resource].into_iter().chain(&cast.user).flat_map(Lineage::all).collect();
        let found = wanted.into_iter().filter_map(|uid| self.parts().entities.get(uid));
        let mut entities: HashMap<EntityUid, Entity> =
            found.map(|entity| (entity.uid(), entity.clone())).collect();
        entities.extend(cast.overlay.iter().map(|entity| (entity.uid(), entity.clone())));
        let entities = Entities::from_entities(entities.into_values(), None).map_err(|cause| {
            tracing::error!(%cause, "entities of one request do not fit together");
            Reason::EntityMissing
        })?;
        let uid = |lineage: &Lineage| lineage.uid.clone();
        Ok(Stage { principal: uid(principal), action: uid(action), resource: uid(resource), entities })
    }

    pub(crate) fn principal(&self, principal: &Principal) -> Result<Found, Reason> {
        if let Some(groups) = principal.groups() {
            return self.user(principal.id(), groups, None);
        }
        let uid = cedar_uid(principal.entity_type(), principal.id());
        if principal.roles().is_empty() && self.parts().entities.get(&uid).is_some() {
            return Ok((self.lineage(uid), None));
        }
        match principal.kind() {
            PrincipalKind::Workload => derived_workload(uid, principal.id()),
            PrincipalKind::Anonymous => Ok((Lineage::new(uid, []), None)),
            PrincipalKind::Agent => {
                let (_, path) = spiffe_parts(principal.id()).ok_or(Reason::EntityMissing)?;
                derived(uid, vec![text("path", path)], Vec::new())
            }
            PrincipalKind::LocalUser => {
                let number = principal.id().parse().ok().ok_or(Reason::EntityMissing)?;
                let mut attributes = vec![("uid".to_owned(), RestrictedExpression::new_long(number))];
                attributes.extend(principal.name().map(|name| text("name", name)));
                let roles = principal.roles().iter().map(|role| cedar_uid("Portcullis::Role", role.as_str()));
                derived(uid, attributes, roles.collect())
            }
            PrincipalKind::User => {
                let (issuer, subject) = principal.id().split_once('/').ok_or(Reason::EntityMissing)?;
                derived(uid, vec![text("issuer", issuer), text("subject", subject)], Vec::new())
            }
        }
    }

    /// A person as the token tells: in its groups and what those are in, and in the roles that the snapshot gives him.
    /// Nobody but the issuer puts people into groups (MO2).
    fn user(&self, id: &str, groups: &[String], token: Option<&Token>) -> Result<Found, Reason> {
        let uid = cedar_uid(PrincipalKind::User.as_str(), id);
        let (issuer, subject) = id.split_once('/').ok_or(Reason::EntityMissing)?;
        let mut attributes = vec![text("issuer", issuer), text("subject", subject)];
        attributes.extend(token.and_then(|token| token.email.as_deref()).map(|email| text("email", email)));
        let texts = |words: &[String]| {
            RestrictedExpression::new_set(words.iter().cloned().map(RestrictedExpression::new_string))
        };
        let claims = token.into_iter().flat_map(|token| &token.claims);
        let tags: Vec<_> = claims.map(|(name, words)| (name.clone(), texts(words))).collect();
        let role = type_name("Portcullis::Role");
        let roles = self.parts().entities.ancestors(&uid).into_iter().flatten();
        let roles = roles.filter(|above| *above.type_name() == role);
        let mut parents: Vec<EntityUid> = roles.cloned().collect();
        parents.extend(groups.iter().map(|group| cedar_uid("UserGroup", group)));
        let above =
            parents.iter().flat_map(|parent| self.parts().entities.ancestors(parent).into_iter().flatten());
        let lineage = Lineage::new(uid.clone(), above.chain(&parents).cloned());
        let entity = Entity::new_with_tags(uid, attributes, parents, tags).map_err(|cause| {
            tracing::error!(%cause, "a user could not be made of a token");
            Reason::EntityMissing
        })?;
        Ok((lineage, Some(entity)))
    }

    pub(crate) fn resource(&self, resource: &Resource) -> Result<Found, Reason> {
        let kind = resource.kind();
        if kind == ResourceKind::Unknown {
            return Err(Reason::EntityMissing);
        }
        let uid = cedar_uid(kind.as_str(), resource.id());
        if self.parts().entities.get(&uid).is_some() {
            return Ok((self.lineage(uid), None));
        }
        match kind {
            ResourceKind::Route | ResourceKind::Method | ResourceKind::Service | ResourceKind::Unknown => {
                Err(Reason::EntityMissing)
            }
            ResourceKind::Workload => derived_workload(uid, resource.id()),
            ResourceKind::PolicyScope => {
                let up: Vec<_> =
                    scopes_above(resource.id()).map(|scope| cedar_uid(kind.as_str(), scope)).collect();
                derived(uid, Vec::new(), up)
            }
            ResourceKind::System
            | ResourceKind::Namespace
            | ResourceKind::TrustDomain
            | ResourceKind::Enforcer => Ok((Lineage::new(uid, []), None)),
        }
    }

    pub(crate) fn lineage(&self, uid: EntityUid) -> Lineage {
        let ancestors: Vec<EntityUid> =
            self.parts().entities.ancestors(&uid).into_iter().flatten().cloned().collect();
        Lineage::new(uid, ancestors)
    }
}

fn derived_workload(uid: EntityUid, id: &str) -> Result<Found, Reason> {
    let (domain, path) = spiffe_parts(id).ok_or(Reason::EntityMissing)?;
    let attributes = vec![text("trust_domain", domain), text("path", path)];
    derived(uid, attributes, vec![cedar_uid("TrustDomain", domain)])
}

fn derived(
    uid: EntityUid,
    attributes: Vec<(String, RestrictedExpression)>,
    parents: Vec<EntityUid>,
) -> Result<Found, Reason> {
    let lineage = Lineage::new(uid.clone(), parents.iter().cloned());
    let entity = Entity::new_with_tags(uid, attributes, parents, []).map_err(|cause| {
        tracing::error!(%cause, "an entity could not be derived from its id");
        Reason::EntityMissing
    })?;
    Ok((lineage, Some(entity)))
}

/// `/shop/eu` is in `/shop`, which is in `/`.
fn scopes_above(scope: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(scope), |scope| match scope.rsplit_once('/') {
        Some(("", "")) | None => None,
        Some(("", _)) => Some("/"),
        Some((above, _)) => Some(above),
    })
    .skip(1)
}

fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_scope_is_in_all_above_it() {
        assert_eq!(scopes_above("/").count(), 0);
        assert_eq!(scopes_above("/shop").collect::<Vec<_>>(), ["/"]);
        assert_eq!(scopes_above("/shop/eu").collect::<Vec<_>>(), ["/shop", "/"]);
    }
}
