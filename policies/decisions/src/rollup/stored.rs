//! The file of a day: deterministic CBOR and its crc32c, replaced as a whole.

use super::day::{Day, FIELDS, Home, Table, Tables};
use crate::{
    aggregate::Measures,
    cbor::{CborError, Reader, Writer},
};

/// Version of the form below.
const VERSION: u64 = 1;

/// Why the file of a day cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadDay {
    #[error("checksum is wrong")]
    Checksum,
    #[error("it is the file of another day")]
    Elsewhere,
    #[error("{0}")]
    Form(#[source] CborError),
}

/// The bytes of a day.
pub(super) fn encode(day: &Day, at: i64) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).int_map(|map| {
        map.key(0).uint(VERSION);
        map.key(1).int(at);
        map.key(2).uint(day.through);
        map.key(3).uint(day.uncounted);
        map.key(4).bool(day.is_damaged);
        let mut homes: Vec<_> = day.homes.iter().collect();
        homes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut list = map.key(5);
        list.array(homes.len());
        for (home, tables) in homes {
            list.array(3 + FIELDS.len());
            optional(&mut list, home.callee.as_deref());
            optional(&mut list, home.caller.as_deref());
            list.array(tables.hours.len());
            tables.hours.iter().for_each(|hour| measures(&mut list, hour));
            tables.fields.iter().for_each(|field| table(&mut list, field));
        }
    });
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn optional(out: &mut Writer<'_>, text: Option<&str>) {
    out.array(usize::from(text.is_some()));
    text.iter().for_each(|text| out.text(text));
}

fn measures(out: &mut Writer<'_>, of: &Measures) {
    let Some((first, last)) = of.span else { return out.array(0) };
    out.array(6);
    [of.count, of.allow, of.deny, of.would_deny].into_iter().for_each(|count| out.uint(count));
    out.int(first);
    out.int(last);
}

fn table(out: &mut Writer<'_>, of: &Table) {
    let mut rows: Vec<_> = of.rows.iter().collect();
    rows.sort_unstable_by_key(|(value, _)| *value);
    out.array(2 + 2 * rows.len());
    measures(out, &of.none);
    measures(out, &of.other);
    for (value, of) in rows {
        out.text(value);
        measures(out, of);
    }
}

/// Reads the file of that day.
pub(super) fn decode(bytes: &[u8], at: i64) -> Result<Day, BadDay> {
    let (value, checksum) = bytes.split_last_chunk::<4>().ok_or(BadDay::Checksum)?;
    if crc32c::crc32c(value) != u32::from_le_bytes(*checksum) {
        return Err(BadDay::Checksum);
    }
    let (day, of) = read(value).map_err(BadDay::Form)?;
    if of == at { Ok(day) } else { Err(BadDay::Elsewhere) }
}

fn read(value: &[u8]) -> Result<(Day, i64), CborError> {
    let (mut day, mut homes, mut version, mut at) = (Day::default(), Vec::new(), None, None);
    let mut reader = Reader::new(value);
    reader.int_map(|key, value| {
        match key {
            0 => version = Some(value.uint()?),
            1 => at = Some(value.int()?),
            2 => day.through = value.uint()?,
            3 => day.uncounted = value.uint()?,
            4 => day.is_damaged = value.bool()?,
            5 => value.array(|item| {
                homes.push(read_home(item)?);
                Ok(())
            })?,
            _ => return Err(CborError::Range),
        }
        Ok(())
    })?;
    reader.end()?;
    if version != Some(VERSION) {
        return Err(CborError::Range);
    }
    Ok((day.with(homes), at.ok_or(CborError::Range)?))
}

fn read_home(item: &mut Reader<'_>) -> Result<(Home, Tables), CborError> {
    let (mut home, mut tables, mut part) = (Home::default(), Tables::default(), 0_usize);
    item.array(|value| {
        match part {
            0 => home.callee = read_optional(value)?,
            1 => home.caller = read_optional(value)?,
            2 => {
                let mut hours = tables.hours.iter_mut();
                value.array(|hour| {
                    *hours.next().ok_or(CborError::Range)? = read_measures(hour)?;
                    Ok(())
                })?;
            }
            _ => *tables.fields.get_mut(part - 3).ok_or(CborError::Range)? = read_table(value)?,
        }
        part += 1;
        Ok(())
    })?;
    if part == 3 + FIELDS.len() { Ok((home, tables)) } else { Err(CborError::Range) }
}

fn read_optional(value: &mut Reader<'_>) -> Result<Option<Box<str>>, CborError> {
    let mut text = None;
    value.array(|item| {
        text = Some(item.text()?.into());
        Ok(())
    })?;
    Ok(text)
}

fn read_measures(value: &mut Reader<'_>) -> Result<Measures, CborError> {
    let (mut counts, mut times) = (Vec::with_capacity(4), Vec::with_capacity(2));
    value.array(|item| {
        if counts.len() < 4 {
            counts.push(item.uint()?)
        } else {
            times.push(item.int()?)
        }
        Ok(())
    })?;
    match (counts.as_slice(), times.as_slice()) {
        ([], []) => Ok(Measures::default()),
        ([count, allow, deny, would_deny], [first, last]) => Ok(Measures {
            count: *count,
            allow: *allow,
            deny: *deny,
            would_deny: *would_deny,
            span: Some((*first, *last)),
        }),
        _ => Err(CborError::Range),
    }
}

fn read_table(value: &mut Reader<'_>) -> Result<Table, CborError> {
    let (mut table, mut part, mut named) = (Table::default(), 0_usize, None);
    value.array(|item| {
        match (part, named.take()) {
            (0, _) => table.none = read_measures(item)?,
            (1, _) => table.other = read_measures(item)?,
            (_, None) => named = Some(Box::from(item.text()?)),
            (_, Some(name)) => {
                table.rows.insert(name, read_measures(item)?);
            }
        }
        part += 1;
        Ok(())
    })?;
    if part >= 2 && named.is_none() { Ok(table) } else { Err(CborError::Range) }
}
