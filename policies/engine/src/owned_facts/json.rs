//! The JSON form of facts, both ways. What has the wrong type, an unknown protocol or a bad address is refused;
//! unknown members are left alone, they belong to later versions.

use super::{OwnedFacts, OwnedRequest};
use crate::{ConnectionFacts, Facts, Protocol, Token};
use base_ports::UnixTime;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A JSON document that does not hold facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` {problem}")]
pub struct FactsJsonError {
    member: String,
    problem: &'static str,
}

type Read<T> = Result<T, FactsJsonError>;

impl OwnedFacts {
    /// An object with `connection` and, where there are any, `request`, `rpc` and `jwt`.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("connection".to_owned(), connection_json(&self.connection));
        if let Some(request) = &self.request {
            out.insert("request".to_owned(), self.request_json(request));
        }
        if let Some((service, method)) = self.rpc() {
            out.insert("rpc".to_owned(), json!({ "service": service, "method": method }));
        }
        if let Some(token) = &self.token {
            out.insert("jwt".to_owned(), token_json(token));
        }
        out
    }

    /// Reads the same members from any object that has them, e.g. a whole decision.
    ///
    /// # Errors
    /// Names the member that is absent or of the wrong type.
    pub fn from_json(document: &Map<String, Value>) -> Result<OwnedFacts, FactsJsonError> {
        let connection =
            Object::of(document, "connection")?.ok_or_else(|| wrong("connection", "is missing"))?;
        let mut facts = OwnedFacts::new(connection.connection()?);
        if let Some(request) = Object::of(document, "request")? {
            facts = facts.with_request(request.request()?);
        }
        if let Some(rpc) = Object::of(document, "rpc")? {
            facts = facts.with_rpc(rpc.text("service")?, rpc.text("method")?);
        }
        if let Some(token) = Object::of(document, "jwt")? {
            facts = facts.with_token(token.token()?.into());
        }
        Ok(facts)
    }

    fn request_json(&self, request: &OwnedRequest) -> Value {
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
        let segments: Vec<std::borrow::Cow<'_, str>> =
            Facts::request(self).into_iter().flat_map(|view| view.segments()).collect();
        let first = segments.iter().take(crate::SEGMENTS).enumerate();
        put("method", json!(request.method));
        put("host", json!(request.host));
        put("path", json!(request.path));
        put("segments", first.map(|(at, text)| (at.to_string(), json!(text))).collect::<Map<_, _>>().into());
        put("segment_count", json!(segments.len()));
        put("params", json!(request.params));
        put("query", json!(request.query));
        put("query_names", json!(request.query_names));
        put("headers", json!(request.headers));
        if let Some(media_type) = &request.media_type {
            put("media_type", json!(media_type));
        }
        if let Some(length) = request.length {
            put("length", json!(length));
        }
        out.into()
    }
}

fn connection_json(connection: &ConnectionFacts) -> Value {
    let mut out = json!({
        "mtls": connection.mtls,
        "tls": connection.tls,
        "source_ip": connection.source_ip.to_string(),
        "listener": &*connection.listener,
        "protocol": connection.protocol.as_str(),
    });
    if let (Some(sni), Some(out)) = (&connection.sni, out.as_object_mut()) {
        out.insert("sni".to_owned(), json!(&**sni));
    }
    out
}

/// The schema's `Token`, and what it tells of the entity `User` besides.
fn token_json(token: &Token) -> Value {
    let mut out = json!({
        "user": token.user(),
        "groups": token.groups(),
        "issuer": token.issuer,
        "subject": token.subject,
        "audience": token.audience,
        "scopes": token.scopes,
        "issued": token.issued.to_string(),
        "expires": token.expires.to_string(),
        "claims": token.claims,
    });
    let texts = [("email", &token.email), ("client", &token.client), ("acr", &token.acr)];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, json!(text.as_ref()?))));
    let amr = (!token.amr.is_empty()).then(|| ("amr", json!(token.amr)));
    if let Some(out) = out.as_object_mut() {
        out.extend(texts.chain(amr).map(|(name, value)| (name.to_owned(), value)));
    }
    out
}

/// An object with its name, for messages.
struct Object<'a> {
    name: &'a str,
    members: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn of(document: &'a Map<String, Value>, name: &'a str) -> Read<Option<Object<'a>>> {
        match document.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Object { name, members })),
            Some(_) => Err(wrong(name, "is not an object")),
        }
    }

    fn connection(&self) -> Read<ConnectionFacts> {
        let address = self.text("source_ip")?;
        Ok(ConnectionFacts {
            mtls: self
                .get("mtls")
                .and_then(Value::as_bool)
                .ok_or_else(|| self.wrong("mtls", "is not true or false"))?,
            tls: self
                .number("tls")?
                .and_then(|n| u8::try_from(n).ok())
                .ok_or_else(|| self.wrong("tls", "is no TLS version"))?,
            source_ip: address.parse().ok().ok_or_else(|| self.wrong("source_ip", "is no IP address"))?,
            sni: self.optional_text("sni")?.map(Into::into),
            listener: self.text("listener")?.into(),
            protocol: Protocol::from_word(self.text("protocol")?)
                .ok_or_else(|| self.wrong("protocol", "is unknown"))?,
        })
    }

    fn request(&self) -> Read<OwnedRequest> {
        let names = self.get("query_names").map(|names| self.texts("query_names", names)).transpose()?;
        Ok(OwnedRequest {
            method: self.text("method")?.to_owned(),
            host: self.text("host")?.to_owned(),
            path: self.text("path")?.to_owned(),
            query: self.text_sets("query")?,
            query_names: names.unwrap_or_default().into_iter().collect(),
            headers: self.text_sets("headers")?,
            params: self.params()?,
            media_type: self.optional_text("media_type")?.map(str::to_owned),
            length: self.number("length")?,
        })
    }

    fn token(&self) -> Read<Token> {
        let (issuer, subject) = (self.text("issuer")?, self.text("subject")?);
        let groups = self.list("groups")?;
        let names = groups.iter().map(|group| group.strip_prefix(issuer)?.strip_prefix('/'));
        let names = names.collect::<Option<Vec<_>>>();
        let names = names.ok_or_else(|| self.wrong("groups", "has a group of another issuer"))?;
        let text = |name| Ok(self.optional_text(name)?.map(str::to_owned));
        let mut token = Token::new(issuer, subject, self.time("issued")?, self.time("expires")?);
        token.email = text("email")?;
        token.audience = self.list("audience")?;
        token.scopes = self.list("scopes")?;
        token.client = text("client")?;
        token.acr = text("acr")?;
        token.amr = self.list("amr")?;
        token.claims = self.text_sets("claims")?;
        Ok(token.in_groups(names))
    }

    fn list(&self, name: &str) -> Read<Vec<String>> {
        self.get(name).map_or_else(|| Ok(Vec::new()), |list| self.texts(name, list))
    }

    fn time(&self, name: &str) -> Read<UnixTime> {
        let text = self.text(name)?;
        UnixTime::parse_rfc3339(text).ok().ok_or_else(|| self.wrong(name, "is no time"))
    }

    fn params(&self) -> Read<BTreeMap<String, String>> {
        let Some(params) = Object::of(self.members, "params")? else { return Ok(BTreeMap::new()) };
        params.members.keys().map(|name| Ok((name.clone(), params.text(name)?.to_owned()))).collect()
    }

    fn text_sets(&self, name: &str) -> Read<BTreeMap<String, Vec<String>>> {
        let Some(sets) = Object::of(self.members, name)? else { return Ok(BTreeMap::new()) };
        sets.members.iter().map(|(name, set)| Ok((name.clone(), sets.texts(name, set)?))).collect()
    }

    fn texts(&self, name: &str, value: &Value) -> Read<Vec<String>> {
        let items = value.as_array().ok_or_else(|| self.wrong(name, "is not a list of texts"))?;
        let text = |item: &Value| {
            item.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, "is not a list of texts"))
        };
        items.iter().map(text).collect()
    }

    fn text(&self, name: &str) -> Read<&'a str> {
        self.optional_text(name)?.ok_or_else(|| self.wrong(name, "is missing"))
    }

    fn optional_text(&self, name: &str) -> Read<Option<&'a str>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "is not a text")),
        }
    }

    fn number(&self, name: &str) -> Read<Option<u64>> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "is not a whole number")),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name)
    }

    fn wrong(&self, member: &str, problem: &'static str) -> FactsJsonError {
        wrong(&format!("{}.{member}", self.name), problem)
    }
}

fn wrong(member: &str, problem: &'static str) -> FactsJsonError {
    FactsJsonError { member: member.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document() -> Map<String, Value> {
        let text = r#"{"effect":"deny",
         "connection":{"mtls":true,"tls":13,"source_ip":"10.0.0.7","sni":"orders","listener":"public","protocol":"grpc"},
         "request":{"method":"POST","host":"orders","path":"/shop.Orders/Refund","segments":{"0":"shop.Orders","1":"Refund"},
          "segment_count":2,"params":{},"query":{},"query_names":[],"headers":{},"media_type":"application/grpc"},
         "rpc":{"service":"shop.Orders","method":"Refund"}}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_reads_and_writes_back() {
        let mut document = document();
        let facts = OwnedFacts::from_json(&document).unwrap();
        document.shift_remove("effect");
        assert_eq!(Value::from(facts.to_json()), Value::from(document));
    }

    #[test]
    fn a_bad_member_is_named() {
        let cases = [
            ("/connection", Value::Null, "`connection` is missing"),
            ("/connection/mtls", json!("yes"), "`connection.mtls` is not true or false"),
            ("/connection/tls", json!(1300), "`connection.tls` is no TLS version"),
            ("/connection/source_ip", json!("here"), "`connection.source_ip` is no IP address"),
            ("/connection/protocol", json!("h9"), "`connection.protocol` is unknown"),
            ("/request", json!([]), "`request` is not an object"),
            ("/request/path", Value::Null, "`request.path` is missing"),
            ("/request/headers", json!({"x": "y"}), "`headers.x` is not a list of texts"),
            ("/rpc/method", json!(1), "`rpc.method` is not a text"),
            ("/jwt", json!({"issuer": "corp"}), "`jwt.subject` is missing"),
            (
                "/jwt",
                json!({"issuer": "corp", "subject": "1", "groups": ["ext/x"]}),
                "`jwt.groups` has a group of another issuer",
            ),
            ("/jwt", json!({"issuer": "corp", "subject": "1", "issued": "then"}), "`jwt.issued` is no time"),
        ];
        for (pointer, value, message) in cases {
            let mut document = Value::from(document());
            match pointer {
                "/jwt" => document["jwt"] = value,
                _ => *document.pointer_mut(pointer).unwrap() = value,
            }
            let error = OwnedFacts::from_json(document.as_object().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn facts_survive_json_and_a_copy(
            path in "(/[a-z%+ é]{0,4}){1,14}",
            query in proptest::collection::btree_map("[a-z&=é]{1,4}", proptest::collection::vec("[ -~é]{0,6}", 1..3), 0..3),
            other in proptest::collection::btree_set("[a-z]{1,3}", 0..3),
            line in "[ -~]{0,10}",
            length in proptest::option::of(any::<u64>()),
            token in any::<bool>(),
        ) {
            let headers = BTreeMap::from([("x-tenant".to_owned(), vec![line.clone(), line.clone()])]);
            let request = OwnedRequest {
                method: "GET".into(), host: "h".into(), path, query: query.clone(), query_names: other.clone(), headers: headers.clone(), length,
                ..OwnedRequest::default()
            };
            let at = UnixTime::from_secs(1_795_000_000);
            let is_told = token;
            let mut token = Token::new("corp", "a/b", at, at).in_groups(other.iter().map(String::as_str));
            token.email = is_told.then(|| line.clone());
            token.claims = query.clone();
            let facts = OwnedFacts::local("public").with_request(request).with_token(token.into());
            prop_assert_eq!(&OwnedFacts::from_json(&facts.to_json()).unwrap(), &facts);
            let declared = crate::schema::Declared {
                headers: std::collections::BTreeSet::from(["x-tenant".into()]),
                query: query.keys().map(|name| name.as_str().into()).collect(),
                ..Default::default()
            };
            prop_assert_eq!(&OwnedFacts::copy(&facts, &declared), &facts);
        }
    }
}
