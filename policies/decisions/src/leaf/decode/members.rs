//! Inner maps of a leaf. What they do not know goes to `extra`, so that later versions may add members.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base_ports::UnixTime;
use policies_engine::{ConnectionFacts, Effect, Numbers, OwnedRequest, Protocol, Trace};

use super::{
    super::{
        Entity, StoredVersions, Stream, Truncated,
        body::{Behalf, StoredCredential, Would},
    },
    Extra, Read,
};
use crate::{
    cbor::{CborError, Reader},
    commit::Commitment,
};

pub(super) fn effect(value: &mut Reader<'_>) -> Read<Effect> {
    choice(value, [Effect::Deny, Effect::Allow])
}

pub(super) fn choice<T: Copy, const N: usize>(value: &mut Reader<'_>, of: [T; N]) -> Read<T> {
    usize::try_from(value.uint()?).ok().and_then(|at| of.get(at)).copied().ok_or(CborError::Range)
}

pub(in crate::leaf) fn texts(value: &mut Reader<'_>) -> Read<Vec<String>> {
    let mut texts = Vec::new();
    value.array(|item| {
        texts.push(item.text()?.to_owned());
        Ok(())
    })?;
    Ok(texts)
}

pub(super) fn stream(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Stream> {
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

pub(super) fn entity(value: &mut Reader<'_>, section: &str, extra: &mut Extra) -> Read<Entity> {
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

/// The caller. A commitment in place of the id is kept as the text that shows it.
pub(super) fn principal(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Entity> {
    let mut entity = Entity { kind: String::new(), id: String::new() };
    value.text_map(|name, value| {
        match name {
            "id" => entity.id = id_of_person(value)?,
            "type" => value.text()?.clone_into(&mut entity.kind),
            other => extra.keep(format!("principal.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(entity)
}

pub(super) fn behalf(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Behalf> {
    let mut behalf = Behalf::default();
    value.text_map(|name, value| {
        match name {
            "id" => behalf.id = Some(id_of_person(value)?),
            "issuer" => value.text()?.clone_into(&mut behalf.issuer),
            other => extra.keep(format!("jwt.{other}"), value)?,
        }
        Ok(())
    })?;
    Ok(behalf)
}

fn id_of_person(value: &mut Reader<'_>) -> Read<String> {
    let committed = value.clone();
    match text_or_commitment(value)? {
        Some(id) => Ok(id.to_owned()),
        None => Ok(commitment(committed)?.to_string()),
    }
}

/// A text; `None` for a commitment that stands in its place.
pub(in crate::leaf) fn text_or_commitment<'a>(value: &mut Reader<'a>) -> Read<Option<&'a str>> {
    match value.clone().text() {
        Err(CborError::Type { .. }) => {
            commitment(value.clone())?;
            value.skip().map(|_| None)
        }
        _ => value.text().map(Some),
    }
}

/// What stands in place of a committed value: `{0: h'..'}`.
pub(in crate::leaf) fn commitment(mut value: Reader<'_>) -> Read<Commitment> {
    let mut found = None;
    value.int_map(|at, value| match at {
        0 => {
            found = Some(Commitment(value.byte_array()?));
            Ok(())
        }
        _ => Err(CborError::Range),
    })?;
    found.ok_or(CborError::Range)
}

pub(super) fn errors(
    value: &mut Reader<'_>,
    section: &str,
    extra: &mut Extra,
) -> Read<Vec<(String, String)>> {
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

pub(super) fn would(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Would> {
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

pub(super) fn credential(value: &mut Reader<'_>, extra: &mut Extra) -> Read<StoredCredential> {
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

pub(super) fn versions(value: &mut Reader<'_>, extra: &mut Extra) -> Read<StoredVersions> {
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

pub(super) fn connection(value: &mut Reader<'_>, extra: &mut Extra) -> Read<ConnectionFacts> {
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

pub(in crate::leaf) fn address(bytes: &[u8]) -> Read<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into()).or(Err(CborError::Range))
}

pub(super) fn request(value: &mut Reader<'_>, extra: &mut Extra) -> Read<OwnedRequest> {
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

pub(in crate::leaf) fn text_sets(value: &mut Reader<'_>) -> Read<BTreeMap<String, Vec<String>>> {
    let mut sets = BTreeMap::new();
    value.text_map(|name, value| {
        sets.insert(name.to_owned(), texts(value)?);
        Ok(())
    })?;
    Ok(sets)
}

pub(super) fn rpc(value: &mut Reader<'_>, extra: &mut Extra) -> Read<(String, String)> {
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

pub(super) fn trace(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Trace> {
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

pub(super) fn truncated(value: &mut Reader<'_>, extra: &mut Extra) -> Read<Vec<Truncated>> {
    let mut truncated = Vec::new();
    value.array(|item| {
        let mut cut = Truncated { field: String::new(), length: 0, sha256: None };
        item.text_map(|name, value| {
            match name {
                "field" => value.text()?.clone_into(&mut cut.field),
                "length" => cut.length = value.uint()?,
                "sha256" => cut.sha256 = Some(value.byte_array()?),
                other => extra.keep(format!("truncated.{other}"), value)?,
            }
            Ok(())
        })?;
        truncated.push(cut);
        Ok(())
    })?;
    Ok(truncated)
}
