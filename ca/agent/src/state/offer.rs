//! What one caller may have as secrets of SDS, and what of it a stream asked for.
//!
//! Made by [`State::offer`] from the very SVIDs and bundle that the Workload API serves; `service::sds` picks from it.
//! It refuses nothing: names that are not offered are listed as unknown, and the stream decides what that means.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use base_ports::UnixTime;
use ca_identity::{Bundle, Selector};

use super::{ANSWER_BYTES, Crls, NO_ROOTS, Served, State, View, first_problem};
use crate::secret::{Form, SdsNames, Secret};

/// The secrets of one caller, in the order of sending: what to verify with comes first, so that nobody is shown a
/// certificate under a new root before he knows that root (SD-04).
#[derive(Debug)]
pub(crate) struct Offer(Vec<Item>);

#[derive(Debug)]
struct Item {
    name: String,
    /// Another name of something that is offered under its own; not part of "all".
    is_alias: bool,
    standing: Standing,
}

#[derive(Debug, Clone)]
enum Standing {
    Ready(Arc<Secret>),
    /// The authority has not answered yet.
    Pending,
    Failed(String),
}

/// What a client asked for. All of it, or names, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) all: bool,
    pub(crate) names: BTreeSet<String>,
}

/// What of an offer was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Picked {
    /// What can be sent.
    pub(crate) ready: Vec<Arc<Secret>>,
    /// What the caller may have but which is not at hand.
    pub(crate) absent: BTreeSet<String>,
    /// Names that the caller may not have, or that nobody has.
    pub(crate) unknown: BTreeSet<String>,
}

/// What verifies peers, by name; in both forms.
#[derive(Debug)]
pub(super) struct Contexts {
    spiffe: [Arc<Secret>; 3],
    plain: [Arc<Secret>; 3],
}

impl Contexts {
    pub(super) fn of(own: &Bundle, crls: &Crls, names: &SdsNames) -> Self {
        let id = own.trust_domain.id().to_string();
        let build = |form| {
            [id.as_str(), &names.bundle, &names.bundles]
                .map(|name| Arc::new(Secret::context(name, &[own], crls, form)))
        };
        Self { spiffe: build(Form::Spiffe), plain: build(Form::Plain) }
    }

    /// The trust domain by its ID, and again by the fixed names.
    fn items(&self, form: Form) -> impl Iterator<Item = Item> {
        let secrets = match form {
            Form::Spiffe => &self.spiffe,
            Form::Plain => &self.plain,
        };
        secrets.iter().zip([false, true, true]).map(|(secret, is_alias)| Item {
            name: secret.name.clone(),
            is_alias,
            standing: Standing::Ready(Arc::clone(secret)),
        })
    }
}

impl State {
    /// The secrets of a caller; `names` are the same for the whole process.
    pub(crate) fn offer(
        &self,
        selectors: &[Selector],
        now: UnixTime,
        names: &SdsNames,
        form: Form,
    ) -> View<Offer> {
        self.entitled(selectors).then(|matching| {
            if self.bundle.is_empty() {
                return View::Unavailable(NO_ROOTS.to_owned());
            }
            let contexts = self.contexts.get_or_init(|| Contexts::of(&self.own, &self.crls, names));
            let others = self.others.of(&matching, now);
            let mut items: Vec<Item> = contexts.items(form).collect();
            for other in others.iter().filter(|other| other.roots().is_some()) {
                let secret = other.context(form);
                let name = secret.name.clone();
                items.push(Item { name, is_alias: false, standing: Standing::Ready(secret) });
            }
            // The plain form would mix the roots of several domains (TB-01), so there `ALL` is the own one alone.
            if !others.is_empty() && form == Form::Spiffe {
                let joint = self.others.joint(&self.own, &others, names);
                items.iter_mut().filter(|item| item.name == names.bundles).for_each(|item| {
                    item.standing = Standing::Ready(Arc::clone(&joint));
                });
            }
            items.extend(certificates(&matching, now, names));
            if items.iter().map(Item::size).sum::<usize>() > ANSWER_BYTES {
                return View::TooLarge { entries: matching.len() };
            }
            View::Complete(Offer(items))
        })
    }
}

/// One item for each SPIFFE ID, and one for the default identity. Of entries with the same ID the first counts that has
/// something to show, as it does for the default.
fn certificates(matching: &[&Served], now: UnixTime, names: &SdsNames) -> Vec<Item> {
    let standing = |served: &Served, is_default: bool| match &served.resource {
        Some(resource) if resource.not_after > now => {
            let [own, default] = resource.secrets(names);
            Standing::Ready(Arc::clone(if is_default { default } else { own }))
        }
        _ if served.is_pending() => Standing::Pending,
        _ => Standing::Failed(first_problem(&[served])),
    };
    let best = |of: &[&Served], is_default| {
        let mut first = None;
        for served in of {
            match standing(served, is_default) {
                failed @ Standing::Failed(_) => drop(first.get_or_insert(failed)),
                good => return Some(good),
            }
        }
        first
    };
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for served in matching.iter().filter(|served| seen.insert(&served.entry.spiffe_id)) {
        let same: Vec<&Served> = matching
            .iter()
            .copied()
            .filter(|other| other.entry.spiffe_id == served.entry.spiffe_id)
            .collect();
        let name = served.entry.spiffe_id.to_string();
        items.extend(best(&same, false).map(|standing| Item { name, is_alias: false, standing }));
    }
    let name = names.certificate.clone();
    items.extend(best(matching, true).map(|standing| Item { name, is_alias: true, standing }));
    items
}

impl Item {
    fn size(&self) -> usize {
        match &self.standing {
            Standing::Ready(secret) => secret.size(),
            Standing::Pending | Standing::Failed(_) => 0,
        }
    }
}

impl Wanted {
    fn includes(&self, item: &Item) -> bool {
        (self.all && !item.is_alias) || self.names.contains(&item.name)
    }
}

impl Offer {
    /// What of it is asked for. As with the Workload API: pending while the authority owes an answer, unavailable when
    /// certificates are asked for and none is at hand.
    pub(crate) fn pick(&self, wanted: &Wanted) -> View<Picked> {
        let mut picked = Picked { unknown: wanted.names.clone(), ..Picked::default() };
        let (mut has_certificate, mut is_pending, mut problem) = (false, false, None);
        for item in &self.0 {
            picked.unknown.remove(&item.name);
            if !wanted.includes(item) {
                continue;
            }
            match &item.standing {
                Standing::Ready(secret) => {
                    has_certificate |= !secret.is_context;
                    picked.ready.push(Arc::clone(secret));
                    continue;
                }
                Standing::Pending => is_pending = true,
                Standing::Failed(why) => problem = problem.or(Some(why)),
            }
            picked.absent.insert(item.name.clone());
        }
        match (is_pending, problem) {
            (true, _) => View::Pending(has_certificate.then_some(picked)),
            (false, Some(why)) if !has_certificate => View::Unavailable(why.clone()),
            _ => View::Complete(picked),
        }
    }
}

#[cfg(test)]
mod tests;
