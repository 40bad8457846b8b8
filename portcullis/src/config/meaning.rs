//! From the checked tree to settings: the checks that need more than one key, each fault at the place to change.
//! Called by `parse` once every value has its kind; what other crates would refuse at start is refused here.

mod admin;
mod agent;
mod authzen;
mod cluster;
mod collector;
mod decisions;
mod enforcer;
mod federation;
mod handling;
mod issuer;
mod join;
mod listener;
mod matches;
mod oidc;
mod policies;
mod rate;
mod route;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca_authority::{EntryError, NewEntry};
use ca_identity::{Selector, TrustDomain};
use enforcer_traffic::Network;

use super::meant::{Ca, Config};
use super::read::{Origin, Table, Value};
use super::value::Address;
use crate::messages::{Message, Place};
pub(super) use admin::ADMIN_SOCKET;

/// Gives the checked `table` its meaning. Faults go to `messages`; `None` when a required key is missing.
pub(super) fn mean(
    path: &Path,
    file: &str,
    text: &str,
    table: &Table,
    messages: &mut Vec<Message>,
) -> Option<Config> {
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let trust_domain = table.trust_domain("trust_domain")?;
    let mut meaning = Meaning { file, text, base, trust_domain, messages };
    meaning.config(path, table)
}

/// The registration entries of a file that holds nothing else. Their trust domain is that of the first; the authority
/// refuses another than its own.
pub(super) fn entries(
    file: &str,
    text: &str,
    tables: &[Table],
    messages: &mut Vec<Message>,
) -> Vec<NewEntry> {
    let first = tables.iter().find_map(|table| table.spiffe_id("spiffe_id"));
    let Some(trust_domain) = first.map(|id| id.trust_domain().clone()) else { return Vec::new() };
    let mut meaning = Meaning { file, text, base: PathBuf::new(), trust_domain: &trust_domain, messages };
    tables.iter().filter_map(|table| meaning.entry(table)).collect()
}

/// Longest path of a Unix socket: `sun_path` of Linux without its final zero.
const SOCKET_BYTES: usize = 107;

/// The longest name of a socket in the data directory.
const WORKLOAD_SOCKET: &str = "workload.sock";

struct Meaning<'a> {
    file: &'a str,
    text: &'a str,
    base: PathBuf,
    trust_domain: &'a TrustDomain,
    messages: &'a mut Vec<Message>,
}

impl Meaning<'_> {
    fn config(&mut self, path: &Path, table: &Table) -> Option<Config> {
        let data_dir = self.resolve(table.path("data_dir")?);
        self.socket(table, "data_dir", &data_dir.join(WORKLOAD_SOCKET));
        let ca = match table.table("ca") {
            Some(section) => Some(self.ca(section)?),
            None => None,
        };
        let enforcer = match table.table("enforcer") {
            Some(section) => Some(self.enforcer(section)?),
            None => None,
        };
        let agent = table.table("agent").map(|section| Box::new(self.agent(section, &data_dir)));
        let oidc = table.table("oidc").and_then(|section| self.oidc(section)).map(Box::new);
        if let (Some(section), None) = (table.table("oidc"), &ca) {
            let text = "[oidc] publishes the keys of the [ca] of this process, and none runs here".to_owned();
            self.push("PC0105", section, "", text);
        }
        let policies = match table.table("policies") {
            Some(section) => Some(self.policies(section)?),
            None => None,
        };
        let is_given = enforcer.as_ref().is_some_and(|enforcer| enforcer.workload_api.is_some());
        if let (Some(section), true, true) = (table.table("enforcer"), is_given, ca.is_some()) {
            let text = "the SVID of the enforcer comes from the [ca] of this process, or from a Workload API";
            self.wrong(section, "workload_api", text.to_owned());
        }
        let join = table.table("join").and_then(|section| self.join(section)).map(Box::new);
        self.beside_join(table);
        if ca.is_none() && table.table("join").is_none() && !(is_given && agent.is_none()) {
            for section in ["agent", "enforcer"].into_iter().filter_map(|role| table.table(role)) {
                let text = format!("[{}] needs an identity, and no [ca] runs in this process", section.path);
                let help = "add a [ca] section; or [join] for an authority on another host; or enforcer.workload_api";
                self.messages.push(self.fault("PC0105", section, "", text).help(help));
            }
        }
        if let (Some(section), None, None) = (table.table("enforcer"), &policies, table.table("join")) {
            let text = "[enforcer] needs [policies]: without a policy every call is refused".to_owned();
            let fault = self.fault("PC0105", section, "", text);
            let help = "add [policies] with dir = \"./policies\"; or [join], and the policies are those of the authority";
            self.messages.push(fault.help(help));
        }
        let decisions = self.decisions(table.table("decisions")?)?;
        let ext_authz = table.table("ext_authz").map(|section| policies_adapters::ext_authz::Options {
            trust_principal: section.text("principal").is_some_and(|word| word == "claimed"),
        });
        let authzen = table.table("authzen").and_then(|section| self.authzen(section));
        let admin = self.admin(table.table("admin")?, &data_dir)?;
        let (source, trust_domain) = (path.to_owned(), self.trust_domain.clone());
        Some(Config {
            source,
            values: Arc::new(super::view(table, false)),
            trust_domain,
            data_dir,
            ca,
            join,
            agent,
            oidc,
            policies,
            enforcer,
            ext_authz,
            authzen,
            decisions,
            admin,
        })
    }

    fn ca(&mut self, section: &Table) -> Option<Ca> {
        let tables = section.tables("entry").iter();
        let entries = tables.map(|table| self.entry(table)).collect::<Option<Vec<_>>>()?;
        let (minute, longest) = (Duration::from_secs(60), Duration::from_secs(28 * 3_600));
        let text = "`svid_ttl` must lie between 5m and 28h (a sixth of the signing CA's week)";
        let svid_ttl = self.duration_within(section, "svid_ttl", 5 * minute..=longest, text)?;
        let text = "`jwt_ttl` must lie between 1m and 28h (a sixth of its key's week)";
        let jwt_ttl = self.duration_within(section, "jwt_ttl", minute..=longest, text)?;
        let text = "`agent_ttl` must lie between 5m and 28h (a sixth of the signing CA's week)";
        let agent_ttl = self.duration_within(section, "agent_ttl", 5 * minute..=longest, text)?;
        let bundle = section.table("bundle").and_then(|table| self.bundle_endpoints(table));
        let federation = self.federation(section.tables("federation"))?;
        let web_roots = section.path("web_roots").map(|path| self.resolve(path));
        let fetch_from = self.fetch_from(section);
        let listen = section.address("listen").and_then(Address::socket);
        Some(Ca { listen, svid_ttl, jwt_ttl, agent_ttl, entries, bundle, federation, web_roots, fetch_from })
    }

    /// One registration entry, as the authority takes it.
    fn entry(&mut self, table: &Table) -> Option<NewEntry> {
        let selectors = table.list("selectors").iter().filter_map(selector).collect();
        let entry = NewEntry {
            parent_id: table.spiffe_id("parent").cloned(),
            x509_ttl: table.duration("x509_ttl").copied(),
            jwt_ttl: table.duration("jwt_ttl").copied(),
            jwt_jti: *table.flag("jwt_jti")?,
            dns_names: table.texts("dns_names"),
            federates_with: table.list("federates_with").iter().filter_map(trust_domain).collect(),
            hint: table.text("hint").cloned(),
            namespace: table.text("namespace").cloned(),
            ..NewEntry::new(table.spiffe_id("spiffe_id")?.clone(), selectors)
        };
        if let Err(error) = entry.check(self.trust_domain) {
            let is_parent =
                entry.parent_id.as_ref().is_some_and(|parent| !parent.is_member_of(self.trust_domain));
            self.identity(table, if is_parent { "parent" } else { "spiffe_id" }, &error);
        }
        Some(entry)
    }

    /// The duration under a key; one beyond its bounds is wrong, which `text` says.
    fn duration_within(
        &mut self,
        section: &Table,
        key: &str,
        bounds: RangeInclusive<Duration>,
        text: &str,
    ) -> Option<Duration> {
        let duration = *section.duration(key)?;
        if !bounds.contains(&duration) {
            self.wrong(section, key, text.to_owned());
        }
        Some(duration)
    }

    /// What the authority refuses; `id` is the key that holds the SPIFFE ID in question.
    fn identity(&mut self, table: &Table, id: &str, error: &EntryError) {
        let key = match error {
            EntryError::ForeignTrustDomain { .. }
            | EntryError::NoPath(_)
            | EntryError::Reserved(_)
            | EntryError::SpiffeId { .. } => id,
            EntryError::NoSelectors | EntryError::Selector(_) => "selectors",
            EntryError::DnsName(_) => "dns_names",
            EntryError::FederatesWithItself(_) => "federates_with",
            EntryError::TtlTooShort => "x509_ttl",
            EntryError::JwtTtlTooShort => "jwt_ttl",
            EntryError::TooMany { what, .. }
            | EntryError::TooLong { what, .. }
            | EntryError::Word { what, .. } => what,
        };
        self.wrong(table, key, error.to_string());
    }

    /// Keys `socket` and `socket_mode` of a section that serves one.
    fn place_of_socket(&mut self, section: &Table, default: &Path, mode: u32) -> (PathBuf, u32) {
        let socket = match section.address("socket") {
            Some(Address::Unix(path)) => {
                let socket = self.resolve(path);
                self.socket(section, "socket", &socket);
                socket
            }
            _ => default.to_owned(),
        };
        let Some(written) = section.text("socket_mode") else { return (socket, mode) };
        match u32::from_str_radix(written, 8) {
            Ok(mode) if mode <= 0o777 => (socket, mode),
            _ => {
                let text = format!("`{written}` is no file mode; write \"{mode:04o}\"");
                self.wrong(section, "socket_mode", text);
                (socket, mode)
            }
        }
    }

    /// Networks at `key`; `hint` is what a mistake is told besides.
    fn networks(&mut self, table: &Table, key: &str, hint: &str) -> Vec<Network> {
        let mut networks = Vec::new();
        for text in table.texts(key) {
            match Network::parse(&text) {
                Some(network) => networks.push(network),
                None => self.wrong(table, key, format!("`{text}` is no network{hint}")),
            }
        }
        networks
    }

    fn wrong(&mut self, table: &Table, key: &str, text: String) {
        self.push("PC0104", table, key, text);
    }

    fn push(&mut self, code: &'static str, table: &Table, key: &str, text: String) {
        self.messages.push(self.fault(code, table, key, text));
    }

    /// A fault of `key` in `table`, where it was written: in the file or in an environment variable.
    fn fault(&self, code: &'static str, table: &Table, key: &str, text: String) -> Message {
        let fault = match table.entries.get(key) {
            Some((_, _, Origin::Environment(variable))) => {
                Message::error(code, format!("environment variable {variable}: {text}"))
            }
            _ => Message::error(code, text).at(Place::of(self.file, self.text, table.span_of(key))),
        };
        fault.next(format!("portcullis config explain {}", table.path))
    }

    /// Relative paths start at the directory of the file, and are absolute from here on: a socket is named by URL.
    fn resolve(&self, path: &Path) -> PathBuf {
        let path = self.base.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    fn socket(&mut self, table: &Table, key: &str, socket: &Path) {
        let length = socket.as_os_str().len();
        if length > SOCKET_BYTES {
            let text =
                format!("socket `{}` has {length} bytes; the kernel takes {SOCKET_BYTES}", socket.display());
            self.wrong(table, key, text);
        }
    }
}

fn address(value: &Value) -> Option<Address> {
    match value {
        Value::Address(address) => Some(address.clone()),
        _ => None,
    }
}

fn trust_domain(value: &Value) -> Option<TrustDomain> {
    match value {
        Value::TrustDomain(domain) => Some(domain.clone()),
        _ => None,
    }
}

fn selector(value: &Value) -> Option<Selector> {
    match value {
        Value::Selector(selector) => Some(selector.clone()),
        _ => None,
    }
}
