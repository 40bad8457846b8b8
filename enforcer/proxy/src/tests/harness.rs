//! A running gateway with a test authority, and a lane that keeps what it is given (`records`).

mod records;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base_net::{Caps, Sockets, Timers};
use base_ports::{Clock, ManualNet, ManualResolver, SystemClock, SystemRng};
use base_telemetry::Metrics;
use ca_identity::pem::{write_certificates, write_private_key};
use ca_identity::testing::TestCa;
use ca_identity::tls::{ClientAuth, Expected, NamedCertificate, Trust, client_config};
use ca_identity::{IdentitySnapshot, X509Svid};
use enforcer_traffic::{
    ClusterSpec, EndpointSpec, GrpcMatch, MatchSpec, Network, RateSettings, RetrySettings, RouteSpec, Routes,
    ServiceSpec, Share, Timeouts, UpstreamProtocol,
};
use policies_engine::{
    EntitySet, MethodEntity, Mode, Numbers, PolicySource, RouteEntity, SchemaText, ServiceEntity, Snapshot,
    SnapshotInput, baseline,
};

use records::{Records, TestLane};

use crate::{
    Carries, Gauges, Issuer, ListenerSpec, Names, Ports, Proxy, ProxyConfig, Reveal, View, ViewHandle,
};

pub(super) const WEB: &str = "spiffe://example.org/web";

/// Lets `web` do what the tests do with route `site` and method `shop.Orders/Get`, and nobody anything else.
pub(super) const POLICY: &str = r#"
@id("web-site") permit (principal == Workload::"spiffe://example.org/web", action, resource == Route::"site");
@id("web-h2") permit (principal == Workload::"spiffe://example.org/web", action, resource == Route::"site-h2");
@id("web-get") permit (principal == Workload::"spiffe://example.org/web", action == Action::"grpc", resource)
  when { resource in [Method::"shop.Orders/Get", Method::"shop.Orders/Watch"] };
"#;

/// What a gateway is started with.
pub(super) struct Setup {
    pub(super) policy: Option<String>,
    pub(super) h1: Vec<SocketAddr>,
    pub(super) h2: Vec<SocketAddr>,
    pub(super) timeouts: Timeouts,
    pub(super) connect_timeout: Duration,
    /// Further routes, to clusters `h1` and `h2`.
    pub(super) routes: Vec<RouteSpec>,
    /// What is said of both clusters.
    pub(super) cluster: ClusterSpec,
    /// Where the names of clusters lead.
    pub(super) resolver: ManualResolver,
    /// Off unless a test is about it.
    pub(super) retry: RetrySettings,
    /// What the listener takes.
    pub(super) rate: Option<RateSettings>,
    /// What route `site` and the gRPC route take.
    pub(super) route_rate: Option<RateSettings>,
    pub(super) timers: Timers,
    pub(super) caps: Caps,
    /// Bytes that the calls of a connection may hold.
    pub(super) max_held: u64,
    /// Handshakes at a time.
    pub(super) handshakes: usize,
    pub(super) mode: Mode,
    pub(super) client_auth: ClientAuth,
    pub(super) hosts: Vec<String>,
    /// For whom tokens must be that name callers.
    pub(super) audience: Vec<String>,
    pub(super) issuers: Vec<Arc<Issuer>>,
    /// `Bytes` has one more route, `db`, to the origins `tcp`.
    pub(super) carries: Carries,
    pub(super) tcp: Vec<SocketAddr>,
    /// What the origins `h2` speak.
    pub(super) spoken: UpstreamProtocol,
    pub(super) sockets: Vec<std::path::PathBuf>,
    /// Names of each further certificate.
    pub(super) certificates: Vec<&'static [&'static str]>,
    pub(super) forwarders: Vec<Network>,
    pub(super) workers: usize,
    pub(super) reveal: Reveal,
    pub(super) own_ttl: Duration,
    /// `stale_after` and `deny_after` of route `site`.
    pub(super) patience: (Option<Duration>, Option<Duration>),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: Some(POLICY.to_owned()),
            h1: Vec::new(),
            h2: Vec::new(),
            timeouts: Timeouts::default(),
            connect_timeout: ClusterSpec::default().connect_timeout,
            routes: Vec::new(),
            cluster: ClusterSpec::default(),
            resolver: ManualResolver::default(),
            retry: RetrySettings { attempts: 0, ..RetrySettings::default() },
            rate: None,
            route_rate: None,
            timers: Timers::default(),
            caps: Caps::default(),
            max_held: 20 << 20,
            handshakes: 1_024,
            mode: Mode::Enforce,
            client_auth: ClientAuth::Required,
            hosts: Vec::new(),
            audience: Vec::new(),
            issuers: Vec::new(),
            carries: Carries::Http,
            tcp: Vec::new(),
            spoken: UpstreamProtocol::Http2,
            sockets: Vec::new(),
            certificates: Vec::new(),
            forwarders: Vec::new(),
            workers: 1,
            reveal: Reveal::Denied,
            own_ttl: Duration::from_secs(3600),
            patience: (None, None),
        }
    }
}

/// How near the gateway is to its limits, in percent, as a test says.
#[derive(Debug, Default, Clone)]
pub(super) struct Pressure {
    pub(super) memory: Arc<AtomicU64>,
    pub(super) descriptors: Arc<AtomicU64>,
}

impl Gauges for Pressure {
    fn memory(&self) -> Option<f64> {
        Some(self.memory.load(Ordering::Relaxed) as f64 / 100.0)
    }

    fn descriptors(&self) -> Option<f64> {
        Some(self.descriptors.load(Ordering::Relaxed) as f64 / 100.0)
    }
}

/// A running gateway.
pub(super) struct Gateway {
    pub(super) ca: TestCa,
    pub(super) proxy: Proxy,
    pub(super) address: SocketAddr,
    pub(super) records: Records,
    pub(super) view: Arc<ViewHandle>,
    pub(super) trust: Arc<Trust>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) routes: Arc<Routes>,
    /// Where the proxy dials; what nobody scripted is as it is.
    pub(super) net: ManualNet,
    names: Arc<Names>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) listeners: Vec<ListenerSpec>,
    /// Where names lead.
    pub(super) resolver: ManualResolver,
    pub(super) pressure: Pressure,
}

impl Setup {
    /// With one HTTP/1 origin behind route `site`.
    pub(super) fn with_h1(origin: SocketAddr) -> Self {
        Self { h1: vec![origin], ..Self::default() }
    }

    /// With one HTTP/2 origin behind the gRPC route and route `site-h2`.
    pub(super) fn with_h2(origin: SocketAddr) -> Self {
        Self { h2: vec![origin], ..Self::default() }
    }

    pub(super) fn start(self) -> Gateway {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ca = TestCa::new("example.org", clock.now().wall);
        let trust = Trust::new(Arc::clone(&clock));
        let own = ca.svid_with("/gateway", &["gateway.test"], self.own_ttl);
        let certificates = self.certificates.iter().map(|names| certificate(&ca, names)).collect();
        trust.publish(ca.snapshot(Some(own))).unwrap();
        let routes = Arc::new(self.all_routes());
        let policy = self.policy.as_deref().map(|policy| snapshot(policy, 1));
        let view = View::new(policy, Arc::clone(&routes)).in_modes(Arc::from([self.mode]));
        let view = Arc::new(ViewHandle::new(view.at_rates(Arc::from([self.rate.clone()]))));
        let records = Records::default();
        let metrics = Arc::new(Metrics::new());
        let net = ManualNet::new();
        let names = Names::new(Arc::new(self.resolver.clone()), Arc::clone(&clock), Vec::new());
        let pressure = Pressure::default();
        let ports = ports(&view, &trust, &records, &metrics, (&net, &names, &pressure));
        let config = ProxyConfig {
            workers: self.workers,
            handshakes: self.handshakes,
            longest_delay: Duration::from_millis(50),
            listeners: vec![ListenerSpec {
                name: "main".into(),
                number: 0,
                is_sidecar: false,
                carries: self.carries,
                sockets: self.sockets,
                certificates,
                forwarders: self.forwarders,
                binds: vec![([127, 0, 0, 1], 0).into()],
                quic: vec![([127, 0, 0, 1], 0).into()],
                callers: None,
                client_auth: self.client_auth,
                hosts: self.hosts,
                timers: self.timers,
                caps: self.caps,
                handshakes_per_source: self.handshakes,
                max_body: None,
                max_held: self.max_held,
                audience: self.audience.clone(),
                issuers: self.issuers.clone(),
                tells_shed: true,
                profile: enforcer_codec::Profile::Mesh,
            }],
            mark: "mark".into(),
            reveal_decision_id: self.reveal,
            quic_reset_key: Some(Box::new([7; 32])),
        };
        let (sockets, listeners) = (Arc::clone(&ports.sockets), config.listeners.clone());
        let proxy = Proxy::start(config, ports).unwrap();
        let address = proxy.addresses().first().unwrap().1;
        Gateway {
            ca,
            proxy,
            address,
            records,
            view,
            trust,
            metrics,
            routes,
            net,
            names,
            sockets,
            listeners,
            pressure,
            resolver: self.resolver,
        }
    }

    fn all_routes(&self) -> Routes {
        let cluster = |name: &str, protocol, addresses: &[SocketAddr]| ClusterSpec {
            name: name.into(),
            endpoints: addresses.iter().map(|address| EndpointSpec::new(protocol, *address)).collect(),
            connect_timeout: self.connect_timeout,
            ..self.cluster.clone()
        };
        let route = |name: &str, host: &str, cluster: &str| RouteSpec {
            name: name.into(),
            service: "shop".into(),
            matches: MatchSpec { hosts: vec![host.into()], ..MatchSpec::default() },
            to: vec![Share::all(cluster)],
            timeouts: self.timeouts,
            retry: self.retry.clone(),
            ..RouteSpec::default()
        };
        let (mut clusters, mut routes) = (Vec::new(), Vec::new());
        if !self.h1.is_empty() {
            clusters.push(cluster("h1", UpstreamProtocol::Http1, &self.h1));
            let (stale_after, deny_after) = self.patience;
            let rate = self.route_rate.clone();
            routes.push(RouteSpec { stale_after, deny_after, rate, ..route("site", "site.test", "h1") });
            routes.push(route("closed", "closed.test", "h1"));
        }
        if !self.h2.is_empty() {
            clusters.push(cluster("h2", self.spoken, &self.h2));
            let grpc = Some(GrpcMatch { service: "shop.Orders".into(), method: None });
            routes.push(route("site-h2", "h2.test", "h2"));
            let orders = route("orders", "grpc.test", "h2");
            let rate = self.route_rate.clone();
            routes.push(RouteSpec { matches: MatchSpec { grpc, ..orders.matches }, rate, ..orders });
        }
        if !self.tcp.is_empty() {
            clusters.push(cluster("tcp", UpstreamProtocol::Tcp, &self.tcp));
            let listener = Some("main".into());
            routes.push(RouteSpec { listener, matches: MatchSpec::default(), ..route("db", "", "tcp") });
        }
        routes.extend(self.routes.iter().cloned());
        let methods = ["Get", "Watch", "Refund"].map(|method| format!("shop.Orders/{method}")).into();
        let service =
            ServiceSpec { name: "shop".into(), namespace: "shop".into(), methods, ..ServiceSpec::default() };
        Routes::build(&[service], &clusters, &routes).unwrap()
    }
}

/// A certificate for these names, as a file would hold it.
pub(super) fn certificate(ca: &TestCa, names: &[&str]) -> Arc<NamedCertificate> {
    let svid = ca.svid_with("/edge", names, Duration::from_secs(3600));
    let (chain, key) = (write_certificates(&svid.chain), write_private_key(&svid.key));
    Arc::new(NamedCertificate::read(chain.as_bytes(), key.as_bytes()).unwrap())
}

/// A compiled snapshot with that number.
pub(super) fn snapshot(policy: &str, number: u64) -> Arc<Snapshot> {
    let mut policies = baseline();
    policies.push(PolicySource::new("policies/test.cedar", policy));
    let method = |name: &str| MethodEntity {
        id: format!("shop.Orders/{name}"),
        service: "shop".into(),
        ..MethodEntity::default()
    };
    let route =
        |name: &str| RouteEntity { name: name.into(), service: "shop".into(), ..RouteEntity::default() };
    let compiled = Snapshot::compile(SnapshotInput {
        numbers: Numbers { epoch: 1, snapshot: number, policies: number },
        schema: SchemaText::default(),
        policies,
        entities: EntitySet {
            trust_domain: Some("example.org".into()),
            services: vec![ServiceEntity {
                name: "shop".into(),
                namespace: Some("shop".into()),
                ..ServiceEntity::default()
            }],
            methods: ["Get", "Watch", "Refund"].map(method).into(),
            routes: ["site", "site-h2", "orders", "closed", "extra", "db"].map(route).into(),
            ..EntitySet::default()
        }
        .into(),
        routes_digest: [0; 32],
    });
    Arc::new(compiled.unwrap_or_else(|found| {
        panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }))
}

/// Nobody judges a second time here.
#[derive(Debug)]
struct NoSamples;

impl policies_engine::Samples for NoSamples {
    fn costly(&self, _: policies_engine::Costly) {}

    fn offer(&self, _sample: policies_engine::Sample) {}
}

fn ports(
    view: &Arc<ViewHandle>,
    trust: &Arc<Trust>,
    records: &Records,
    metrics: &Arc<Metrics>,
    (net, names, pressure): (&ManualNet, &Arc<Names>, &Pressure),
) -> Ports {
    let lanes = records.clone();
    Ports {
        view: Arc::clone(view),
        trust: Arc::clone(trust),
        lane: Arc::new(move |worker| Box::new(TestLane(lanes.clone(), worker))),
        samples: Arc::new(NoSamples),
        metrics: Arc::clone(metrics),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
        net: Arc::new(net.clone()),
        names: Arc::clone(names),
        sockets: Sockets::new(),
        gauges: Arc::new(pressure.clone()),
        trails: None,
    }
}

impl Gateway {
    /// The ports of this gateway, for another proxy.
    pub(super) fn ports(&self) -> Ports {
        let ports_of_net = (&self.net, &self.names, &self.pressure);
        ports(&self.view, &self.trust, &self.records, &self.metrics, ports_of_net)
    }

    pub(super) fn publish(&self, policy: &str, number: u64) {
        self.view.publish(View::new(Some(snapshot(policy, number)), Arc::clone(&self.routes)));
    }

    /// As the product publishes: compared with what was in force.
    pub(super) fn change(&self, policy: &str, number: u64) {
        let view = View::new(Some(snapshot(policy, number)), Arc::clone(&self.routes));
        self.view.publish(view.after(&self.view.current()));
    }

    /// TLS settings of a client that shows `svid`, or nothing.
    pub(super) fn client_tls(&self, svid: Option<X509Svid>, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
        self.client_tls_with(self.ca.snapshot(svid), alpn)
    }

    pub(super) fn client_tls_with(
        &self,
        snapshot: IdentitySnapshot,
        alpn: &[&[u8]],
    ) -> Arc<rustls::ClientConfig> {
        let trust = Trust::new(Arc::new(SystemClock));
        trust.publish(snapshot).unwrap();
        client_config(&trust, Expected::TrustDomain(self.ca.trust_domain().clone()), alpn)
    }
}
