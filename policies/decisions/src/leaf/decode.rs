//! From a leaf to the values readers work with. Strict where guessing would mislead, open where the format may grow.

mod bodies;
mod members;

use base_ports::UnixTime;
use bytes::Bytes;
use policies_engine::{Audit, ConnectionFacts, DecisionId, Effect, Mode, OwnedFacts, OwnedRequest, Trace};

use super::{
    Entity, Kind, StoredRecord, StoredVersions, Stream, Truncated, VERSION,
    body::{Behalf, Body, DecisionBody, StoredCredential, Would},
    key,
};
use crate::cbor::{CborError, Reader};
use bodies::BodyFields;
use members::*;

pub(crate) use bodies::gap;
pub(super) use members::{address, commitment, text_or_commitment, text_sets, texts};

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
    behalf: Option<Behalf>,
    action: Option<String>,
    resource: Option<Entity>,
    service: Option<String>,
    namespace: Option<String>,
    caller_namespace: Option<String>,
    determining: Vec<String>,
    tickets: Vec<String>,
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
            key::PRINCIPAL => self.principal = Some(principal(value, &mut self.extra)?),
            key::CREDENTIAL => self.credential = Some(credential(value, &mut self.extra)?),
            key::ACTION => self.action = Some(value.text()?.to_owned()),
            key::RESOURCE => self.resource = Some(entity(value, "resource", &mut self.extra)?),
            key::SERVICE => self.service = Some(value.text()?.to_owned()),
            key::NAMESPACES => self.namespaces(value)?,
            key::DETERMINING => self.determining = texts(value)?,
            key::NOTES => self.notes(value)?,
            key::ERRORS => self.errors = errors(value, "errors", &mut self.extra)?,
            key::VERSIONS => self.versions = Some(versions(value, &mut self.extra)?),
            key::ENGINE => self.engine(value)?,
            key::CONNECTION => self.connection = Some(connection(value, &mut self.extra)?),
            key::REQUEST => self.request = Some(request(value, &mut self.extra)?),
            key::RPC => self.rpc = Some(rpc(value, &mut self.extra)?),
            key::JWT => self.behalf = Some(behalf(value, &mut self.extra)?),
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
            "caller" => {
                self.caller_namespace = Some(value.text()?.to_owned());
                Ok(())
            }
            other => self.extra.keep(format!("namespaces.{other}"), value),
        })
    }

    fn notes(&mut self, value: &mut Reader<'_>) -> Read<()> {
        value.text_map(|name, value| {
            match name {
                "ticket" => self.tickets = texts(value)?,
                other => self.extra.keep(format!("notes.{other}"), value)?,
            }
            Ok(())
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
            behalf: self.behalf.take(),
            action: self.action.take().ok_or(LeafError::Missing("action"))?,
            resource: self.resource.take().ok_or(LeafError::Missing("resource"))?,
            service: self.service.take(),
            namespace: self.namespace.take(),
            caller_namespace: self.caller_namespace.take(),
            determining: std::mem::take(&mut self.determining),
            tickets: std::mem::take(&mut self.tickets),
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
        let mut body = fields.finish(kind)?;
        if let Body::Read(reading) = &mut body {
            reading.credential = self.credential.take();
        }
        Ok(body)
    }
}
