//! What rows can be grouped by.

use std::borrow::Cow;

use crate::{leaf::View, query::QueryError, sight::Seen};

macro_rules! fields {
    ($($variant:ident $word:literal,)*) => {
        /// A member of a record that rows are grouped by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Field { $($variant,)* }

        impl Field {
            const ALL: &[(Field, &'static str)] = &[$((Field::$variant, $word),)*];
        }
    };
}

fields! {
    Action "action",
    CallerNamespace "caller_namespace",
    Effect "effect",
    Enforcer "enforcer",
    Kind "kind",
    Namespace "namespace",
    Phase "phase",
    Policy "policy",
    Principal "principal",
    Reason "reason",
    Resource "resource",
    Service "service",
    SourceIp "source_ip",
    Version "version",
    Would "would",
    WouldPolicy "would_policy",
}

impl Field {
    /// The field of that name.
    pub(crate) fn read(name: &str) -> Result<Field, QueryError> {
        let found = Field::ALL.iter().find(|(_, word)| *word == name);
        found.map(|(field, _)| *field).ok_or_else(|| QueryError::Value {
            name: "group_by",
            value: name.to_owned(),
            expected: "a field that rows can be grouped by",
            suggestion: crate::query::nearest(name, Field::ALL.iter().map(|(_, word)| *word)),
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        Field::ALL.iter().find(|(field, _)| *field == self).map_or("", |(_, word)| word)
    }

    /// Whether a reader who sees a row so is told this member.
    pub(crate) fn is_told(self, seen: Seen) -> bool {
        let is_outbound = matches!(
            self,
            Field::Action | Field::Effect | Field::Kind | Field::Principal | Field::Reason | Field::Resource
        );
        seen == Seen::Whole || is_outbound
    }

    /// The values of a row: none where it has no such member, or its reader does not see it; several policies may
    /// have decided one call.
    pub(crate) fn values<'v>(self, view: &View<'v>, seen: Seen) -> Vec<Cow<'v, str>> {
        let mut values = Vec::new();
        if !self.is_told(seen) {
            return values;
        }
        match self {
            Field::SourceIp => values.extend(view.source_ip().map(|address| Cow::Owned(address.to_string()))),
            Field::Version => {
                values.extend(view.policies_version().map(|version| Cow::Owned(version.to_string())));
            }
            field => field.each(view, |value| values.push(Cow::Borrowed(value))),
        }
        values
    }

    /// Gives the values of a row that stand in it as text.
    pub(crate) fn each<'v>(self, view: &View<'v>, give: impl FnMut(&'v str)) {
        match self {
            Field::Policy => view.determining().into_iter().for_each(give),
            Field::WouldPolicy => view.would_determining().into_iter().for_each(give),
            field => field.text(view).into_iter().for_each(give),
        }
    }

    fn text<'v>(self, view: &View<'v>) -> Option<&'v str> {
        match self {
            Field::Action => view.action,
            Field::CallerNamespace => view.caller(),
            Field::Effect => view.effect.and_then(effect),
            Field::Enforcer => view.enforcer(),
            Field::Kind => Some(view.kind().as_str()),
            Field::Namespace => view.callee(),
            Field::Phase => view.phase,
            Field::Principal => view.principal(),
            Field::Reason => view.reason,
            Field::Resource => view.resource(),
            Field::Service => view.service,
            Field::Would => view.would_effect().and_then(effect),
            Field::Policy | Field::WouldPolicy | Field::SourceIp | Field::Version => None,
        }
    }
}

fn effect(number: u64) -> Option<&'static str> {
    match number {
        0 => Some("deny"),
        1 => Some("allow"),
        _ => None,
    }
}
