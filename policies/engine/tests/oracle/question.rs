//! Random questions: who, what, on what, and the facts of the call.

use crate::{support::dice::Dice, words, world::Site};
use base_ports::UnixTime;
use policies_engine::{
    AccessRequest, Action, AdminAction, AdminContext, ChangeContext, ConnectionFacts, Facts, IssueContext,
    Principal, Protocol, RequestView, Resource, Role, Token,
};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) principal: Principal,
    pub(crate) action: Action,
    pub(crate) resource: Resource,
    pub(crate) call: Call,
    pub(crate) now: UnixTime,
    pub(crate) extra: Option<AdminContext>,
}

/// Facts as a codec would hold them.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    connection: ConnectionFacts,
    method: &'static str,
    host: &'static str,
    path: String,
    query: Option<String>,
    headers: Vec<(&'static str, &'static str)>,
    params: Vec<(&'static str, &'static str)>,
    media_type: Option<&'static str>,
    length: Option<u64>,
    rpc: (&'static str, &'static str),
    token: Option<Arc<Token>>,
}

impl Facts for Call {
    fn connection(&self) -> &ConnectionFacts {
        &self.connection
    }

    fn request(&self) -> Option<RequestView<'_>> {
        let Call { method, host, path, query, media_type, length, .. } = self;
        let (query, media_type, length) = (query.as_deref(), *media_type, *length);
        Some(RequestView { method, host, path, query, media_type, length })
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        Some(self.rpc)
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        self.headers.iter().filter(|(known, _)| *known == name).for_each(|(_, line)| each(line));
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }
}

impl Question {
    pub(crate) fn request(&self) -> AccessRequest<'_> {
        AccessRequest {
            principal: &self.principal,
            action: self.action,
            resource: &self.resource,
            facts: &self.call,
            now: self.now,
            extra: self.extra.as_ref(),
        }
    }

    pub(crate) fn random(dice: &mut Dice, site: &Site, focus: &[usize]) -> Question {
        let (action, resource, extra) = target(dice, focus);
        let mut principal = principal(dice);
        let mut call = Call::random(dice, site, action);
        // With a workload as well as alone; administrative actions and TCP take none, so those are asked without.
        if !matches!(action, Action::Admin(_) | Action::TcpConnect) && dice.below(3) > 0 {
            let token = token(dice, site);
            if dice.below(2) == 0 {
                principal = Principal::user(&token);
            }
            call.token = Some(token.into());
        }
        let now = match dice.below(3) {
            0 => UnixTime::from_millis(1_795_000_000_000 + dice.below(1_000_000_000) as i64),
            // Around the instant at which permits of these tests expire.
            1 => UnixTime::from_millis(1_795_348_800_000 + dice.below(3) as i64 - 1),
            _ => UnixTime::from_millis(dice.below(4_000_000_000_000) as i64 - 100_000_000_000),
        };
        Question { principal, action, resource, call, now, extra }
    }
}

fn principal(dice: &mut Dice) -> Principal {
    let id = |path: &str| format!("spiffe://{path}");
    match dice.below(20) {
        0 => Principal::anonymous(),
        1 => Principal::agent(&id("example.org/portcullis/agent/n1")),
        2 => Principal::agent(&id("example.org/portcullis/agent/n3")),
        3..6 => {
            let user = ["corp/alice", "corp/named", "corp/bob", "ext/eve"][dice.below(4)];
            Principal::from_parts("User", user).expect("a user")
        }
        6..9 => {
            let roles: Vec<Role> = Role::ALL.iter().copied().filter(|_| dice.below(4) == 0).collect();
            let name = [None, Some("a"), Some("web")][dice.below(3)];
            Principal::local_user([0, 1000, 4711, 7][dice.below(4)], name, &roles)
        }
        _ => {
            const ALL: [&str; 9] = [
                "example.org/web",
                "example.org/api",
                "example.org/batch/nightly",
                "other.org/web",
                "example.org",
                "example.org/named",
                "example.org/stranger",
                "third.org/web",
                "example.org/placed",
            ];
            Principal::workload(&id(ALL[dice.below(ALL.len())]))
        }
    }
}

fn token(dice: &mut Dice, site: &Site) -> Token {
    let (issuer, subject) =
        [("corp", "alice"), ("corp", "named"), ("corp", "bob"), ("ext", "eve")][dice.below(4)];
    let time = |dice: &mut Dice| UnixTime::from_millis(1_795_348_800_000 + dice.below(3) as i64 - 1);
    let (issued, expires) = (time(dice), time(dice));
    let mut groups = ["staff", "none", "x"].to_vec();
    groups.retain(|_| dice.below(2) == 0);
    let maybe = |dice: &mut Dice| Some(words::text(dice).to_owned()).filter(|_| dice.below(2) == 0);
    let claims = site.claims.iter().copied().chain(["team", "tier", ""]);
    let claims: Vec<_> = claims.filter(|_| dice.below(2) == 0).collect();
    let mut token = Token::new(issuer, subject, issued, expires).in_groups(groups);
    (token.email, token.client, token.acr) = (maybe(dice), maybe(dice), maybe(dice));
    (token.audience, token.scopes, token.amr) = (texts(dice), texts(dice), texts(dice));
    token.claims = claims.into_iter().map(|name| (name.to_owned(), texts(dice))).collect();
    token
}

/// What is asked for, mostly of the domains of the focus (`scope::DOMAINS`, same order).
fn target(dice: &mut Dice, focus: &[usize]) -> (Action, Resource, Option<AdminContext>) {
    let domain = if dice.below(6) == 0 { dice.below(14) } else { focus[dice.below(focus.len())] };
    let mut pick = |from: &[&'static str]| from[dice.below(from.len())];
    let method = Resource::method(pick(&[
        "shop.Orders/Get",
        "shop.Orders/Refund",
        "eu:shop.Orders/Get",
        "shop.Tagged/Get",
    ]));
    let route = Resource::route(pick(&["home", "admin", "static", "tagged"]));
    let service = Resource::service_named(pick(&["orders", "site", "db"]));
    let scope = Resource::policy_scope(pick(&["/", "/shop", "/shop/eu", "/other"]));
    let space = Resource::namespace_named(pick(&["shop", "front", "back", "nowhere"]));
    let subject = Resource::workload(pick(&[
        "spiffe://example.org/web",
        "spiffe://example.org/new",
        "spiffe://other.org/web",
    ]));
    let http = Action::CALLS[dice.below(10)];
    let mut admin = |all: &[AdminAction]| Action::Admin(all[dice.below(all.len())]);
    match domain {
        0 => (http, route, None),
        1 => (Action::Grpc, method, None),
        2 => (Action::TcpConnect, service, None),
        3 => match dice.below(3) {
            0 => (Action::TcpConnect, service, None),
            1 => (Action::Grpc, method, None),
            _ => (http, route, None),
        },
        4 => (admin(&[AdminAction::Probe, AdminAction::BundleRead]), Resource::system(), None),
        5 => (admin(&[AdminAction::SystemRead, AdminAction::CaRotate]), Resource::system(), None),
        6 => (Action::Admin(AdminAction::IdentityIssue), subject, Some(issue(dice))),
        7 => {
            let action =
                admin(&[AdminAction::EntryRead, AdminAction::EntryWrite, AdminAction::DecisionsRead]);
            let resource = if dice.below(2) == 0 { space } else { Resource::trust_domain("example.org") };
            (action, resource, None)
        }
        8 => {
            let all = [AdminAction::PolicyPublish, AdminAction::PolicyApprove, AdminAction::PolicyRollback];
            (admin(&all), scope, Some(change(dice)))
        }
        9 => {
            let action = admin(&[AdminAction::EnforcerRead, AdminAction::EnforcerOperate]);
            (action, Resource::enforcer("spiffe://example.org/gw"), None)
        }
        // Nothing registered, and actions on targets of another type.
        11 => (http, [Resource::unknown(), Resource::route("nowhere")][dice.below(2)].clone(), None),
        12 => (Action::Grpc, Resource::method("a.B/C"), None),
        13 => (Action::CALLS[dice.below(Action::CALLS.len())], route, None),
        _ if http.is_read() => (http, route, None),
        _ => (admin(&[AdminAction::SystemRead, AdminAction::Probe]), Resource::system(), None),
    }
}

fn number(dice: &mut Dice) -> i64 {
    words::long(dice).parse().expect("a number")
}

fn texts(dice: &mut Dice) -> Vec<String> {
    (0..dice.below(4)).map(|_| words::text(dice).to_owned()).collect()
}

fn change(dice: &mut Dice) -> AdminContext {
    let flags = dice.roll();
    AdminContext::Change(ChangeContext {
        scope: ["/", "/shop"][dice.below(2)].to_owned(),
        widens: flags & 1 > 0,
        tests_passed: flags & 2 > 0,
        coverage: number(dice),
        approvals: number(dice),
        caller_is_author: flags & 4 > 0,
        touches_baseline: flags & 8 > 0,
        replay_newly_denied: number(dice),
        two_person: flags & 16 > 0,
    })
}

fn issue(dice: &mut Dice) -> AdminContext {
    AdminContext::Issue(IssueContext {
        kind: ["x509", "jwt"][dice.below(2)].to_owned(),
        ttl_seconds: number(dice),
        audience: texts(dice),
        attested_by: texts(dice),
        selectors: texts(dice),
        entry: words::text(dice).to_owned(),
    })
}

impl Call {
    fn random(dice: &mut Dice, site: &Site, action: Action) -> Call {
        let maybe = |dice: &mut Dice| Some(words::text(dice)).filter(|_| dice.below(2) == 0);
        let protocol = match action {
            Action::Grpc => Protocol::Grpc,
            Action::TcpConnect => Protocol::Tcp,
            _ => Protocol::ALL[dice.below(5)],
        };
        let connection = ConnectionFacts {
            mtls: dice.below(2) == 0,
            tls: [0, 1, 12, 13, 255][dice.below(5)],
            source_ip: words::address(dice).parse().expect("an address"),
            sni: maybe(dice).map(Into::into),
            listener: ["public", "admin", "team", ""][dice.below(4)].into(),
            protocol,
        };
        let mut path = String::new();
        for _ in 0..dice.below(4) * dice.below(5) {
            let segment = words::text(dice);
            path = path + "/" + &encoded(dice, segment);
        }
        path += ["", "/", "/%zz", "/a%2Fb"][dice.below(4)];
        if path.is_empty() {
            path.push('/');
        }
        let mut pairs = Vec::new();
        for _ in 0..dice.below(5) {
            let name = match site.query.get(dice.below(site.query.len() + 1)) {
                Some(declared) => declared,
                None => words::text(dice),
            };
            let (name, value) = (encoded(dice, name), words::text(dice));
            let value = encoded(dice, value);
            pairs.push(if dice.below(5) == 0 { name } else { format!("{name}={value}") });
        }
        let query = (dice.below(4) > 0).then(|| pairs.join("&"));
        let mut headers = Vec::new();
        for name in site.headers.iter().copied().chain(["x-undeclared"]) {
            headers.extend((0..dice.below(3)).map(|_| (name, words::text(dice))));
        }
        let mut params = Vec::new();
        for name in &site.params {
            params.extend((dice.below(3) > 0).then(|| (*name, words::text(dice))));
        }
        let method = words::text(dice);
        Call {
            connection,
            method: ["GET", "POST", method][dice.below(3)],
            host: words::text(dice),
            path,
            query,
            headers,
            params,
            media_type: maybe(dice),
            length: [None, Some(0), Some(7), Some(i64::MAX as u64)][dice.below(4)],
            rpc: (words::text(dice), words::text(dice)),
            token: None,
        }
    }
}

/// With escapes where they must be, and some where they need not.
fn encoded(dice: &mut Dice, text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' if dice.below(2) == 0 => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' if dice.below(8) > 0 => {
                out.push(char::from(byte))
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}
