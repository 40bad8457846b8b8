//! Names as a parameter: the addresses that a name has. What a test says, or, elsewhere, what name servers say.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// What is said of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Its addresses; empty when it is said to have none.
    pub addresses: Vec<IpAddr>,
    /// How long that holds.
    pub ttl: Duration,
}

/// A question on its way. Dropping it gives it up.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

/// Where a component asks for the addresses of a name.
pub trait Resolver: Send + Sync + fmt::Debug + 'static {
    /// Asks; how long that may take is the caller's word. An error says that nobody knew, not that there are none.
    fn resolve(&self, host: &str) -> Resolving;
}

/// Names that tests script. A name nobody scripted cannot be resolved. Clones share the script.
#[derive(Debug, Clone, Default)]
pub struct ManualResolver(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    names: HashMap<String, Addresses>,
    asked: usize,
}

impl ManualResolver {
    /// From now on `host` has these addresses.
    pub fn script(&self, host: &str, addresses: &[IpAddr], ttl: Duration) {
        let addresses = Addresses { addresses: addresses.to_vec(), ttl };
        self.0.lock().names.insert(host.to_owned(), addresses);
    }

    /// From now on nobody knows `host`.
    pub fn forget(&self, host: &str) {
        self.0.lock().names.remove(host);
    }

    /// How many questions came so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.0.lock().asked
    }
}

impl Resolver for ManualResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let mut script = self.0.lock();
        script.asked += 1;
        let found = script.names.get(host).cloned().ok_or_else(|| io::Error::other("nobody knows"));
        Box::pin(async { found })
    }
}
