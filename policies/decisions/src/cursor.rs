//! Cursors: where a listing goes on, bound to its filters and order (RA3, QY2).
//!
//! Opaque to callers: CBOR and an HMAC under a key of this ledger. A cursor of another ledger, of other filters, or
//! one that was changed is refused; so is one older than a day.

use std::{path::Path, time::Duration};

use aws_lc_rs::hmac;
use base_ports::{Disk, Rng, UnixTime};

use crate::{
    cbor::{CborError, Reader, Writer},
    error::{LedgerError, disk},
    leaf::hex,
};

/// How long a cursor is valid.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

const TAG: usize = 16;

/// Place in a listing, ordered by time, then index.
pub(crate) type Place = (i64, u64);

/// What a cursor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Rows before this place, in the order of the listing, were given.
    pub(crate) after: Place,
    /// Range of the listing, Unix nanoseconds, fixed by its first page.
    pub(crate) since: i64,
    pub(crate) until: i64,
    /// When it was made.
    pub(crate) made: UnixTime,
}

/// Why a cursor is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It is not one of this ledger's, or of this query's.
    #[error("the cursor does not belong to this query")]
    Foreign,
    /// It is older than a day.
    #[error("the cursor has expired")]
    Expired,
}

/// The key that binds cursors.
#[derive(Debug)]
pub(crate) struct CursorKey(hmac::Key);

impl CursorKey {
    /// Reads the key, or makes it at the first start.
    pub(crate) fn load(path: &Path, disk_port: &dyn Disk, rng: &dyn Rng) -> Result<Self, LedgerError> {
        let bytes = if disk_port.exists(path) {
            disk_port.read(path).map_err(disk("read", path))?
        } else {
            let mut bytes = vec![0; 32];
            rng.fill(&mut bytes);
            disk_port.write_atomic(path, &bytes, 0o600).map_err(disk("write", path))?;
            bytes
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The text of a cursor. `filters` is the canonical text of filters and order.
    pub(crate) fn seal(&self, cursor: &Cursor, filters: &str) -> String {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.array(5);
        [cursor.after.0, cursor.since, cursor.until, cursor.made.as_nanos()]
            .into_iter()
            .for_each(|n| writer.int(n));
        writer.uint(cursor.after.1);
        let tag = self.tag(&bytes, filters);
        bytes.extend_from_slice(&tag);
        hex(&bytes)
    }

    /// Reads a cursor that was sealed for the same filters.
    pub(crate) fn open(&self, text: &str, filters: &str, now: UnixTime) -> Result<Cursor, CursorError> {
        let bytes = unhex(text).ok_or(CursorError::Foreign)?;
        let (body, tag) = bytes.split_last_chunk::<TAG>().ok_or(CursorError::Foreign)?;
        let expected = self.tag(body, filters);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, tag).or(Err(CursorError::Foreign))?;
        let cursor = read(body).or(Err(CursorError::Foreign))?;
        if now.saturating_since(cursor.made) > LIFETIME {
            return Err(CursorError::Expired);
        }
        Ok(cursor)
    }

    fn tag(&self, body: &[u8], filters: &str) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"portcullis-cursor/1\0");
        context.update(&(body.len() as u64).to_be_bytes());
        context.update(body);
        context.update(filters.as_bytes());
        let mut tag = [0; TAG];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        tag
    }
}

fn read(body: &[u8]) -> Result<Cursor, CborError> {
    let (mut numbers, mut index) = (Vec::with_capacity(4), None);
    let mut reader = Reader::new(body);
    reader.array(|item| {
        if numbers.len() < 4 {
            numbers.push(item.int()?);
        } else {
            index = Some(item.uint()?);
        }
        Ok(())
    })?;
    reader.end()?;
    let [time, since, until, made] = <[i64; 4]>::try_from(numbers).or(Err(CborError::Range))?;
    let index = index.ok_or(CborError::Range)?;
    Ok(Cursor { after: (time, index), since, until, made: UnixTime::from_nanos(made) })
}

/// Bytes of lower- or upper-case hex.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use base_ports::{MemoryDisk, SeededRng};

    use super::*;

    fn key(seed: u64) -> CursorKey {
        CursorKey::load(Path::new("/cursor.key"), &MemoryDisk::new(), &SeededRng::new(seed)).unwrap()
    }

    const CURSOR: Cursor =
        Cursor { after: (-5, u64::MAX), since: i64::MIN, until: i64::MAX, made: UnixTime::from_secs(7) };

    #[test]
    fn ra3_a_cursor_opens_for_its_own_filters_only() {
        let (key, other, now) = (key(1), key(2), UnixTime::from_secs(8));
        let text = key.seal(&CURSOR, "effect=deny");
        assert_eq!(key.open(&text, "effect=deny", now), Ok(CURSOR));
        assert_eq!(key.open(&text, "effect=allow", now), Err(CursorError::Foreign));
        assert_eq!(other.open(&text, "effect=deny", now), Err(CursorError::Foreign));
    }

    #[test]
    fn ra3_a_changed_cursor_is_refused_at_every_digit() {
        let (key, now) = (key(1), UnixTime::from_secs(8));
        let text = key.seal(&CURSOR, "");
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(key.open(std::str::from_utf8(&changed).unwrap(), "", now), Err(CursorError::Foreign));
        }
        for bad in ["", "0", "zz", "00", text.get(2..).unwrap(), "é"] {
            assert_eq!(key.open(bad, "", now), Err(CursorError::Foreign));
        }
    }

    #[test]
    fn ra3_a_cursor_expires_after_a_day() {
        let key = key(1);
        let text = key.seal(&CURSOR, "");
        assert_eq!(key.open(&text, "", CURSOR.made + LIFETIME), Ok(CURSOR));
        assert_eq!(
            key.open(&text, "", CURSOR.made + LIFETIME + Duration::from_nanos(1)),
            Err(CursorError::Expired)
        );
    }
}
