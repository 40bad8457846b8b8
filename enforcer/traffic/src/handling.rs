//! What a route does with a permitted call besides forwarding it (RT-04): another path or host, or an answer of its own.

use enforcer_codec::canonical::{self, Kept, Path};
use enforcer_codec::{Call, FieldEdits, NotCanonical, Scheme};

use crate::{PathSpec, RouteError, RouteSpec, Template};

/// Longest body of an answer of its own, bytes.
pub const LONGEST_REPLY: usize = 4096;

/// What happens to the calls of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlingSpec {
    /// Answers in place of forwarding; excludes `to`.
    pub reply: Option<ReplySpec>,
    /// Another path for the upstream, or in the target of a redirect.
    pub path: Option<RewriteSpec>,
    /// Another host for the upstream, or in the target of a redirect.
    pub host: Option<String>,
    /// Changes of the request's fields.
    pub request: FieldEdits,
    /// Changes of the answer's fields.
    pub response: FieldEdits,
    /// Longest body of a request, bytes; none = any.
    pub max_body: Option<u32>,
    /// What a path may have and keeps.
    pub keeps: Kept,
    /// What becomes of paths in another spelling than the canonical one.
    pub path_mode: PathMode,
    /// Who asks for a WebSocket gets what it would get without asking (H1-24).
    pub bars_websocket: bool,
}

/// What becomes of a path in another spelling than the canonical one (CC-08). In each case the canonical form alone finds
/// the route, is judged, and goes to the upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathMode {
    /// The call is 400.
    #[default]
    Refuse,
    /// The call, once permitted, is answered with 308 to the canonical form.
    Redirect,
    /// The call goes on with the canonical form.
    Rewrite,
}

/// An answer that no upstream gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplySpec {
    /// 301, 302, 303, 307 or 308 to the same call at another place.
    Redirect {
        /// The status.
        status: u16,
        /// `http` or `https`; none = as the call.
        scheme: Option<Scheme>,
    },
    /// This.
    Direct {
        /// The status, 200 to 599, of those with a body.
        status: u16,
        /// `content-type` of the body.
        content_type: String,
        /// At most [`LONGEST_REPLY`] bytes.
        body: String,
    },
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewriteSpec {
    /// In place of the prefix that matched.
    Prefix(String),
    /// Filled with the segments that the path template of the route names.
    Template(String),
}

/// The actions of a route in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handling {
    /// Answers in place of forwarding.
    pub reply: Option<ReplySpec>,
    path: Option<Rewrite>,
    host: Option<String>,
    /// Changes of the request's fields.
    pub request: FieldEdits,
    /// Changes of the answer's fields.
    pub response: FieldEdits,
    /// Longest body of a request, bytes.
    pub max_body: Option<u32>,
    /// Who asks for a WebSocket gets what it would get without asking.
    pub bars_websocket: bool,
    keeps: Kept,
    path_mode: PathMode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rewrite {
    /// So many segments are taken off, and these stand in their place, without a slash at the end.
    Prefix {
        segments: usize,
        to: Box<str>,
    },
    Template {
        from: Template,
        to: Template,
    },
}

impl Handling {
    pub(crate) fn compile(spec: &RouteSpec) -> Result<Self, RouteError> {
        let asked = &spec.handling;
        let error = |cause: String| RouteError::Handling { route: spec.name.clone(), cause };
        let path =
            asked.path.as_ref().map(|path| rewrite(path, &spec.matches.path)).transpose().map_err(error)?;
        if let Some(host) = &asked.host {
            canonical::authority(host.as_bytes(), Scheme::Https)
                .map_err(|flaw| error(format!("host `{host}`: {flaw}")))?;
        }
        if let Some(reply) = &asked.reply {
            check(reply, asked).map_err(error)?;
        }
        let is_lenient = asked.keeps != Kept::default() || asked.path_mode != PathMode::Refuse;
        if spec.matches.grpc.is_some() && (asked.reply.is_some() || path.is_some() || is_lenient) {
            return Err(error("a gRPC method is answered by its service, under its own path".to_owned()));
        }
        Ok(Self {
            reply: asked.reply.clone(),
            path,
            host: asked.host.clone(),
            request: asked.request.clone(),
            response: asked.response.clone(),
            max_body: asked.max_body,
            bars_websocket: asked.bars_websocket,
            keeps: asked.keeps,
            path_mode: asked.path_mode,
        })
    }

    /// True when the upstream receives the call as it was judged.
    pub fn is_plain(&self) -> bool {
        self.path.is_none() && self.host.is_none() && self.request.is_empty()
    }

    /// Why a call cannot be on this route as its path was sent.
    #[must_use]
    pub fn misread(&self, call: &Call) -> Option<NotCanonical> {
        call.misspelled(self.keeps, self.path_mode != PathMode::Refuse)
    }

    /// Where a call is sent back to for the canonical form of its path: to the same host, whatever that is.
    #[must_use]
    pub fn canonical_location(&self, call: &Call) -> Option<String> {
        if self.path_mode != PathMode::Redirect || call.sent_path().is_none() {
            return None;
        }
        Some(match call.query() {
            Some(query) => format!("{}?{query}", call.path()),
            None => call.path().to_owned(),
        })
    }

    /// The authority for the upstream, when it is another one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The path for the upstream, made of canonical parts of `path` only, when it is another one.
    pub fn path(&self, path: &str) -> Option<String> {
        match self.path.as_ref()? {
            Rewrite::Prefix { segments, to } => {
                let mut rest = path;
                for _ in 0..*segments {
                    rest = rest.strip_prefix('/').unwrap_or(rest);
                    rest = rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default();
                }
                let whole = format!("{to}{rest}");
                Some(if whole.is_empty() { "/".to_owned() } else { whole })
            }
            Rewrite::Template { from, to } => Some(to.filled(from, path)),
        }
    }

    /// Where a redirect leads.
    pub fn location(&self, call: &Call) -> String {
        let scheme = match &self.reply {
            Some(ReplySpec::Redirect { scheme: Some(scheme), .. }) => *scheme,
            _ => call.scheme(),
        };
        let host = self.host.as_deref().unwrap_or(call.authority());
        let path = self.path(call.path());
        let path = path.as_deref().unwrap_or(call.path());
        match call.query() {
            Some(query) => format!("{}://{host}{path}?{query}", scheme.as_str()),
            None => format!("{}://{host}{path}", scheme.as_str()),
        }
    }
}

fn check(reply: &ReplySpec, asked: &HandlingSpec) -> Result<(), String> {
    match reply {
        ReplySpec::Redirect { status, scheme } => {
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Err(format!("{status} is no redirect; write 301, 302, 303, 307 or 308"));
            }
            if scheme.is_none() && asked.host.is_none() && asked.path.is_none() {
                return Err(
                    "the redirect leads back to itself; give it a scheme, a host or a path".to_owned()
                );
            }
        }
        ReplySpec::Direct { status, content_type, body } => {
            if !(200..=599).contains(status) || matches!(status, 204 | 205 | 304) {
                return Err(format!("{status} is no status of an answer with a body"));
            }
            if body.len() > LONGEST_REPLY {
                return Err(format!("the body has {} bytes; {LONGEST_REPLY} are the most", body.len()));
            }
            if content_type.is_empty() || !content_type.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                return Err(format!("`{content_type}` is no content type"));
            }
            if asked.host.is_some() || asked.path.is_some() {
                return Err("an answer of its own has no other path or host".to_owned());
            }
        }
    }
    Ok(())
}

fn rewrite(spec: &RewriteSpec, path: &PathSpec) -> Result<Rewrite, String> {
    match (spec, path) {
        (RewriteSpec::Prefix(to), PathSpec::Prefix(from)) => match canonical::path(to.as_bytes()) {
            Ok(Path::Canonical(to)) => Ok(Rewrite::Prefix {
                segments: from.split('/').filter(|segment| !segment.is_empty()).count(),
                to: to.strip_suffix('/').unwrap_or(to).into(),
            }),
            Ok(Path::Other { canonical, .. }) => Err(format!("`{to}` is not canonical; write `{canonical}`")),
            Err(flaw) => Err(format!("`{to}`: {flaw}")),
        },
        (RewriteSpec::Prefix(_), _) => Err("a prefix is rewritten where the route matches one".to_owned()),
        (RewriteSpec::Template(to), path) => {
            let to = Template::parse(to).map_err(|cause| format!("`{to}`: {cause}"))?;
            let from = match path {
                PathSpec::Template(from) => Template::parse(from)?,
                _ => Template::default(),
            };
            let unknown = to.names().find(|name| !from.names().any(|known| known == *name)).cloned();
            match unknown {
                Some(name) => Err(format!("`{{{name}}}` is no segment that the route names")),
                None => Ok(Rewrite::Template { from, to }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn handling(path: RewriteSpec, from: PathSpec) -> Result<Handling, RouteError> {
        let mut spec = RouteSpec { name: "r".into(), ..RouteSpec::default() };
        (spec.handling.path, spec.matches.path) = (Some(path), from);
        Handling::compile(&spec)
    }

    fn prefix(from: &str, to: &str) -> Handling {
        handling(RewriteSpec::Prefix(to.into()), PathSpec::Prefix(from.into())).unwrap()
    }

    fn template(from: &str, to: &str) -> Result<Handling, RouteError> {
        handling(RewriteSpec::Template(to.into()), PathSpec::Template(from.into()))
    }

    #[test]
    fn rt_04_a_prefix_is_replaced_by_whole_segments() {
        for (from, to, path, rewritten) in [
            ("/api", "/v2", "/api/x", "/v2/x"),
            ("/api", "/v2/", "/api/x/", "/v2/x/"),
            ("/api", "/", "/api", "/"),
            ("/api", "/", "/api/", "/"),
            ("/api", "/", "/api/x%20y", "/x%20y"),
            ("/", "/v2", "/x", "/v2/x"),
            ("/a/b", "/c", "/a/b/b", "/c/b"),
        ] {
            assert_eq!(prefix(from, to).path(path).unwrap(), rewritten, "{from} {to} {path}");
        }
    }

    #[test]
    fn rt_04_a_template_is_filled_with_the_segments_of_the_call() {
        let found = template("/users/{id}/{what}", "/{what}/of/{id}").unwrap();
        assert_eq!(found.path("/users/a%2Bb/x").unwrap(), "/x/of/a%2Bb");
        assert!(
            template("/users/{id}", "/{name}").unwrap_err().to_string().contains("`{name}` is no segment")
        );
        let fixed = handling(RewriteSpec::Template("/fixed".into()), PathSpec::Any).unwrap();
        assert_eq!(fixed.path("/x/y").unwrap(), "/fixed");
    }

    #[test]
    fn rt_04_an_action_without_meaning_is_an_error_that_says_why() {
        let of = |handling: HandlingSpec| {
            Handling::compile(&RouteSpec { name: "r".into(), handling, ..RouteSpec::default() })
                .unwrap_err()
                .to_string()
        };
        let reply = |reply| HandlingSpec { reply: Some(reply), ..HandlingSpec::default() };
        let direct = |status, body: &str| {
            reply(ReplySpec::Direct { status, content_type: "text/plain".into(), body: body.into() })
        };
        for (handling, part) in [
            (reply(ReplySpec::Redirect { status: 304, scheme: Some(Scheme::Https) }), "no redirect"),
            (reply(ReplySpec::Redirect { status: 308, scheme: None }), "leads back to itself"),
            (direct(204, ""), "no status"),
            (direct(101, ""), "no status"),
            (direct(200, &"x".repeat(4097)), "4096 are the most"),
            (HandlingSpec { host: Some("h".into()), ..direct(200, "") }, "no other path"),
            (HandlingSpec { host: Some("a b".into()), ..HandlingSpec::default() }, "host `a b`"),
            (
                HandlingSpec { path: Some(RewriteSpec::Prefix("/v2".into())), ..HandlingSpec::default() },
                "matches one",
            ),
        ] {
            let found = of(handling);
            assert!(found.contains(part) && found.starts_with("route `r`: "), "{found}");
        }
    }

    fn asks(target: &str) -> Call {
        let request = http::Request::get(format!("https://h.test{target}")).version(http::Version::HTTP_2);
        let parts = request.body(()).unwrap().into_parts().0;
        Call::from_parts(&parts, true, &enforcer_codec::Transport::new(Scheme::Https)).unwrap()
    }

    #[test]
    fn cc_08_a_route_says_which_spellings_it_takes() {
        let with = |keeps, path_mode| {
            let asked = HandlingSpec { keeps, path_mode, ..HandlingSpec::default() };
            Handling::compile(&RouteSpec { handling: asked, ..RouteSpec::default() }).unwrap()
        };
        let (none, all) = (Kept::default(), Kept { slash: true, params: true });
        let strict = with(none, PathMode::Refuse);
        for (target, keeping, rewriting, both) in [
            ("/a/b?q=%2F;", None, None, None),
            ("/a//b", Some("CC-05"), None, None),
            ("/a/%41?q", Some("CC-04"), None, None),
            ("/a%2Fb", None, Some("CC-03"), None),
            ("/a%2fb", Some("CC-04"), Some("CC-03"), None),
            ("/a;b", None, Some("CC-06"), None),
            ("/a;b/../c", Some("CC-05"), Some("CC-06"), None),
        ] {
            let call = asks(target);
            let told = |handling: &Handling| handling.misread(&call).map(|flaw| flaw.rule);
            assert_eq!(told(&with(all, PathMode::Refuse)), keeping, "{target}");
            for mode in [PathMode::Rewrite, PathMode::Redirect] {
                assert_eq!(told(&with(none, mode)), rewriting, "{target}");
                assert_eq!(told(&with(all, mode)), both, "{target}");
            }
            assert_eq!(told(&strict).is_none(), target.starts_with("/a/b?"), "{target}");
        }
        let back = with(all, PathMode::Redirect);
        for (target, location) in [
            ("/a//b?q=//", Some("/a/b?q=//")),
            ("//evil.test/..", Some("/")),
            ("///evil.test", Some("/evil.test")),
            ("/a%2fb;c", Some("/a%2Fb;c")),
            ("/a%2Fb", None),
        ] {
            assert_eq!(back.canonical_location(&asks(target)).as_deref(), location, "{target}");
            assert_eq!(with(all, PathMode::Rewrite).canonical_location(&asks(target)), None);
        }
    }

    proptest! {
        #[test]
        fn cc_09_a_rewritten_path_is_canonical(rest in "(/([a-z]|%20|%2B|[.]x){1,3}){0,4}/?", to in "/|(/[a-z]{1,3}){1,3}/?") {
            let given = format!("/api{rest}");
            if !matches!(canonical::path(given.as_bytes()), Ok(Path::Canonical(_))) { return Ok(()); }
            let found = prefix("/api", &to).path(&given).unwrap();
            prop_assert_eq!(canonical::path(found.as_bytes()), Ok(Path::Canonical(&found)));
        }
    }
}
