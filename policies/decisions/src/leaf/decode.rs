//! From a leaf to the values readers work with. Strict where guessing would mislead, open where the format may grow.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base_ports::UnixTime;
use bytes::Bytes;
use policies_engine::{
    Audit, ConnectionFacts, DecisionId, Effect, Mode, Numbers, OwnedFacts, OwnedRequest, Protocol, Trace,
};

use super::{
    Entity, Kind, StoredRecord, StoredVersions, Stream, Truncated, VERSION,
    body::{Body, DecisionBody, Gap, GapCause, StoredCredential, Would},
    key,
};
use crate::cbor::{CborError, Reader};

/// Why a leaf cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// It is not deterministic CBOR of the right types.
    #[error("leaf is malformed: {0}")]
    Malformed(#[from] CborError),
    /// It is of a version this code does not know.
    #[error("leaf has version {0}, this build reads version 1")]
    Version(u64),
    /// A member that must be there is not.
    #[error("leaf has no `{0}`")]
    Missing(&'static str),
}

type Read<T> = Result<T, CborError>;

/// Members while they are collected, in any state of completeness.
#[derive(Default)]
struct Parts {
    version: Option<u64>,
    kind: Option<Kind>,
    id: Option<DecisionId>,
    stream: Option<Stream>,
    time: Option<UnixTime>,
    mono: u64,
    effect: Option<Effect>,
    reason: Option<String>,
    detail: Option<String>,
    mode: Option<Mode>,
    phase: Option<String>,
    would: Option<Would>,
    principal: Option<Entity>,
    credential: Option<StoredCredential>,
    action: Option<String>,
    resource: Option<Entity>,
    service: Option<String>,
    namespace: Option<String>,
    determining: Vec<String>,
    errors: Vec<(String, String)>,
    versions: Option<StoredVersions>,
    evaluated: Option<String>,
    stale: bool,
    decide_ns: u32,
    connection: Option<ConnectionFacts>,
    request: Option<OwnedRequest>,
    rpc: Option<(String, String)>,
    trace: Option<Trace>,
    audit: Option<Audit>,
    lost: u64,
    truncated: Vec<Truncated>,
    body: Option<Bytes>,
    extra: Extra,
}

/// Members that this version does not know.
#[derive(Default)]
struct Extra(Vec<(String, Bytes)>);

impl Extra {
    fn keep(&mut self, name: String, value: &mut Reader<'_>) -> Read<()> {
        self.0.push((name, Bytes::copy_from_slice(value.skip()?)));
        Ok(())
    }
}

impl StoredRecord {
    /// Decodes the leaf at a position of the ledger.
    ///
    /// # Errors
    /// When the leaf is malformed, of another version, or lacks what every record has.
    pub fn decode(index: u64, leaf: Bytes) -> Result<Self, LeafError> {
        let mut parts = Parts::default();
        let mut reader = Reader::new(&leaf);
        reader.int_map(|at, value| parts.member(at, value))?;
        reader.end()?;
        match parts.version {
            Some(VERSION) => parts.finish(index, leaf),
            Some(other) => Err(LeafError::Version(other)),
            None => Err(LeafError::Missing("v")),
        }
    }
}

impl Parts {
    fn member(&mut self, at: u64, value: &mut Reader<'_>) -> Read<()> {
        match at {
            key::V => self.version = Some(value.uint()?),
            // Another version may have another shape: it is refused after this walk, so nothing is interpreted.
            _ if self.version != Some(VERSION) => {
                value.skip()?;
            }
            key::KIND => self.kind = Some(Kind(value.uint()?)),
            key::ID => self.id = Some(DecisionId::from_bytes(value.byte_array()?)),
            key::STREAM => self.stream = Some(stream(value, &mut self.extra)?),
            key::TIME => self.time = Some(UnixTime::from_nanos(value.int()?)),
            key::MONO => self.mono = value.uint()?,
            key::EFFECT => self.effect = Some(effect(value)?),
            key::REASON => self.reason = Some(value.text()?.to_owned()),
            key::MODE => self.mode = Some(choice(value, [Mode::Enforce, Mode::Observe])?),
            key::PHASE => self.phase = Some(value.text()?.to_owned()),
            key::WOULD => self.would = Some(would(value, &mut self.extra)?),
            key::PRINCIPAL => self.principal = Some(entity(value, "principal", &mut self.extra)?),
            key::CREDENTIAL => self.credential = Some(credential(value, &mut self.extra)?),
            key::ACTION => self.action = Some(value.text()?.to_owned()),
            key::RESOURCE => self.resource = Some(entity(value, "resource", &mut self.extra)?),
            key::SERVICE => self.service = Some(value.text()?.to_owned()),
            key::NAMESPACES => self.namespaces(value)?,
            key::DETERMINING => self.determining = texts(value)?,
            key::ERRORS => self.errors = errors(value, "errors", &mut self.extra)?,
            key::VERSIONS => self.versions = Some(versions(value, &mut self.extra)?),
            key::ENGINE => self.engine(value)?,
            key::CONNECTION => self.connection = Some(connection(value, &mut self.extra)?),
            key::REQUEST => self.request = Some(request(value, &mut self.extra)?),
            key::RPC => self.rpc = Some(rpc(value, &mut self.extra)?),
            key::TRACE => self.trace = Some(trace(value, &mut self.extra)?),
            key::AUDIT => {
                self.audit = Some(choice(value, [Audit::BestEffort, Audit::Required, Audit::Durable])?)
            }
            key::LOST => self.lost = value.uint()?,
            key::TRUNCATED => self.truncated = truncated(value, &mut self.extra)?,
            key::DETAIL => self.detail = Some(value.text()?.to_owned()),
            key::BODY => self.body = Some(Bytes::copy_from_slice(value.skip()?)),
            unknown => self.extra.keep(unknown.to_string(), value)?,
        }
        Ok(())
    }

    fn namespaces(&mut self, value: &mut Reader<'_>) -> Read<()> {
        value.text_map(|name, value| match name {
            "callee" => {
                self.namespace = Some(value.text()?.to_owned());
                Ok(())
            }
            other => self.extra.keep(format!("namespaces.{other}"), value),
        })
    }

    fn engine(&mut self, value: &mut Reader<'_>) -> Read<()> {
        value.text_map(|name, value| {
            match name {
                "mode" => self.evaluated = Some(value.text()?.to_owned()),
                "stale" => self.stale = value.bool()?,
                "reasons" => {
                    value.text()?;
                }
                "decide_ns" => self.decide_ns = u32::try_from(value.uint()?).or(Err(CborError::Range))?,
                other => self.extra.keep(format!("engine.{other}"), value)?,
            }
            Ok(())
        })
    }

    fn finish(mut self, index: u64, leaf: Bytes) -> Result<StoredRecord, LeafError> {
        let kind = self.kind.ok_or(LeafError::Missing("kind"))?;
        let body = match kind {
            Kind::DECISION => Body::Decision(Box::new(self.decision()?)),
            _ => self.other(kind)?,
        };
        Ok(StoredRecord {
            index,
            leaf,
            kind,
            id: self.id.ok_or(LeafError::Missing("id"))?,
            stream: self.stream.ok_or(LeafError::Missing("stream"))?,
            time: self.time.ok_or(LeafError::Missing("time"))?,
            mono: self.mono,
            principal: self.principal.ok_or(LeafError::Missing("principal"))?,
            versions: self.versions,
            body,
            lost: self.lost,
            truncated: self.truncated,
            extra: self.extra.0,
        })
    }

    fn decision(&mut self) -> Result<DecisionBody, LeafError> {
        let facts = self.connection.take().map(|connection| {
            let facts = OwnedFacts::new(connection);
            let facts = match self.request.take() {
                Some(request) => facts.with_request(request),
                None => facts,
            };
            match self.rpc.take() {
                Some((service, method)) => facts.with_rpc(&service, &method),
                None => facts,
            }
        });
        Ok(DecisionBody {
            effect: self.effect.ok_or(LeafError::Missing("effect"))?,
            reason: self.reason.take().ok_or(LeafError::Missing("reason"))?,
            detail: self.detail.take(),
            mode: self.mode.ok_or(LeafError::Missing("mode"))?,
            phase: self.phase.take().ok_or(LeafError::Missing("phase"))?,
            would: self.would.take(),
            credential: self.credential.take(),
            action: self.action.take().ok_or(LeafError::Missing("action"))?,
            resource: self.resource.take().ok_or(LeafError::Missing("resource"))?,
            service: self.service.take(),
            namespace: self.namespace.take(),
            determining: std::mem::take(&mut self.determining),
            errors: std::mem::take(&mut self.errors),
            evaluated: self.evaluated.take().ok_or(LeafError::Missing("engine.mode"))?,
            stale: self.stale,
            decide_ns: self.decide_ns,
            facts,
            trace: self.trace,
            audit: self.audit.ok_or(LeafError::Missing("audit"))?,
        })
    }

    fn other(&mut self, kind: Kind) -> Result<Body, LeafError> {
        let bytes = self.body.take().ok_or(LeafError::Missing("body"))?;
        let mut value = Reader::new(&bytes);
        let fields = &mut BodyFields::default();
        let extra = &mut self.extra;
        match kind {
            Kind::GAP => return Ok(Body::Gap(gap(&bytes)?)),
            Kind::HEARTBEAT | Kind::STREAM_CLOSE | Kind::STREAM_OPEN | Kind::RECOVERY => (),
            Kind::ACTIVATION | Kind::AUTHORITY | Kind::READ | Kind::ADMINISTRATION => (),
            _ => {
                self.extra.0.push((key::BODY.to_string(), bytes));
                return Ok(Body::Other);
            }
        }
        value.text_map(|name, value| fields.member(kind, name, value, extra))?;
        fields.finish(kind)
    }
}

/// Members of all small bodies.
#[derive(Default)]
struct BodyFields {
    lanes: BTreeMap<u16, u64>,
    recovered: Vec<(u16, u64, u64)>,
    boot: Option<[u8; 8]>,
    count: u64,
    word: Option<String>,
    text: Option<String>,
    details: Vec<(String, String)>,
}

impl BodyFields {
    fn member(&mut self, kind: Kind, name: &str, value: &mut Reader<'_>, extra: &mut Extra) -> Read<()> {
        match (kind, name) {
            (Kind::RECOVERY, "boot") => self.boot = Some(value.byte_array()?),
            (Kind::RECOVERY, "lanes") => self.recovered = recovered(value)?,
            (Kind::HEARTBEAT | Kind::STREAM_CLOSE, "lanes") => value.int_map(|lane, value| {
                self.lanes.insert(u16::try_from(lane).or(Err(CborError::Range))?, value.uint()?);
                Ok(())
            })?,
            (Kind::HEARTBEAT, "lost") | (Kind::READ, "count") => self.count = value.uint()?,
            (Kind::STREAM_OPEN, "build")
            | (Kind::ACTIVATION, "outcome")
            | (Kind::AUTHORITY, "event")
            | (Kind::READ, "query")
            | (Kind::ADMINISTRATION, "operation") => self.word = Some(value.text()?.to_owned()),
            (Kind::ACTIVATION, "detail") | (Kind::AUTHORITY, "subject") => {
                self.text = Some(value.text()?.to_owned())
            }
            (Kind::AUTHORITY | Kind::ADMINISTRATION, "details") => self.details = details(value)?,
            (_, other) => extra.keep(format!("body.{other}"), value)?,
        }
        Ok(())
    }

    fn finish(&mut self, kind: Kind) -> Result<Body, LeafError> {
        let mut word = |name| self.word.take().ok_or(LeafError::Missing(name));
        Ok(match kind {
            Kind::HEARTBEAT => Body::Heartbeat { lanes: std::mem::take(&mut self.lanes), lost: self.count },
            Kind::STREAM_CLOSE => Body::StreamClose { lanes: std::mem::take(&mut self.lanes) },
            Kind::STREAM_OPEN => Body::StreamOpen { build: word("body.build")? },
            Kind::RECOVERY => Body::Recovery {
                boot: self.boot.ok_or(LeafError::Missing("body.boot"))?,
                lanes: std::mem::take(&mut self.recovered),
            },
            Kind::ACTIVATION => Body::Activation { outcome: word("body.outcome")?, detail: self.text.take() },
            Kind::AUTHORITY => Body::Authority {
                event: word("body.event")?,
                subject: self.text.take(),
                details: std::mem::take(&mut self.details),
            },
            Kind::READ => Body::Read { query: word("body.query")?, count: self.count },
            Kind::ADMINISTRATION => Body::Administration {
                operation: word("body.operation")?,
                details: std::mem::take(&mut self.details),
            },
            _ => Body::Other,
        })
    }
}

/// The body of a gap record; recovery reads it without the rest of the leaf.
pub(crate) fn gap(body: &[u8]) -> Result<Gap, LeafError> {
    let (mut boot, mut lane, mut cause) = (None, None, None);
    let (mut first, mut last, mut exact, mut count) = (None, None, false, None);
    let (mut from, mut to) = (None, None);
    let (mut effects, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    let mut reader = Reader::new(body);
    reader.text_map(|name, value| {
        match name {
            "to" => to = Some(UnixTime::from_nanos(value.int()?)),
            "boot" => boot = Some(value.byte_array()?),
            "from" => from = Some(UnixTime::from_nanos(value.int()?)),
            "lane" => lane = Some(u16::try_from(value.uint()?).or(Err(CborError::Range))?),
            "last" => last = Some(value.uint()?),
            "cause" => cause = GapCause::from_word(value.text()?),
            "exact" => exact = value.bool()?,
            "first" => first = Some(value.uint()?),
            "count" | "at_most" => count = Some(value.uint()?),
            "effects" => effects = counts(value)?,
            "reasons" => reasons = counts(value)?,
            _ => {
                value.skip()?;
            }
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(Gap {
        boot: boot.ok_or(LeafError::Missing("body.boot"))?,
        lane: lane.ok_or(LeafError::Missing("body.lane"))?,
        range: first.zip(last),
        exact,
        count: count.ok_or(LeafError::Missing("body.count"))?,
        cause: cause.ok_or(LeafError::Missing("body.cause"))?,
        from,
        to,
        effects,
        reasons,
    })
}

fn counts(value: &mut Reader<'_>) -> Read<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    value.text_map(|word, value| {
        counts.insert(word.to_owned(), value.uint()?);
        Ok(())
    })?;
    Ok(counts)
}

fn recovered(value: &mut Reader<'_>) -> Read<Vec<(u16, u64, u64)>> {
    let mut lanes = Vec::new();
    value.array(|item| {
        let mut lane = (0, 0, 0);
        item.text_map(|name, value| {
            match name {
                "lane" => lane.0 = u16::try_from(value.uint()?).or(Err(CborError::Range))?,
                "stored" => lane.1 = value.uint()?,
                "reserved" => lane.2 = value.uint()?,
                _ => {
                    value.skip()?;
                }
            }
            Ok(())
        })?;
        lanes.push(lane);
        Ok(())
    })?;
    Ok(lanes)
}

fn details(value: &mut Reader<'_>) -> Read<Vec<(String, String)>> {
    let mut details = Vec::new();
    value.array(|item| {
        match <[String; 2]>::try_from(texts(item)?) {
            Ok([name, value]) => details.push((name, value)),
            Err(_) => return Err(CborError::Range),
        }
        Ok(())
    })?;
    Ok(details)
}

fn effect(value: &mut Reader<'_>) -> Read<Effect> {
    choice(value, [Effect::Deny, Effect::Allow])
}

fn choice<T: Copy, const N: usize>(value: &mut Reader<'_>, of: [T; N]) -> Read<T> {
    usize::try_from(value.uint()?).ok().and_then(|at| of.get(at)).copied().ok_or(CborError::Range)
}

fn texts(value: &mut Reader<'_>) -> Read<Vec<String>> {
    let mut texts = Vec::new();
    value.array(|item| {
        texts.push(item.text()?.to_owned());
        Ok(())
    })?;
    Ok(texts)
}

fn stream(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Stream> {
    let mut stream =
        Stream { enforcer: String::new(), instance: String::new(), boot: [0; 8], lane: 0, seq: 0 };
    value.text_map(|name, value| {
        match name {
            "seq" => stream.seq = value.uint()?,
            "boot" => stream.boot = value.byte_array()?,
            "lane" => stream.lane = u16::try_from(value.uint()?).or(Err(CborError::Range))?,
            "enforcer" => value.text()?.clone_into(&mut stream.enforcer),
            "instance" => value.text()?.clone_into(&mut stream.instance),
            other => extra.keep(format!("stream.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(stream)
}

fn entity(value: &mut Reader<'_>, section: &str, extra: &mut Extra) -> Read<Entity> {
    let mut entity = Entity { kind: String::new(), id: String::new() };
    value.text_map(|name, value| {
        match name {
            "id" => value.text()?.clone_into(&mut entity.id),
            "type" => value.text()?.clone_into(&mut entity.kind),
            other => extra.keep(format!("{section}.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(entity)
}

fn errors(value: &mut Reader<'_>, section: &str, extra: &mut Extra) -> Read<Vec<(String, String)>> {
    let mut errors = Vec::new();
    value.array(|item| {
        let (mut policy, mut class) = (String::new(), String::new());
        item.text_map(|name, value| {
            match name {
                "class" => value.text()?.clone_into(&mut class),
                "policy" => value.text()?.clone_into(&mut policy),
                other => extra.keep(format!("{section}.{other}"), value)?,
            }
            Ok(())
        })?;
        errors.push((policy, class));
        Ok(())
    })?;
    Ok(errors)
}

fn would(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Would> {
    let mut would = Would {
        effect: Effect::Deny,
        reason: String::new(),
        determining: Vec::new(),
        errors: Vec::new(),
        version: None,
    };
    value.text_map(|name, value| {
        match name {
            "effect" => would.effect = effect(value)?,
            "errors" => would.errors = errors(value, "would.errors", extra)?,
            "reason" => value.text()?.clone_into(&mut would.reason),
            "version" => would.version = Some(value.uint()?),
            "determining" => would.determining = texts(value)?,
            other => extra.keep(format!("would.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(would)
}

fn credential(value: &mut Reader<'_>, extra: &mut Extra) -> Read<StoredCredential> {
    let mut credential = StoredCredential {
        kind: String::new(),
        serial: None,
        fingerprint: None,
        issuer: None,
        not_after: None,
    };
    value.text_map(|name, value| {
        match name {
            "kind" => value.text()?.clone_into(&mut credential.kind),
            "issuer" => credential.issuer = Some(value.text()?.to_owned()),
            "serial" => credential.serial = Some(value.text()?.to_owned()),
            "not_after" => credential.not_after = Some(UnixTime::from_nanos(value.int()?)),
            "fingerprint" => credential.fingerprint = Some(value.byte_array()?),
            other => extra.keep(format!("credential.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(credential)
}

fn versions(value: &mut Reader<'_>, extra: &mut Extra) -> Read<StoredVersions> {
    let mut versions = StoredVersions {
        numbers: Numbers::default(),
        manifest: [0; 32],
        schema: [0; 32],
        entities: [0; 32],
        routes: [0; 32],
        engine: String::new(),
    };
    value.text_map(|name, value| {
        match name {
            "epoch" => versions.numbers.epoch = value.uint()?,
            "engine" => value.text()?.clone_into(&mut versions.engine),
            "routes" => versions.routes = value.byte_array()?,
            "schema" => versions.schema = value.byte_array()?,
            "entities" => versions.entities = value.byte_array()?,
            "manifest" => versions.manifest = value.byte_array()?,
            "policies" => versions.numbers.policies = value.uint()?,
            "snapshot" => versions.numbers.snapshot = value.uint()?,
            other => extra.keep(format!("versions.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(versions)
}

fn connection(value: &mut Reader<'_>, extra: &mut Extra) -> Read<ConnectionFacts> {
    let mut connection = ConnectionFacts {
        mtls: false,
        tls: 0,
        source_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        sni: None,
        listener: "".into(),
        protocol: Protocol::H1,
    };
    value.text_map(|name, value| {
        match name {
            "sni" => connection.sni = Some(value.text()?.into()),
            "tls" => connection.tls = u8::try_from(value.uint()?).or(Err(CborError::Range))?,
            "mtls" => connection.mtls = value.bool()?,
            "listener" => connection.listener = value.text()?.into(),
            "protocol" => {
                connection.protocol = Protocol::from_word(value.text()?).ok_or(CborError::Range)?;
            }
            "source_ip" => connection.source_ip = address(value.bytes()?)?,
            other => extra.keep(format!("connection.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(connection)
}

fn address(bytes: &[u8]) -> Read<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into()).or(Err(CborError::Range))
}

fn request(value: &mut Reader<'_>, extra: &mut Extra) -> Read<OwnedRequest> {
    let mut request = OwnedRequest::default();
    value.text_map(|name, value| {
        match name {
            "host" => value.text()?.clone_into(&mut request.host),
            "path" => value.text()?.clone_into(&mut request.path),
            "query" => request.query = text_sets(value)?,
            "length" => request.length = Some(value.uint()?),
            "method" => value.text()?.clone_into(&mut request.method),
            "params" => value.text_map(|name, value| {
                request.params.insert(name.to_owned(), value.text()?.to_owned());
                Ok(())
            })?,
            "headers" => request.headers = text_sets(value)?,
            "media_type" => request.media_type = Some(value.text()?.to_owned()),
            "query_names" => request.query_names = texts(value)?.into_iter().collect(),
            other => extra.keep(format!("request.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(request)
}

fn text_sets(value: &mut Reader<'_>) -> Read<BTreeMap<String, Vec<String>>> {
    let mut sets = BTreeMap::new();
    value.text_map(|name, value| {
        sets.insert(name.to_owned(), texts(value)?);
        Ok(())
    })?;
    Ok(sets)
}

fn rpc(value: &mut Reader<'_>, extra: &mut Extra) -> Read<(String, String)> {
    let (mut service, mut method) = (String::new(), String::new());
    value.text_map(|name, value| {
        match name {
            "method" => value.text()?.clone_into(&mut method),
            "service" => value.text()?.clone_into(&mut service),
            other => extra.keep(format!("rpc.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok((service, method))
}

fn trace(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Trace> {
    let mut trace = Trace { trace_id: [0; 16], span_id: [0; 8] };
    value.text_map(|name, value| {
        match name {
            "span_id" => trace.span_id = value.byte_array()?,
            "trace_id" => trace.trace_id = value.byte_array()?,
            other => extra.keep(format!("trace.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(trace)
}

fn truncated(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Vec<Truncated>> {
    let mut truncated = Vec::new();
    value.array(|item| {
        let mut cut = Truncated { field: String::new(), length: 0, sha256: [0; 32] };
        item.text_map(|name, value| {
            match name {
                "field" => value.text()?.clone_into(&mut cut.field),
                "length" => cut.length = value.uint()?,
                "sha256" => cut.sha256 = value.byte_array()?,
                other => extra.keep(format!("truncated.{other}"), value)?,
            }
            Ok(())
        })?;
        truncated.push(cut);
        Ok(())
    })?;
    Ok(truncated)
}
