//! From the checked tree to settings: the checks that need more than one key, each fault at the place to change.
//! Called by `parse` once every value has its kind; what other crates would refuse at start is refused here.

mod admin;
mod authzen;
mod policies;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ca_authority::{EntryError, NewEntry};
use ca_identity::{Selector, TrustDomain};
use enforcer_traffic::{RouteError, Routes};

use super::meant::{Agent, Ca, Config, Decisions, Enforcer, Listener, Route, Service};
use super::read::{Origin, Table, Value};
use super::value::Address;
use crate::assemble::entities;
use crate::messages::{Message, Place, nearest};
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
        let agent = table.table("agent").map(|section| self.agent(section, &data_dir));
        let policies = match table.table("policies") {
            Some(section) => Some(self.policies(section)?),
            None => None,
        };
        if ca.is_none() {
            for section in ["agent", "enforcer"].into_iter().filter_map(|role| table.table(role)) {
                let text = format!("[{}] needs an identity, and no [ca] runs in this process", section.path);
                let help = "add a [ca] section; roles over several hosts ([join]) come with a later release";
                self.messages.push(self.fault("PC0105", section, "", text).help(help));
            }
        }
        if let (Some(section), None) = (table.table("enforcer"), &policies) {
            let text = "[enforcer] needs [policies]: without a policy every call is refused".to_owned();
            let fault = self.fault("PC0105", section, "", text);
            self.messages.push(fault.help("add [policies] with dir = \"./policies\""));
        }
        let decisions = table.table("decisions")?;
        let decisions = Decisions {
            name: decisions.text("name")?.clone(),
            commit_interval: *decisions.duration("commit_interval")?,
            reveal_decision_id: decisions.text("reveal_decision_id")?.clone(),
        };
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
            agent,
            policies,
            enforcer,
            ext_authz,
            authzen,
            decisions,
            admin,
        })
    }

    fn ca(&mut self, section: &Table) -> Option<Ca> {
        let mut entries = Vec::new();
        for table in section.tables("entry") {
            let selectors = table.list("selectors").iter().filter_map(selector).collect();
            let entry = NewEntry {
                parent_id: table.spiffe_id("parent").cloned(),
                x509_ttl: table.duration("x509_ttl").copied(),
                dns_names: table.texts("dns_names"),
                hint: table.text("hint").cloned(),
                namespace: table.text("namespace").cloned(),
                ..NewEntry::new(table.spiffe_id("spiffe_id")?.clone(), selectors)
            };
            if let Err(error) = entry.check(self.trust_domain) {
                let is_parent =
                    entry.parent_id.as_ref().is_some_and(|parent| !parent.is_member_of(self.trust_domain));
                self.identity(table, if is_parent { "parent" } else { "spiffe_id" }, &error);
            }
            entries.push(entry);
        }
        let svid_ttl = *section.duration("svid_ttl")?;
        if !(Duration::from_secs(300)..=Duration::from_secs(28 * 3_600)).contains(&svid_ttl) {
            self.wrong(
                section,
                "svid_ttl",
                "`svid_ttl` must lie between 5m and 28h (a sixth of the signing CA's week)".to_owned(),
            );
        }
        Some(Ca { listen: section.address("listen").and_then(Address::socket), svid_ttl, entries })
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
            EntryError::TtlTooShort => "x509_ttl",
            EntryError::TooMany { what, .. }
            | EntryError::TooLong { what, .. }
            | EntryError::Word { what, .. } => what,
        };
        self.wrong(table, key, error.to_string());
    }

    fn agent(&mut self, section: &Table, data_dir: &Path) -> Agent {
        let (socket, socket_mode) = self.place_of_socket(section, &data_dir.join(WORKLOAD_SOCKET), 0o770);
        Agent { socket, socket_mode }
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

    fn enforcer(&mut self, section: &Table) -> Option<Enforcer> {
        let before = self.messages.len();
        let enforcer = Enforcer {
            id: section.spiffe_id("id")?.clone(),
            observe: section.text("mode")? == "observe",
            workers: usize::try_from(*section.integer("workers")?).unwrap_or(0),
            dns_names: section.texts("dns_names"),
            listeners: section.tables("listener").iter().filter_map(listener).collect(),
            services: section.tables("service").iter().filter_map(service).collect(),
            routes: section.tables("route").iter().filter_map(|table| self.route(table)).collect(),
        };
        if let Err(error) = ca_authority::check_identity(self.trust_domain, &enforcer.id, &enforcer.dns_names)
        {
            self.identity(section, "id", &error);
        }
        self.unique(section, "listener");
        self.unique(section, "service");
        self.unique(section, "route");
        self.binds(section, &enforcer.listeners);
        for table in section.tables("route") {
            self.known(section, table, "service");
            self.known(section, table, "listener");
        }
        if self.messages.len() == before {
            self.agree(section, &enforcer);
        }
        Some(enforcer)
    }

    fn binds(&mut self, section: &Table, listeners: &[Listener]) {
        if listeners.is_empty() {
            self.push("PC0102", section, "", "[enforcer] has no [[enforcer.listener]]".to_owned());
        }
        let mut bound: Vec<SocketAddr> = Vec::new();
        for (listener, table) in listeners.iter().zip(section.tables("listener")) {
            if listener.bind.is_empty() {
                self.wrong(table, "bind", "`bind` names no address".to_owned());
            }
            for bind in &listener.bind {
                if bind.port() != 0 && bound.contains(bind) {
                    self.push("PC0106", table, "bind", format!("`tcp://{bind}` is bound twice"));
                }
                bound.push(*bind);
            }
        }
    }

    /// What only the compiled routes can tell: calls that two routes match, methods that two services offer, ..
    fn agree(&mut self, section: &Table, enforcer: &Enforcer) {
        let (services, routes) = entities::traffic(enforcer);
        let Err(error) = Routes::build(&services, &routes) else { return };
        let (kind, name, key) = match &error {
            RouteError::Host { route, .. }
            | RouteError::Prefix { route, .. }
            | RouteError::Grpc { route, .. } => ("route", route.as_str(), "match"),
            RouteError::EqualRank { second, .. } => ("route", second.as_str(), "match"),
            RouteError::NoEndpoint { route } | RouteError::GrpcOverHttp1 { route, .. } => {
                ("route", route.as_str(), "to")
            }
            RouteError::UnknownService { route, .. } => ("route", route.as_str(), "service"),
            RouteError::Duplicate { kind, name } => (*kind, name.as_str(), "name"),
            RouteError::Method { service, .. } => ("service", service.as_str(), "methods"),
            RouteError::AmbiguousRpc { second, .. } => ("service", second.as_str(), "methods"),
            RouteError::TooMany => ("route", "", ""),
        };
        let of_that_name = |table: &&Table| table.text("name").is_some_and(|known| known == name);
        let table = section.tables(kind).iter().find(of_that_name).unwrap_or(section);
        self.wrong(table, key, error.to_string());
    }

    fn route(&mut self, table: &Table) -> Option<Route> {
        let empty = Table::default();
        let matches = table.table("match").unwrap_or(&empty);
        let grpc = match matches.text("grpc") {
            None => None,
            Some(written) => match written.split_once('/') {
                Some((service, "*")) if !service.is_empty() => Some((service.to_owned(), None)),
                Some((service, method)) if !service.is_empty() && !method.is_empty() => {
                    Some((service.to_owned(), Some(method.to_owned())))
                }
                _ => {
                    self.wrong(
                        matches,
                        "grpc",
                        format!("`{written}` is not package.Service/Method or package.Service/*"),
                    );
                    None
                }
            },
        };
        if let Some(path) = matches.text("path") {
            if !path.starts_with('/') {
                self.wrong(matches, "path", format!("`{path}` does not begin with /"));
            }
            if grpc.is_some() {
                self.wrong(matches, "path", "`path` and `grpc` exclude each other".to_owned());
            }
        }
        let to: Vec<_> = table.list("to").iter().filter_map(address).collect();
        if to.is_empty() {
            self.wrong(table, "to", "`to` names no endpoint".to_owned());
        }
        if grpc.is_some()
            && to.iter().any(|address| matches!(address, Address::Socket { scheme: "http", .. }))
        {
            self.wrong(table, "to", "gRPC needs HTTP/2 upstream; write h2c:// instead of http://".to_owned());
        }
        Some(Route {
            name: table.text("name")?.clone(),
            service: table.text("service")?.clone(),
            listener: table.text("listener").cloned(),
            host: matches.text("host").cloned(),
            path: matches.text("path").cloned(),
            grpc,
            to,
            round_robin: table.text("balancer")? == "round_robin",
            connect_timeout: *table.duration("connect_timeout")?,
            header_timeout: *table.duration("header_timeout")?,
            timeout: *table.duration("timeout")?,
            observe: table.text("mode").map(|mode| mode == "observe"),
            stale_after: table.duration("stale_after").copied(),
            deny_after: table.duration("deny_after").copied(),
        })
    }

    /// `key` of `table`, when written, names one of the tables `key` of `section`.
    fn known(&mut self, section: &Table, table: &Table, key: &str) {
        let Some(written) = table.text(key) else { return };
        let names: Vec<_> =
            section.tables(key).iter().filter_map(|table| table.text("name")).map(String::as_str).collect();
        if names.contains(&written.as_str()) {
            return;
        }
        let mut fault = self.fault("PC0105", table, key, format!("`{written}` names no {key} of this file"));
        fault.label = nearest(written, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        self.messages.push(fault.help(format!("{key}s are {names}")));
    }

    fn unique(&mut self, section: &Table, kind: &str) {
        let mut seen: Vec<(&str, &Table)> = Vec::new();
        for table in section.tables(kind) {
            let Some(name) = table.text("name") else { continue };
            if let Some((_, first)) = seen.iter().find(|(known, _)| known == name) {
                let line = Place::of(self.file, self.text, first.span_of("name")).line;
                let fault = self.fault("PC0106", table, "name", format!("{kind} `{name}` is defined twice"));
                self.messages.push(fault.help(format!("the first one is in line {line}")));
            }
            seen.push((name, table));
        }
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

fn listener(table: &Table) -> Option<Listener> {
    let count = |key| table.integer(key).and_then(|count| usize::try_from(*count).ok());
    Some(Listener {
        name: table.text("name")?.clone(),
        bind: table.list("bind").iter().filter_map(address).filter_map(|address| address.socket()).collect(),
        client_auth: table.text("client_auth")?.clone(),
        observe: table.text("mode").map(|mode| mode == "observe"),
        hosts: table.texts("hosts"),
        handshake_timeout: *table.duration("handshake_timeout")?,
        header_timeout: *table.duration("header_timeout")?,
        idle_timeout: *table.duration("idle_timeout")?,
        max_age: *table.duration("max_age")?,
        max_connections: count("max_connections")?,
        max_connections_per_source: count("max_connections_per_source")?,
    })
}

fn service(table: &Table) -> Option<Service> {
    Some(Service {
        name: table.text("name")?.clone(),
        namespace: table.text("namespace").cloned(),
        rpc_scope: table.text("rpc_scope").cloned(),
        methods: table.texts("methods"),
    })
}

fn address(value: &Value) -> Option<Address> {
    match value {
        Value::Address(address) => Some(address.clone()),
        _ => None,
    }
}

fn selector(value: &Value) -> Option<Selector> {
    match value {
        Value::Selector(selector) => Some(selector.clone()),
        _ => None,
    }
}
