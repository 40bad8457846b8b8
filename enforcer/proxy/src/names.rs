//! The names of endpoints (HC-02): asked for once per process, on the runtime of the owner, as often as answers say.
//!
//! What is used of the answers is decided by [`Resolved`]; where no name may lead by [`off_limits`] (OUT5). A worker
//! meets other addresses like a new view: the next call takes them, and what is known of those that stay goes on.

mod dns;
#[cfg(test)]
mod tests;

pub use dns::Dns;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Addresses, Clock, Mono, NetAddr, Resolver, Tasks};
use enforcer_traffic::{Cluster, EndpointSpec, Network, Resolved, Routes, off_limits};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::ViewHandle;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long names that are new hold up what brings them.
const FIRST: Duration = Duration::from_secs(4);
/// A cluster has no more endpoints (OUT6).
const MOST: usize = 10_000;

/// The names of all clusters, and the addresses in use.
pub struct Names {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    /// Addresses of this process that no name may lead to.
    own: Vec<SocketAddr>,
    known: Mutex<HashMap<Key, Name>>,
    /// Told whenever a name has other addresses.
    changed: watch::Sender<()>,
}

/// A cluster and a name in it.
type Key = (Arc<str>, Arc<str>);

/// What is known of a name.
#[derive(Debug, Default)]
struct Name {
    resolved: Resolved,
    /// The networks that were granted when it was asked for last; none = never asked for.
    granted: Option<Vec<Network>>,
    /// Why the last answer was of no use, as it was told.
    trouble: Option<String>,
}

/// The tasks of the names of one cluster; they end with it.
type Running = HashMap<Arc<str>, (Arc<Cluster>, Tasks)>;

impl Names {
    /// Asks `resolver`. No name leads to an address of `own`, whatever is granted.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>, own: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { resolver, clock, own, known: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// Asks for the names that these routes bring, so that calls find endpoints from the first on. What takes too long is
    /// left to come later.
    pub async fn prepare(&self, routes: &Routes) {
        let names = routes
            .clusters()
            .iter()
            .filter(|cluster| cluster.subset.is_empty())
            .flat_map(|cluster| hosts(cluster).map(move |host| (cluster, host)));
        let is_new = |(cluster, host): &(&Arc<Cluster>, Arc<str>)| {
            let known = self.known.lock();
            let name = known.get(&(Arc::clone(&cluster.name), Arc::clone(host)));
            name.and_then(|name| name.granted.as_ref()) != Some(&cluster.spec.granted)
        };
        let asking =
            names.filter(is_new).map(|(cluster, host)| async move { self.ask(cluster, &host).await });
        if tokio::time::timeout(FIRST, join_all(asking)).await.is_err() {
            tracing::warn!(
                event = "names_are_late",
                "not every name was resolved in time; calls find no endpoint there until it is"
            );
        }
    }

    /// What a name leads to now, for one call; nothing of it is kept, and nothing is taken out.
    ///
    /// # Errors
    /// When nobody knows.
    pub(crate) async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.resolver.resolve(host).await?.addresses)
    }

    /// The endpoints of a cluster: those at an address, then those that its names lead to.
    pub(crate) fn endpoints(&self, cluster: &Cluster) -> Vec<EndpointSpec> {
        let mut endpoints = cluster.spec.endpoints.clone();
        let mut seen: Vec<_> = endpoints.iter().map(|endpoint| endpoint.addr.clone()).collect();
        seen.extend(self.own.iter().copied().map(NetAddr::from));
        let mut seen: std::collections::HashSet<_> = seen.into_iter().collect();
        let known = self.known.lock();
        for named in &cluster.spec.named {
            let Some(name) = known.get(&(Arc::clone(&cluster.name), Arc::clone(&named.host))) else {
                continue;
            };
            let found = name.resolved.addresses().map(|address| named.at(address));
            endpoints.extend(found.filter(|endpoint| seen.insert(endpoint.addr.clone())));
        }
        endpoints.truncate(MOST.max(cluster.spec.endpoints.len()));
        endpoints
    }

    /// Told whenever a name has other addresses.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Follows the views for ever, and the names of the view in force.
    pub(crate) async fn run(self: Arc<Self>, view: Arc<ViewHandle>) {
        let mut views = view.subscribe();
        let mut running = Running::new();
        loop {
            self.follow(&view, &mut running);
            // An error means that nobody can publish any more.
            if views.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Starts to ask for the names that the view in force has and forgets those that it has not.
    fn follow(self: &Arc<Self>, view: &Arc<ViewHandle>, running: &mut Running) {
        let current = view.current();
        let wanted: HashMap<_, _> =
            current.routes.clusters().iter().map(|cluster| (&*cluster.name, cluster)).collect();
        running.retain(|name, (of, _)| wanted.get(&**name).is_some_and(|cluster| cluster.spec == of.spec));
        self.known.lock().retain(|(cluster, host), _| {
            wanted.get(&**cluster).is_some_and(|cluster| hosts(cluster).any(|named| named == *host))
        });
        for cluster in current.routes.clusters() {
            if cluster.spec.named.is_empty() || running.contains_key(&cluster.name) {
                continue;
            }
            let tasks = Tasks::new("names");
            for host in hosts(cluster) {
                let (names, view, cluster) = (Arc::clone(self), Arc::clone(view), Arc::clone(cluster));
                tasks.spawn("name", async move { names.keep(&view, &cluster, &host).await });
            }
            running.insert(Arc::clone(&cluster.name), (Arc::clone(cluster), tasks));
        }
    }

    /// Keeps one name as it is told.
    async fn keep(&self, view: &ViewHandle, cluster: &Cluster, host: &Arc<str>) {
        let key = (Arc::clone(&cluster.name), Arc::clone(host));
        loop {
            let now = self.clock.mono();
            let due = self.known.lock().get(&key).map_or(now, |name| name.resolved.due());
            tokio::time::sleep(due.saturating_since(now)).await;
            let now = self.clock.mono();
            let expired = {
                let mut known = self.known.lock();
                let name = known.entry(key.clone()).or_default();
                (!name.resolved.is_to_ask(now)).then(|| name.resolved.expire(now))
            };
            let is_other = match expired {
                Some(is_other) => is_other,
                None => self.ask(cluster, host).await,
            };
            if is_other {
                view.stir();
                self.changed.send_replace(());
            }
        }
    }

    /// Asks for a name. True when it has other addresses now.
    async fn ask(&self, cluster: &Cluster, host: &Arc<str>) -> bool {
        let asking = tokio::time::timeout(PATIENCE, self.resolver.resolve(host)).await;
        let answer = asking.map_err(Into::into).and_then(|answer| answer);
        let granted = &cluster.spec.granted;
        let (answer, trouble) = match answer {
            Ok(mut found) => {
                let trouble = forbidden(&mut found, granted);
                // Who is told nothing but addresses that are off limits is told nothing.
                ((!found.addresses.is_empty() || trouble.is_none()).then_some(found), trouble)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        let now = self.clock.mono();
        let mut known = self.known.lock();
        let name = known.entry((Arc::clone(&cluster.name), Arc::clone(host))).or_default();
        let is_other = name.learn(answer.as_ref(), granted, now);
        name.tell(&cluster.name, host, trouble, is_other);
        is_other
    }
}

impl Name {
    fn learn(&mut self, answer: Option<&Addresses>, granted: &[Network], now: Mono) -> bool {
        let mut is_other = false;
        if self.granted.as_deref() != Some(granted) {
            is_other = self.resolved.forbid(|address| off_limits(address, granted).is_some());
            self.granted = Some(granted.to_vec());
        }
        self.resolved.learn(answer, now) || is_other
    }

    /// Says what changed, once.
    fn tell(&mut self, cluster: &str, host: &str, trouble: Option<String>, is_other: bool) {
        if is_other {
            let addresses = list(self.resolved.addresses());
            tracing::info!(event = "name_resolved", cluster, host, addresses, "a name has other addresses");
        }
        if self.trouble == trouble {
            return;
        }
        let is_empty = self.resolved.is_empty();
        match &trouble {
            None => tracing::info!(event = "name_is_fine", cluster, host, "a name is resolved again"),
            Some(cause) if is_empty => {
                tracing::warn!(
                    event = "name_not_resolved",
                    cluster,
                    host,
                    cause,
                    "calls find no endpoint there until the name is resolved"
                );
            }
            Some(cause) => {
                tracing::warn!(
                    event = "name_not_resolved",
                    cluster,
                    host,
                    cause,
                    "the last addresses stay in use"
                );
            }
        }
        self.trouble = trouble;
    }
}

/// Takes out what no name may lead to, and says so.
fn forbidden(found: &mut Addresses, granted: &[Network]) -> Option<String> {
    let is_forbidden = |address: &IpAddr| off_limits(*address, granted).is_some();
    let kind = found.addresses.iter().find_map(|address| off_limits(*address, granted))?;
    let off = list(found.addresses.iter().copied().filter(is_forbidden));
    found.addresses.retain(|address| !is_forbidden(address));
    Some(format!("it leads off limits ({kind}) to {off}; a cluster may grant networks with resolve_to"))
}

/// Some of them are enough to know.
fn list(addresses: impl Iterator<Item = IpAddr>) -> String {
    addresses.take(16).map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
}

/// Each name of a cluster once.
fn hosts(cluster: &Cluster) -> impl Iterator<Item = Arc<str>> {
    let named = &cluster.spec.named;
    let is_first = |at: usize, host: &str| named.iter().take(at).all(|before| *before.host != *host);
    let names = named.iter().enumerate().filter(move |(at, named)| is_first(*at, &named.host));
    names.map(|(_, named)| Arc::clone(&named.host))
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}
