//! A collector by OTLP over HTTP: what the file says, and the variables of OpenTelemetry, which win (OB5).

use enforcer_traffic::hosts_meet;

use super::super::meant::Collector;
use super::super::value::Address;

/// Host, port and path.
pub(super) type Place = (String, u16, String);

/// A variable of the environment that says something.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The collector at an address of the file.
pub(super) fn written(address: &Address, path: &str) -> Option<Place> {
    match address {
        Address::Socket { addr, .. } if addr.is_ipv6() => {
            Some((format!("[{}]", addr.ip()), addr.port(), path.to_owned()))
        }
        Address::Socket { addr, .. } => Some((addr.ip().to_string(), addr.port(), path.to_owned())),
        Address::Name { host, port, .. } => Some((host.clone(), *port, path.to_owned())),
        Address::Unix(_) => None,
    }
}

/// The collector of one signal: where its own variable says, else the general one with `path` behind it, where that counts,
/// else where the file says.
pub(super) fn collector(
    variable: &dyn Fn(&str) -> Option<String>,
    signal: &str,
    (path, is_general): (&str, bool),
    written: Option<Place>,
) -> Result<Option<Collector>, String> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let own = variable(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")).map(|url| place(&url, ""));
    let general =
        || variable("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|_| is_general).map(|url| place(&url, path));
    let place = own.or_else(general).transpose()?.or(written);
    let resource = resource(variable);
    Ok(place.map(|(host, port, path)| Collector { host, port, path, resource }))
}

/// Attributes of this process.
fn resource(variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut resource = vec![
        ("service.name".to_owned(), variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "portcullis".to_owned())),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    for pair in variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',') {
        let Some((key, value)) = pair.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        match resource.iter_mut().find(|(known, _)| known == key) {
            Some(_) if key == "service.name" && variable("OTEL_SERVICE_NAME").is_some() => {}
            Some((_, known)) => *known = value.to_owned(),
            None => resource.push((key.to_owned(), value.to_owned())),
        }
    }
    resource
}

/// Host, port and path of a collector, with `behind` at the end.
fn place(url: &str, behind: &str) -> Result<Place, String> {
    let wrong =
        || format!("`{url}` is no collector such as http://127.0.0.1:4318; only plain HTTP is spoken");
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_cause| wrong())?),
        _ => (authority, 4318),
    };
    // A host that meets itself is one.
    if !hosts_meet(host, host) || path.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
        return Err(wrong());
    }
    let path = path.trim_end_matches('/');
    let whole = if path.is_empty() { behind.to_owned() } else { format!("/{path}{behind}") };
    Ok((host.to_owned(), port, if whole.is_empty() { "/".to_owned() } else { whole }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: (&str, u16, &str) = ("10.0.0.1", 4318, "/v1/logs");

    fn logs(variables: &[(&str, &str)], is_written: bool) -> Option<String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let written = is_written.then(|| (WRITTEN.0.to_owned(), WRITTEN.1, WRITTEN.2.to_owned()));
        let told = collector(&find, "LOGS", (WRITTEN.2, is_written), written).unwrap();
        told.map(|collector| collector.to_string())
    }

    #[test]
    fn ob5_decisions_leave_only_where_they_are_asked_for() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4319");
        let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:1/in");
        let off = ("OTEL_SDK_DISABLED", "true");
        assert_eq!(logs(&[], false), None);
        assert_eq!(logs(&[general], false), None, "that spans go somewhere says nothing of decisions");
        assert_eq!(logs(&[own, general], false).as_deref(), Some("http://logs:1/in"));
        assert_eq!(logs(&[], true).as_deref(), Some("http://10.0.0.1:4318/v1/logs"));
        assert_eq!(logs(&[general], true).as_deref(), Some("http://otel:4319/v1/logs"));
        assert_eq!(logs(&[own, off], true), None);
    }
}
