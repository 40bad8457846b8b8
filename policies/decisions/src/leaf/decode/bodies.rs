//! Bodies of records that are no decision (decisions.md 3).

use std::collections::BTreeMap;

use base_ports::UnixTime;
use bytes::Bytes;

use super::{
    super::{
        Heartbeat, Kind, LeafError,
        body::{Body, Gap, GapCause, Reading},
    },
    Extra, Read,
    members::texts,
};
use crate::cbor::{CborError, Reader};

/// Members of all small bodies.
#[derive(Default)]
pub(super) struct BodyFields {
    lanes: BTreeMap<u16, u64>,
    chain: Vec<Bytes>,
    signature: Option<Bytes>,
    is_last: bool,
    recovered: Vec<(u16, u64, u64)>,
    boot: Option<[u8; 8]>,
    count: u64,
    word: Option<String>,
    text: Option<String>,
    call: Option<String>,
    bytes: u64,
    is_partial: bool,
    failed: Option<String>,
    details: Vec<(String, String)>,
}

impl BodyFields {
    pub(super) fn member(
        &mut self,
        kind: Kind,
        name: &str,
        value: &mut Reader<'_>,
        extra: &mut Extra,
    ) -> Read<()> {
        match (kind, name) {
            (Kind::RECOVERY, "boot") => self.boot = Some(value.byte_array()?),
            (Kind::RECOVERY, "lanes") => self.recovered = recovered(value)?,
            (Kind::HEARTBEAT | Kind::STREAM_CLOSE, "lanes") => value.int_map(|lane, value| {
                self.lanes.insert(u16::try_from(lane).or(Err(CborError::Range))?, value.uint()?);
                Ok(())
            })?,
            (Kind::HEARTBEAT, "last") => self.is_last = value.bool()?,
            (Kind::HEARTBEAT, "signature") => {
                self.signature = Some(Bytes::copy_from_slice(value.bytes()?));
            }
            (Kind::STREAM_OPEN, "chain") => value.array(|item| {
                self.chain.push(Bytes::copy_from_slice(item.bytes()?));
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
            (Kind::READ, "purpose") => self.text = Some(value.text()?.to_owned()),
            (Kind::READ, "call") => self.call = Some(value.text()?.to_owned()),
            (Kind::READ, "bytes") => self.bytes = value.uint()?,
            (Kind::READ, "failed") => self.failed = Some(value.text()?.to_owned()),
            (Kind::READ, "partial") => self.is_partial = value.bool()?,
            (Kind::AUTHORITY | Kind::ADMINISTRATION, "details") => self.details = details(value)?,
            (_, other) => extra.keep(format!("body.{other}"), value)?,
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, kind: Kind) -> Result<Body, LeafError> {
        let mut word = |name| self.word.take().ok_or(LeafError::Missing(name));
        Ok(match kind {
            Kind::HEARTBEAT => Body::Heartbeat(Heartbeat {
                lanes: std::mem::take(&mut self.lanes),
                lost: self.count,
                is_last: self.is_last,
                signature: self.signature.take(),
            }),
            Kind::STREAM_CLOSE => Body::StreamClose { lanes: std::mem::take(&mut self.lanes) },
            Kind::STREAM_OPEN => {
                Body::StreamOpen { build: word("body.build")?, chain: std::mem::take(&mut self.chain) }
            }
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
            Kind::READ => Body::Read(Reading {
                query: word("body.query")?,
                call: self.call.take(),
                count: self.count,
                bytes: self.bytes,
                is_partial: self.is_partial,
                failed: self.failed.take(),
                purpose: self.text.take(),
                credential: None,
            }),
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
