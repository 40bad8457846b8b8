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

    /// The values of a row: none where it has no such member, or its reader does not see it; several policies may
    /// have decided one call.
    pub(crate) fn values<'v>(self, view: &View<'v>, seen: Seen) -> Vec<Cow<'v, str>> {
        let is_outbound = matches!(
            self,
            Field::Action | Field::Effect | Field::Kind | Field::Principal | Field::Reason | Field::Resource
        );
        if seen != Seen::Whole && !is_outbound {
            return Vec::new();
        }
        let text = |value: Option<&'v str>| value.map(Cow::Borrowed).into_iter().collect();
        match self {
            Field::Action => text(view.action),
            Field::CallerNamespace => text(view.caller()),
            Field::Effect => text(view.effect.and_then(effect)),
            Field::Enforcer => text(view.enforcer()),
            Field::Kind => text(Some(view.kind().as_str())),
            Field::Namespace => text(view.callee()),
            Field::Phase => text(view.phase),
            Field::Policy => view.determining().into_iter().map(Cow::Borrowed).collect(),
            Field::Principal => text(view.principal()),
            Field::Reason => text(view.reason),
            Field::Resource => text(view.resource()),
            Field::Service => text(view.service),
            Field::SourceIp => {
                view.source_ip().map(|address| Cow::Owned(address.to_string())).into_iter().collect()
            }
            Field::Version => {
                view.policies_version().map(|version| Cow::Owned(version.to_string())).into_iter().collect()
            }
            Field::Would => text(view.would_effect().and_then(effect)),
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
