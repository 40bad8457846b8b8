//! Values as people write them: durations, addresses. Parsed once, here; nothing later looks at the text.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An address written as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `tcp://`, `http://`, `https://`, `h2c://` with an IP address and a port.
    Socket { scheme: &'static str, addr: SocketAddr },
    /// The same with a host name.
    Name { scheme: &'static str, host: String, port: u16 },
    /// `unix:///absolute/path`.
    Unix(PathBuf),
}

impl Address {
    /// Reads `text` with one of `schemes`; the error says what is wrong and what would be right.
    pub(crate) fn parse(text: &str, schemes: &[&'static str]) -> Result<Self, String> {
        let wanted = || schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "`{text}` has no scheme; write {}{text}",
                schemes.first().map_or("", |s| s).to_owned() + "://"
            ));
        };
        let Some(scheme) = schemes.iter().find(|known| **known == scheme) else {
            return Err(format!("scheme `{scheme}` does not fit here; use {}", wanted()));
        };
        if *scheme == "unix" {
            let path = PathBuf::from(rest);
            return if path.is_absolute() || rest.starts_with("./") {
                Ok(Self::Unix(path))
            } else {
                Err(format!("`{rest}` is not an absolute path; write unix:///path/to/socket"))
            };
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let rest = rest.replacen("localhost:", "127.0.0.1:", 1);
        let addr = rest
            .parse::<SocketAddr>()
            .map_err(|error| format!("`{rest}` is not IP:port ({error}); names are not resolved here"))?;
        Ok(Self::Socket { scheme, addr })
    }

    /// The same where a host name may stand in place of an IP address.
    pub(crate) fn parse_endpoint(text: &str, schemes: &[&'static str]) -> Result<Self, String> {
        let known = |name: &str| schemes.iter().copied().find(|scheme| *scheme == name);
        let named = text.split_once("://").and_then(|(scheme, rest)| {
            let (host, port) = rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':')?;
            let is_name = is_host(host) && host != "localhost";
            is_name.then(|| Some((known(scheme)?, host.to_ascii_lowercase(), port)))?
        });
        let Some((scheme, host, port)) = named else {
            return Self::parse(text, schemes).map_err(|cause| {
                cause.replace("IP:port", "IP:port or NAME:port").replace("; names are not resolved here", "")
            });
        };
        let port = port.parse().map_err(|error| format!("`{port}` is no port ({error})"))?;
        Ok(Self::Name { scheme, host, port })
    }

    /// The socket address, for schemes that have one.
    pub(crate) fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket { addr, .. } => Some(*addr),
            Self::Name { .. } | Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { scheme, addr } => write!(f, "{scheme}://{addr}"),
            Self::Name { scheme, host, port } => write!(f, "{scheme}://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// A host name of RFC 1123; an address, or what looks like one, is none.
pub(crate) fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= 253 && name.split('.').all(label) && !is_number(last)
}

/// Reads `250ms`, `30s`, `5m`, `24h`, `7d`. A bare number is an error that proposes the unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let number: u64 =
        number.parse().map_err(|error| format!("`{text}` is not a duration ({error}); write \"30s\""))?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    let value = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        "" => return Err(format!("`{text}` has no unit; write \"{text}s\" for seconds")),
        other => return Err(format!("`{other}` is no unit of time; use ms, s, m, h or d")),
    };
    value.ok_or_else(|| format!("`{text}` is too long"))
}

const SIZES: &[(u64, &str)] = &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];

/// Reads `512B`, `64KiB`, `10MiB`, `1GiB` as bytes. A bare number is an error that proposes the unit.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let number: u64 =
        number.parse().map_err(|error| format!("`{text}` is not a size ({error}); write \"64KiB\""))?;
    if unit.is_empty() {
        return Err(format!("`{text}` has no unit; write \"{text}B\" for bytes"));
    }
    let each = SIZES.iter().find(|(_, known)| *known == unit).map(|(each, _)| *each);
    let each = each.ok_or_else(|| format!("`{unit}` is no unit of size; use B, KiB, MiB or GiB"))?;
    number.checked_mul(each).ok_or_else(|| format!("`{text}` is too large"))
}

/// Prints a size as [`size`] reads it.
pub(crate) fn print_size(bytes: u64) -> String {
    let exact = |(each, unit): &(u64, &str)| {
        (bytes != 0 && bytes.is_multiple_of(*each)).then(|| format!("{}{unit}", bytes / each))
    };
    SIZES.iter().find_map(exact).unwrap_or_else(|| "0B".to_owned())
}

const UNITS: &[(u128, &str)] = &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];

/// Prints a duration as [`duration`] reads it.
pub(crate) fn print_duration(value: Duration) -> String {
    let millis = value.as_millis();
    let exact = |(each, unit): &(u128, &str)| {
        millis.is_multiple_of(*each).then(|| format!("{}{unit}", millis / each))
    };
    match millis {
        0 => "0s".to_owned(),
        _ => UNITS.iter().find_map(exact).unwrap_or_else(|| format!("{millis}ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_print_back() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert!(duration("30").unwrap_err().contains("\"30s\""));
        assert!(duration("3 weeks").unwrap_err().contains("unit of time"));
        assert!(duration("99999999999999999999s").is_err());
        for text in ["250ms", "30s", "5m", "24h", "7d"] {
            let value = duration(text).unwrap();
            assert_eq!(duration(&print_duration(value)), Ok(value));
        }
    }

    #[test]
    fn sizes_need_a_unit_and_print_back() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert!(size("64").unwrap_err().contains("\"64B\""));
        assert!(size("64KB").unwrap_err().contains("unit of size"));
        assert!(size("99999999999GiB").unwrap_err().contains("too large"));
        for text in ["0B", "1B", "64KiB", "10MiB", "1GiB", "1025B"] {
            assert_eq!(print_size(size(text).unwrap()), text);
        }
    }

    #[test]
    fn addresses_are_urls() {
        let tcp: &[&str] = &["tcp"];
        assert!(Address::parse("tcp://127.0.0.1:1", tcp).is_ok());
        assert!(Address::parse("127.0.0.1:1", tcp).unwrap_err().contains("tcp://127.0.0.1:1"));
        assert!(Address::parse("udp://127.0.0.1:1", tcp).unwrap_err().contains("use tcp://"));
        assert!(Address::parse("tcp://example.org:1", tcp).unwrap_err().contains("not resolved"));
        assert!(Address::parse("unix://a", &["unix"]).unwrap_err().contains("absolute"));
        assert!(Address::parse("http://localhost:80/", &["http"]).is_ok());
    }

    #[test]
    fn endpoints_are_at_an_address_or_at_a_name() {
        let read = |text| Address::parse_endpoint(text, &["http", "h2c"]);
        let name = |host: &str, port| Ok(Address::Name { scheme: "http", host: host.to_owned(), port });
        assert_eq!(read("http://Shop.Example.org:80/"), name("shop.example.org", 80));
        assert_eq!(read("http://orders:8000"), name("orders", 8000));
        for address in ["http://10.0.0.1:80", "http://[::1]:80", "h2c://localhost:80"] {
            assert!(matches!(read(address), Ok(Address::Socket { .. })), "{address}");
        }
        let wrong = [
            "http://shop",
            "http://shop:x",
            "http://shop:70000",
            "http://sh_op:1",
            "http://10.0.0:1",
            "http://-a:1",
            "http://a..b:1",
            "ftp://shop:1",
            "shop:1",
            "http://shop:1/path",
            "http://u@shop:1",
            "http://1.2.3.4.5:1",
        ];
        for text in wrong {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("http://sh_op:1").unwrap_err().contains("NAME:port"));
    }
}
