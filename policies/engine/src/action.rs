//! What a caller wants to do: data-plane actions and the actions of our own APIs.
//! A closed list that mirrors the schema; a test holds the two together.

use std::{fmt, str::FromStr};

macro_rules! admin_actions {
    ($($variant:ident $word:literal $read:literal,)*) => {
        /// An action of namespace `Portcullis`, judged by the same engine as traffic.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each variant is named as its action in the schema")]
        pub enum AdminAction { $($variant,)* }

        impl AdminAction {
            /// Every admin action.
            pub const ALL: &'static [AdminAction] = &[$(AdminAction::$variant,)*];

            /// The action id of the schema, without namespace.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(AdminAction::$variant => $word,)* }
            }

            /// Whether it only reads (`admin:read` in the schema).
            #[must_use]
            pub const fn is_read(self) -> bool {
                match self { $(AdminAction::$variant => $read,)* }
            }
        }

        impl FromStr for AdminAction {
            type Err = UnknownAction;
            fn from_str(word: &str) -> Result<Self, UnknownAction> {
                match word {
                    $($word => Ok(AdminAction::$variant),)*
                    other => Err(UnknownAction(other.to_owned())),
                }
            }
        }
    };
}

admin_actions! {
    Probe "probe" true,
    BundleRead "bundle:read" true,
    AgentAttest "agent:attest" true,
    SystemRead "system:read" true,
    ConfigRead "config:read" true,
    CaRead "ca:read" true,
    Decide "decide" true,
    CaRotate "ca:rotate" false,
    CaRevoke "ca:revoke" false,
    FederationWrite "federation:write" false,
    AgentManage "agent:manage" false,
    ConfigWrite "config:write" false,
    AgentSync "agent:sync" true,
    IdentityIssue "identity:issue" false,
    EntryRead "entry:read" true,
    DecisionsRead "decisions:read" true,
    DecisionsExport "decisions:export" true,
    DecisionsVerify "decisions:verify" true,
    EntryWrite "entry:write" false,
    SvidMint "svid:mint" false,
    SvidRevoke "svid:revoke" false,
    DecisionsReveal "decisions:reveal" false,
    DecisionsHold "decisions:hold" false,
    DecisionsRelease "decisions:release" false,
    DecisionsErase "decisions:erase" false,
    DecisionsAppend "decisions:append" false,
    PolicyRead "policy:read" true,
    PolicyDraft "policy:draft" false,
    PolicyApprove "policy:approve" false,
    PolicySign "policy:sign" false,
    PolicyPublish "policy:publish" false,
    PolicyRollback "policy:rollback" false,
    EnforcerRead "enforcer:read" true,
    EnforcerOperate "enforcer:operate" false,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is named as its action in the schema")]
pub enum Action {
    HttpGet,
    HttpHead,
    HttpOptions,
    HttpQuery,
    HttpPost,
    HttpPut,
    HttpPatch,
    HttpDelete,
    HttpConnect,
    HttpOther,
    Grpc,
    TcpConnect,
    Admin(AdminAction),
}

impl Action {
    /// The actions of traffic, without our own APIs.
    pub const CALLS: &'static [Action] = &[
        Action::HttpGet,
        Action::HttpHead,
        Action::HttpOptions,
        Action::HttpQuery,
        Action::HttpPost,
        Action::HttpPut,
        Action::HttpPatch,
        Action::HttpDelete,
        Action::HttpConnect,
        Action::HttpOther,
        Action::Grpc,
        Action::TcpConnect,
    ];

    /// Action of an HTTP method token; what the schema does not name is `http:OTHER` (MO11).
    #[must_use]
    pub fn from_http_method(method: &str) -> Action {
        match method {
            "GET" => Action::HttpGet,
            "HEAD" => Action::HttpHead,
            "OPTIONS" => Action::HttpOptions,
            "QUERY" => Action::HttpQuery,
            "POST" => Action::HttpPost,
            "PUT" => Action::HttpPut,
            "PATCH" => Action::HttpPatch,
            "DELETE" => Action::HttpDelete,
            "CONNECT" => Action::HttpConnect,
            _ => Action::HttpOther,
        }
    }

    /// The action id of the schema, without namespace: `http:GET`, `grpc`, `policy:read`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::HttpGet => "http:GET",
            Action::HttpHead => "http:HEAD",
            Action::HttpOptions => "http:OPTIONS",
            Action::HttpQuery => "http:QUERY",
            Action::HttpPost => "http:POST",
            Action::HttpPut => "http:PUT",
            Action::HttpPatch => "http:PATCH",
            Action::HttpDelete => "http:DELETE",
            Action::HttpConnect => "http:CONNECT",
            Action::HttpOther => "http:OTHER",
            Action::Grpc => "grpc",
            Action::TcpConnect => "tcp:connect",
            Action::Admin(action) => action.as_str(),
        }
    }

    /// Cedar entity type of the action.
    #[must_use]
    pub const fn entity_type(self) -> &'static str {
        match self {
            Action::Admin(_) => "Portcullis::Action",
            _ => "Action",
        }
    }

    /// Whether it only reads: `http:read` and `admin:read`. A gRPC method says so itself (`read_only`).
    #[must_use]
    pub const fn is_read(self) -> bool {
        match self {
            Action::HttpGet | Action::HttpHead | Action::HttpOptions | Action::HttpQuery => true,
            Action::Admin(action) => action.is_read(),
            _ => false,
        }
    }

    /// Whether it is an HTTP action.
    #[must_use]
    pub const fn is_http(self) -> bool {
        !matches!(self, Action::Grpc | Action::TcpConnect | Action::Admin(_))
    }

    /// Reads `grpc`, `policy:read`, `Action::"http:GET"` or `Portcullis::Action::"probe"`.
    ///
    /// # Errors
    /// When the schema has no such action.
    pub fn parse(text: &str) -> Result<Action, UnknownAction> {
        let unquote = |rest: &str| rest.strip_suffix('"').map(str::to_owned);
        if let Some(rest) = text.strip_prefix("Portcullis::Action::\"") {
            return match unquote(rest) {
                Some(word) => word.parse().map(Action::Admin),
                None => Err(UnknownAction(text.to_owned())),
            };
        }
        let word = match text.strip_prefix("Action::\"").and_then(unquote) {
            Some(word) => word,
            None => text.to_owned(),
        };
        word.parse()
    }
}

impl FromStr for Action {
    type Err = UnknownAction;
    fn from_str(word: &str) -> Result<Self, UnknownAction> {
        match Action::CALLS.iter().find(|action| action.as_str() == word) {
            Some(action) => Ok(*action),
            None => word.parse().map(Action::Admin),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An action the schema does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an action of the schema")]
pub struct UnknownAction(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_reads_back_from_its_id_and_from_its_uid() {
        let admin = AdminAction::ALL.iter().map(|a| Action::Admin(*a));
        for action in Action::CALLS.iter().copied().chain(admin) {
            assert_eq!(action.as_str().parse::<Action>().unwrap(), action);
            assert_eq!(Action::parse(&format!("{}::\"{action}\"", action.entity_type())).unwrap(), action);
        }
        assert!(Action::parse("Action::\"http:TRACE\"").is_err());
        assert!(Action::parse("Action::\"grpc").is_err());
    }

    #[test]
    fn mo11_an_unknown_method_is_other() {
        assert_eq!(Action::from_http_method("PROPFIND"), Action::HttpOther);
        assert_eq!(Action::from_http_method("get"), Action::HttpOther);
        assert!(Action::from_http_method("HEAD").is_read());
        assert!(!Action::from_http_method("POST").is_read());
    }
}
