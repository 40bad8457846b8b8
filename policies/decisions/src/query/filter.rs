//! The part of a question that looks at one record.

use policies_engine::{Effect, Reason};

use super::{QueryError, kind, nearest, net::Network, person::Person};
use crate::{
    archive::{Field, Want},
    commit::{self, Commitment},
    cursor::unhex,
    leaf::{Kind, View},
    redact::{Redaction, may_be_person},
    sight::{Seen, Sight},
};

/// All conditions hold together; an absent one holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    effect: Option<u64>,
    would: Option<u64>,
    principal: Option<Text>,
    service: Option<Text>,
    namespace: Option<Text>,
    action: Option<Text>,
    resource: Option<Text>,
    policy: Option<String>,
    ticket: Option<String>,
    reason: Option<&'static str>,
    version: Option<(u64, u64)>,
    enforcer: Option<Text>,
    /// From one kind to another, both included.
    kinds: Option<(Kind, Kind)>,
    source_ip: Option<Network>,
    serial: Option<String>,
    path: Option<String>,
    trace: Option<Vec<u8>>,
    /// What its reader may see; `None` for questions of this process itself.
    pub(super) sight: Option<Sight>,
    /// The commitment that the caller is looked for by.
    committed: Option<Commitment>,
    /// The person that the caller is looked for as, by who may open commitments.
    person: Option<Person>,
    pub(super) reveals: Option<Sight>,
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Exact(String),
    Prefix(String),
    /// As it was given, or as the hash of it.
    Either(String, String),
}

impl Text {
    fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exact(text) => value == Some(text),
            Self::Prefix(text) => value.is_some_and(|value| value.starts_with(text)),
            Self::Either(text, hash) => value.is_some_and(|value| value == text || value == hash),
        }
    }

    /// Exact, unless written with `prefix:`.
    fn read(value: &str) -> Self {
        match value.strip_prefix("prefix:") {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(value.to_owned()),
        }
    }
}

impl Filter {
    pub(super) fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, QueryError> {
        Ok(Self {
            effect: get("effect").map(|value| effect("effect", value)).transpose()?,
            would: get("would").map(|value| effect("would", value)).transpose()?,
            principal: get("principal").map(Text::read),
            service: get("service").map(Text::read),
            namespace: get("namespace").map(Text::read),
            action: get("action").map(Text::read),
            resource: get("resource").map(|value| Text::Prefix(value.to_owned())),
            policy: get("policy").map(str::to_owned),
            ticket: get("ticket").map(str::to_owned),
            reason: get("reason").map(reason).transpose()?,
            version: get("version").map(version).transpose()?,
            enforcer: get("enforcer").map(Text::read),
            kinds: get("kind").map(kind).transpose()?.map(|kind| (kind, kind)),
            source_ip: get("source_ip").map(source_ip).transpose()?,
            serial: get("serial").map(str::to_owned),
            path: get("path~").map(str::to_owned),
            trace: get("trace").map(trace).transpose()?,
            committed: get("principal").and_then(Commitment::read),
            ..Self::default()
        })
    }

    /// The same filter where a person also stands on record by a hash or a commitment; `None` when it names nobody.
    pub(super) fn hashed(&self, redaction: &Redaction) -> Option<Self> {
        let Some(Text::Exact(id)) = &self.principal else { return None };
        let principal = Some(Text::Either(id.clone(), redaction.hashed(id)?));
        // Who may reveal nothing learns nothing of whom a commitment is about, so he finds none by name.
        let person = redaction.side().filter(|_| self.reveals.is_some() && may_be_person(id));
        let person = person.map(|side| Person::new(id, side));
        Some(Self { principal, person, ..self.clone() })
    }

    /// Whether the caller is committed, and is who is looked for.
    fn is_committed_to(&self, view: &View<'_>) -> bool {
        if self.committed.is_none() && self.person.is_none() {
            return false;
        }
        let Some(committed) = view.commitment() else { return false };
        let may_reveal = || self.reveals.as_ref().is_some_and(|reveals| reveals.of_view(view) == Seen::Whole);
        self.committed == Some(committed)
            || self.person.as_ref().is_some_and(|person| person.is(view, committed) && may_reveal())
    }

    /// How the record is seen by who asks.
    pub(crate) fn seen(&self, view: &View<'_>) -> Seen {
        self.sight.as_ref().map_or(Seen::Whole, |sight| sight.of_view(view))
    }

    /// Asks for records of the kinds between these, both included.
    pub(crate) fn set_kinds(&mut self, first: Kind, last: Kind) {
        self.kinds = Some((first, last));
    }

    /// Whether who asks sees what belongs to the trust domain.
    pub(crate) fn sees_domain(&self) -> bool {
        self.seen(&View::default()) == Seen::Whole
    }

    /// Whether it asks for records of that enforcer.
    pub(crate) fn asks_for_enforcer(&self, enforcer: &str) -> bool {
        self.enforcer.as_ref().is_none_or(|text| text.matches(Some(enforcer)))
    }

    /// Whether it asks for what the outbound view leaves out. Such a question tells nothing of those rows, or it
    /// would tell what they hide.
    fn looks_inside(&self) -> bool {
        self.would.is_some()
            || self.service.is_some()
            || self.namespace.is_some()
            || self.policy.is_some()
            || self.ticket.is_some()
            || self.version.is_some()
            || self.enforcer.is_some()
            || self.source_ip.is_some()
            || self.serial.is_some()
            || self.path.is_some()
    }

    /// Whether it asks for nothing in particular.
    pub(crate) fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    /// What the index of a segment can say about it: every record that matches lies in a block that meets all of these.
    pub(crate) fn wants(&self) -> Vec<Want<'_>> {
        let texts = [
            (Field::Principal, &self.principal),
            (Field::Service, &self.service),
            (Field::Action, &self.action),
            (Field::Resource, &self.resource),
            (Field::Enforcer, &self.enforcer),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| {
            text.as_ref().map(|text| match text {
                Text::Exact(_) if field == Field::Principal && self.committed.is_some() => {
                    Want::Text(field, commit::WORD)
                }
                Text::Exact(text) => Want::Text(field, text),
                Text::Prefix(text) => Want::Prefix(field, text),
                Text::Either(text, hash) => {
                    let word = self.committed.is_some() || self.person.is_some();
                    Want::Any(field, [Some(text), Some(hash), word.then_some(commit::WORD)])
                }
            })
        });
        let numbers = [
            (Field::Kind, self.kinds.map(|(first, last)| (first.0, last.0))),
            (Field::Effect, self.effect.map(|effect| (effect, effect))),
            (Field::Would, self.would.map(|effect| (effect, effect))),
            (Field::Version, self.version),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(field, range)| range.map(|(from, to)| Want::Number(field, from, to)));
        let reason = self.reason.map(|reason| Want::Text(Field::Reason, reason));
        let policy = self.policy.as_deref().map(|policy| Want::Text(Field::Policy, policy));
        let trace = self.trace.as_deref().map(Want::Trace);
        texts.chain(numbers).chain(reason).chain(policy).chain(trace).collect()
    }

    /// Whether the record is asked for, and its reader may see it. The cheap conditions come first.
    pub(crate) fn matches(&self, view: &View<'_>) -> bool {
        self.asks_for(view)
            && match self.seen(view) {
                Seen::Whole => true,
                Seen::Outbound => !self.looks_inside(),
                Seen::Hidden => false,
            }
    }

    fn asks_for(&self, view: &View<'_>) -> bool {
        let text = |wanted: &Option<Text>, value: Option<&str>| {
            wanted.as_ref().is_none_or(|text| text.matches(value))
        };
        self.kinds.is_none_or(|(first, last)| (first..=last).contains(&view.kind()))
            && self.effect.is_none_or(|effect| view.effect == Some(effect))
            && self.reason.is_none_or(|reason| view.reason == Some(reason))
            && text(&self.action, view.action)
            && text(&self.service, view.service)
            && (self.namespace.is_none() || text(&self.namespace, view.callee()))
            && (self.principal.is_none()
                || text(&self.principal, view.principal())
                || self.is_committed_to(view))
            && (self.resource.is_none() || text(&self.resource, view.resource()))
            && (self.enforcer.is_none() || text(&self.enforcer, view.enforcer()))
            && self.would.is_none_or(|effect| view.would_effect() == Some(effect))
            && self
                .version
                .is_none_or(|(from, to)| view.policies_version().is_some_and(|v| (from..=to).contains(&v)))
            && self.policy.as_ref().is_none_or(|policy| view.is_determined_by(policy))
            && self.ticket.as_ref().is_none_or(|ticket| view.has_ticket(ticket))
            && self
                .source_ip
                .is_none_or(|network| view.source_ip().is_some_and(|address| network.contains(address)))
            && self.serial.as_ref().is_none_or(|serial| view.serial() == Some(serial))
            && self.path.as_ref().is_none_or(|part| view.path().is_some_and(|path| path.contains(part)))
            && self.trace.as_ref().is_none_or(|trace| view.trace_id() == Some(trace))
    }
}

fn effect(name: &'static str, value: &str) -> Result<u64, QueryError> {
    match value {
        word if word == Effect::Deny.as_str() => Ok(0),
        word if word == Effect::Allow.as_str() => Ok(1),
        _ => Err(QueryError::Value {
            name,
            value: value.to_owned(),
            expected: "`allow` or `deny`",
            suggestion: nearest(value, ["allow", "deny"]),
        }),
    }
}

fn reason(value: &str) -> Result<&'static str, QueryError> {
    match value.parse::<Reason>() {
        Ok(reason) => Ok(reason.as_str()),
        Err(_unknown) => Err(QueryError::Value {
            name: "reason",
            value: value.to_owned(),
            expected: "see the list of reasons",
            suggestion: nearest(value, Reason::ALL.iter().map(|reason| reason.as_str())),
        }),
    }
}

/// `41`, `38-41`, `38-`, `-41`; a leading `v` is left out of account.
fn version(value: &str) -> Result<(u64, u64), QueryError> {
    let number = |text: &str, open: u64| {
        if text.is_empty() { Some(open) } else { text.strip_prefix('v').unwrap_or(text).parse().ok() }
    };
    let range = match value.split_once('-') {
        Some((from, to)) if !(from.is_empty() && to.is_empty()) => number(from, 0).zip(number(to, u64::MAX)),
        Some(_) => None,
        None if value.is_empty() => None,
        None => number(value, 0).map(|version| (version, version)),
    };
    range.filter(|(from, to)| from <= to).ok_or_else(|| QueryError::Value {
        name: "version",
        value: value.to_owned(),
        expected: "a policies version or a range, such as 41 or 38-41",
        suggestion: None,
    })
}

fn source_ip(value: &str) -> Result<Network, QueryError> {
    Network::read(value).ok_or_else(|| QueryError::Value {
        name: "source_ip",
        value: value.to_owned(),
        expected: "an address or a network such as 10.0.0.0/8, with no bits behind its prefix",
        suggestion: None,
    })
}

fn trace(value: &str) -> Result<Vec<u8>, QueryError> {
    unhex(value).filter(|bytes| bytes.len() == 16).ok_or_else(|| QueryError::Value {
        name: "trace",
        value: value.to_owned(),
        expected: "a trace id has 32 hex digits",
        suggestion: None,
    })
}
