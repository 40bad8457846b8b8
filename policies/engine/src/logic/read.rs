//! Reads facts of one call, each only when an operation asks for it.

use super::{
    eval::{Scene, Stop},
    expr::{Fact, Group, Told},
    range::Range,
    value::{Several, Value},
};
use crate::{
    Action, AdminAction, AdminContext, ChangeContext, ErrorClass, IssueContext, PrincipalKind, Reason,
    RequestView, facts,
};
use base_ports::UnixTime;
use std::borrow::Cow;

const DAY: i64 = 86_400_000;

impl<'a> Scene<'a> {
    /// The fact, or `None` where the schema lets it be absent and it is.
    pub(super) fn read(&self, fact: &'a Fact) -> Result<Option<Value<'a>>, Stop> {
        let connection = self.connection;
        let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
        if let Some(found) = self.text(fact) {
            return found.map(|found| Some(text(found)));
        }
        Ok(Some(match fact {
            Fact::Mtls => Value::Bool(connection.mtls),
            Fact::Tls => Value::Long(connection.tls.into()),
            Fact::SourceIp => Value::Ip(Range::one(connection.source_ip)),
            Fact::Sni => return Ok(connection.sni.as_deref().map(text)),
            Fact::Protocol => Value::Entity("Protocol", connection.protocol.as_str()),
            Fact::Now => Value::Moment(self.millis()),
            // 1970 began on a Thursday.
            Fact::Weekday => Value::Long((self.millis().div_euclid(DAY) + 3).rem_euclid(7) + 1),
            Fact::Minute => Value::Long(self.millis().rem_euclid(DAY) / 60_000),
            Fact::Segment(at) => return Ok(facts::segments(self.http()?.path).nth(*at).map(Value::Text)),
            Fact::SegmentCount => Value::Long(long(facts::segments(self.http()?.path).count())?),
            Fact::Param(name) => {
                self.http()?;
                return Ok(self.request.facts.param(name).map(text));
            }
            Fact::Query(name) => {
                let query = self.http()?.query;
                let is_there = facts::pairs(query).any(|(found, _)| *found == **name);
                return Ok(is_there.then_some(Value::Set(Several::Query(query, name))));
            }
            Fact::QueryNames => Value::Set(Several::QueryNames(self.http()?.query)),
            Fact::Header(name) => {
                let lines = Several::Header(self.request.facts, name);
                return Ok(self.has_lines(name)?.then_some(Value::Set(lines)));
            }
            Fact::MediaType => return Ok(self.http()?.media_type.map(text)),
            Fact::Length => {
                return self.http()?.length.map(|length| long(length).map(Value::Long)).transpose();
            }
            Fact::Kind
            | Fact::TtlSeconds
            | Fact::Audience
            | Fact::AttestedBy
            | Fact::Selectors
            | Fact::Entry => {
                return Ok(self.issue()?.and_then(|issue| issued(issue, fact)));
            }
            Fact::Token(told) => return self.told(told),
            _ => return Ok(changed(self.change()?, fact)),
        }))
    }

    fn told(&self, told: &Told) -> Result<Option<Value<'a>>, Stop> {
        let token = self.request.token();
        if *told == Told::Token {
            return Ok(token.map(|_| Value::Bool(true)));
        }
        let token = token.ok_or(Stop::Error(ErrorClass::MissingAttribute))?;
        let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
        let moment = |at: UnixTime| Value::Moment(at.as_nanos().div_euclid(1_000_000));
        let set = |words: &'a [String]| Value::Set(Several::Words(words));
        Ok(match told {
            Told::Token | Told::User => Some(Value::Entity(PrincipalKind::User.as_str(), token.user())),
            Told::Issuer => Some(text(&token.issuer)),
            Told::Subject => Some(text(&token.subject)),
            Told::Audience => Some(set(&token.audience)),
            Told::Scopes => Some(set(&token.scopes)),
            Told::Client => token.client.as_deref().map(text),
            Told::Acr => token.acr.as_deref().map(text),
            Told::Amr => (!token.amr.is_empty()).then(|| set(&token.amr)),
            Told::Issued => Some(moment(token.issued)),
            Told::Expires => Some(moment(token.expires)),
            Told::Claim(name) => token.claims.get(&**name).map(|words| set(words)),
        })
    }

    /// A text that every call of its kind has; `None` for other facts.
    pub(super) fn text(&self, fact: &Fact) -> Option<Result<&'a str, Stop>> {
        Some(match fact {
            Fact::Listener => Ok(&self.connection.listener),
            Fact::Method => self.http().map(|request| request.method),
            Fact::Host => self.http().map(|request| request.host),
            Fact::Path => self.http().map(|request| request.path),
            Fact::RpcService => self.rpc().map(|(service, _)| service),
            Fact::RpcMethod => self.rpc().map(|(_, method)| method),
            _ => return None,
        })
    }

    /// Whether the call has that header.
    pub(super) fn has_lines(&self, name: &str) -> Result<bool, Stop> {
        self.http()?;
        Ok(!Several::Header(self.request.facts, name).is_empty())
    }

    /// Whether a line of that header is `wanted`; an error where the call does not have it.
    pub(super) fn has_line(&self, name: &str, wanted: &str) -> Result<bool, Stop> {
        self.http()?;
        let (mut is_there, mut is_found) = (false, false);
        self.request.facts.header(name, &mut |line| {
            is_there = true;
            is_found |= line == wanted;
        });
        if is_there { Ok(is_found) } else { Err(ErrorClass::MissingAttribute.into()) }
    }

    /// Whether the context has that part.
    pub(super) fn has_group(&self, group: Group) -> bool {
        has_group(self.request.action, group)
    }

    fn millis(&self) -> i64 {
        self.request.now.as_nanos().div_euclid(1_000_000)
    }

    fn http(&self) -> Result<RequestView<'a>, Stop> {
        if !self.has_group(Group::Request) {
            return Err(ErrorClass::MissingAttribute.into());
        }
        self.request.facts.request().ok_or(Stop::Refused(Reason::ContextIncomplete))
    }

    fn rpc(&self) -> Result<(&'a str, &'a str), Stop> {
        if !self.has_group(Group::Rpc) {
            return Err(ErrorClass::MissingAttribute.into());
        }
        self.request.facts.rpc().ok_or(Stop::Refused(Reason::ContextIncomplete))
    }

    fn issue(&self) -> Result<Option<&'a IssueContext>, Stop> {
        match (self.request.action, self.request.extra) {
            (Action::Admin(AdminAction::IdentityIssue), Some(AdminContext::Issue(issue))) => Ok(Some(issue)),
            (Action::Admin(AdminAction::IdentityIssue), _) => Err(Stop::Refused(Reason::ContextIncomplete)),
            _ => Ok(None),
        }
    }

    fn change(&self) -> Result<&'a ChangeContext, Stop> {
        match (self.has_group(Group::Change), self.request.extra) {
            (true, Some(AdminContext::Change(change))) => Ok(change),
            (true, _) => Err(Stop::Refused(Reason::ContextIncomplete)),
            (false, _) => Err(ErrorClass::MissingAttribute.into()),
        }
    }
}

/// Whether the context of `action` has that part.
pub(super) fn has_group(action: Action, group: Group) -> bool {
    match group {
        Group::Request => !matches!(action, Action::TcpConnect | Action::Admin(_)),
        Group::Rpc => action == Action::Grpc,
        Group::Change => matches!(
            action,
            Action::Admin(
                AdminAction::PolicyApprove
                    | AdminAction::PolicySign
                    | AdminAction::PolicyPublish
                    | AdminAction::PolicyRollback
            )
        ),
    }
}

fn long(number: impl TryInto<i64>) -> Result<i64, Stop> {
    number.try_into().map_err(|_too_large| Stop::Refused(Reason::ContextInvalid))
}

fn issued<'a>(issue: &'a IssueContext, fact: &Fact) -> Option<Value<'a>> {
    Some(match fact {
        Fact::Kind => Value::Text(Cow::Borrowed(&issue.kind)),
        Fact::TtlSeconds => Value::Long(issue.ttl_seconds),
        Fact::Audience => Value::Set(Several::Words(&issue.audience)),
        Fact::AttestedBy => Value::Set(Several::Words(&issue.attested_by)),
        Fact::Selectors => Value::Set(Several::Words(&issue.selectors)),
        Fact::Entry => Value::Text(Cow::Borrowed(&issue.entry)),
        _ => return None,
    })
}

fn changed<'a>(change: &'a ChangeContext, fact: &Fact) -> Option<Value<'a>> {
    Some(match fact {
        Fact::Scope => Value::Text(Cow::Borrowed(&change.scope)),
        Fact::Widens => Value::Bool(change.widens),
        Fact::TestsPassed => Value::Bool(change.tests_passed),
        Fact::Coverage => Value::Long(change.coverage),
        Fact::Approvals => Value::Long(change.approvals),
        Fact::CallerIsAuthor => Value::Bool(change.caller_is_author),
        Fact::TouchesBaseline => Value::Bool(change.touches_baseline),
        Fact::TwoPerson => Value::Bool(change.two_person),
        Fact::ReplayNewlyDenied => Value::Long(change.replay_newly_denied),
        _ => return None,
    })
}
