//! What the file means: typed settings with every default applied, and the checks that need more than one key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ca_identity::{Selector, SpiffeId, TrustDomain};

use super::read::{Table, Value};
use super::value::Address;
use crate::messages::{Message, Place, nearest};

/// Settings of one process.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) source: PathBuf,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) data_dir: PathBuf,
    pub(crate) ca: Option<Ca>,
    pub(crate) agent: Option<Agent>,
    pub(crate) policies: Option<Policies>,
    pub(crate) enforcer: Option<Enforcer>,
    pub(crate) decisions: Decisions,
    pub(crate) admin: Admin,
}

#[derive(Debug, Clone)]
pub(crate) struct Ca {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) svid_ttl: Duration,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) parent: Option<SpiffeId>,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) x509_ttl: Option<Duration>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) hint: Option<String>,
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    pub(crate) socket_mode: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Policies {
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    pub(crate) id: SpiffeId,
    pub(crate) observe: bool,
    pub(crate) workers: usize,
    pub(crate) dns_names: Vec<String>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) services: Vec<Service>,
    pub(crate) routes: Vec<Route>,
}

#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) bind: Vec<SocketAddr>,
    pub(crate) client_auth: String,
    pub(crate) observe: Option<bool>,
    pub(crate) hosts: Vec<String>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_age: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_source: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) rpc_scope: Option<String>,
    pub(crate) methods: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) listener: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) grpc: Option<(String, Option<String>)>,
    pub(crate) to: Vec<Address>,
    pub(crate) round_robin: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) observe: Option<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    pub(crate) name: String,
    pub(crate) commit_interval: Duration,
    pub(crate) reveal_decision_id: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) log: String,
}

impl Config {
    /// The socket that commands of this machine talk to.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }
}

/// Gives the checked `table` its meaning. Faults go to `messages`; `None` when a required key is missing.
pub(super) fn mean(
    path: &Path,
    file: &str,
    text: &str,
    table: &Table,
    messages: &mut Vec<Message>,
) -> Option<Config> {
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut meaning = Meaning { file, text, base, messages };
    meaning.config(path, table)
}

struct Meaning<'a> {
    file: &'a str,
    text: &'a str,
    base: PathBuf,
    messages: &'a mut Vec<Message>,
}

impl Meaning<'_> {
    fn config(&mut self, path: &Path, table: &Table) -> Option<Config> {
        let trust_domain = table.trust_domain("trust_domain")?.clone();
        let data_dir = self.resolve(table.path("data_dir")?);
        let empty = Table::default();
        let ca = match table.table("ca") {
            Some(section) => Some(self.ca(section, &trust_domain)?),
            None => None,
        };
        let enforcer = match table.table("enforcer") {
            Some(section) => Some(self.enforcer(section, &trust_domain)?),
            None => None,
        };
        let agent = table.table("agent").map(|section| self.agent(section, &data_dir));
        let policies = table.table("policies").and_then(|section| {
            Some(Policies { dir: self.resolve(section.path("dir")?) })
        });
        let decisions = table.table("decisions").unwrap_or(&empty);
        let admin = table.table("admin").unwrap_or(&empty);
        let admin = self.admin(admin);
        for (role, runs) in [("agent", agent.is_some()), ("enforcer", enforcer.is_some())] {
            if runs && ca.is_none() {
                let place = self.place(table.table(role).unwrap_or(&empty), "");
                self.messages.push(
                    Message::error("PC0105", format!("[{role}] needs an identity, and no [ca] runs in this process"))
                        .at(place)
                        .help("add a [ca] section; roles over several hosts ([join]) come with a later release"),
                );
            }
        }
        if enforcer.is_some() && policies.is_none() {
            let place = self.place(table.table("enforcer").unwrap_or(&empty), "");
            self.messages.push(
                Message::error("PC0105", "[enforcer] needs [policies]: without a policy every call is refused")
                    .at(place)
                    .help("add [policies] with dir = \"./policies\""),
            );
        }
        Some(Config {
            source: path.to_owned(),
            trust_domain,
            data_dir,
            ca,
            agent,
            policies,
            enforcer,
            decisions: Decisions {
                name: decisions.text("name").cloned().unwrap_or_else(|| "main".to_owned()),
                commit_interval: decisions.duration("commit_interval").copied().unwrap_or(Duration::from_millis(50)),
                reveal_decision_id: decisions.text("reveal_decision_id").cloned().unwrap_or_else(|| "denied".to_owned()),
            },
            admin,
        })
    }

    fn ca(&mut self, section: &Table, trust_domain: &TrustDomain) -> Option<Ca> {
        let mut entries = Vec::new();
        for table in section.tables("entry") {
            let spiffe_id = table.spiffe_id("spiffe_id")?.clone();
            self.in_domain(table, "spiffe_id", &spiffe_id, trust_domain);
            let selectors: Vec<_> = table.list("selectors").iter().filter_map(selector).collect();
            if selectors.is_empty() {
                self.wrong(table, "selectors", "`selectors` is empty: an entry that every process matches is refused".to_owned());
            }
            entries.push(Entry {
                spiffe_id,
                parent: table.spiffe_id("parent").cloned(),
                selectors,
                x509_ttl: table.duration("x509_ttl").copied(),
                dns_names: table.texts("dns_names"),
                hint: table.text("hint").cloned(),
                namespace: table.text("namespace").cloned(),
            });
        }
        let svid_ttl = *section.duration("svid_ttl")?;
        if !(Duration::from_secs(300)..=Duration::from_secs(28 * 3_600)).contains(&svid_ttl) {
            self.wrong(section, "svid_ttl", "`svid_ttl` must lie between 5m and 28h (a sixth of the signing CA's week)".to_owned());
        }
        Some(Ca { listen: section.address("listen").and_then(Address::socket), svid_ttl, entries })
    }

    fn agent(&mut self, section: &Table, data_dir: &Path) -> Agent {
        let socket = match section.address("socket") {
            Some(Address::Unix(path)) => self.resolve(path),
            _ => data_dir.join("workload.sock"),
        };
        let written = section.text("socket_mode").map_or("0770", String::as_str);
        let socket_mode = match u32::from_str_radix(written, 8) {
            Ok(mode) if mode <= 0o777 => mode,
            _ => {
                self.wrong(section, "socket_mode", format!("`{written}` is no file mode; write \"0770\""));
                0o770
            }
        };
        Agent { socket, socket_mode }
    }

    fn enforcer(&mut self, section: &Table, trust_domain: &TrustDomain) -> Option<Enforcer> {
        let id = section.spiffe_id("id")?.clone();
        self.in_domain(section, "id", &id, trust_domain);
        let listeners: Vec<_> = section.tables("listener").iter().filter_map(listener).collect();
        let services: Vec<_> = section.tables("service").iter().filter_map(service).collect();
        self.unique(section, "listener", listeners.iter().map(|listener| listener.name.as_str()));
        self.unique(section, "service", services.iter().map(|service| service.name.as_str()));
        let mut binds: Vec<SocketAddr> = Vec::new();
        for (listener, table) in listeners.iter().zip(section.tables("listener")) {
            for bind in &listener.bind {
                if bind.port() != 0 && binds.contains(bind) {
                    self.push(table, "bind", "PC0106", format!("`tcp://{bind}` is bound twice"));
                }
                binds.push(*bind);
            }
        }
        let mut routes = Vec::new();
        for table in section.tables("route") {
            let route = self.route(table)?;
            self.known(table, "service", &route.service, services.iter().map(|service| service.name.as_str()));
            if let Some(name) = &route.listener {
                self.known(table, "listener", name, listeners.iter().map(|listener| listener.name.as_str()));
            }
            routes.push(route);
        }
        self.unique(section, "route", routes.iter().map(|route| route.name.as_str()));
        if listeners.is_empty() {
            self.push(section, "", "PC0102", "[enforcer] has no [[enforcer.listener]]".to_owned());
        }
        Some(Enforcer {
            id,
            observe: section.text("mode").is_some_and(|mode| mode == "observe"),
            workers: section.integer("workers").and_then(|workers| usize::try_from(*workers).ok()).unwrap_or(0),
            dns_names: section.texts("dns_names"),
            listeners,
            services,
            routes,
        })
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
                    self.wrong(matches, "grpc", format!("`{written}` is not package.Service/Method or package.Service/*"));
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
        if grpc.is_some() && to.iter().any(|address| matches!(address, Address::Socket { scheme: "http", .. })) {
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
            round_robin: table.text("balancer").is_some_and(|balancer| balancer == "round_robin"),
            connect_timeout: *table.duration("connect_timeout")?,
            header_timeout: *table.duration("header_timeout")?,
            timeout: *table.duration("timeout")?,
            observe: table.text("mode").map(|mode| mode == "observe"),
        })
    }

    fn admin(&mut self, section: &Table) -> Admin {
        let mut listen: Vec<_> = section.list("listen").iter().filter_map(address).filter_map(|address| address.socket()).collect();
        if section.entries.is_empty() {
            listen = vec![SocketAddr::from(([127, 0, 0, 1], 8080))];
        }
        for addr in &listen {
            if !addr.ip().is_loopback() {
                let place = self.place(section, "listen");
                self.messages.push(
                    Message::error("PC0131", format!("admin listener `http://{addr}` is not on loopback"))
                        .at(place)
                        .help("it has no client certificates; other hosts reach the API over [ca] listen = \"https://..\" with an SVID"),
                );
            }
        }
        Admin { listen, log: section.text("log").cloned().unwrap_or_else(|| "info".to_owned()) }
    }

    fn in_domain(&mut self, table: &Table, key: &str, id: &SpiffeId, trust_domain: &TrustDomain) {
        if id.trust_domain().as_str() != trust_domain.as_str() {
            let text = format!("`{id}` is not in the trust domain `{}`", trust_domain.as_str());
            self.wrong(table, key, text);
        }
    }

    fn known<'k>(&mut self, table: &Table, key: &str, name: &str, known: impl Iterator<Item = &'k str> + Clone) {
        if known.clone().any(|known| known == name) {
            return;
        }
        let place = self.place(table, key);
        let names: Vec<_> = known.clone().collect();
        let mut message = Message::error("PC0105", format!("`{name}` names no {key} of this file"))
            .at(place)
            .help(format!("{key}s are {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }));
        if let Some(near) = nearest(name, names.into_iter()) {
            message = message.label(format!("did you mean `{near}`?"));
        }
        self.messages.push(message);
    }

    fn unique<'k>(&mut self, section: &Table, kind: &str, names: impl Iterator<Item = &'k str>) {
        let mut seen: Vec<&str> = Vec::new();
        for (name, table) in names.zip(section.tables(kind)) {
            if seen.contains(&name) {
                self.push(table, "name", "PC0106", format!("{kind} `{name}` is defined twice"));
            }
            seen.push(name);
        }
    }

    fn wrong(&mut self, table: &Table, key: &str, text: String) {
        self.push(table, key, "PC0104", text);
    }

    fn push(&mut self, table: &Table, key: &str, code: &'static str, text: String) {
        let place = self.place(table, key);
        self.messages.push(
            Message::error(code, text).at(place).next(format!("portcullis config explain {}", table.path)),
        );
    }

    fn place(&self, table: &Table, key: &str) -> Place {
        Place::of(self.file, self.text, table.span_of(key))
    }

    /// Relative paths start at the directory of the file, not where the process happens to stand.
    fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
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
