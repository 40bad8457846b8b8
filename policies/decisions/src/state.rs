//! What the ledger must know before it reads its files: `ledger/state`, replaced as a whole.
//!
//! Written by the keeper, read by recovery. It holds the reservations of each lane (SQ3), how far each lane was
//! stored when the last file was closed, and the time spans of closed files. All but the reservations could be had
//! from the files again.

use std::collections::BTreeMap;

use crate::{
    cbor::{CborError, Reader, Writer},
    shelf::Span,
};

/// Version of the form below.
const VERSION: u64 = 1;

/// What the ledger keeps beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Files below this index are closed, synced and counted in `stored`.
    pub(crate) through: u64,
    /// Boots whose end is not settled: the running one, and earlier ones until recovery is on record.
    pub(crate) boots: BTreeMap<[u8; 8], BTreeMap<u16, LaneState>>,
    /// Closed files: first index, records, times.
    pub(crate) files: BTreeMap<u64, (u64, Span)>,
}

/// Numbers of one lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LaneState {
    /// All numbers up to here are in closed files, as records or gaps.
    pub(crate) stored: u64,
    /// No number beyond this was ever used.
    pub(crate) reserved: u64,
}

impl State {
    /// The bytes of the state file: the value and its crc32c.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the state file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (value, checksum) = bytes.split_last_chunk::<4>().ok_or(StateError::Checksum)?;
        if crc32c::crc32c(value) != u32::from_le_bytes(*checksum) {
            return Err(StateError::Checksum);
        }
        Self::read(value).map_err(StateError::Form)
    }

    fn write(&self, out: &mut Vec<u8>) {
        Writer::new(out).int_map(|map| {
            map.key(0).uint(VERSION);
            map.key(1).uint(self.through);
            let mut boots = map.key(2);
            boots.array(self.boots.len());
            for (boot, lanes) in &self.boots {
                boots.array(2);
                boots.bytes(boot);
                boots.int_map(|map| {
                    for (lane, state) in lanes {
                        let mut pair = map.key(u64::from(*lane));
                        pair.array(2);
                        pair.uint(state.stored);
                        pair.uint(state.reserved);
                    }
                });
            }
            map.key(3).int_map(|map| {
                for (first, (count, span)) in &self.files {
                    let mut entry = map.key(*first);
                    entry.array(3);
                    entry.uint(*count);
                    entry.int(span.from);
                    entry.int(span.to);
                }
            });
        });
    }

    fn read(payload: &[u8]) -> Result<Self, CborError> {
        let mut state = State::default();
        let mut version = None;
        let mut reader = Reader::new(payload);
        reader.int_map(|key, value| {
            match key {
                0 => version = Some(value.uint()?),
                1 => state.through = value.uint()?,
                2 => value.array(|boot| state.read_boot(boot))?,
                3 => value.int_map(|first, value| {
                    let mut numbers = Vec::with_capacity(3);
                    value.array(|item| {
                        numbers.push(item.int()?);
                        Ok(())
                    })?;
                    let [count, from, to] = <[i64; 3]>::try_from(numbers).or(Err(CborError::Range))?;
                    let count = u64::try_from(count).or(Err(CborError::Range))?;
                    state.files.insert(first, (count, Span { from, to }));
                    Ok(())
                })?,
                _ => return Err(CborError::Range),
            }
            Ok(())
        })?;
        reader.end()?;
        if version == Some(VERSION) { Ok(state) } else { Err(CborError::Range) }
    }

    fn read_boot(&mut self, reader: &mut Reader<'_>) -> Result<(), CborError> {
        let mut boot = None;
        let mut lanes = BTreeMap::new();
        reader.array(|item| {
            match boot {
                None => boot = Some(item.byte_array()?),
                Some(_) => item.int_map(|lane, value| {
                    let lane = u16::try_from(lane).or(Err(CborError::Range))?;
                    let mut numbers = Vec::with_capacity(2);
                    value.array(|item| {
                        numbers.push(item.uint()?);
                        Ok(())
                    })?;
                    let [stored, reserved] = <[u64; 2]>::try_from(numbers).or(Err(CborError::Range))?;
                    lanes.insert(lane, LaneState { stored, reserved });
                    Ok(())
                })?,
            }
            Ok(())
        })?;
        self.boots.insert(boot.ok_or(CborError::Range)?, lanes);
        Ok(())
    }
}

/// Why the state file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Its checksum is wrong.
    #[error("checksum is wrong")]
    Checksum,
    /// Its content is not what this version writes.
    #[error("{0}")]
    Form(#[source] CborError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states() -> impl Strategy<Value = State> {
        let lanes = prop::collection::btree_map(any::<u16>(), (0..1_u64 << 40, 0..1_u64 << 40), 0..4);
        let files =
            prop::collection::btree_map(any::<u64>(), (0..1_u64 << 40, any::<i64>(), any::<i64>()), 0..4);
        (any::<u64>(), prop::collection::btree_map(any::<[u8; 8]>(), lanes, 0..3), files).prop_map(
            |(through, boots, files)| State {
                through,
                boots: boots
                    .into_iter()
                    .map(|(boot, lanes)| {
                        let lane = |(lane, (stored, reserved))| (lane, LaneState { stored, reserved });
                        (boot, lanes.into_iter().map(lane).collect())
                    })
                    .collect(),
                files: files
                    .into_iter()
                    .map(|(at, (count, from, to))| (at, (count, Span { from, to })))
                    .collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_state_reads_back(state in states()) {
            prop_assert_eq!(State::decode(&state.encode()), Ok(state));
        }

        #[test]
        fn a_damaged_state_is_refused(state in states(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut bytes = state.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(State::decode(&bytes).is_err());
        }
    }
}
