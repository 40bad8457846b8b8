//! Every key of the configuration file, once: kind, default, text. The reader, `config explain`, `config schema`
//! and did-you-mean all work from this table, so a key cannot be read without being documented.

mod cluster;
mod decisions;
mod enforcer;
mod federation;
mod issuer;
mod join;
mod oidc;
mod rate;
mod route;

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer {
        min: i64,
        max: i64,
    },
    Duration,
    /// Bytes.
    Size,
    Path,
    TrustDomain,
    SpiffeId,
    Selector,
    /// An address written as a URL with one of these schemes.
    Address(&'static [&'static str]),
    /// The same, with an IP address or a name.
    Endpoint(&'static [&'static str]),
    Choice(&'static [&'static str]),
    /// True or false.
    Flag,
    List(&'static Kind),
    Table,
    Tables,
}

/// One key of the file.
#[derive(Debug)]
pub(crate) struct Key {
    /// Path without indexes: `ca.entry.selectors`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
    pub(crate) text: &'static str,
    pub(crate) example: &'static str,
}

const fn key(path: &'static str, kind: Kind, text: &'static str, example: &'static str) -> Key {
    Key { path, kind, default: None, required: false, text, example }
}

const fn required(path: &'static str, kind: Kind, text: &'static str, example: &'static str) -> Key {
    Key { path, kind, default: None, required: true, text, example }
}

const fn preset(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    text: &'static str,
    example: &'static str,
) -> Key {
    Key { path, kind, default: Some(default), required: false, text, example }
}

const ROLES: Kind = Kind::Choice(&["viewer", "auditor", "author", "approver", "operator"]);
const MODES: Kind = Kind::Choice(&["enforce", "observe"]);

/// Every key, section by section.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> + Clone {
    [
        KEYS,
        decisions::KEYS,
        federation::KEYS,
        join::KEYS,
        oidc::KEYS,
        enforcer::KEYS,
        issuer::KEYS,
        rate::OF_LISTENER,
        cluster::KEYS,
        route::KEYS,
        rate::OF_ROUTE,
    ]
    .into_iter()
    .flatten()
}

static KEYS: &[Key] = &[
    required("version", Kind::Integer { min: 1, max: 1 }, "format of this file", "1"),
    required(
        "trust_domain",
        Kind::TrustDomain,
        "the trust domain this installation belongs to",
        "\"example.org\"",
    ),
    required("data_dir", Kind::Path, "keys, journal, ledger; created with mode 0700", "\"./data\""),
    // ca
    key("ca", Kind::Table, "the workload CA runs in this process", "[ca]"),
    key(
        "ca.listen",
        Kind::Address(&["https"]),
        "enrolment and signing for other hosts, over TLS",
        "\"https://127.0.0.1:8443\"",
    ),
    preset("ca.svid_ttl", Kind::Duration, "1h", "lifetime of an X.509-SVID; 5m to 28h", "\"1h\""),
    preset("ca.jwt_ttl", Kind::Duration, "5m", "lifetime of a JWT-SVID; 1m to 28h", "\"5m\""),
    preset(
        "ca.agent_ttl",
        Kind::Duration,
        "24h",
        "lifetime of the SVID of an agent on another host; one that slept longer needs a new token; 5m to 28h",
        "\"24h\"",
    ),
    key("ca.entry", Kind::Tables, "a registration entry", "[[ca.entry]]"),
    required(
        "ca.entry.spiffe_id",
        Kind::SpiffeId,
        "the SPIFFE ID that matching workloads receive",
        "\"spiffe://example.org/web\"",
    ),
    required(
        "ca.entry.selectors",
        Kind::List(&Kind::Selector),
        "facts of the process that must all match",
        "[\"unix:uid:1000\"]",
    ),
    key(
        "ca.entry.parent",
        Kind::SpiffeId,
        "the agent the entry belongs to; absent = every agent",
        "\"spiffe://example.org/portcullis/agent/local\"",
    ),
    key(
        "ca.entry.x509_ttl",
        Kind::Duration,
        "lifetime of this entry's SVIDs, instead of ca.svid_ttl",
        "\"30m\"",
    ),
    key(
        "ca.entry.jwt_ttl",
        Kind::Duration,
        "lifetime of this entry's JWT-SVIDs, instead of ca.jwt_ttl",
        "\"10m\"",
    ),
    preset(
        "ca.entry.jwt_jti",
        Kind::Flag,
        "false",
        "this entry's JWT-SVIDs carry `jti`, a name of their own",
        "true",
    ),
    key("ca.entry.dns_names", Kind::List(&Kind::Text), "DNS names in the certificate", "[\"web.local\"]"),
    key(
        "ca.entry.hint",
        Kind::Text,
        "what a workload with several identities tells them apart by",
        "\"internal\"",
    ),
    key("ca.entry.namespace", Kind::Text, "namespace the workload belongs to in policies", "\"shop\""),
    // agent
    key("agent", Kind::Table, "the SPIFFE Workload API is served by this process", "[agent]"),
    key(
        "agent.socket",
        Kind::Address(&["unix"]),
        "where workloads fetch their identity; default DATA_DIR/workload.sock",
        "\"unix:///run/portcullis/workload.sock\"",
    ),
    preset(
        "agent.socket_mode",
        Kind::Text,
        "0770",
        "file mode of the socket; 0777 lets every local user connect",
        "\"0770\"",
    ),
    preset(
        "agent.jwt",
        Kind::Flag,
        "true",
        "JWT-SVIDs are served; without, their calls are Unimplemented",
        "false",
    ),
    preset(
        "agent.sds_default",
        Kind::Text,
        "default",
        "name of the secret that Envoy gets for the first identity of its process",
        "\"default\"",
    ),
    preset(
        "agent.sds_bundle",
        Kind::Text,
        "ROOTCA",
        "name of the secret that Envoy verifies its own trust domain with",
        "\"ROOTCA\"",
    ),
    preset(
        "agent.sds_bundles",
        Kind::Text,
        "ALL",
        "name of the secret that Envoy verifies every known trust domain with",
        "\"ALL\"",
    ),
    // policies
    key("policies", Kind::Table, "where policies come from", "[policies]"),
    preset(
        "policies.dir",
        Kind::Path,
        "./policies",
        "watched directory of *.cedar, *.links.json, *.cedarschema, entities.json, *_test.json",
        "\"./policies\"",
    ),
    key(
        "policies.follow",
        Kind::Address(&["unix", "https"]),
        "admin socket of another portcullis whose policies are in force here, instead of a directory",
        "\"unix:///run/portcullis/admin.sock\"",
    ),
    key(
        "policies.signer",
        Kind::Text,
        "the key that signs the policies that are followed; `portcullis status` prints it at the publisher",
        "\"example.org/policies+1f2e3d4c+AbCd\"",
    ),
    key(
        "policies.bootstrap",
        Kind::Path,
        "signed snapshot file to begin with, as long as nothing newer is there",
        "\"./first.pcsnap\"",
    ),
    preset(
        "policies.stale_after",
        Kind::Duration,
        "5m",
        "silence of the publisher until decisions are recorded as stale; 0s = never",
        "\"5m\"",
    ),
    preset(
        "policies.deny_after",
        Kind::Duration,
        "24h",
        "silence of the publisher until every call is denied; 0s = never",
        "\"24h\"",
    ),
    // ext_authz
    key("ext_authz", Kind::Table, "answer Envoys that ask (external authorization v3)", "[ext_authz]"),
    preset(
        "ext_authz.principal",
        Kind::Choice(&["certificate", "claimed"]),
        "certificate",
        "who the caller is: whose certificate Envoy shows, or whom Envoy claims where it shows none",
        "\"certificate\"",
    ),
    // authzen
    key("authzen", Kind::Table, "answer the OpenID AuthZEN Authorization API 1.0", "[authzen]"),
    required(
        "authzen.url",
        Kind::Text,
        "base URL by which askers know this decision point",
        "\"https://gw.example.org:8443\"",
    ),
    key("authzen.type", Kind::Tables, "a name that askers use for an entity type", "[[authzen.type]]"),
    required("authzen.type.name", Kind::Text, "the name", "\"app\""),
    required("authzen.type.entity", Kind::Text, "the entity type it stands for", "\"Workload\""),
    // decisions
    // admin
    preset("admin", Kind::Table, "", "health, metrics and the API; always there", "[admin]"),
    preset(
        "admin.listen",
        Kind::List(&Kind::Address(&["http"])),
        "http://127.0.0.1:8080",
        "loopback addresses that serve health, metrics and docs",
        "[\"http://127.0.0.1:8080\"]",
    ),
    key(
        "admin.socket",
        Kind::Address(&["unix"]),
        "where commands of this machine ask; default DATA_DIR/admin.sock",
        "\"unix:///run/portcullis/admin.sock\"",
    ),
    preset(
        "admin.socket_mode",
        Kind::Text,
        "0700",
        "file mode of the socket; 0777 lets every local user connect, and do what its roles permit",
        "\"0777\"",
    ),
    key("admin.user", Kind::Tables, "a local user with roles over this installation", "[[admin.user]]"),
    required(
        "admin.user.uid",
        Kind::Integer { min: 0, max: 4_294_967_294 },
        "the user, as the kernel names it on the local socket",
        "1001",
    ),
    required(
        "admin.user.roles",
        Kind::List(&ROLES),
        "what the user may do: viewer reads, author drafts policies, approver approves them, operator runs all, auditor reads decisions",
        "[\"author\", \"viewer\"]",
    ),
    preset(
        "admin.reload",
        Kind::Choice(&["asked", "saved"]),
        "asked",
        "when this file comes into force: on SIGHUP and `portcullis config reload`, or also as soon as it, or a certificate that it names, was saved",
        "\"saved\"",
    ),
    key(
        "admin.push",
        Kind::Endpoint(&["http", "https"]),
        "a collector that takes the metrics of /metrics by OTLP over HTTP, at /v1/metrics; OTEL_* variables win; absent = none",
        "\"http://127.0.0.1:4318\"",
    ),
    key(
        "admin.push_roots",
        Kind::Path,
        "PEM file of the roots that verify the collector at an https address; OTEL_EXPORTER_OTLP_CERTIFICATE wins",
        "\"/etc/portcullis/otel.pem\"",
    ),
    preset(
        "admin.push_interval",
        Kind::Duration,
        "60s",
        "metrics are sent so often; OTEL_METRIC_EXPORT_INTERVAL wins",
        "\"10s\"",
    ),
    preset("admin.log", Kind::Text, "info", "level, or filter as in RUST_LOG", "\"info\""),
];

/// What a reload changes in a running process, with everything below (CF9). All else waits for a restart.
const LIVE: &[&str] = &[
    "enforcer.mode",
    "enforcer.listener",
    "enforcer.issuer",
    "enforcer.zone",
    "enforcer.service",
    "enforcer.cluster",
    "enforcer.route",
    "decisions.keep",
];

/// Whether a reload brings the key at `path` into force.
pub(crate) fn is_live(path: &str) -> bool {
    let is_at =
        |live: &str| path.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    LIVE.iter().any(|live| is_at(live))
}

/// Whether the key at `path` is a section that may stand several times.
pub(crate) fn is_repeated(path: &str) -> bool {
    find(path).is_some_and(|key| key.kind == Kind::Tables)
}

/// The key at `path`, which holds no indexes.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path == path)
}

/// The keys directly below the table at `path`; the empty path is the file itself.
pub(crate) fn children(path: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    all().filter_map(move |key| {
        let name = match path {
            "" => key.path,
            _ => key.path.strip_prefix(path)?.strip_prefix('.')?,
        };
        (!name.contains('.')).then_some((name, key))
    })
}

impl Key {
    /// The environment variable that overrides it: `PORTCULLIS_ADMIN__LISTEN` for `admin.listen`. Sections, what
    /// stands below a repeated section, and the version have none (CF2).
    pub(crate) fn variable(&self) -> Option<String> {
        let is_below =
            |above: &Key| self.path.strip_prefix(above.path).is_some_and(|rest| rest.starts_with('.'));
        let repeated = all().any(|above| above.kind == Kind::Tables && is_below(above));
        let is_section = matches!(self.kind, Kind::Table | Kind::Tables);
        let overridable = !is_section && !repeated && self.path != "version";
        overridable.then(|| format!("PORTCULLIS_{}", self.path.to_uppercase().replace('.', "__")))
    }
}

impl Kind {
    /// What a person should write, in words.
    pub(crate) fn wanted(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Duration => "a duration with its unit, such as \"250ms\", \"30s\", \"24h\"".to_owned(),
            Self::Size => "a size with its unit, such as \"64KiB\", \"10MiB\"".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::TrustDomain => "a trust domain such as \"example.org\"".to_owned(),
            Self::SpiffeId => "a SPIFFE ID such as \"spiffe://example.org/web\"".to_owned(),
            Self::Selector => "a selector such as \"unix:uid:1000\"".to_owned(),
            Self::Address(schemes) | Self::Endpoint(schemes) => {
                let schemes: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://")).collect();
                format!("an address as a URL with {}", schemes.join(" or "))
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Flag => "true or false".to_owned(),
            Self::List(of) => format!("a list, each {}", of.wanted()),
            Self::Table => "a table".to_owned(),
            Self::Tables => "an array of tables".to_owned(),
        }
    }
}
