//! Where spans, metrics and decisions go: what the file says, and the variables of OpenTelemetry, which win (OB5).

use std::path::PathBuf;
use std::time::Duration;

use enforcer_traffic::hosts_meet;

use super::super::meant::{Collector, Pushed, Spans};
use super::super::read::Table;
use super::super::value::Address;
use super::Meaning;

/// What is sent: the word of its variables, and where a collector takes it (OTLP 1.x, HTTP).
#[derive(Debug, Clone, Copy)]
struct Signal {
    word: &'static str,
    path: &'static str,
    /// The key of the file that has the address of its collector, and the one of the roots that verify it.
    keys: [&'static str; 2],
    /// The general variable for a collector makes it leave where the file does not.
    is_general: bool,
}

const TRACES: Signal =
    Signal { word: "TRACES", path: "/v1/traces", keys: ["spans", "spans_roots"], is_general: true };
const METRICS: Signal =
    Signal { word: "METRICS", path: "/v1/metrics", keys: ["push", "push_roots"], is_general: true };
/// That spans go somewhere says nothing of decisions.
const LOGS: Signal =
    Signal { word: "LOGS", path: "/v1/logs", keys: ["collector", "collector_roots"], is_general: false };
/// A request takes no longer, when nothing else is said.
const LIMIT: Duration = Duration::from_secs(5);

/// The variables.
type Find<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Meaning<'_> {
    pub(super) fn spans(&mut self, section: &Table) -> Option<Spans> {
        let share = section.integer("span_share").and_then(|share| u32::try_from(*share).ok()).unwrap_or(0);
        let collector = self.collector(section, TRACES)?;
        match sampled(&variable, share) {
            Ok(share) => Some(Spans { collector, share }),
            Err(text) => {
                self.wrong(section, "spans", text);
                None
            }
        }
    }

    pub(super) fn pushed(&mut self, section: &Table) -> Option<Pushed> {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        let text = "`push_interval` must lie between 1s and 1h";
        let written = self.duration_within(section, "push_interval", bounds, text)?;
        let collector = self.collector(section, METRICS)?;
        match millis(&variable, "OTEL_METRIC_EXPORT_INTERVAL") {
            Ok(interval) => Some(Pushed { collector, interval: interval.unwrap_or(written) }),
            Err(text) => {
                self.wrong(section, "push", text);
                None
            }
        }
    }

    /// Where decisions go as logs.
    pub(super) fn logs(&mut self, section: &Table) -> Option<Collector> {
        self.collector(section, LOGS)
    }

    /// The collector of a signal.
    fn collector(&mut self, section: &Table, signal: Signal) -> Option<Collector> {
        let [to, roots] = signal.keys;
        let written = section.address(to).and_then(|address| {
            let (scheme, host, port) = match address {
                Address::Socket { scheme, addr } => (*scheme, bracketed(addr.ip()), addr.port()),
                Address::Name { scheme, host, port } => (*scheme, host.clone(), *port),
                Address::Unix(_) => return None,
            };
            Some(Place { is_tls: scheme == "https", host, port, path: signal.path.to_owned() })
        });
        let roots = section.path(roots).map(|path| self.resolve(path));
        match told(&variable, signal, written, roots) {
            Ok(collector) => collector,
            Err(text) => {
                self.wrong(section, to, text);
                None
            }
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

struct Place {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

fn bracketed(ip: std::net::IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// What holds after the variables.
fn told(
    find: Find<'_>,
    signal: Signal,
    written: Option<Place>,
    roots: Option<PathBuf>,
) -> Result<Option<Collector>, String> {
    if find("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let Signal { word, path, is_general, keys: [_, key] } = signal;
    let exporter = format!("OTEL_{word}_EXPORTER");
    match find(&exporter).as_deref() {
        None | Some("otlp") => {}
        // Metrics can be scraped whatever is pushed.
        Some("none" | "prometheus") => return Ok(None),
        Some(other) => return Err(format!("{exporter}: `{other}` is not known here; otlp or none")),
    }
    // The variable of the signal, else that of all.
    let either = |name: &str| {
        let own = format!("OTEL_EXPORTER_OTLP_{word}_{name}");
        find(&own).map(|value| (own, value)).or_else(|| {
            let all = format!("OTEL_EXPORTER_OTLP_{name}");
            find(&all).map(|value| (all, value))
        })
    };
    let own = find(&format!("OTEL_EXPORTER_OTLP_{word}_ENDPOINT")).map(|url| place(&url, ""));
    let leaves = is_general || written.is_some();
    let general = || find("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|_| leaves).map(|url| place(&url, path));
    let place = own.or_else(general).transpose()?.or(written);
    let Some(Place { is_tls, host, port, path }) = place else { return Ok(None) };
    if let Some((name, protocol)) = either("PROTOCOL").filter(|(_, protocol)| protocol != "http/protobuf") {
        return Err(format!("{name}: `{protocol}` is not spoken; only http/protobuf is"));
    }
    let roots = either("CERTIFICATE").map(|(_, file)| PathBuf::from(file)).or(roots);
    let roots = match (is_tls, roots) {
        (false, _) => None,
        (true, Some(file)) => Some(file),
        (true, None) => {
            let text = "a collector at https needs the file of roots that verify it";
            return Err(format!("{text}: `{key}`, or OTEL_EXPORTER_OTLP_CERTIFICATE"));
        }
    };
    let headers = match either("HEADERS") {
        Some((name, text)) => headers(&text).map_err(|pair| format!("{name}: `{pair}` is no name=value"))?,
        None => Vec::new(),
    };
    let limit = match either("TIMEOUT") {
        Some((name, _)) => millis(find, &name)?.unwrap_or(LIMIT),
        None => LIMIT,
    };
    Ok(Some(Collector { host, port, path, roots, headers, limit, resource: resource(find) }))
}

/// How many in 10,000 calls without a trace begin one.
fn sampled(find: Find<'_>, share: u32) -> Result<u32, String> {
    let ratio = || {
        let word = find("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1".to_owned());
        let ratio = word.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio
            .map(in_10_000)
            .ok_or_else(|| format!("OTEL_TRACES_SAMPLER_ARG: `{word}` is no share from 0 to 1"))
    };
    match find("OTEL_TRACES_SAMPLER").as_deref() {
        None => Ok(share),
        Some("always_on" | "parentbased_always_on") => Ok(10_000),
        Some("always_off" | "parentbased_always_off") => Ok(0),
        Some("traceidratio" | "parentbased_traceidratio") => ratio(),
        Some(other) => Err(format!("OTEL_TRACES_SAMPLER: `{other}` is not known here")),
    }
}

/// A variable that tells a time in whole milliseconds.
fn millis(find: Find<'_>, name: &str) -> Result<Option<Duration>, String> {
    let Some(text) = find(name) else { return Ok(None) };
    let wanted = || format!("{name}: `{text}` is no time in milliseconds from 1 to 3600000");
    let millis = text.parse().map_err(|_cause| wanted())?;
    if (1..=3_600_000).contains(&millis) { Ok(Some(Duration::from_millis(millis))) } else { Err(wanted()) }
}

/// `name=value,..`, values with `%` escapes (W3C Baggage). What is no pair comes back, without its value: that is a secret.
fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut read = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("..")?;
        let (name, value) = (name.trim().to_ascii_lowercase(), unescaped(value.trim()));
        let is_name = http::HeaderName::try_from(&*name).is_ok();
        match value.filter(|value| is_name && http::HeaderValue::try_from(&**value).is_ok()) {
            Some(value) => read.push((name, value)),
            None => return Err(format!("{name}=..")),
        }
    }
    Ok(read)
}

fn unescaped(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Attributes of this process.
fn resource(find: Find<'_>) -> Vec<(String, String)> {
    let mut resource = vec![
        ("service.name".to_owned(), find("OTEL_SERVICE_NAME").unwrap_or_else(|| "portcullis".to_owned())),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    for pair in find("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',') {
        let Some((key, value)) = pair.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        match resource.iter_mut().find(|(known, _)| known == key) {
            Some(_) if key == "service.name" && find("OTEL_SERVICE_NAME").is_some() => {}
            Some((_, known)) => *known = value.to_owned(),
            None => resource.push((key.to_owned(), value.to_owned())),
        }
    }
    resource
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "INVARIANT: a share lies from 0 to 1"
)]
fn in_10_000(ratio: f64) -> u32 {
    (ratio * 10_000.0).round() as u32
}

/// Where a URL leads, with `behind` at its end.
fn place(url: &str, behind: &str) -> Result<Place, String> {
    let wrong =
        || format!("`{url}` is no collector such as http://127.0.0.1:4318 or https://otel.example.org");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (is_tls, usual) = match scheme {
        "http" => (false, 4318),
        "https" => (true, 443),
        _ => return Err(wrong()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_cause| wrong())?),
        _ => (authority, usual),
    };
    // A host that meets itself is one.
    if !hosts_meet(host, host) || path.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
        return Err(wrong());
    }
    let path = path.trim_end_matches('/');
    let whole = if path.is_empty() { behind.to_owned() } else { format!("/{path}{behind}") };
    let path = if whole.is_empty() { "/".to_owned() } else { whole };
    Ok(Place { is_tls, host: host.to_owned(), port, path })
}

#[cfg(test)]
mod tests;
