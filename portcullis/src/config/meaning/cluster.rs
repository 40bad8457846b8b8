//! `[[enforcer.cluster]]`, and the short form of one: endpoints that a route names itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base_ports::NetAddr;
use enforcer_traffic::balance::BalanceSettings;
use enforcer_traffic::fleet::{CheckSettings, FleetSettings, Limits, OutlierSettings, Probe};
use enforcer_traffic::{
    AdmissionSettings, BalancerKind, ClusterSpec, EndpointSpec, Fallback, HashBy, Labels, NamedSpec, Network,
    Roots, TlsSettings, UpstreamProtocol,
};

use super::super::read::{Table, Value};
use super::super::value::{Address, is_host};
use super::{Meaning, address};
use ca_identity::IdPattern;

impl Meaning<'_> {
    /// The cluster that `table` tells, with its endpoints under `key`.
    pub(super) fn cluster(&mut self, table: &Table, key: &str) -> Option<ClusterSpec> {
        let mut written: Vec<_> =
            table.list(key).iter().filter_map(|value| self.endpoint(table, key, value)).collect();
        for described in table.tables("endpoint") {
            written.extend(self.described(described));
        }
        self.spoken(table, &mut written);
        if written.is_empty() {
            self.wrong(table, key, format!("`{key}` names no endpoint"));
        }
        let tls = self.tls(table, key, &written);
        let tells_caller = table.text("proxy_protocol").is_some_and(|word| word == "v2");
        let is_plain_tcp = |end: &Written| end.each.protocol == UpstreamProtocol::Tcp && tls.is_none();
        if tells_caller && !written.iter().all(is_plain_tcp) {
            let text = "the PROXY protocol is for tcp:// endpoints: connections of others serve many callers";
            self.wrong(table, "proxy_protocol", text.to_owned());
        }
        let granted = self.granted(table, &written);
        let (mut endpoints, mut named) = (Vec::new(), Vec::new());
        for Written { host, each, .. } in written {
            match host {
                None => endpoints.push(each),
                Some((host, port)) => named.push(NamedSpec { host, port, each }),
            }
        }
        let default = ClusterSpec::default();
        Some(ClusterSpec {
            name: table.text("name")?.clone(),
            endpoints,
            named,
            granted,
            balancer: balancer_of(table),
            fallback: self.fallback(table),
            balance: BalanceSettings {
                slow_start: table.duration("slow_start").copied().unwrap_or_default(),
                bound_percent: count(table, "bound_percent"),
                fails_in_panic: table.text("panic").is_some_and(|word| word == "fail"),
            },
            hash_by: self.hash_by(table),
            check: self.check(table),
            tls,
            requires_h3: self.requires_h3(table),
            tells_caller,
            zone: None,
            fleet: FleetSettings {
                outlier: outlier(table),
                limits: limits(table),
                admission: admission(table),
                ..default.fleet
            },
            connect_timeout: table.duration("connect_timeout").copied().unwrap_or(default.connect_timeout),
            ping_interval: table.duration("ping_interval").copied().unwrap_or(default.ping_interval),
        })
    }

    /// One endpoint, as its address says.
    fn endpoint(&mut self, table: &Table, key: &str, value: &Value) -> Option<Written> {
        let (scheme, host, addr) = match address(value)? {
            Address::Socket { scheme, addr } => (scheme, None, addr.into()),
            Address::Name { scheme, host, port } => {
                (scheme, Some((host.into(), port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())
            }
            Address::Unix(path) => {
                let path = self.resolve(&path);
                self.socket(table, key, &path);
                ("unix", None, NetAddr::Unix(path.into()))
            }
        };
        let protocol = match scheme {
            "h2c" => UpstreamProtocol::Http2,
            "tcp" => UpstreamProtocol::Tcp,
            _ => UpstreamProtocol::Http1,
        };
        Some(Written {
            host,
            is_told: matches!(scheme, "https" | "unix"),
            each: EndpointSpec::new(protocol, addr),
        })
    }

    /// One endpoint of which there is more to say.
    fn described(&mut self, table: &Table) -> Option<Written> {
        let (value, ..) = table.entries.get("address")?;
        let labels = self.labels(table, "labels");
        let written = self.endpoint(table, "address", value)?;
        let each = EndpointSpec {
            weight: count(table, "weight")?,
            priority: count(table, "priority").and_then(|priority| u8::try_from(priority).ok())?,
            zone: table.text("zone").map(|zone| zone.as_str().into()),
            labels,
            ..written.each
        };
        Some(Written { each, ..written })
    }

    /// What endpoints speak whose addresses do not tell it.
    fn spoken(&mut self, table: &Table, endpoints: &mut [Written]) {
        let Some(word) = table.text("protocol") else { return };
        let protocol = match word.as_str() {
            "h2" => UpstreamProtocol::Http2,
            "h3" => UpstreamProtocol::Http3,
            "tcp" => UpstreamProtocol::Tcp,
            _ => UpstreamProtocol::Http1,
        };
        if protocol == UpstreamProtocol::Http3
            && endpoints.iter().any(|endpoint| endpoint.is_told && endpoint.each.addr.tcp().is_none())
        {
            self.wrong(table, "protocol", "unix sockets do not carry http/3".to_owned());
        }
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| !endpoint.is_told) {
            let text = "`protocol` is for https endpoints and unix sockets, and there is none";
            self.wrong(table, "protocol", text.to_owned());
        }
        let told = endpoints.iter_mut().filter(|endpoint| endpoint.is_told);
        told.for_each(|endpoint| endpoint.each.protocol = protocol);
    }

    /// Whether nothing but HTTP/3 will do.
    fn requires_h3(&mut self, table: &Table) -> bool {
        let is_required = table.flag("require_h3").is_some_and(|required| *required);
        if is_required && table.text("protocol").is_none_or(|word| word != "h3") {
            self.wrong(table, "require_h3", "`require_h3` needs protocol = \"h3\"".to_owned());
        }
        is_required
    }

    /// Who https endpoints must be. A cluster is secured as a whole or not at all.
    fn tls(&mut self, table: &Table, key: &str, endpoints: &[Written]) -> Option<TlsSettings> {
        let addresses = table.list(key).iter().chain(
            table.tables("endpoint").iter().filter_map(|table| Some(&table.entries.get("address")?.0)),
        );
        let secured = addresses.filter(|value| is_https(value)).count();
        if secured == 0 {
            for key in ["expect", "sni", "external", "roots"] {
                if table.entries.contains_key(key) {
                    self.wrong(table, key, format!("`{key}` is for https endpoints, and there is none"));
                }
            }
            return None;
        }
        if secured < endpoints.len() {
            let text = "https and plain endpoints do not mix; make two clusters".to_owned();
            self.wrong(table, key, text);
        }
        let sni = table.text("sni").cloned();
        if let Some(name) = sni.as_deref().filter(|name| !is_host(name)) {
            self.wrong(table, "sni", format!("`{name}` is no host name"));
        }
        if table.flag("external").is_some_and(|external| *external) {
            return self.external(table, key, endpoints, sni);
        }
        if table.entries.contains_key("roots") {
            let text =
                "`roots` is for external = true; workloads are verified by the bundle of their trust domain";
            self.wrong(table, "roots", text.to_owned());
        }
        let mut expect = Vec::new();
        for text in table.texts("expect") {
            match IdPattern::parse(&text) {
                Some(pattern) => expect.push(pattern),
                None => self.wrong(
                    table,
                    "expect",
                    format!("`{text}` is no SPIFFE ID, no spiffe://DOMAIN and no spiffe://DOMAIN/PATH/*"),
                ),
            }
        }
        if table.texts("expect").is_empty() {
            let text = "https endpoints need to be somebody: in [[enforcer.cluster]] write expect = [\"spiffe://DOMAIN/PATH\"], the SPIFFE IDs that may answer, or external = true for servers that prove a name";
            self.wrong(
                table,
                if table.entries.contains_key("expect") { "expect" } else { key },
                text.to_owned(),
            );
        }
        Some(TlsSettings::Workloads { expect, sni })
    }

    /// Https endpoints that prove a name instead of an SVID.
    fn external(
        &mut self,
        table: &Table,
        key: &str,
        endpoints: &[Written],
        sni: Option<String>,
    ) -> Option<TlsSettings> {
        if table.entries.contains_key("expect") {
            let text = "`expect` is for workloads; external endpoints prove their name";
            self.wrong(table, "expect", text.to_owned());
        }
        if endpoints.iter().any(|endpoint| endpoint.each.protocol == UpstreamProtocol::Http3) {
            let text = "external endpoints are asked over http1 or h2";
            self.wrong(table, "protocol", text.to_owned());
        }
        let mut hosts: Vec<_> =
            endpoints.iter().map(|one| one.host.as_ref().map(|(host, _)| host.to_string())).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let name = match (sni, hosts.as_slice()) {
            (Some(name), _) => name,
            (None, [Some(host)]) => host.clone(),
            (None, _) => {
                let text = "external endpoints prove one name: write sni = \"NAME\", or the same name in every address";
                self.wrong(table, key, text.to_owned());
                return None;
            }
        };
        let port = match endpoints.first() {
            Some(Written { host: Some((_, port)), .. }) => Some(*port),
            Some(endpoint) => endpoint.each.addr.tcp().map(|address| address.port()),
            None => None,
        };
        let authority = match port {
            None | Some(443) => name.clone(),
            Some(port) => format!("{name}:{port}"),
        };
        let file = table.path("roots").map(|path| self.resolve(path));
        Some(TlsSettings::External { name, authority, roots: Roots { file, read: None } })
    }

    /// Labels of an endpoint, or that a route asks for.
    pub(super) fn labels(&mut self, table: &Table, key: &str) -> Labels {
        let words = table.texts(key);
        let labels = Labels::parse(words.iter().map(String::as_str));
        labels.unwrap_or_else(|word| {
            let text = format!("`{word}` is no label such as `version=2`, or its key is there already");
            self.wrong(table, key, text);
            Labels::default()
        })
    }

    /// Who takes the calls of a subset without endpoints.
    fn fallback(&mut self, table: &Table) -> Fallback {
        let labels = self.labels(table, "subset_default");
        let word = table.text("subset_fallback").map_or("none", String::as_str);
        match (word, labels.is_empty()) {
            ("default", false) => return Fallback::Default(labels),
            ("default", true) => {
                let text = "`default` needs `subset_default`, the labels of those that take the calls then";
                self.wrong(table, "subset_fallback", text.to_owned());
            }
            (_, false) => {
                let text = "`subset_default` needs subset_fallback = \"default\"".to_owned();
                self.wrong(table, "subset_default", text);
            }
            ("any", true) => return Fallback::Any,
            (_, true) => {}
        }
        Fallback::None
    }

    /// Networks off limits that names may lead to all the same.
    fn granted(&mut self, table: &Table, endpoints: &[Written]) -> Vec<Network> {
        if table.entries.contains_key("resolve_to")
            && endpoints.iter().all(|endpoint| endpoint.host.is_none())
        {
            let text = "`resolve_to` is for endpoints by name, and there is none".to_owned();
            self.wrong(table, "resolve_to", text);
        }
        self.networks(table, "resolve_to", " such as `127.0.0.0/8`")
    }

    /// How the endpoints are asked for their health.
    fn check(&mut self, table: &Table) -> Option<CheckSettings> {
        let table = table.table("check")?;
        let path = table.text("path").cloned().unwrap_or_else(|| "/".to_owned());
        let is_plain = |byte: u8| byte.is_ascii_graphic();
        if !path.starts_with('/') || !path.bytes().all(is_plain) {
            self.wrong(table, "path", format!("`{path}` is no path of a request"));
        }
        let service = table.text("service").cloned().unwrap_or_default();
        if service.len() >= 120 {
            self.wrong(table, "service", "the name of the service is too long".to_owned());
        }
        Some(CheckSettings {
            probe: match table.text("probe")?.as_str() {
                "http" => Probe::Http { path, host: table.text("host").cloned() },
                "grpc" => Probe::Grpc { service },
                _ => Probe::Tcp,
            },
            interval: *table.duration("interval")?,
            timeout: *table.duration("timeout")?,
        })
    }

    /// What keeps calls at one endpoint; written exactly where the balancer goes by it.
    fn hash_by(&mut self, table: &Table) -> Option<HashBy> {
        let is_hashed = balancer_of(table).is_hashed();
        let written = table.text("hash_by");
        let word = table.text("balancer").map_or("p2c", String::as_str);
        match (written, is_hashed) {
            (None, false) => {
                if table.entries.contains_key("bound_percent") {
                    self.wrong(table, "bound_percent", "`bound_percent` needs `hash_by`".to_owned());
                }
                None
            }
            (None, true) => {
                let text = format!(
                    "`{word}` goes by a part of the call; say which with `hash_by` in [[enforcer.cluster]]"
                );
                self.wrong(table, "balancer", text);
                None
            }
            (Some(_), false) => {
                let text = format!("`{word}` does not go by a hash; use maglev, ring_hash or rendezvous");
                self.wrong(table, "hash_by", text);
                None
            }
            (Some(written), true) => {
                let hash_by = HashBy::parse(written);
                if hash_by.is_none() {
                    let text = format!("`{written}` is none of {}", HashBy::FORMS);
                    self.wrong(table, "hash_by", text);
                }
                hash_by
            }
        }
    }
}

fn balancer_of(table: &Table) -> BalancerKind {
    table.text("balancer").and_then(|word| BalancerKind::from_word(word)).unwrap_or_default()
}

fn limits(table: &Table) -> Limits {
    let default = Limits::default();
    Limits {
        endpoint_in_flight: count(table, "max_in_flight_per_endpoint").unwrap_or(default.endpoint_in_flight),
        in_flight: count(table, "max_in_flight").unwrap_or(default.in_flight),
        queued: count(table, "max_queued").unwrap_or(default.queued),
        connections: count(table, "max_connections").unwrap_or(default.connections),
    }
}

fn admission(table: &Table) -> Option<AdmissionSettings> {
    let aggression = count(table, "admission_aggression").unwrap_or(1);
    table.text("admission").is_some_and(|word| word == "on").then_some(AdmissionSettings { aggression })
}

fn outlier(table: &Table) -> Option<OutlierSettings> {
    let default = OutlierSettings::default();
    let Some(table) = table.table("outlier") else { return Some(default) };
    let settings = OutlierSettings {
        failures_in_a_row: count(table, "failures_in_a_row").unwrap_or(default.failures_in_a_row),
        least_success_percent: count(table, "min_success_percent").unwrap_or(default.least_success_percent),
        least_calls: count(table, "min_calls").map_or(default.least_calls, u64::from),
        first: table.duration("back_off").copied().unwrap_or(default.first),
        longest: table.duration("max_back_off").copied().unwrap_or(default.longest),
        most_percent: count(table, "max_percent").unwrap_or(default.most_percent),
        ..default
    };
    table.text("mode").is_none_or(|word| word == "on").then_some(settings)
}

/// A number whose key bounds it.
pub(super) fn count(table: &Table, key: &str) -> Option<u32> {
    table.integer(key).and_then(|count| u32::try_from(*count).ok())
}

fn is_https(value: &Value) -> bool {
    let https = "https";
    matches!(address(value), Some(Address::Socket { scheme, .. } | Address::Name { scheme, .. }) if scheme == https)
}

/// An endpoint, with its name and port when it has one.
#[derive(Debug)]
struct Written {
    host: Option<(Arc<str>, u16)>,
    /// Its address does not say what it speaks; `protocol` does.
    is_told: bool,
    each: EndpointSpec,
}
