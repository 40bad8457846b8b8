//! `[[enforcer.listener]]`: where calls come in, what their connections carry, and which defaults that means.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use enforcer_proxy::Carries;
use enforcer_traffic::{Network, RouteSpec, UpstreamProtocol, hosts_meet};

use super::super::meant::{Enforcer, Listener};
use super::super::read::Table;
use super::super::value::Address;
use super::{Meaning, address, selector};
use crate::messages::Place;

const MINUTE: Duration = Duration::from_secs(60);
/// Longest body of a request at an edge.
const EDGE_BODY: u32 = 10 << 20;
/// Memory of the calls of one connection: what windows allow, and 2 MiB.
const EDGE_HELD: u64 = 6 << 20;
const HELD: u64 = 20 << 20;
const HOUR: Duration = Duration::from_secs(3_600);

impl Meaning<'_> {
    pub(super) fn listener(&mut self, table: &Table) -> Option<Listener> {
        let binds = |wanted| {
            let addresses = table.list("bind").iter().filter_map(address);
            let of_scheme = addresses.filter_map(|address| match address {
                Address::Socket { scheme, addr } if scheme == wanted => Some(addr),
                _ => None,
            });
            of_scheme.collect::<Vec<_>>()
        };
        let count = |key| table.integer(key).and_then(|count| usize::try_from(*count).ok());
        let (idle, max_age) = match table.text("profile").map(String::as_str) {
            Some("mesh" | "sidecar-in" | "sidecar-out") => (15 * MINUTE, 24 * HOUR),
            Some("tcp") => (HOUR, 24 * HOUR),
            _ => (MINUTE, HOUR),
        };
        // At an edge strangers get less and learn less.
        let is_edge = table.text("profile").is_none_or(|profile| profile == "edge");
        let (identities, handshakes) = if is_edge { (4, 64) } else { (2, usize::MAX) };
        let held = if is_edge { EDGE_HELD } else { HELD };
        let max_connections = count("max_connections")?;
        let carries = self.carries(table);
        let quic = binds("quic");
        if carries == Carries::Bytes && !quic.is_empty() {
            self.wrong(table, "bind", "quic:// is HTTP/3, and this listener carries bytes".to_owned());
        }
        let sockets = self.sockets(table);
        let forwarders = self.forwarders(table);
        let is_tcp_alone = quic.is_empty() && sockets.is_empty();
        if !forwarders.is_empty() && !is_tcp_alone {
            let text = "proxy_protocol is for tcp:// addresses; give the others a listener of their own";
            self.wrong(table, "bind", text.to_owned());
        }
        let callers = self.callers(table);
        let identities = if callers.is_some() { 1 } else { identities };
        Some(Listener {
            callers,
            is_sidecar: table.text("profile").is_some_and(|profile| profile.starts_with("sidecar")),
            name: table.text("name")?.clone(),
            bind: binds("tcp"),
            quic,
            sockets,
            certificates: self.certificates(table),
            carries,
            forwarders,
            client_auth: table.text("client_auth")?.clone(),
            audience: self.audience(table),
            issuers: self.issuers(table),
            observe: table.text("mode").map(|mode| mode == "observe"),
            hosts: table.texts("hosts"),
            handshake_timeout: *table.duration("handshake_timeout")?,
            header_timeout: *table.duration("header_timeout")?,
            idle_timeout: table.duration("idle_timeout").copied().unwrap_or(idle),
            max_age: table.duration("max_age").copied().unwrap_or(max_age),
            max_connections,
            max_connections_per_source: count("max_connections_per_source")?,
            max_connections_per_identity: count("max_connections_per_identity")
                .unwrap_or_else(|| (max_connections / identities).max(1)),
            max_handshakes_per_source: count("max_handshakes_per_source").unwrap_or(handshakes),
            max_body: self.max_body(table).or(is_edge.then_some(EDGE_BODY)),
            max_held: table.size("max_memory_per_connection").copied().unwrap_or(held),
            tells_shed: table.text("shed_header").map_or(!is_edge, |word| word == "on"),
            is_edge,
            rate: self.rate(table),
        })
    }

    /// Whose tokens name callers; that has a meaning only where some have no certificate.
    fn audience(&mut self, table: &Table) -> Vec<String> {
        let audience = table.texts("audience");
        if audience.iter().any(String::is_empty) {
            self.wrong(table, "audience", "a token is never for the empty audience".to_owned());
        }
        if !audience.is_empty() && table.text("client_auth").is_some_and(|auth| auth == "required") {
            let text = "`audience` is for callers without a certificate, and this listener lets none in: write client_auth = \"optional\"";
            self.wrong(table, "audience", text.to_owned());
        }
        audience
    }

    /// Who the local application is, and what then has no meaning: whoever comes without TLS must be told by the kernel.
    fn callers(&mut self, table: &Table) -> Option<Vec<u32>> {
        let is_local = table.text("profile").is_some_and(|profile| profile == "sidecar-out");
        let written = table.list("callers");
        match (is_local, written.is_empty()) {
            (false, true) => return None,
            (false, false) => {
                let text = "`callers` is for profile = \"sidecar-out\"; elsewhere callers show an SVID";
                self.wrong(table, "callers", text.to_owned());
                return None;
            }
            (true, true) => {
                let text = "profile = \"sidecar-out\" needs `callers`: anybody on this host could call as this workload";
                self.wrong(table, "profile", text.to_owned());
            }
            (true, false) => {}
        }
        for key in ["client_auth", "audience", "issuers", "certificate", "hosts", "proxy_protocol"] {
            if table.is_written(key) {
                let text = format!("`{key}` is about TLS, and the local application comes without");
                self.wrong(table, key, text);
            }
        }
        let is_open = |address: &Address| match address {
            Address::Socket { scheme, addr } => *scheme == "quic" || !addr.ip().is_loopback(),
            Address::Name { .. } => true,
            Address::Unix(_) => false,
        };
        if table.list("bind").iter().filter_map(address).any(|address| is_open(&address)) {
            let text = "profile = \"sidecar-out\" is for this host: bind tcp:// on loopback, or unix://";
            self.wrong(table, "bind", text.to_owned());
        }
        let mut uids = Vec::new();
        for selector in written.iter().filter_map(selector) {
            match selector.as_str().strip_prefix("unix:uid:").and_then(|uid| uid.parse().ok()) {
                Some(uid) => uids.push(uid),
                None => {
                    let text = format!("`{}` is no user such as `unix:uid:1000`", selector.as_str());
                    self.wrong(table, "callers", text);
                }
            }
        }
        Some(uids)
    }

    fn carries(&mut self, table: &Table) -> Carries {
        let is_tcp = table.text("profile").is_some_and(|profile| profile == "tcp");
        let written = table.texts("protocols");
        let names: HashSet<&str> = written.iter().map(String::as_str).collect();
        let has = |name| names.contains(name);
        let is_any = has("tcp") && names.len() > 1;
        if is_any && !(has("http1") && has("h2")) {
            let text = "`tcp` stands alone, or beside both http1 and h2".to_owned();
            self.wrong(table, "protocols", text);
        } else if is_tcp && !names.is_empty() && !has("tcp") {
            let text = "profile = \"tcp\" carries bytes as they are; leave `protocols` out".to_owned();
            self.wrong(table, "protocols", text);
        } else if names.is_empty() && table.entries.contains_key("protocols") {
            self.wrong(table, "protocols", "`protocols` names none".to_owned());
        }
        match (is_tcp || has("tcp"), has("http1"), has("h2")) {
            _ if is_any => Carries::Any,
            (true, ..) => Carries::Bytes,
            (_, true, false) => Carries::Http1,
            (_, false, true) => Carries::Http2,
            _ => Carries::Http,
        }
    }

    /// With several certificates, what the own SVID is shown for must be said.
    fn certificates(&mut self, table: &Table) -> Vec<(PathBuf, PathBuf)> {
        let files = table
            .tables("certificate")
            .iter()
            .filter_map(|table| Some((self.resolve(table.path("chain")?), self.resolve(table.path("key")?))));
        let files: Vec<_> = files.collect();
        if !files.is_empty() && table.texts("hosts").is_empty() {
            let text = "a listener with certificates needs `hosts`: the names that its own SVID is shown for";
            self.wrong(table, "certificate", text.to_owned());
        }
        files
    }

    fn sockets(&mut self, table: &Table) -> Vec<PathBuf> {
        let written = table.list("bind").iter().filter_map(address);
        let paths = written.filter_map(|address| match address {
            Address::Unix(path) => Some(self.resolve(&path)),
            Address::Socket { .. } | Address::Name { .. } => None,
        });
        let paths: Vec<_> = paths.collect();
        paths.iter().for_each(|path| self.socket(table, "bind", path));
        paths
    }

    /// Whose word on the caller's address is taken; said exactly where it is asked for.
    fn forwarders(&mut self, table: &Table) -> Vec<Network> {
        let is_required = table.text("proxy_protocol").is_some_and(|word| word == "require");
        let written = table.texts("trusted_forwarders");
        match (is_required, written.as_slice()) {
            (true, []) => {
                let text = "proxy_protocol = \"require\" needs `trusted_forwarders`: anybody could claim any address";
                self.wrong(table, "proxy_protocol", text.to_owned());
            }
            (false, [_, ..]) => {
                let text = "`trusted_forwarders` says nothing without proxy_protocol = \"require\"";
                self.wrong(table, "trusted_forwarders", text.to_owned());
            }
            _ => {}
        }
        self.networks(table, "trusted_forwarders", " such as 10.0.0.0/24, and no address")
    }

    /// Every listener has an address, and no two have the same.
    pub(super) fn binds(&mut self, section: &Table, listeners: &[Listener]) {
        if listeners.is_empty() {
            self.push("PC0102", section, "", "[enforcer] has no [[enforcer.listener]]".to_owned());
        }
        let mut bound: Vec<(String, &Table)> = Vec::new();
        for (listener, table) in listeners.iter().zip(section.tables("listener")) {
            let tcp = listener.bind.iter().map(|bind| (format!("tcp://{bind}"), bind.port()));
            let quic = listener.quic.iter().map(|bind| (format!("quic://{bind}"), bind.port()));
            let unix = listener.sockets.iter().map(|path| (format!("unix://{}", path.display()), 1));
            let binds: Vec<_> = tcp.chain(quic).chain(unix).collect();
            if binds.is_empty() {
                self.wrong(table, "bind", "`bind` names no address".to_owned());
            }
            for (bind, port) in binds {
                let first = bound.iter().find(|(known, _)| port != 0 && *known == bind);
                if let Some((_, first)) = first {
                    let line = Place::of(self.file, self.text, first.span_of("bind")).line;
                    let fault = self.fault("PC0106", table, "bind", format!("`{bind}` is bound twice"));
                    self.messages.push(fault.help(format!("the first one is in line {line}")));
                }
                bound.push((bind, table));
            }
        }
    }

    /// Connections that are carried as bytes lead to endpoints that take them so, and have a route that says where.
    pub(super) fn carried(&mut self, section: &Table, enforcer: &Enforcer) {
        let carriers: HashSet<&str> = enforcer
            .listeners
            .iter()
            .filter(|listener| listener.carries == Carries::Bytes)
            .map(|listener| listener.name.as_str())
            .collect();
        let mixed = |name: &str| {
            let is_it = |listener: &&Listener| listener.name == name;
            enforcer.listeners.iter().find(is_it).is_some_and(|listener| listener.carries == Carries::Any)
        };
        let takers: HashSet<&str> = enforcer
            .clusters
            .iter()
            .filter(|cluster| cluster.written().any(|end| end.protocol == UpstreamProtocol::Tcp))
            .map(|cluster| cluster.name.as_str())
            .collect();
        for route in &enforcer.routes {
            let Some(listener) = route.listener.as_deref() else { continue };
            if !route.passes.is_empty() {
                self.passed(section, enforcer, route, listener);
                continue;
            }
            let is_tcp = route.to.iter().any(|share| takers.contains(share.cluster.as_str()));
            if is_tcp == carriers.contains(listener) || mixed(listener) {
                continue;
            }
            let table = of_route(section, route);
            let text = match is_tcp {
                true => format!(
                    "listener `{listener}` speaks HTTP; tcp:// endpoints need one with profile = \"tcp\""
                ),
                false => format!("listener `{listener}` carries bytes; its routes need tcp:// endpoints"),
            };
            self.wrong(table, "listener", text);
        }
        let named: HashSet<&str> =
            enforcer.routes.iter().filter_map(|route| route.listener.as_deref()).collect();
        for table in section.tables("listener") {
            let name = table.text("name").map(String::as_str).unwrap_or_default();
            if carriers.contains(name) && !named.contains(name) {
                let text = format!("no route takes the connections of `{name}`");
                let fault = self.fault("PC0104", table, "name", text);
                let help =
                    format!("in an [[enforcer.route]] with tcp:// endpoints write listener = \"{name}\"");
                self.messages.push(fault.help(help));
            }
        }
    }

    /// TLS that passes through a listener that takes TLS, under names that it serves nothing else under (LT-16).
    fn passed(&mut self, section: &Table, enforcer: &Enforcer, route: &RouteSpec, listener: &str) {
        let Some(listener) = enforcer.listeners.iter().find(|known| known.name == listener) else { return };
        let table = of_route(section, route);
        if listener.callers.is_some() || listener.bind.is_empty() && listener.sockets.is_empty() {
            let text = format!("`{}` has no tcp:// or unix:// address that takes TLS", listener.name);
            self.wrong(table, "listener", text);
        }
        let mut meetings =
            route.passes.iter().flat_map(|name| listener.hosts.iter().map(move |host| (name, host)));
        if let Some((name, host)) = meetings.find(|(name, host)| hosts_meet(name, host)) {
            let text = format!("`{name}` passes through, and `hosts` of `{}` has `{host}`", listener.name);
            let fault = self.fault("PC0104", table, "pass_through", text);
            self.messages
                .push(fault.help("a server name either passes through a listener or is served by it"));
        }
    }
}

fn of_route<'a>(section: &'a Table, route: &RouteSpec) -> &'a Table {
    let is_it = |table: &&Table| table.text("name").is_some_and(|name| *name == route.name);
    section.tables("route").iter().find(is_it).unwrap_or(section)
}
