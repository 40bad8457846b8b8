//! Issuers of OpenID Connect: those of the configuration as the data plane asks them, and their keys, fetched again and again.
//!
//! One that stays as it was keeps what is known of it over a reload. Keys that were had once stay until others come; a
//! token that names an unknown key makes them be fetched sooner, but not by the rate at which callers invent names.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Mono, Tasks};
use ca_authority::{Endpoint, EndpointPeer};
use ca_identity::IssuerKeys;
use enforcer_proxy::Issuer;
use enforcer_traffic::Network;
use parking_lot::Mutex;
use serde_json::Value;

use super::fetch::Fetcher;
use crate::config;

/// How often it is looked whether any is due.
const BEAT: Duration = Duration::from_secs(1);
/// Keys are fetched anew.
const REFRESH: Duration = Duration::from_secs(300);
/// A file costs nothing.
const REREAD: Duration = Duration::from_secs(10);
/// After a failure, and for an unknown key, not sooner than this.
const AGAIN: Duration = Duration::from_secs(10);
/// A fetch takes no longer.
const LIMIT: Duration = Duration::from_secs(10);

/// The issuers of a process.
#[derive(Debug, Default)]
pub(super) struct Issuers(Mutex<Vec<Known>>);

#[derive(Debug, Clone)]
struct Known {
    meant: config::Issuer,
    issuer: Arc<Issuer>,
    /// When its keys were asked for last.
    asked: Option<Mono>,
    fault: Option<String>,
}

impl Issuers {
    /// Those of that listener.
    pub(super) fn of(&self, all: &[config::Issuer], names: &[String]) -> Vec<Arc<Issuer>> {
        let mut known = self.0.lock();
        let named = all.iter().filter(|meant| names.contains(&meant.believed.name));
        let found = named.map(|meant| match known.iter().find(|known| known.meant == *meant) {
            Some(known) => Arc::clone(&known.issuer),
            None => {
                let issuer = Issuer::new(meant.believed.clone());
                let (meant, issuer_too) = (meant.clone(), Arc::clone(&issuer));
                known.push(Known { meant, issuer: issuer_too, asked: None, fault: None });
                issuer
            }
        });
        found.collect()
    }

    /// Asks for the keys of all that are due, each for [`LIMIT`] at most.
    async fn look(&self, clock: &Arc<dyn Clock>) {
        let due = self.due(clock.mono());
        let asked = due.into_iter().map(|known| async move {
            let came = match tokio::time::timeout(LIMIT, keys(&known.meant, clock)).await {
                Ok(came) => came,
                Err(_elapsed) => Err(format!("no answer within {} s", LIMIT.as_secs())),
            };
            self.took(&known, came);
        });
        futures_util::future::join_all(asked).await;
    }

    fn due(&self, now: Mono) -> Vec<Known> {
        let mut known = self.0.lock();
        // What no listener has any more is held here alone.
        known.retain(|known| Arc::strong_count(&known.issuer) > 1);
        let mut due = Vec::new();
        for known in known.iter_mut() {
            let refresh = if matches!(known.meant.keys, config::Keys::File(_)) { REREAD } else { REFRESH };
            let is_wanted = known.issuer.is_wanted() || known.fault.is_some();
            let after = if is_wanted { AGAIN } else { refresh };
            if known.asked.is_none_or(|asked| now.saturating_since(asked) >= after) {
                known.asked = Some(now);
                known.issuer.settled();
                due.push(known.clone());
            }
        }
        due
    }

    fn took(&self, asked: &Known, came: Result<IssuerKeys, String>) {
        let name = &asked.meant.believed.name;
        let fault = match came {
            Ok(keys) => {
                if asked.fault.is_some() || !asked.issuer.has_keys() {
                    tracing::info!(event = "issuer_keys", issuer = %name, "the keys of an issuer are known");
                }
                asked.issuer.publish(keys);
                None
            }
            Err(fault) => {
                if asked.fault.as_ref() != Some(&fault) {
                    let held = if asked.issuer.has_keys() {
                        "those known before stay"
                    } else {
                        "its users cannot call"
                    };
                    tracing::warn!(event = "issuer_keys_failed", issuer = %name, %fault, "the keys of an issuer could not be had; {held}");
                }
                Some(fault)
            }
        };
        let mut known = self.0.lock();
        if let Some(known) = known.iter_mut().find(|known| Arc::ptr_eq(&known.issuer, &asked.issuer)) {
            known.fault = fault;
        }
    }
}

/// Asks for all keys, once before it returns, and from then on.
pub(super) async fn keep(issuers: &Arc<Issuers>, clock: &Arc<dyn Clock>, tasks: &Tasks) {
    issuers.look(clock).await;
    let (issuers, clock) = (Arc::clone(issuers), Arc::clone(clock));
    tasks.spawn("issuers", async move {
        loop {
            tokio::time::sleep(BEAT).await;
            issuers.look(&clock).await;
        }
    });
}

async fn keys(meant: &config::Issuer, clock: &Arc<dyn Clock>) -> Result<IssuerKeys, String> {
    let url = match &meant.keys {
        config::Keys::File(path) => return of_file(path.clone()).await,
        config::Keys::Url(url) => url.clone(),
        config::Keys::Discovery => discovered(meant, clock).await?,
    };
    let document = get(&url, meant.roots.as_deref(), clock).await?;
    IssuerKeys::from_jwks(&document).map_err(|error| format!("{url}: {error}"))
}

async fn of_file(path: PathBuf) -> Result<IssuerKeys, String> {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    let document = read.map_err(|error| error.to_string())?.map_err(|error| format!("{shown}: {error}"))?;
    IssuerKeys::from_jwks(&document).map_err(|error| format!("{shown}: {error}"))
}

/// Where the issuer says its keys are (OpenID Connect Discovery 4).
async fn discovered(meant: &config::Issuer, clock: &Arc<dyn Clock>) -> Result<String, String> {
    let issuer = &meant.believed.url;
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let document = get(&url, meant.roots.as_deref(), clock).await?;
    let document: Value = serde_json::from_slice(&document).map_err(|error| format!("{url}: {error}"))?;
    let said = |name: &str| document.get(name).and_then(Value::as_str);
    if said("issuer") != Some(issuer) {
        return Err(format!("{url}: it is about another issuer, `{}`", said("issuer").unwrap_or_default()));
    }
    match said("jwks_uri") {
        Some(keys) if keys.starts_with("https://") => Ok(keys.to_owned()),
        _ => Err(format!("{url}: `jwks_uri` is no https URL")),
    }
}

async fn get(url: &str, roots: Option<&Path>, clock: &Arc<dyn Clock>) -> Result<Vec<u8>, String> {
    let fetcher = Fetcher::new(roots.map(Path::to_owned), written_out(url), clock);
    let endpoint = Endpoint { url: url.to_owned(), peer: EndpointPeer::Web };
    fetcher.get(endpoint).await.map_err(|error| format!("{url}: {error}"))
}

/// The special address that the URL itself is written with: whoever wrote it meant it. A name must not lead to one.
fn written_out(url: &str) -> Vec<Network> {
    let host =
        url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let address = if host == "localhost" { Some("127.0.0.0/8".to_owned()) } else { None };
    let address = address.or_else(|| host.parse::<IpAddr>().ok().map(|address| address.to_string()));
    address.and_then(|text| Network::parse(&text)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_meant_by_whoever_writes_it_and_a_name_is_not() {
        let allowed = |url: &str, address: &str| {
            enforcer_traffic::off_limits(address.parse().unwrap(), &written_out(url)).is_none()
        };
        assert!(allowed("https://127.0.0.1:8443/keys", "127.0.0.1"));
        assert!(allowed("https://[::1]/keys", "::1"));
        assert!(allowed("https://localhost/keys", "127.0.0.1"));
        assert!(!allowed("https://127.0.0.1/keys", "169.254.169.254"));
        assert!(!allowed("https://id.example.org/keys", "127.0.0.1"));
    }
}
