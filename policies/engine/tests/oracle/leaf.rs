//! What conditions can read: attributes of the schema with the guards that make reading them valid.

use crate::{expression::Type, scope::Domain, world::Site};

/// Something a condition can read.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) kind: Type,
    pub(crate) text: String,
    /// What must hold, in this order, so that reading it is valid.
    pub(crate) guards: Vec<String>,
}

/// What an entity of that type has.
pub(crate) fn entity(leaves: &mut Vec<Leaf>, var: &str, kind: &str, guards: &[String]) {
    let attributes: &[(&str, Type)] = match kind {
        "Workload" => &[
            ("trust_domain", Type::Text),
            ("path", Type::Text),
            ("attested_by?", Type::Texts),
            ("application?", Type::Text),
            ("unit?", Type::Text),
        ],
        "User" => &[("issuer", Type::Text), ("subject", Type::Text), ("email?", Type::Text)],
        "Portcullis::Agent" => &[("path", Type::Text)],
        "Portcullis::LocalUser" => &[("uid", Type::Long), ("name?", Type::Text)],
        "Service" => &[
            ("name", Type::Text),
            ("namespace?", Type::Text),
            ("owner?", Type::Text),
            ("sensitivity?", Type::Long),
        ],
        "Method" => &[
            ("service", Type::Text),
            ("rpc_service", Type::Text),
            ("name", Type::Text),
            ("read_only?", Type::Bool),
            ("sensitivity?", Type::Long),
        ],
        "Route" => &[("service", Type::Text), ("name", Type::Text), ("sensitivity?", Type::Long)],
        _ => &[],
    };
    for (name, kind) in attributes {
        record(leaves, var, name, *kind, guards);
    }
    let tags = match kind {
        "Workload" | "Service" | "Method" | "Route" => Type::Text,
        "User" => Type::Texts,
        _ => return,
    };
    for tag in ["\"team\"", "\"tier\"", "\"none\"", "context.connection.listener"] {
        let mut guards = guards.to_vec();
        guards.push(format!("{var}.hasTag({tag})"));
        leaves.push(Leaf { kind: tags, text: format!("{var}.getTag({tag})"), guards });
    }
}

/// An attribute; a question mark says that it may be absent.
fn record(leaves: &mut Vec<Leaf>, of: &str, name: &str, kind: Type, guards: &[String]) {
    let mut guards = guards.to_vec();
    let plain = name.strip_suffix('?').unwrap_or(name);
    let is_word = plain.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain.len() < name.len() {
        guards.push(if is_word { format!("{of} has {plain}") } else { format!("{of} has \"{plain}\"") });
    }
    let text = if is_word { format!("{of}.{plain}") } else { format!("{of}[\"{plain}\"]") };
    leaves.push(Leaf { kind, text, guards });
}

pub(crate) fn context(leaves: &mut Vec<Leaf>, domain: &Domain, site: &Site) {
    let connection = [
        ("mtls", Type::Bool),
        ("tls", Type::Long),
        ("source_ip", Type::Ip),
        ("sni?", Type::Text),
        ("listener", Type::Text),
        ("protocol", Type::Protocol),
    ];
    connection.iter().for_each(|(name, kind)| record(leaves, "context.connection", name, *kind, &[]));
    let clock = [("now", Type::Moment), ("weekday", Type::Long), ("minute", Type::Long)];
    clock.iter().for_each(|(name, kind)| record(leaves, "context.time", name, *kind, &[]));
    let is_mixed = domain.resources.len() > 1;
    let when = |has: bool, name: &str| match (has, is_mixed) {
        (true, _) => Some(Vec::new()),
        (false, true) => Some(vec![format!("context has {name}")]),
        (false, false) => None,
    };
    if let Some(guards) = when(domain.has_request, "request") {
        request(leaves, site, &guards);
    }
    if let Some(guards) = when(domain.has_rpc, "rpc") {
        ["service", "method"]
            .iter()
            .for_each(|name| record(leaves, "context.rpc", name, Type::Text, &guards));
    }
    if let Some(guards) = when(domain.has_change, "change") {
        let flags = ["widens", "tests_passed", "caller_is_author", "touches_baseline", "two_person"];
        flags.iter().for_each(|name| record(leaves, "context.change", name, Type::Bool, &guards));
        let counts = ["coverage", "approvals", "replay_newly_denied"];
        counts.iter().for_each(|name| record(leaves, "context.change", name, Type::Long, &guards));
        record(leaves, "context.change", "scope", Type::Text, &guards);
    }
    if let Some(guards) = when(domain.has_issue, "ttl_seconds") {
        record(leaves, "context", "ttl_seconds", Type::Long, &guards);
        ["kind", "entry"].iter().for_each(|name| record(leaves, "context", name, Type::Text, &guards));
        let sets = ["audience", "attested_by", "selectors"];
        sets.iter().for_each(|name| record(leaves, "context", name, Type::Texts, &guards));
    }
    if domain.has_request {
        let guards = ["context has jwt".to_owned()];
        let token = [
            ("issuer", Type::Text),
            ("subject", Type::Text),
            ("audience", Type::Texts),
            ("scopes", Type::Texts),
            ("client?", Type::Text),
            ("acr?", Type::Text),
            ("amr?", Type::Texts),
            ("issued", Type::Moment),
            ("expires", Type::Moment),
        ];
        token.iter().for_each(|(name, kind)| record(leaves, "context.jwt", name, *kind, &guards));
        site.claims
            .iter()
            .for_each(|name| record(leaves, "context.jwt.claims", &format!("{name}?"), Type::Texts, &guards));
        entity(leaves, "context.jwt.user", "User", &guards);
    }
}

fn request(leaves: &mut Vec<Leaf>, site: &Site, guards: &[String]) {
    let fixed = [
        ("method", Type::Text),
        ("host", Type::Text),
        ("path", Type::Text),
        ("segment_count", Type::Long),
        ("query_names", Type::Texts),
        ("media_type?", Type::Text),
        ("length?", Type::Long),
    ];
    fixed.iter().for_each(|(name, kind)| record(leaves, "context.request", name, *kind, guards));
    for at in ["0?", "1?", "2?", "11?"] {
        record(leaves, "context.request.segments", at, Type::Text, guards);
    }
    let groups = [
        ("headers", &site.headers, Type::Texts),
        ("query", &site.query, Type::Texts),
        ("params", &site.params, Type::Text),
    ];
    for (member, names, kind) in groups {
        let of = format!("context.request.{member}");
        names.iter().for_each(|name| record(leaves, &of, &format!("{name}?"), kind, guards));
    }
}
