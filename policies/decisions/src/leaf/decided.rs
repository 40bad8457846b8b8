//! A decision read out of its leaf in one pass, borrowed: as much as judging it again needs.
//!
//! Walks over a range read millions of them, so nothing is copied but what [`Facts`] must own. Anything else a leaf
//! holds is passed over; what reads decisions one by one decodes them whole.

use std::sync::Arc;

use base_ports::UnixTime;
use policies_engine::{ConnectionFacts, DecisionId, Facts, OwnedRequest, Protocol, RequestView};

use super::{
    Kind, LeafError, VERSION,
    decode::{address, text_or_commitment, text_sets, texts},
    key,
};
use crate::{
    cbor::{CborError, Reader},
    commit::{self, PRINCIPAL},
    redact::is_hidden,
};

/// A stored decision, as far as judging it again needs it.
#[derive(Debug)]
pub struct Decided<'a> {
    /// Its id.
    pub id: DecisionId,
    /// The reading of the clock that the policies saw.
    pub time: UnixTime,
    /// Reason word.
    pub reason: &'a str,
    /// Where in the life of a call.
    pub phase: &'a str,
    /// Type and id of the caller.
    pub principal: (&'a str, &'a str),
    /// What was asked for.
    pub action: &'a str,
    /// Type and id of the target.
    pub resource: (&'a str, &'a str),
    /// Service of the target.
    pub service: Option<&'a str>,
    /// Namespace of the called service.
    pub namespace: Option<&'a str>,
    /// Policies that decided, sorted.
    pub determining: Vec<&'a str>,
    /// Number of the snapshot that judged it.
    pub snapshot: Option<u64>,
    /// Number of its policies, the one people see.
    pub policies: Option<u64>,
    /// SHA-256 of the schema of that snapshot.
    pub schema: Option<[u8; 32]>,
    /// The facts of the call.
    pub facts: Option<LeafFacts<'a>>,
    /// Fields that were cut, hashed, committed or left out, and parts of the context that this version does not read.
    pub cut: Vec<&'a str>,
}

/// The facts of a call, read from the leaf when they are asked for.
#[derive(Debug)]
pub struct LeafFacts<'a> {
    connection: ConnectionFacts,
    request: Option<LeafRequest<'a>>,
    rpc: Option<(&'a str, &'a str)>,
}

#[derive(Debug, Default)]
struct LeafRequest<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    media_type: Option<&'a str>,
    length: Option<u64>,
    raw_query: Option<String>,
    headers: &'a [u8],
    params: &'a [u8],
}

/// Texts that many records share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    listener: Option<Arc<str>>,
    sni: Option<Arc<str>>,
}

impl<'a> Decided<'a> {
    /// Reads a leaf; `None` for a record of another kind.
    pub(crate) fn of(leaf: &'a [u8], shared: &mut Shared) -> Result<Option<Self>, LeafError> {
        let mut parts = Parts::default();
        let mut reader = Reader::new(leaf);
        reader.int_map(|at, value| parts.member(at, value, shared))?;
        reader.end()?;
        match parts.version {
            Some(VERSION) if parts.kind == Some(Kind::DECISION) => parts.finish().map(Some),
            Some(VERSION) => Ok(None),
            Some(other) => Err(LeafError::Version(other)),
            None => Err(LeafError::Missing("v")),
        }
    }
}

/// Members while they are collected.
#[derive(Default)]
struct Parts<'a> {
    version: Option<u64>,
    kind: Option<Kind>,
    id: Option<DecisionId>,
    time: Option<UnixTime>,
    reason: Option<&'a str>,
    phase: Option<&'a str>,
    principal: Option<(&'a str, &'a str)>,
    action: Option<&'a str>,
    resource: Option<(&'a str, &'a str)>,
    service: Option<&'a str>,
    namespace: Option<&'a str>,
    determining: Vec<&'a str>,
    snapshot: Option<u64>,
    policies: Option<u64>,
    schema: Option<[u8; 32]>,
    connection: Option<ConnectionFacts>,
    request: Option<LeafRequest<'a>>,
    rpc: Option<(&'a str, &'a str)>,
    cut: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn member(&mut self, at: u64, value: &mut Reader<'a>, shared: &mut Shared) -> Result<(), CborError> {
        match at {
            key::V => self.version = Some(value.uint()?),
            key::KIND => self.kind = Some(Kind(value.uint()?)),
            _ if self.version != Some(VERSION) || self.kind != Some(Kind::DECISION) => {
                value.skip()?;
            }
            key::ID => self.id = Some(DecisionId::from_bytes(value.byte_array()?)),
            key::TIME => self.time = Some(UnixTime::from_nanos(value.int()?)),
            key::REASON => self.reason = Some(value.text()?),
            key::PHASE => self.phase = Some(value.text()?),
            key::PRINCIPAL => {
                let (kind, id) = principal(value)?;
                self.cut.extend(is_hidden(kind, id).then_some(PRINCIPAL));
                self.principal = Some((kind, id));
            }
            key::ACTION => self.action = Some(value.text()?),
            key::RESOURCE => self.resource = Some(pair(value, "type", "id")?),
            key::SERVICE => self.service = Some(value.text()?),
            key::NAMESPACES => self.namespace = Some(pair(value, "callee", "")?.0),
            key::DETERMINING => value.array(|item| {
                self.determining.push(item.text()?);
                Ok(())
            })?,
            key::VERSIONS => value.text_map(|name, value| {
                match name {
                    "schema" => self.schema = Some(value.byte_array()?),
                    "snapshot" => self.snapshot = Some(value.uint()?),
                    "policies" => self.policies = Some(value.uint()?),
                    _ => drop(value.skip()?),
                }
                Ok(())
            })?,
            key::CONNECTION => self.connection = Some(connection(value, shared)?),
            key::REQUEST => self.request = Some(request(value)?),
            key::RPC => self.rpc = Some(pair(value, "service", "method")?),
            key::TRUNCATED => value.array(|item| {
                self.cut.extend(text_of(item, "field")?);
                Ok(())
            })?,
            key::JWT => {
                value.skip()?;
                self.cut.push("jwt");
            }
            key::FORWARDED_BY => {
                value.skip()?;
                self.cut.push("forwarded_by");
            }
            _ => {
                value.skip()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Decided<'a>, LeafError> {
        let facts =
            self.connection.map(|connection| LeafFacts { connection, request: self.request, rpc: self.rpc });
        Ok(Decided {
            id: self.id.ok_or(LeafError::Missing("id"))?,
            time: self.time.ok_or(LeafError::Missing("time"))?,
            reason: self.reason.ok_or(LeafError::Missing("reason"))?,
            phase: self.phase.ok_or(LeafError::Missing("phase"))?,
            principal: self.principal.ok_or(LeafError::Missing("principal"))?,
            action: self.action.ok_or(LeafError::Missing("action"))?,
            resource: self.resource.ok_or(LeafError::Missing("resource"))?,
            service: self.service,
            namespace: self.namespace,
            determining: self.determining,
            snapshot: self.snapshot,
            policies: self.policies,
            schema: self.schema,
            facts,
            cut: self.cut,
        })
    }
}

/// Two text members of a map; an absent one is empty.
fn pair<'a>(value: &mut Reader<'a>, first: &str, second: &str) -> Result<(&'a str, &'a str), CborError> {
    let mut found = ("", "");
    value.text_map(|name, value| {
        if name == first {
            found.0 = value.text()?;
        } else if name == second {
            found.1 = value.text()?;
        } else {
            value.skip()?;
        }
        Ok(())
    })?;
    Ok(found)
}

/// Type and id of the caller; of one who is committed the word for that.
fn principal<'a>(value: &mut Reader<'a>) -> Result<(&'a str, &'a str), CborError> {
    let mut found = ("", "");
    value.text_map(|name, value| {
        match name {
            "id" => found.1 = text_or_commitment(value)?.unwrap_or(commit::WORD),
            "type" => found.0 = value.text()?,
            _ => drop(value.skip()?),
        }
        Ok(())
    })?;
    Ok(found)
}

fn text_of<'a>(value: &mut Reader<'a>, wanted: &str) -> Result<Option<&'a str>, CborError> {
    let mut found = None;
    value.text_map(|name, value| {
        if name == wanted {
            found = Some(value.text()?);
        } else {
            value.skip()?;
        }
        Ok(())
    })?;
    Ok(found)
}

fn connection(value: &mut Reader<'_>, shared: &mut Shared) -> Result<ConnectionFacts, CborError> {
    let (mut mtls, mut tls, mut source_ip) = (false, 0, None);
    let (mut sni, mut listener, mut protocol) = (None, None, Protocol::H1);
    value.text_map(|name, value| {
        match name {
            "sni" => sni = Some(share(&mut shared.sni, value.text()?)),
            "tls" => tls = u8::try_from(value.uint()?).or(Err(CborError::Range))?,
            "mtls" => mtls = value.bool()?,
            "listener" => listener = Some(share(&mut shared.listener, value.text()?)),
            "protocol" => protocol = Protocol::from_word(value.text()?).ok_or(CborError::Range)?,
            "source_ip" => source_ip = Some(address(value.bytes()?)?),
            _ => drop(value.skip()?),
        }
        Ok(())
    })?;
    Ok(ConnectionFacts {
        mtls,
        tls,
        source_ip: source_ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
        sni,
        listener: listener.unwrap_or_else(|| share(&mut shared.listener, "")),
        protocol,
    })
}

/// The last text again, when it is the same.
fn share(last: &mut Option<Arc<str>>, text: &str) -> Arc<str> {
    match last {
        Some(last) if **last == *text => Arc::clone(last),
        _ => Arc::clone(last.insert(text.into())),
    }
}

fn request<'a>(value: &mut Reader<'a>) -> Result<LeafRequest<'a>, CborError> {
    let mut request = LeafRequest::default();
    let mut query = OwnedRequest::default();
    value.text_map(|name, value| {
        match name {
            "host" => request.host = value.text()?,
            "path" => request.path = value.text()?,
            "query" => query.query = text_sets(value)?,
            "length" => request.length = Some(value.uint()?),
            "method" => request.method = value.text()?,
            "params" => request.params = checked(value, |param| param.text().map(|_| ()))?,
            "headers" => {
                request.headers = checked(value, |lines| lines.array(|line| line.text().map(|_| ())))?;
            }
            "media_type" => request.media_type = Some(value.text()?),
            "query_names" => query.query_names = texts(value)?.into_iter().collect(),
            _ => drop(value.skip()?),
        }
        Ok(())
    })?;
    request.raw_query = query.raw_query();
    Ok(request)
}

/// The bytes of a map whose members are as they should be.
fn checked<'a>(
    value: &mut Reader<'a>,
    each: impl Fn(&mut Reader<'a>) -> Result<(), CborError>,
) -> Result<&'a [u8], CborError> {
    value.clone().text_map(|_, member| each(member))?;
    value.skip()
}

impl Facts for LeafFacts<'_> {
    fn connection(&self) -> &ConnectionFacts {
        &self.connection
    }

    fn request(&self) -> Option<RequestView<'_>> {
        self.request.as_ref().map(|request| RequestView {
            method: request.method,
            host: request.host,
            path: request.path,
            query: request.raw_query.as_deref(),
            media_type: request.media_type,
            length: request.length,
        })
    }

    fn rpc(&self) -> Option<(&str, &str)> {
        self.rpc
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&str)) {
        let headers = self.request.as_ref().map(|request| request.headers).unwrap_or_default();
        let walked = Reader::new(headers).text_map(|known, lines| {
            if known != name {
                return lines.skip().map(|_| ());
            }
            lines.array(|line| {
                each(line.text()?);
                Ok(())
            })
        });
        // INVARIANT: what is there was checked when it was read; a request without headers has no map.
        walked.unwrap_or_default();
    }

    fn param(&self, name: &str) -> Option<&str> {
        let params = self.request.as_ref()?.params;
        text_of(&mut Reader::new(params), name).ok().flatten()
    }
}
