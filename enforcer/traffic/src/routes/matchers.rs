//! What a route asks for besides host and path: a list of conditions that must all hold (RT-01).
//!
//! The more of them, the higher the rank (RT-02). Two lists exclude each other when two of their conditions do.

use std::fmt;

use enforcer_codec::{Call, CallProtocol, NotCanonical};

use super::host::Pattern as Host;
use super::target::TunnelTarget;
use super::values::{Place, Values};
use crate::{Arrival, Network, RouteError, RouteSpec};
use ca_identity::IdPattern;

/// The conditions of one route. Cheap ones stand first.
#[derive(Debug, Default)]
pub(super) struct Matchers(Vec<Matcher>);

#[derive(Debug)]
enum Matcher {
    Listener(Box<str>),
    Target(Box<[TunnelTarget]>),
    Grpc,
    Port(Box<[u16]>),
    Method(Box<[Box<str>]>),
    Identity(Box<[IdPattern]>),
    Network(Box<[Network]>),
    Sni(Box<[Host]>),
    Values(Values),
}

impl Matchers {
    /// # Errors
    /// Names the condition that has no meaning.
    pub(super) fn compile(spec: &RouteSpec) -> Result<Self, RouteError> {
        let error = |cause: String| RouteError::Match { route: spec.name.clone(), cause };
        let asked = &spec.matches;
        let mut list = Vec::new();
        list.extend(spec.listener.as_deref().map(|name| Matcher::Listener(name.into())));
        let targets = all(&spec.connect, TunnelTarget::parse, "target such as `db.example.org:5432`");
        list.extend(targets.map_err(error)?.map(Matcher::Target));
        list.extend(asked.grpc.is_some().then_some(Matcher::Grpc));
        if !asked.ports.is_empty() {
            list.push(Matcher::Port(asked.ports.as_slice().into()));
        }
        if !asked.methods.is_empty() {
            for method in &asked.methods {
                method_name(method).map_err(error)?;
            }
            list.push(Matcher::Method(asked.methods.iter().map(|method| method.as_str().into()).collect()));
        }
        let identities = all(
            &asked.identities,
            IdPattern::parse,
            "SPIFFE ID, `spiffe://DOMAIN` or `spiffe://DOMAIN/PATH/*`",
        );
        let networks = all(&asked.sources, Network::parse, "network such as `10.0.0.0/8`");
        let names = if spec.passes.is_empty() { &asked.sni } else { &spec.passes };
        let names = all(names, Host::parse, "server name or `*.suffix`");
        let (identities, networks, names) =
            (identities.map_err(error)?, networks.map_err(error)?, names.map_err(error)?);
        list.extend(identities.map(Matcher::Identity));
        list.extend(networks.map(Matcher::Network));
        list.extend(names.map(Matcher::Sni));
        for (place, values) in
            [(Place::Header, &asked.headers), (Place::Query, &asked.query), (Place::Cookie, &asked.cookies)]
        {
            for values in values {
                list.push(Matcher::Values(Values::compile(place, values).map_err(error)?));
            }
        }
        Ok(Self(list))
    }

    /// How many there are: more rank higher.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether all hold.
    ///
    /// # Errors
    /// CC-11 when a field that is read is no text.
    pub(super) fn hold(&self, call: &Call, arrival: &Arrival<'_>) -> Result<bool, NotCanonical> {
        for matcher in &self.0 {
            if !matcher.holds(call, arrival)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first one that does not hold, in words.
    ///
    /// # Errors
    /// As for [`Matchers::hold`].
    pub(super) fn missing(&self, call: &Call, arrival: &Arrival<'_>) -> Result<Option<String>, NotCanonical> {
        for matcher in &self.0 {
            if !matcher.holds(call, arrival)? {
                return Ok(Some(matcher.to_string()));
            }
        }
        Ok(None)
    }

    /// True when certainly no call satisfies both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.excludes(two)))
    }

    /// Whether a call of that method can be among them.
    pub(super) fn allows_method(&self, method: &str) -> bool {
        self.0.iter().all(|matcher| match matcher {
            Matcher::Method(methods) => methods.iter().any(|known| **known == *method),
            _ => true,
        })
    }
}

impl Matcher {
    fn holds(&self, call: &Call, arrival: &Arrival<'_>) -> Result<bool, NotCanonical> {
        Ok(match self {
            Self::Listener(name) => **name == *arrival.listener,
            Self::Target(targets) => targets.iter().any(|target| target.takes(call)),
            Self::Grpc => call.protocol() == CallProtocol::Grpc,
            Self::Port(ports) => ports.contains(&arrival.port),
            Self::Method(methods) => methods.iter().any(|method| **method == *call.method()),
            Self::Identity(some) => arrival.identity.is_some_and(|id| some.iter().any(|known| known.has(id))),
            Self::Network(some) => some.iter().any(|network| network.has(arrival.source)),
            Self::Sni(names) => arrival.sni.is_some_and(|name| names.iter().any(|known| known.has(name))),
            Self::Values(values) => values.hold(call)?,
        })
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Listener(a), Self::Listener(b)) => a != b,
            (Self::Target(a), Self::Target(b)) => disjoint(a, b, TunnelTarget::excludes),
            (Self::Port(a), Self::Port(b)) => disjoint(a, b, |a, b| a != b),
            (Self::Method(a), Self::Method(b)) => disjoint(a, b, |a, b| a != b),
            (Self::Grpc, Self::Method(methods)) | (Self::Method(methods), Self::Grpc) => {
                !methods.iter().any(|method| **method == *"POST")
            }
            (Self::Identity(a), Self::Identity(b)) => disjoint(a, b, IdPattern::excludes),
            (Self::Network(a), Self::Network(b)) => disjoint(a, b, |a, b| a.excludes(*b)),
            (Self::Sni(a), Self::Sni(b)) => disjoint(a, b, Host::excludes),
            (Self::Values(a), Self::Values(b)) => a.excludes(b),
            _ => false,
        }
    }
}

fn disjoint<T>(one: &[T], two: &[T], excludes: impl Fn(&T, &T) -> bool) -> bool {
    one.iter().all(|one| two.iter().all(|two| excludes(one, two)))
}

/// Every text parsed, or the first that is no `what`. None when there is none.
fn all<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Option<T>,
    what: &str,
) -> Result<Option<Box<[T]>>, String> {
    let parsed = texts.iter().map(|text| parse(text).ok_or_else(|| format!("`{text}` is no {what}")));
    let parsed: Box<[T]> = parsed.collect::<Result<_, _>>()?;
    Ok((!parsed.is_empty()).then_some(parsed))
}

/// Methods are told apart by case; what is written in lower case was meant otherwise.
fn method_name(method: &str) -> Result<(), String> {
    let is_name = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    match method {
        _ if !is_name => Err(format!("`{method}` is no method; write `{}`", method.to_ascii_uppercase())),
        "TRACE" | "CONNECT" => Err(format!("{method} reaches no route")),
        _ => Ok(()),
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener is `{name}`"),
            Self::Target(targets) => write!(f, "the tunnel leads to {}", one_of(targets)),
            Self::Grpc => f.write_str("the call is gRPC"),
            Self::Port(ports) => write!(f, "port is {}", one_of(ports)),
            Self::Method(methods) => write!(f, "method is {}", one_of(methods)),
            Self::Identity(some) => write!(f, "identity is {}", one_of(some)),
            Self::Network(some) => write!(f, "source address is in {}", one_of(some)),
            Self::Sni(names) => write!(f, "server name is {}", one_of(names)),
            Self::Values(values) => values.fmt(f),
        }
    }
}

fn one_of<T: fmt::Display>(some: &[T]) -> String {
    some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
