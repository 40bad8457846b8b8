//! `[enforcer]`: listeners, services, clusters and routes, and what only shows when they meet.

use std::path::Path;
use std::time::Duration;

use enforcer_traffic::{ClusterSpec, RouteError, RouteSpec, Routes};

use super::super::meant::{Enforcer, Service, TrailTo};
use super::super::read::Table;
use super::super::value::Address;
use super::Meaning;
use crate::assemble::entities;
use crate::messages::{Place, nearest};

impl Meaning<'_> {
    pub(super) fn enforcer(&mut self, section: &Table) -> Option<Enforcer> {
        let before = self.messages.len();
        let mut clusters: Vec<_> =
            section.tables("cluster").iter().filter_map(|table| self.cluster(table, "endpoints")).collect();
        let mut routes = Vec::new();
        for table in section.tables("route") {
            if let Some((route, own)) = self.route(table) {
                self.alone(table, &route);
                if let Some(own) = own {
                    self.own(section, table, &own);
                    clusters.push(own);
                }
                routes.push(route);
            }
        }
        for cluster in &mut clusters {
            cluster.zone = section.text("zone").cloned();
        }
        let enforcer = Enforcer {
            id: section.spiffe_id("id")?.clone(),
            workload_api: section.address("workload_api").and_then(|address| match address {
                Address::Unix(path) => Some(self.resolve(path)),
                Address::Socket { .. } | Address::Name { .. } => None,
            }),
            observe: section.text("mode")? == "observe",
            workers: usize::try_from(*section.integer("workers")?).unwrap_or(0),
            max_handshakes: usize::try_from(*section.integer("max_handshakes")?).unwrap_or(usize::MAX),
            max_delay: self.max_delay(section)?,
            max_memory: section.size("max_memory").copied(),
            trail: section.text("trail").map(|word| match word.as_str() {
                "stdout" => TrailTo::Stdout,
                path => TrailTo::File(self.resolve(Path::new(path))),
            }),
            spans: self.spans(section),
            dns_names: section.texts("dns_names"),
            resolver: section.address("resolver").and_then(Address::socket),
            listeners: section.tables("listener").iter().filter_map(|table| self.listener(table)).collect(),
            issuers: section.tables("issuer").iter().filter_map(|table| self.issuer(table)).collect(),
            services: section.tables("service").iter().filter_map(service).collect(),
            clusters,
            routes,
        };
        if let Err(error) = ca_authority::check_identity(self.trust_domain, &enforcer.id, &enforcer.dns_names)
        {
            self.identity(section, "id", &error);
        }
        self.unique(section, "listener");
        self.unique(section, "issuer");
        self.unique(section, "service");
        self.unique(section, "cluster");
        self.unique(section, "route");
        for table in section.tables("listener") {
            self.all_known(section, table, "issuer");
        }
        self.binds(section, &enforcer.listeners);
        self.carried(section, &enforcer);
        for table in section.tables("route") {
            self.known(section, table, "service");
            self.known(section, table, "listener");
            self.known(section, table, "cluster");
            table.tables("split").iter().for_each(|share| self.known(section, share, "cluster"));
        }
        if self.messages.len() == before {
            self.agree(section, &enforcer);
        }
        Some(enforcer)
    }

    /// Below the least, the beat of the measure itself would be load.
    fn max_delay(&mut self, section: &Table) -> Option<Duration> {
        let bounds = Duration::from_millis(5)..=Duration::from_secs(60);
        self.duration_within(section, "max_delay", bounds, "`max_delay` must lie between 5ms and 60s")
    }

    /// What is wrong with a route whatever the others are, where it is written.
    fn alone(&mut self, table: &Table, route: &RouteSpec) {
        let Err(error) = Routes::check(route) else { return };
        let matches = table.table("match").unwrap_or(table);
        let written = |keys: &[&'static str]| {
            keys.iter().copied().find(|key| matches.entries.contains_key(key)).unwrap_or_default()
        };
        match &error {
            // Said already, with more of the file in view.
            RouteError::Grpc { cause, .. } if cause.contains("exclude") => {}
            RouteError::Path { cause, .. } if cause.contains("CC-01") || cause.contains("does not begin") => {
            }
            RouteError::Host { .. } => self.wrong(matches, written(&["hosts", "host"]), error.to_string()),
            RouteError::Path { .. } => {
                let key = written(&["path", "path_exact", "path_template", "path_regex"]);
                self.wrong(matches, key, error.to_string());
            }
            RouteError::Grpc { .. } => self.wrong(matches, "grpc", error.to_string()),
            RouteError::Handling { .. } => {
                let keys = ["redirect", "respond", "rewrite"];
                let key = keys.into_iter().find(|key| table.entries.contains_key(key)).unwrap_or_default();
                self.wrong(table, key, error.to_string());
            }
            _ => self.wrong(table, "match", error.to_string()),
        }
    }

    /// A cluster that a route has to itself bears the name of the route, so nobody else may.
    fn own(&mut self, section: &Table, route: &Table, own: &ClusterSpec) {
        let mut named = section.tables("cluster").iter().filter_map(|table| table.text("name"));
        if named.any(|name| *name == own.name) {
            let text = format!("cluster `{}` exists, and `to` makes another one of that name", own.name);
            let fault = self.fault("PC0106", route, "to", text);
            self.messages
                .push(fault.help(format!("write cluster = \"{}\", or rename one of them", own.name)));
        }
    }

    /// What only the compiled routes can tell: calls that two routes match, methods that two services offer, ..
    fn agree(&mut self, section: &Table, enforcer: &Enforcer) {
        let services = entities::services(enforcer);
        let Err(error) = Routes::build(&services, &enforcer.clusters, &enforcer.routes) else { return };
        let (kind, name, key) = match &error {
            RouteError::Host { route, .. }
            | RouteError::Path { route, .. }
            | RouteError::Match { route, .. }
            | RouteError::Handling { route, .. }
            | RouteError::Grpc { route, .. } => ("route", route.as_str(), "match"),
            RouteError::EqualRank { second, .. } => ("route", second.as_str(), "match"),
            RouteError::NoEndpoint { cluster } => ("cluster", cluster.as_str(), "endpoints"),
            RouteError::NoCluster { route }
            | RouteError::UnknownCluster { route, .. }
            | RouteError::NoSubset { route, .. }
            | RouteError::Tcp { route, .. }
            | RouteError::GrpcOverHttp1 { route, .. } => ("route", route.as_str(), "to"),
            RouteError::UnknownService { route, .. } => ("route", route.as_str(), "service"),
            RouteError::Duplicate { kind, name } => (*kind, name.as_str(), "name"),
            RouteError::Method { service, .. } => ("service", service.as_str(), "methods"),
            RouteError::AmbiguousRpc { second, .. } => ("service", second.as_str(), "methods"),
            RouteError::TooMany => ("route", "", ""),
        };
        let named = |kind: &str, name: &str| {
            section.tables(kind).iter().find(|table| table.text("name").is_some_and(|known| known == name))
        };
        let mut fault = self.fault("PC0104", named(kind, name).unwrap_or(section), key, error.to_string());
        match &error {
            RouteError::GrpcOverHttp1 { .. } => {
                fault = fault.help("gRPC needs HTTP/2 upstream; write h2c:// instead of http://");
            }
            RouteError::EqualRank { first, .. } => {
                let span = named("route", first).map(|table| table.span_of("match")).unwrap_or_default();
                let line = Place::of(self.file, self.text, span).line;
                fault = fault.help(format!(
                    "`{first}` matches in line {line}; a call that both take must find more conditions in one of them"
                ));
            }
            _ => {}
        }
        self.messages.push(fault);
    }

    /// `key` of `table`, when written, names one of the tables `key` of `section`.
    fn known(&mut self, section: &Table, table: &Table, key: &str) {
        if let Some(written) = table.text(key) {
            self.names_one(section, table, (key, key), written);
        }
    }

    /// Each of the list `{kind}s` of `table` names one of the tables `kind` of `section`.
    fn all_known(&mut self, section: &Table, table: &Table, kind: &str) {
        let key = format!("{kind}s");
        for written in table.texts(&key) {
            self.names_one(section, table, (&key, kind), &written);
        }
    }

    fn names_one(&mut self, section: &Table, table: &Table, (key, kind): (&str, &str), written: &str) {
        let names: Vec<_> =
            section.tables(kind).iter().filter_map(|table| table.text("name")).map(String::as_str).collect();
        if names.contains(&written) {
            return;
        }
        let mut fault = self.fault("PC0105", table, key, format!("`{written}` names no {kind} of this file"));
        fault.label = nearest(written, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        self.messages.push(fault.help(format!("{kind}s are {names}")));
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
}

fn service(table: &Table) -> Option<Service> {
    Some(Service {
        name: table.text("name")?.clone(),
        namespace: table.text("namespace").cloned(),
        rpc_scope: table.text("rpc_scope").cloned(),
        methods: table.texts("methods"),
    })
}
