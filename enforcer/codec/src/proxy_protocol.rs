//! The PROXY protocol, versions 1 and 2 (PX-01 to PX-03): what a forwarder says of the connection it forwards.
//!
//! [`read`] asks for exactly the bytes that belong to a header, so whoever feeds it never takes one that follows.
//! Nothing a forwarder says is an identity; what it says of the caller's address is worth what the forwarder is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};

mod crc32c;
#[cfg(test)]
mod tests;

use crc32c::crc32c;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Before the addresses of version 2.
const FIXED: usize = 16;
/// A header of version 1 is never longer.
pub const LONGEST_V1: usize = 536;
/// A header of version 2 is never longer.
pub const LONGEST_V2: usize = 2048;

/// Types of what version 2 says besides addresses.
pub mod tlv {
    /// The application protocol by its ALPN name.
    pub const ALPN: u8 = 0x01;
    /// The host that the caller asked for.
    pub const AUTHORITY: u8 = 0x02;
    /// CRC32C of the header.
    pub const CRC32C: u8 = 0x03;
    /// Opaque, at most 128 bytes, new for each connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// The SPIFFE id of the caller: a type of our own.
    pub const SPIFFE_ID: u8 = 0xE0;
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The forwarder speaks for itself, or does not know: the address of the socket holds.
    Local,
    /// It forwards a connection of that source to that destination.
    Forwarded {
        /// Who connected.
        source: SocketAddr,
        /// Where to.
        destination: SocketAddr,
    },
}

/// How far a header was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many more bytes belong to it, at least.
    More(usize),
    /// All of it.
    Done(Header),
}

/// Bytes that are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no proxy protocol header: {0}")]
pub struct NoHeader(&'static str);

/// Reads a header from its first bytes; `bytes` holds what was asked for so far, and nothing else.
///
/// # Errors
/// When they are no header, or one with two readings.
pub fn read(bytes: &[u8]) -> Result<Step, NoHeader> {
    match bytes.get(..SIGNATURE.len()) {
        None => Ok(Step::More(SIGNATURE.len().saturating_sub(bytes.len()))),
        Some(start) if start == SIGNATURE => read_v2(bytes),
        Some(start) if start.starts_with(b"PROXY ") => read_v1(bytes),
        Some(_) => Err(NoHeader("it begins with neither signature")),
    }
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 1111 443`, with CR and LF.
fn read_v1(bytes: &[u8]) -> Result<Step, NoHeader> {
    const MALFORMED: NoHeader = NoHeader("its line is malformed");
    let Some(line) = bytes.strip_suffix(b"\n") else {
        return if bytes.len() < LONGEST_V1 {
            Ok(Step::More(1))
        } else {
            Err(NoHeader("its line is too long"))
        };
    };
    let line = line.strip_suffix(b"\r").ok_or(MALFORMED)?;
    let line = str::from_utf8(line).map_err(|_cause| MALFORMED)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(MALFORMED)?;
    if family == "UNKNOWN" {
        return Ok(Step::Done(Header::Local));
    }
    let mut address = || {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address().ok_or(MALFORMED)?, address().ok_or(MALFORMED)?);
    let mut port = || {
        let word = words.next()?;
        let is_plain = word == "0" || !word.starts_with('0');
        (is_plain && word.bytes().all(|byte| byte.is_ascii_digit())).then(|| word.parse().ok()).flatten()
    };
    let (from, to) = (port().ok_or(MALFORMED)?, port().ok_or(MALFORMED)?);
    if words.next().is_some() {
        return Err(MALFORMED);
    }
    Ok(Step::Done(Header::Forwarded {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    }))
}

fn read_v2(bytes: &[u8]) -> Result<Step, NoHeader> {
    let Some([_, _, _, _, _, _, _, _, _, _, _, _, command, family, high, low]) = bytes.first_chunk::<FIXED>()
    else {
        return Ok(Step::More(FIXED.saturating_sub(bytes.len())));
    };
    let length = FIXED.saturating_add(usize::from(u16::from_be_bytes([*high, *low])));
    if length > LONGEST_V2 {
        return Err(NoHeader("it is too long"));
    }
    if bytes.len() < length {
        return Ok(Step::More(length.saturating_sub(bytes.len())));
    }
    let body = bytes.get(FIXED..length).unwrap_or_default();
    let (is_local, addresses) = match (command, family) {
        // Its addresses have no meaning, whatever their family says.
        (0x20, _) => (true, 0),
        (0x21, 0x00) => (true, 0),
        (0x21, 0x11) => (false, 12),
        (0x21, 0x21) => (false, 36),
        // A Unix socket of the forwarder's host: no address that means anything here.
        (0x21, 0x31) => (true, 216),
        (0x21, _) => return Err(NoHeader("its family is none of a stream")),
        _ => return Err(NoHeader("its version or command is unknown")),
    };
    let (addresses, tlvs) = body.split_at_checked(addresses).ok_or(NoHeader("its addresses are cut off"))?;
    if !is_local {
        check_tlvs(bytes.get(..length).unwrap_or_default(), tlvs)?;
    }
    if is_local {
        return Ok(Step::Done(Header::Local));
    }
    let (source, destination) = match *addresses {
        [a, b, c, d, e, f, g, h, p, q, r, s] => {
            let from = SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([p, q]));
            (from, SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), u16::from_be_bytes([r, s])))
        }
        _ => v6(addresses).ok_or(NoHeader("its addresses are cut off"))?,
    };
    Ok(Step::Done(Header::Forwarded { source, destination }))
}

fn v6(addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = addresses.split_first_chunk::<16>()?;
    let (destination, ports) = rest.split_first_chunk::<16>()?;
    let [p, q, r, s] = *ports.first_chunk::<4>()?;
    let address = |octets: [u8; 16]| IpAddr::from(octets).to_canonical();
    let from = SocketAddr::new(address(*source), u16::from_be_bytes([p, q]));
    Some((from, SocketAddr::new(address(*destination), u16::from_be_bytes([r, s]))))
}

/// Every entry is whole, and a checksum holds.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), NoHeader> {
    const CUT: NoHeader = NoHeader("what it says besides is cut off");
    let mut has_checksum = false;
    while let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = rest.split_at_checked(length).ok_or(CUT)?;
        if kind == tlv::CRC32C {
            let told = value.first_chunk::<4>().filter(|_| length == 4 && !has_checksum);
            let told = u32::from_be_bytes(*told.ok_or(NoHeader("its checksum is malformed"))?);
            let before = header.len().saturating_sub(rest.len());
            let (start, end) = header.split_at_checked(before).ok_or(CUT)?;
            let parts = [start, &[0; 4], end.get(4..).unwrap_or_default()];
            if crc32c(&parts) != told {
                return Err(NoHeader("its checksum does not hold"));
            }
            has_checksum = true;
        }
        tlvs = next;
    }
    if tlvs.is_empty() { Ok(()) } else { Err(CUT) }
}

/// Appends a header of version 2 with a checksum. Entries that do not fit any more are left out.
pub fn write_v2(out: &mut BytesMut, source: SocketAddr, destination: SocketAddr, tlvs: &[(u8, &[u8])]) {
    let start = out.len();
    out.put_slice(SIGNATURE);
    out.put_u8(0x21);
    let ports = [source.port(), destination.port()];
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.put_slice(&[0x11, 0, 0]);
            out.put_slice(&from.octets());
            out.put_slice(&to.octets());
        }
        (from, to) => {
            out.put_slice(&[0x21, 0, 0]);
            out.put_slice(&as_v6(from).octets());
            out.put_slice(&as_v6(to).octets());
        }
    }
    ports.into_iter().for_each(|port| out.put_u16(port));
    let room = LONGEST_V2.saturating_sub(7);
    for (kind, value) in tlvs {
        let after = out.len().saturating_sub(start).saturating_add(value.len()).saturating_add(3);
        if let Some(length) = u16::try_from(value.len()).ok().filter(|_| after <= room) {
            out.put_u8(*kind);
            out.put_u16(length);
            out.put_slice(value);
        }
    }
    out.put_slice(&[tlv::CRC32C, 0, 4, 0, 0, 0, 0]);
    let header = out.get_mut(start..).unwrap_or_default();
    let length = u16::try_from(header.len().saturating_sub(FIXED)).unwrap_or(0);
    if let Some(slot) = header.get_mut(14..FIXED) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
    let checksum = crc32c(&[header]);
    if let Some(slot) = header.last_chunk_mut::<4>() {
        *slot = checksum.to_be_bytes();
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
